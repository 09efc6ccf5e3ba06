"""Write-back: a mask token never goes into the cluster, because there it would replace the value it stands for.

In: the parsed body of a write, and the parameters of any request. Out: nothing, or HoldsMask with the path.
The rule: a token is found in whatever form a client can send back what it got: as a string or a key, in
base64 (also of base64), in JSON and YAML inside a string, in a Helm release.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any

from interlock.masking.fields import Path, render
from interlock.masking.helm import TooLarge, inflated
from interlock.masking.tokens import TOKEN_BYTES

LAYERS = 6  # encodings inside each other: Secret data, Helm's base64, gzip, a file of the chart, base64 in it
BUDGET = 24 * 1024 * 1024  # bytes looked through for one request, decoded ones included; a body has 3 MiB


def _phase(before: int) -> tuple[bytes, int]:
    """`masked-` in base64 after `before` bytes of its group: the characters that do not depend on what stands
    around it, and how many there are from the group's begin to them."""
    whole = base64.b64encode(b"\0" * before + b"masked-")
    skip = -(-before * 8 // 6)
    return whole[skip : (before + 7) * 8 // 6], skip


_PHASES = tuple(_phase(before) for before in range(3))
_RUN = re.compile(rb"[A-Za-z0-9+/]{16,}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BREAKS = b" \t\r\n\v\f\\"  # between the lines of base64; the last, of a string inside a string


class HoldsMask(ValueError):
    """A write that holds a mask token, or what cannot be looked through for one. `.path`, `.reason`: one line."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def check(thing: Any, query: Iterable[tuple[str, str]]) -> None:
    """Raises HoldsMask if a token stands anywhere in the parsed body `thing` (None: no body) or in `query`."""
    budget = [BUDGET]
    for name, value in query:
        _string(value, (None, f"?{name}"), budget)
    stack: list[tuple[Any, Path]] = [(thing, None)]
    while stack:
        node, path = stack.pop()
        if isinstance(node, str):
            _string(node, path, budget)
        elif isinstance(node, dict):
            for key, value in node.items():
                step = (path, key)
                _string(key, step, budget)
                stack.append((value, step))
        elif isinstance(node, list):
            stack.extend((value, (path, f"[{i}]")) for i, value in enumerate(node))


def _string(value: str, path: Path, budget: list[int]) -> None:
    if len(value) < 16:
        return
    try:
        found = _holds(value.encode("utf-8", "surrogatepass"), LAYERS, budget)
    except _TooMuch:
        raise HoldsMask(
            render(path), f"{render(path)} is packed so that it cannot be looked through for masked values"
        ) from None
    if found:
        raise HoldsMask(
            render(path),
            f"{render(path)} holds a masked value, which would replace the real one; leave the field out, "
            "or change only the others (kubectl patch, kubectl apply with your own file)",
        )


class _TooMuch(Exception):
    """More bytes than the budget."""


def _holds(raw: bytes, layers: int, budget: list[int]) -> bool:
    """Whether a token stands in `raw`, or in what `raw` or a part of it is the encoding of."""
    budget[0] -= len(raw)
    if budget[0] < 0:
        raise _TooMuch
    if TOKEN_BYTES.search(raw):
        return True
    if not layers:
        return False
    if raw.startswith(b"\x1f\x8b"):
        return _holds(_inflated(raw, budget), layers - 1, budget)
    flat = raw
    if b"\\" in flat:
        flat = flat.replace(b"\\n", b"").replace(b"\\r", b"").replace(b"\\t", b"")
    flat = flat.translate(_URL_SAFE, _BREAKS)
    for run in _RUN.finditer(flat):
        for start in _starts(run[0]):
            inner = _decoded(run[0][start:])
            if TOKEN_BYTES.search(inner) or (_is_text(inner) and _holds(inner, layers - 1, budget)):
                return True
    return False


def _is_text(raw: bytes) -> bool:
    """Whether `raw` can be the encoding of something in turn: text, or gzip. What looks like base64 and is
    none decodes to neither."""
    try:
        raw[:64].decode()
    except UnicodeDecodeError as error:
        return error.start > 60 or raw.startswith(b"\x1f\x8b")
    return True


def _decoded(part: bytes) -> bytes:
    """The bytes of base64 without its padding; a single last character is none."""
    rest = len(part) % 4
    return binascii.a2b_base64(part[:-1] if rest == 1 else part + b"=" * (-len(part) % 4))


def _starts(run: bytes) -> set[int]:
    """Where in a run of base64 a group may begin: at its begin, and where a token's own phase says."""
    starts = {0}
    for mark, skip in _PHASES:
        at = run.find(mark)
        while at >= 0:
            starts.add((at - skip) % 4)
            at = run.find(mark, at + 1)
    return starts


def _inflated(raw: bytes, budget: list[int]) -> bytes:
    try:
        return inflated(raw, budget[0])
    except TooLarge:
        raise _TooMuch from None
    except ValueError:
        return b""
