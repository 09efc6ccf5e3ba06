"""Many pods that are not in memory: for lists of any size in benchmarks and limits.

In: how many pods and how big. Out: each one made when it is asked for, always the same.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import orjson

from interlock.demo.resources import Object, Resource

NAMESPACE = "bulk"
_NAME = re.compile(r"bulk-(\d{7})")
_MARK = "0000000"  # where the number goes; nothing else in the object looks like it


@dataclass(frozen=True)
class Bulk:
    """`count` pods of about `size` bytes of JSON each (not below about 1 400)."""

    count: int
    size: int = 3000

    @cached_property
    def _parts(self) -> list[bytes]:
        """The JSON of a pod, cut where its number goes."""
        pod = orjson.dumps(_pod(""))
        padded = orjson.dumps(_pod("p" * max(0, self.size - len(pod))))
        return padded.split(_MARK.encode())

    def holds(self, row: Resource, namespace: str) -> bool:
        return row.qualified == "pods" and namespace in ("", NAMESPACE)

    def number(self, row: Resource, namespace: str, name: str) -> int | None:
        """The number of the pod called so, None when there is none."""
        found = _NAME.fullmatch(name)
        if found is None or row.qualified != "pods" or namespace != NAMESPACE or int(found[1]) >= self.count:
            return None
        return int(found[1])

    def encoded(self, number: int) -> bytes:
        return (b"%07d" % number).join(self._parts)

    def object(self, number: int) -> Object:
        decoded: Object = orjson.loads(self.encoded(number))
        return decoded


def _pod(padding: str) -> Object:
    stamp = "2026-06-01T08:00:00Z"
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": f"bulk-{_MARK}",
            "namespace": NAMESPACE,
            "uid": f"b01cb01c-aaaa-4bbb-8ccc-ddddd{_MARK}",
            "resourceVersion": "900",
            "creationTimestamp": stamp,
            "labels": {"app": "bulk"},
            "annotations": {"example.com/notes": padding},
        },
        "spec": {
            "nodeName": "demo-node-1",
            "serviceAccountName": "default",
            "containers": [
                {
                    "name": "app",
                    "image": "registry.example/bulk:1",
                    "env": [
                        {"name": "DB_PASSWORD", "value": f"bulk-secret-{_MARK}"},
                        {"name": "LOG_LEVEL", "value": "info"},
                    ],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.245.1.1",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}],
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "registry.example/bulk:1",
                    "imageID": "sha256:" + "a1b2c3d4" * 8,
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": stamp}},
                }
            ],
        },
    }
