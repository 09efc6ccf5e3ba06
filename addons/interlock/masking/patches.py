"""Patches: none may take a value away from the words that say it is secret.

In: the parsed operations of a JSON patch (RFC 6902), or a strategic merge patch. Out: nothing, or Uncovers. What is masked is known by what
stands around it: the key, the `name` beside a `value`, the flag before an argument. A patch can move the value or
rename the words without knowing the value, and the answer, or any later read, would show it.
The rule: such an operation is refused, unless a `test` right before it says what stood there, and that no value
hung on it.
"""

from __future__ import annotations

import re
from typing import Any

from interlock.kube.hazards import OWN_GROUPS
from interlock.kube.target import RequestInfo
from interlock.masking.names import sensitive

# Keys that say what their neighbours are: `{name, value}`, `{key, value}`, an object within an object.
NAMING = frozenset({"name", "key", "kind"})
# Lists of words of Kubernetes' own types in which a flag speaks of the word behind it.
ARGUMENTS = frozenset({"args", "command"})
# Directives of a strategic merge patch that take words out of a list, or put them in another order, without the
# others (apimachinery, pkg/util/strategicpatch). The API server follows them for lists that it does not merge, too.
LIST_DIRECTIVES = ("$deleteFromPrimitiveList/", "$setElementOrder/")
MERGED_WORDS = frozenset({"finalizers"})  # the lists of words that clients send such directives for

_INDEX = re.compile(r"[+-]?[0-9]+|-")  # evanphx/json-patch reads +1, 01 and -1 too
_UNTESTED = object()


class Uncovers(ValueError):
    """A patch that could take the mask off a value. `.reason`: one line."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def check_merge(patch: Any) -> None:
    """Raises Uncovers. patch: the parsed body of a merge or strategic merge patch."""
    stack: list[Any] = [patch]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key.startswith(LIST_DIRECTIVES) and _parts_words(key, value):
                    raise Uncovers(
                        f"{key[:60]} takes words out of a list or changes their order, which can take a secret "
                        "value from behind its flag; send the whole list"
                    )
                stack.append(value)


def _parts_words(key: str, value: Any) -> bool:
    objects = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    return key.partition("/")[2] not in MERGED_WORDS and (key[1] == "d" or not objects)


def check(info: RequestInfo, operations: list[dict[str, Any]]) -> None:
    """Raises Uncovers. operations: as `kube.body` has checked them: an op, a path, a value or from."""
    custom = info.api_group not in OWN_GROUPS
    before: dict[str, Any] = {}
    for place, operation in enumerate(operations):
        op, path = operation["op"], operation["path"]
        if op in ("move", "copy"):
            raise Uncovers(
                f"operation {place} of the JSON patch is a {op}, which can take a secret value from under its name; send the value itself "
                "with add or replace",
            )
        tested = before.get("value") if before.get("op") == "test" and before["path"] == path else _UNTESTED
        if op != "test" and _speaks_of_others(path, operation, custom) and not _harmless(op, tested):
            raise Uncovers(
                f"operation {place} of the JSON patch changes the name, flag or kind that a value beside it is known by; put a `test` of what stands "
                "there now right before it (and insert only at the end), or send a strategic merge patch",
            )
        before = operation


def _speaks_of_others(path: str, operation: dict[str, Any], custom: bool) -> bool:
    """Whether what stands at `path` can be what another value is known by."""
    steps = path.split("/")[1:]
    if len(steps) < 2 or steps[0] == "metadata":
        return False
    parent, last = steps[-2], steps[-1]
    if last in NAMING:
        return custom or (last != "kind" and _INDEX.fullmatch(parent) is not None)
    if not _INDEX.fullmatch(last) or (operation["op"] == "add" and last in ("-", "0")):
        return False
    return parent in ARGUMENTS or (
        custom and (operation["op"] == "remove" or isinstance(operation["value"], str))
    )


def _harmless(op: str, tested: Any) -> bool:
    """Whether nothing is known by what a `test` has shown to stand there. An insertion parts two neighbours."""
    if tested is _UNTESTED or op == "add":
        return False
    return not isinstance(tested, str) or not (sensitive(tested) or tested in ("Secret", "List"))
