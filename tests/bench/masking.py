"""Masking's speed on a pod list, an object and a log, as ratios to the floor of any masking that parses.

python tests/bench/masking.py [pods]. CPU time, best of several: this compares on a busy machine too. The floor is
orjson reading and writing the same bytes; what is printed beside it is how many times that masking takes.
"""

from __future__ import annotations

import pathlib
import random
import sys
import time
from collections.abc import Callable

import orjson

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "addons"))

from interlock.kube.target import parse_target
from interlock.masking.masker import Masker
from interlock.masking.write_back import check

PODS = parse_target("GET", "/api/v1/pods").info
MASKER = Masker(bytes(32))
FIELDS = {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:env": {
    ".": {}, 'k:{"name":"DB_PASSWORD"}': {".": {}, "f:name": {}, "f:value": {}}}, "f:image": {}, "f:name": {}}}}}  # fmt: skip


def pod(rng: random.Random, i: int, secret: bool) -> dict[str, object]:
    env = [{"name": n, "value": f"v{rng.getrandbits(40):x}"} for n in ("LEVEL", "DB_HOST", "PORT", "REGION")]
    if secret:
        env.append({"name": "DB_PASSWORD", "value": f"pw{rng.getrandbits(64):x}"})
    return {
        "metadata": {
            "name": f"web-{i:05d}",
            "namespace": "shop",
            "uid": f"{rng.getrandbits(128):032x}",
            "resourceVersion": str(rng.getrandbits(30)),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web", "pod-template-hash": f"{rng.getrandbits(40):x}"},
            "managedFields": [{"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": FIELDS}],
        },
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": f"registry.example/web@sha256:{rng.getrandbits(256):064x}",
                    "env": env,
                    "args": ["--level", "info", "--listen=:8080"],
                    "volumeMounts": [
                        {
                            "name": "kube-api-access",
                            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                        }
                    ],
                }
            ],
            "volumes": [
                {
                    "name": "kube-api-access",
                    "projected": {
                        "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]
                    },
                }
            ],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.1.{i // 256}.{i % 256}",
            "conditions": [
                {"type": t, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for t in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
        },
    }


def cpu(work: Callable[[], object], rounds: int = 9) -> float:
    """Seconds of CPU, the best of `rounds`."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def body(raw: bytes) -> object:
    return MASKER.body(PODS, 200, "application/json", raw)


def listing(raw: bytes, size: int = 65536) -> None:
    stream = MASKER.listing(PODS)
    for at in range(0, len(raw), size):
        stream.feed(raw[at : at + size])
    stream.end()


def log(raw: bytes, size: int = 65536) -> None:
    stream = MASKER.log()
    for at in range(0, len(raw), size):
        stream.feed(raw[at : at + size])
    stream.end()


def main(pods: int) -> None:
    rng = random.Random(1)
    items = [pod(rng, i, secret=i % 10 == 0) for i in range(pods)]
    raw = orjson.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    one = orjson.dumps({"kind": "Pod", "apiVersion": "v1", **items[1]})
    small = b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"web","kind":"pods"}}\n'
    lines = [
        f'I0101 06:10:18.{i:06d}       1 controller.go:114] "Reconciled" pod="shop/web-{i}" duration="{i}ms"\n'
        if i % 3
        else f'{{"level":"info","msg":"served","path":"/items/{i}","status":200,"user":"u{i}@example.com"}}\n'
        for i in range(pods * 8)
    ]
    text = "".join(lines).encode()
    for what, data, work, times in (
        ("a list of pods, a tenth with a password", raw, body, 1),
        ("the same, item by item", raw, listing, 1),
        ("one pod", one, body, 100),
        ("a Status", small, body, 1000),
    ):
        floor = (
            cpu(lambda data=data, times=times: [orjson.dumps(orjson.loads(data)) for _ in range(times)])
            / times
        )
        took = cpu(lambda data=data, times=times, work=work: [work(data) for _ in range(times)]) / times
        print(
            f"{what:42} {len(data):>8} B {took * 1e6:>9.0f} us {len(data) / took / 1e6:>6.1f} MB/s  floor x {took / floor:.1f}"
        )
    took = cpu(lambda: log(text))
    print(f"{'a log':42} {len(text):>8} B {took * 1e6:>9.0f} us {len(text) / took / 1e6:>6.1f} MB/s")
    thing = orjson.loads(one)
    took = cpu(lambda: [check(thing, ()) for _ in range(100)]) / 100
    print(f"{'looking one pod through for masks':42} {len(one):>8} B {took * 1e6:>9.0f} us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1200)
