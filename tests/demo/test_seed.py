"""The demo's cluster starts with what the demo shows, and with what must not get out."""

import base64
import json

from interlock.demo import seed
from interlock.demo.controllers import Controllers
from interlock.demo.resources import Resource
from interlock.demo.store import Store
from interlock.demo.workloads import Logs


def test_the_shop_is_there(store: Store, logs: Logs, rows: dict[str, Resource]) -> None:
    Controllers(store, logs, rows)
    seed.fill(store, logs, rows)
    pods = store.objects(rows["pods"], "shop")[1]
    assert [pod["metadata"]["labels"]["app"] for pod in pods] == ["shop-db", "shop-web", "shop-web"]
    secret = store.get(rows["secrets"], "shop", "payments")
    assert base64.b64decode(secret["data"]["password"]).decode() == seed.PASSWORD
    config = store.get(rows["configmaps"], "shop", "shop-config")["data"]
    assert seed.PASSWORD in config["DATABASE_URL"]
    assert (config["SUPPORT_EMAIL"], config["SUPPORT_PHONE"]) == (seed.EMAIL, seed.PHONE)
    assert len(store.objects(rows["events"], "shop")[1]) == len(pods)
    assert [namespace["metadata"]["name"] for namespace in store.objects(rows["namespaces"])[1]] == [
        "bulk",
        "default",
        "kube-system",
        "shop",
    ]


def test_every_secret_is_somewhere_to_be_found(store: Store, logs: Logs, rows: dict[str, Resource]) -> None:
    Controllers(store, logs, rows)
    seed.fill(store, logs, rows)
    everything = json.dumps([store.objects(row)[1] for row in rows.values()])
    pod = store.objects(rows["pods"], "shop")[1][0]
    log = b"\n".join(line.text for line in logs.lines(("shop", pod["metadata"]["name"], "shop-db"))).decode()
    for secret in seed.SECRETS:
        assert secret in everything + log or base64.b64encode(secret.encode()).decode() in everything
    assert seed.PASSWORD in log
    assert seed.EMAIL in log
