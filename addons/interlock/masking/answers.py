"""Answers: one JSON document of the API server's, masked.

In: its bytes, and what was asked. Out: `Masked`. The rules: what is delivered is what was read, so that
nothing can hide between two ways to parse it (a duplicate key, a lone surrogate); of a failed request for a
Secret only words that quote nothing are shown.
"""

from __future__ import annotations

from typing import Any

import orjson

from interlock.kube.target import RequestInfo
from interlock.masking import failures
from interlock.masking.fields import Walk
from interlock.masking.masked import SEAL, Masked, Unmaskable
from interlock.masking.tokens import Mint

# What an object is when it does not say so itself: a patch, an item of a list.
KINDS = {("", "secrets"): "Secret", ("", "configmaps"): "ConfigMap"}

# What Go's encoder writes as escapes (encoding/json, HTMLEscape), and orjson as themselves.
_ESCAPES = (
    (b"&", b"\\u0026"),
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def kind_of(info: RequestInfo) -> str:
    """The kind of the objects that a request is about, where that decides what is masked; else ""."""
    return KINDS.get((info.api_group, info.resource), "")


def is_secret(info: RequestInfo) -> bool:
    """Whether a request is for something that is secret as a whole."""
    return kind_of(info) == "Secret"


def masked(mint: Mint, raw: bytes, info: RequestInfo | None) -> Masked:
    """One document. info: None for what no request asked for, an exec's exit status. Raises Unmaskable."""
    node = parsed(raw)
    if not isinstance(node, (dict, list, bool, type(None))):
        raise Unmaskable("an answer that is a bare value instead of an object")
    walk = Walk(mint)
    if info is not None:
        guard(walk, node, info)
    walk.document(node, None, kind_of(info) if info is not None else "")
    return written(raw, node, walk)


def parsed(raw: bytes) -> Any:
    """The JSON in `raw`. Raises Unmaskable."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Unmaskable(f"an answer that is no JSON, at byte {error.pos}") from None


def guard(walk: Walk, node: Any, info: RequestInfo) -> None:
    """Withholds the words of a failed request for a Secret."""
    if (
        isinstance(node, dict)
        and node.get("kind") == "Status"
        and node.get("status") == "Failure"
        and is_secret(info)
    ):
        failures.withhold(
            node, lambda value, where: walk.token(value, (None, where)), walk.changes, secret=True
        )


def written(raw: bytes, node: Any, walk: Walk) -> Masked:
    """The walked document as it goes on: the bytes that came if they say just what was read and nothing was
    masked, else what was read, written anew in the same style (`?pretty=true` has two blanks)."""
    option = orjson.OPT_INDENT_2 if raw.startswith(b"{\n") else 0
    new = orjson.dumps(node, option=option | (orjson.OPT_APPEND_NEWLINE if raw.endswith(b"\n") else 0))
    if not walk.findings and (new == raw or _escaped(new) == raw):
        return Masked(raw, seal=SEAL)
    return Masked(new, tuple(walk.findings), seal=SEAL)


def _escaped(new: bytes) -> bytes:
    for plain, escape in _ESCAPES:
        new = new.replace(plain, escape)
    return new
