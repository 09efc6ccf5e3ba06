"""The demo's controllers bring a cluster to where kubectl expects it."""

from typing import Any

import pytest

from interlock.demo.controllers import NODE, Controllers
from interlock.demo.resources import Resource
from interlock.demo.store import Event, Store
from interlock.demo.workloads import Line, Logs

type Rows = dict[str, Resource]


@pytest.fixture(autouse=True)
def _controlled(store: Store, logs: Logs, rows: Rows) -> None:
    Controllers(store, logs, rows)
    store.create(rows["namespaces"], "", {"metadata": {"name": "shop"}})


def _deployment(image: str = "x:1", replicas: int = 2) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "template": template}}


def _names(store: Store, row: Resource) -> list[str]:
    return [item["metadata"]["name"] for item in store.objects(row, "shop")[1]]


def test_a_namespace_is_furnished(store: Store, rows: Rows) -> None:
    assert store.get(rows["namespaces"], "", "shop")["status"] == {"phase": "Active"}
    assert _names(store, rows["serviceaccounts"]) == ["default"]
    assert _names(store, rows["configmaps"]) == ["kube-root-ca.crt"]


def test_a_deleted_namespace_leaves_nothing(store: Store, rows: Rows) -> None:
    store.create(rows["deployments.apps"], "shop", _deployment())
    store.delete(rows["namespaces"], store.get(rows["namespaces"], "", "shop"))
    assert [row.plural for row in rows.values() if store.objects(row, "shop")[1]] == []


def test_a_deployment_runs_its_pods(store: Store, rows: Rows) -> None:
    made = store.create(rows["deployments.apps"], "shop", _deployment())
    assert made["status"]["readyReplicas"] == 2
    pods = store.objects(rows["pods"], "shop")[1]
    assert [pod["status"]["phase"] for pod in pods] == ["Running", "Running"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {NODE}
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    assert pods[0]["metadata"]["labels"]["app"] == "web"
    assert pods[0]["status"]["containerStatuses"][0]["ready"] is True


def test_scaling_makes_and_removes_pods(store: Store, rows: Rows) -> None:
    row = rows["deployments.apps"]
    live = store.create(row, "shop", _deployment())
    live = store.update(row, live, _deployment(replicas=4))
    assert len(_names(store, rows["pods"])) == 4
    live = store.update(row, live, _deployment(replicas=0))
    assert _names(store, rows["pods"]) == []
    assert live["status"]["replicas"] == 0


def test_a_new_template_rolls_out_and_an_old_one_rolls_back(store: Store, rows: Rows) -> None:
    row, sets = rows["deployments.apps"], rows["replicasets.apps"]
    live = store.create(row, "shop", _deployment("x:1"))
    first = _names(store, sets)
    live = store.update(row, live, _deployment("x:2"))
    assert [pod["spec"]["containers"][0]["image"] for pod in store.objects(rows["pods"], "shop")[1]] == [
        "x:2"
    ] * 2
    assert sorted(item["spec"]["replicas"] for item in store.objects(sets, "shop")[1]) == [0, 2]
    again = _deployment("x:1")
    again["spec"]["template"]["metadata"]["creationTimestamp"] = None
    again["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    store.update(row, live, again)
    running = [
        item["metadata"]["name"] for item in store.objects(sets, "shop")[1] if item["spec"]["replicas"]
    ]
    assert running == first, "an equal template is the old replica set, however it is written"


def test_a_deleted_pod_comes_back_and_its_log_ends(store: Store, logs: Logs, rows: Rows) -> None:
    store.create(rows["deployments.apps"], "shop", _deployment(replicas=1))
    pod = store.objects(rows["pods"], "shop")[1][0]
    told: list[Line | None] = []
    logs.follow(("shop", pod["metadata"]["name"], "c"), told.append)
    store.delete(rows["pods"], pod)
    assert told == [None]
    assert len(_names(store, rows["pods"])) == 1
    assert _names(store, rows["pods"]) != [pod["metadata"]["name"]]


def test_a_deleted_deployment_takes_everything_it_owns(store: Store, rows: Rows) -> None:
    live = store.create(rows["deployments.apps"], "shop", _deployment())
    store.delete(rows["deployments.apps"], live)
    assert _names(store, rows["replicasets.apps"]) == []
    assert _names(store, rows["pods"]) == []


def test_what_has_another_owner_too_stays(store: Store, rows: Rows) -> None:
    live = store.create(rows["deployments.apps"], "shop", _deployment())
    owners = [{"uid": live["metadata"]["uid"]}, {"uid": "another"}]
    store.create(rows["configmaps"], "shop", {"metadata": {"name": "shared", "ownerReferences": owners}})
    store.delete(rows["deployments.apps"], live)
    assert "shared" in _names(store, rows["configmaps"])


def test_a_job_is_done_at_once(store: Store, rows: Rows) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "x"}]}}
    job = store.create(
        rows["jobs.batch"], "shop", {"metadata": {"name": "once"}, "spec": {"template": template}}
    )
    assert job["status"]["succeeded"] == 1
    pod = store.objects(rows["pods"], "shop")[1][0]
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["metadata"]["labels"] == {"job-name": "once"}
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    store.delete(rows["pods"], pod)
    assert _names(store, rows["pods"]) == [], "a job that is done makes no new pod"


def test_a_pod_that_names_its_node_stays_there(store: Store, rows: Rows) -> None:
    pod = store.create(rows["pods"], "shop", {"metadata": {"name": "p"}, "spec": {"nodeName": "elsewhere"}})
    assert pod["spec"]["nodeName"] == "elsewhere"


def test_what_is_deleted_before_a_controller_comes_to_it_is_no_error(
    store: Store, logs: Logs, rows: Rows
) -> None:
    """A listener that is called first deletes everything under the controllers' hands."""
    vandalised = Store(store.now, store.uid)
    deleted: list[str] = []

    def vandal(event: Event) -> None:
        if event.type == "ADDED" and event.resource.plural in ("pods", "deployments", "replicasets"):
            vandalised.delete(event.resource, event.object)
            deleted.append(event.resource.plural)

    vandalised.subscribe(vandal)
    Controllers(vandalised, logs, rows)
    vandalised.create(rows["deployments.apps"], "shop", _deployment())
    vandalised.create(rows["replicasets.apps"], "shop", {"metadata": {"name": "r"}, "spec": {"replicas": 1}})
    vandalised.create(rows["pods"], "shop", {"metadata": {"name": "p"}})
    assert deleted == ["deployments", "replicasets", "pods"]
    assert [row.plural for row in rows.values() if vandalised.objects(row)[1]] == []
