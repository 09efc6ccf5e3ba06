"""Failures: a `Status` whose words can quote the stored object, made safe to show.

In: the Status as parsed JSON. Out: the same, with what may be a quotation withheld. Measured: a merge- or
JSON-patch of a Secret that does not decode answers 422 with the existing object in `message` and in
`details.causes[].message`, even for who may not read it. The rule: of an answer about a Secret only words that
are known to quote names alone are shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_Q = r"\"[^\"\\\n{}]{0,253}\""
_W = r"[A-Za-z0-9.\-/:@_]{1,253}"
_CANNOT = rf"User {_Q} cannot [a-z]{{1,20}} resource {_Q} in API group \"[^\"]{{0,253}}\"(?: in the namespace {_Q}| at the cluster scope)?"

# Messages of the API server that quote names alone (apimachinery, pkg/api/errors/errors.go; apiserver,
# pkg/endpoints/handlers/responsewriters/errors.go).
PLAIN = re.compile(
    "|".join(
        (
            rf"{_W} {_Q} (?:not found|already exists)",
            rf"{_W}(?: {_Q})? is forbidden: {_CANNOT}",
            rf"{_W} {_Q} is forbidden: unable to create new content in namespace {_W} because it is being terminated",
            rf"Operation cannot be fulfilled on {_W} {_Q}: the object has been modified; please apply your changes to the latest version and try again",
            rf"Apply failed with \d+ conflicts?: conflicts? with {_Q} using {_W}:(?: [.\w\-/\[\]]{{1,253}}|(?:\n- [.\w\-/\[\]]{{1,253}})+)",
            rf"conflicts? with {_Q}(?: with subresource {_Q})? using {_W}(?: at [0-9T:\-Z]+)?",
            rf"{_W} in version {_Q} cannot be handled as a {_W}: (?:illegal base64 data at input byte \d+|strict decoding error: (?:(?:unknown|duplicate) field {_Q}(?:, )?)+)",
            r"the server could not find the requested resource",
            r"the server rejected our request due to an error in our request",
            r"406: Not Acceptable\n\nAvailable representations: [a-z0-9/+.,;=\- ]{1,400}",
            r"the server does not allow this method on the requested resource",
            r"the server is currently unable to handle the request",
            r"the server has received too many requests and has asked us to try again later",
            r"the body of the request was in an unknown format - accepted media types include: [a-z0-9/+.,\- ]{1,400}",
            r"only the following media types are accepted: [a-z0-9/+.,\- ]{1,400}",
            r"Unauthorized|not found|404 page not found",
            r"too old resource version: \d+ \(\d+\)|The resourceVersion for the provided (?:watch|list) is too old\.",
        )
    )
)

# Fields of a Secret whose value is no secret: what is said about them may be shown.
OPEN_FIELDS = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.resourceVersion",
        "type",
        "immutable",
        "data",
        "stringData",
    }
)
_FIELD = re.compile(r"[\w.\-/\[\]]{1,253}")
_OPEN_WORDS = re.compile(
    r"(?:Invalid value|Required value|Forbidden|Unsupported value|Not found|Too long|Duplicate value)[^{}]{0,600}"
)

# How an object looks inside a message: JSON, what Go prints with %v and %+v, a decoder's context, a diff.
DUMP = re.compile(
    r"[{\[]\\*\"|bigger context|error found in #|\b[a-z]\w{0,63}\.[A-Z]\w{0,63}\{|\bmap\[|\{[A-Z]\w{0,63}:|\{\s*\.\.\.|\bValue\"?: ?\"|@@ -[0-9]|^[ \t]*[-+] ",
    re.ASCII | re.MULTILINE,
)

Token = Callable[[str, str], str]  # (withheld text, where) -> token
Walk = Callable[[Any], bool]  # masks a document in place; whether it changed

_DECODER = json.JSONDecoder()


def withhold(node: dict[str, Any], token: Token, walk: Walk, *, secret: bool) -> None:
    """Masks the messages of a failed Status in place.

    secret: whether it answers a request for something that is secret as a whole.
    """
    causes = list(_causes(node))
    if secret:
        _about_a_secret(node, causes, token)
        return
    for holder, where in (
        (node, "message"),
        *((cause, f"details.causes[{i}].message") for i, cause in causes),
    ):
        message = holder.get("message")
        if isinstance(message, str) and not PLAIN.fullmatch(message):
            holder["message"] = _without_dumps(message, where, token, walk)


def _without_dumps(message: str, where: str, token: Token, walk: Walk) -> str:
    """`message` with each object in it masked; from the first that cannot be read on, nothing of it."""
    pieces: list[str] = []
    at = 0
    while (dump := DUMP.search(message, at)) is not None:
        read = _read(message, dump.start())
        if read is None:
            pieces.append(message[at : dump.start()])
            pieces.append(
                f"[{token(message[dump.start() :], where)} in place of words that can quote the object]"
            )
            return "".join(pieces)
        start, end, thing = read
        pieces.append(message[at:start])
        pieces.append(json.dumps(thing, ensure_ascii=False) if walk(thing) else message[start:end])
        at = end
    return "".join((*pieces, message[at:]))


def _read(message: str, start: int) -> tuple[int, int, Any] | None:
    """The JSON that begins at `start`, or the quoted JSON (Go's %q) whose quote stands before it."""
    try:
        if message[start - 1 : start] == '"':
            start -= 1
            text, end = _DECODER.raw_decode(message, start)
            thing = json.loads(text)
        else:
            thing, end = _DECODER.raw_decode(message, start)
    except (ValueError, RecursionError):
        return None
    return (start, end, thing) if isinstance(thing, (dict, list)) else None


def _about_a_secret(node: dict[str, Any], causes: list[tuple[int, dict[str, Any]]], token: Token) -> None:
    told: list[str] = []
    for i, cause in causes:
        field, words = cause.get("field"), cause.get("message")
        if not isinstance(field, str) or not _FIELD.fullmatch(field):
            cause.pop("field", None)
            field = ""
        if isinstance(words, str) and not (
            PLAIN.fullmatch(words) or (field in OPEN_FIELDS and _OPEN_WORDS.fullmatch(words))
        ):
            words = f"withheld, it can quote the secret [{token(words, f'details.causes[{i}].message')}]"
            cause["message"] = words
        told.append(f"{field}: {words}" if field else str(words))
    message = node.get("message")
    if isinstance(message, str) and message and not PLAIN.fullmatch(message):
        said = (
            "; ".join(told)
            or f"its words are withheld, they can quote the secret [{token(message, 'message')}]"
        )
        node["message"] = f"the API server refused this as {node.get('reason') or node.get('code')}: {said}"


def _causes(node: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    details = node.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for i, cause in enumerate(causes if isinstance(causes, list) else ()):
        if isinstance(cause, dict):
            yield i, cause
