"""The few types that the demo's server insists on: one table, by the name of the field.

In: a decoded body. Raises Refused 400 as Go's decoder would ("json: cannot unmarshal …"). Everything
behind it may rely on these types. A real server knows the type of every field of every kind; here a
name has one type wherever it stands, below maps of plain values nothing is looked at.
"""

from typing import Any

from interlock.demo.resources import Object
from interlock.demo.store import Refused

_OBJECTS = (
    "metadata",
    "spec",
    "template",
    "target",
    "deleteOptions",
    "preconditions",
    "involvedObject",
    "valueFrom",
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "secretRef",
    "configMapRef",
    "secret",
    "configMap",
    "state",
    "source",
)
_MAPS = ("labels", "annotations", "matchLabels", "data", "stringData")
_LISTS = (
    "containers",
    "initContainers",
    "ephemeralContainers",
    "env",
    "envFrom",
    "volumes",
    "volumeMounts",
    "ports",
    "ownerReferences",
    "conditions",
    "containerStatuses",
)
_NUMBERS = (
    "replicas",
    "expirationSeconds",
    "completions",
    "restartCount",
    "readyReplicas",
    "updatedReplicas",
    "availableReplicas",
    "succeeded",
)
_TEXTS = (
    "name",
    "namespace",
    "generateName",
    "uid",
    "kind",
    "apiVersion",
    "resourceVersion",
    "phase",
    "type",
    "reason",
    "message",
    "nodeName",
    "mountPath",
    "key",
    "fieldPath",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTimestamp",
    "token",
    "secretName",
    "value",
    "component",
)

TYPES: dict[str, tuple[Any, str]] = {
    "status": (dict | str, "object"),  # a condition's status is a word
    "selector": (dict, "object"),
    **dict.fromkeys(_OBJECTS, (dict, "object")),
    **dict.fromkeys(_MAPS, (dict, "map[string]string")),
    **dict.fromkeys(_LISTS, (list, "[]object")),
    **dict.fromkeys(["finalizers", "dryRun"], (list, "[]string")),
    **dict.fromkeys(_NUMBERS, (int, "int32")),
    **dict.fromkeys(_TEXTS, (str, "string")),
}
LARGEST_INT = 1 << 32  # the longest duration that a TokenRequest may ask for
LARGEST = {"replicas": 1000}
"""A cluster in memory takes only so many; the real one would try."""


def check(body: Object, path: str = "") -> None:
    """Refuses a body in which a field that the table names has another type. null fits everything."""
    for name, value in body.items():
        here = f"{path}.{name}" if path else name
        expected, go = TYPES.get(name, (object, ""))
        if value is None:
            continue
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise _mismatch(value, here, go)
        if expected is int and not 0 <= value <= LARGEST.get(name, LARGEST_INT):
            raise _mismatch(value, here, go)
        _check_inside(value, here, go)


def _check_inside(value: Any, here: str, go: str) -> None:
    if go == "map[string]string":
        for key, inner in value.items():
            if not isinstance(inner, str | None):
                raise _mismatch(inner, f"{here}.{key}", "string")
    elif isinstance(value, dict):
        check(value, here)
    elif isinstance(value, list):
        for inner in value:
            wanted = {"[]object": dict, "[]string": str}.get(go, object)
            if not isinstance(inner, wanted):
                raise _mismatch(inner, here, go)
            if isinstance(inner, dict):
                check(inner, here)


def _mismatch(value: Any, path: str, go: str) -> Refused:
    kinds = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
    found = kinds.get(type(value), "null")
    return Refused(
        400,
        "BadRequest",
        f"json: cannot unmarshal {found} into Go struct field {path} of type {go or 'object'}",
    )
