"""The four patch types of Kubernetes, as pure functions over decoded JSON.

In: the live object and the patch. Out: a new object; the inputs are never changed. Raises
`BadPatch` with the HTTP code that the API server gives. Sources: RFC 7396 (merge patch), RFC 6902
(JSON patch), sig-api-machinery/strategic-merge-patch.md, and KEP-555 (server-side apply), the last
two in the part that shows: lists merged by key, `$patch`, `$deleteFromPrimitiveList`, ordering
directives dropped.
"""

import copy
from collections.abc import Callable
from typing import Any

from interlock.demo.resources import Object

# patchMergeKey of the built-in types, by the name of the list field. A list that is not here is
# atomic. `ports` differs between pods and services; both are keyed well enough by their own number.
MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
PRIMITIVE_SETS = frozenset({"finalizers"})


class BadPatch(ValueError):
    """`code` is 400 for a patch that cannot be read, 422 for one that cannot be applied."""

    def __init__(self, reason: str, code: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def merge(live: Any, patch: Any) -> Any:
    """RFC 7396: null deletes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def json_patch(live: Object, operations: Any) -> Object:
    """RFC 6902. A failed `test` is 422, as the API server answers it."""
    if not isinstance(operations, list):
        raise BadPatch(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
        )
    document: Any = {"": copy.deepcopy(live)}  # under a root key, so that the path "" has a parent too
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise BadPatch("error decoding patch: an operation needs op and path")
        apply = _OPERATIONS.get(str(operation.get("op")))
        if apply is None:
            raise BadPatch(f"Unexpected kind: {operation.get('op')}", 422)
        apply(document, operation)
    result = document[""]
    if not isinstance(result, dict):
        raise BadPatch("the patched document is not an object", 422)
    return result


def _add(document: Any, operation: Object) -> None:
    _insert(document, operation["path"], _value(operation))


def _remove(document: Any, operation: Object) -> None:
    parent, key = _locate(document, operation["path"])
    del parent[key]


def _replace(document: Any, operation: Object) -> None:
    parent, key = _locate(document, operation["path"])
    parent[key] = _value(operation)


def _move(document: Any, operation: Object) -> None:
    parent, key = _locate(document, str(operation.get("from", "")))
    _insert(document, operation["path"], parent.pop(key))


def _copy(document: Any, operation: Object) -> None:
    parent, key = _locate(document, str(operation.get("from", "")))
    _insert(document, operation["path"], copy.deepcopy(parent[key]))


def _test(document: Any, operation: Object) -> None:
    parent, key = _locate(document, operation["path"])
    if parent[key] != operation.get("value"):
        raise BadPatch(f"testing value {operation['path']} failed: test failed", 422)


_OPERATIONS: dict[str, Callable[[Any, Object], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _value(operation: Object) -> Any:
    if "value" not in operation:
        raise BadPatch(f"{operation['op']} operation needs a value", 422)
    return copy.deepcopy(operation["value"])


def _walk(document: Any, pointer: str) -> tuple[Any, str]:
    """The container that holds the last token of an RFC 6901 pointer, and that token."""
    if pointer and not pointer.startswith("/"):
        raise BadPatch(f"bad path: {pointer}", 422)
    *parents, last = (token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/"))
    here = document
    for token in parents:
        try:
            here = here[_index(token)] if isinstance(here, list) else here[token]
        except (KeyError, IndexError, TypeError):
            raise BadPatch(f"doc is missing path: {pointer}", 422) from None
    if not isinstance(here, dict | list):
        raise BadPatch(f"doc is missing path: {pointer}", 422)
    return here, last


def _locate(document: Any, pointer: str) -> tuple[Any, Any]:
    parent, last = _walk(document, pointer)
    key: str | int = _index(last) if isinstance(parent, list) else last
    if (isinstance(parent, list) and int(key) >= len(parent)) or (
        isinstance(parent, dict) and key not in parent
    ):
        raise BadPatch(f"doc is missing key: {pointer}", 422)
    return parent, key


def _insert(document: Any, pointer: str, value: Any) -> None:
    parent, last = _walk(document, pointer)
    if isinstance(parent, dict):
        parent[last] = value
        return
    index = len(parent) if last == "-" else _index(last)
    if index > len(parent):
        raise BadPatch(f"index out of bounds: {pointer}", 422)
    parent.insert(index, value)


def _index(token: str) -> int:
    if not token.isascii() or not token.isdigit():
        raise BadPatch(f"not an index: {token}", 422)
    return int(token)


def strategic(live: Any, patch: Any) -> Any:
    """Strategic merge: as `merge`, with keyed lists merged by element and `$` directives obeyed."""
    return _strategic(live, patch, "")


def apply(live: Any, applied: Any) -> Any:
    """Server-side apply with one manager: strategic merge, nulls left as unset, nothing pruned."""
    return _strategic(live, _without_nulls(applied), "")


def _strategic(live: Any, patch: Any, field: str) -> Any:
    if isinstance(patch, list):
        return _strategic_list(live if isinstance(live, list) else [], patch, field)
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    directive = patch.get("$patch")
    if directive == "delete":
        return None
    merged = dict(live) if isinstance(live, dict) and directive != "replace" else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [item for item in merged.get(name) or [] if item not in value]
        elif key == "$retainKeys":
            merged = {name: kept for name, kept in merged.items() if name in value}
        elif key.startswith("$"):
            continue
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = _strategic(merged.get(key), value, key)
            if merged[key] is None:
                del merged[key]
    return merged


def _strategic_list(live: list[Any], patch: list[Any], field: str) -> list[Any]:
    if field in PRIMITIVE_SETS:
        return [*live, *(item for item in patch if item not in live)]
    key = next(
        (k for k in MERGE_KEYS.get(field, ()) if any(isinstance(e, dict) and k in e for e in patch)), None
    )
    if key is None or any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    merged = list(live)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise BadPatch(f"map does not contain key: {key}")
        position = next((i for i, old in enumerate(merged) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(key) != item[key]]
        elif position is None:
            merged.append(_strategic(None, item, ""))
        else:
            merged[position] = _strategic(merged[position], item, "")
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
