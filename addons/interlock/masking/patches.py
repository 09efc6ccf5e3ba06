"""JSON patches: none may take a value away from the words that say it is secret.

In: the parsed operations of a JSON patch (RFC 6902). Out: nothing, or Uncovers. What is masked is known by what
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

_INDEX = re.compile(r"[+-]?[0-9]+|-")  # evanphx/json-patch reads +1, 01 and -1 too
_UNTESTED = object()


class Uncovers(ValueError):
    """A patch that could take the mask off a value. `.reason`: one line."""

    def __init__(self, place: int, why: str) -> None:
        self.reason = f"operation {place} of the JSON patch {why}"
        super().__init__(self.reason)


def check(info: RequestInfo, operations: list[dict[str, Any]]) -> None:
    """Raises Uncovers. operations: as `kube.body` has checked them: an op, a path, a value or from."""
    custom = info.api_group not in OWN_GROUPS
    before: dict[str, Any] = {}
    for place, operation in enumerate(operations):
        op, path = operation["op"], operation["path"]
        if op in ("move", "copy"):
            raise Uncovers(
                place,
                f"is a {op}, which can take a secret value from under its name; send the value itself "
                "with add or replace",
            )
        tested = before.get("value") if before.get("op") == "test" and before["path"] == path else _UNTESTED
        if op != "test" and _speaks_of_others(path, operation, custom) and not _harmless(op, tested):
            raise Uncovers(
                place,
                "changes the name, flag or kind that a value beside it is known by; put a `test` of what stands "
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
