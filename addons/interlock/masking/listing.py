"""Listing: masking of a list or Table that is too large to be held, item by item.

In: the JSON of one list, in pieces cut anywhere. Out: the same list, each item masked as soon as it is whole.
What is held is at most what comes before the items, one item, or what comes after them. The rules: an item is
cut out by counting brackets outside of strings and then parsed, so that a wrong cut cannot pass; what the list
is must be said before its items and nothing about it after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.kube.target import RequestInfo
from interlock.masking import answers
from interlock.masking.fields import Walk, columns
from interlock.masking.masked import SEAL, Finding, Masked, Unmaskable
from interlock.masking.tokens import Mint

LIMIT = 8 * 1024 * 1024  # bytes of an item, and of what comes before and after the items

# Up to the next bracket that is not inside a string; each part possessive, so that it is one pass.
_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+[{}\[\]]', re.DOTALL)
_ITEMS = re.compile(rb'"(items|rows)"[ \t\r\n]*:[ \t\r\n]*\[\Z')
_GAP = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*")

_OPENS = b"{["
_DECIDES = frozenset({"kind", "apiVersion", "items", "rows", "columnDefinitions"})  # how items are masked


class Listing:
    """One list. Small ones, and what turns out to be no list, are masked as a whole at the end."""

    def __init__(self, mint: Mint, info: RequestInfo) -> None:
        self._mint = mint
        self._info = info
        self._held = bytearray()
        self._read = 0  # how far brackets of `_held` were counted
        self._depth = 0
        self._part = "head"  # then "items", then "tail"
        self._kind = ""
        self._columns: list[str] | None = None  # of a Table
        self._count = 0

    def feed(self, chunk: bytes) -> Masked:
        """The items that `chunk` completes. Raises Unmaskable."""
        self._held += chunk
        out: list[bytes] = []
        findings: list[Finding] = []
        if self._part == "head" and (head := self._head()) is not None:
            out.append(head.data)
            findings += head.findings
        while self._part == "items" and (item := self._item()) is not None:
            out.append(item.data)
            findings += item.findings
        if len(self._held) > LIMIT:
            raise Unmaskable(f"a list whose {self._part} is larger than {LIMIT} bytes in one piece")
        return Masked(b"".join(out), tuple(findings), seal=SEAL)

    def end(self) -> Masked:
        """What is left when the list ended. Raises Unmaskable if it did not."""
        rest = bytes(self._held)
        self._held.clear()
        if self._part == "head":
            return answers.masked(self._mint, rest, self._info) if rest else Masked(b"", seal=SEAL)
        if self._part == "items":
            raise Unmaskable("a list that was cut off")
        self._part = "head"
        return self._tail(rest)

    def _head(self) -> Masked | None:
        """What comes before the items, once it is whole."""
        for bracket in self._brackets(0):
            if self._depth == 2 and (items := _ITEMS.search(self._held, bracket.start(), self._read)):
                head = self._opened(bytes(self._held[: self._read]), items[1].decode())
                self._cut(self._read)
                self._part = "items"
                return head
        return None

    def _opened(self, raw: bytes, name: str) -> Masked:
        node = answers.parsed(raw + b"]}")
        kind = node.get("kind")
        if not isinstance(kind, str) or next(reversed(node)) != name:
            raise Unmaskable("a list that does not say what it is before its items")
        if name == "items" and kind.endswith("List"):
            self._kind = kind[:-4]
        elif name == "rows" and kind == "Table":
            self._columns = columns(node.get("columnDefinitions"))
        else:
            raise Unmaskable(f"{name} of what is no list")
        walk = Walk(self._mint)
        rest = {key: value for key, value in node.items() if key not in (name, "columnDefinitions")}
        walk.document(rest)
        node.update(rest)
        head = answers.written(raw + b"]}", node, walk)
        return Masked(head.data[: head.data.rindex(b"]")], head.findings, seal=SEAL)

    def _item(self) -> Masked | None:
        """The next item, once it is whole, with the comma before it; or the end of the items."""
        found = _GAP.match(self._held)
        assert found is not None
        begin = found.end()
        gap = bytes(self._held[:begin])
        comma = b"," in gap
        if begin == len(self._held):
            return None
        if self._held.startswith(b"]", begin) and not comma:
            self._cut(begin + 1)
            self._part = "tail"
            return Masked(gap + b"]", seal=SEAL)
        if not self._held.startswith(b"{", begin) or comma != bool(self._count):
            raise Unmaskable(f"items[{self._count}] is no object")
        for _ in self._brackets(begin):
            if not self._depth:
                item = self._masked(bytes(self._held[begin : self._read]))
                self._cut(self._read)
                self._count += 1
                return Masked(gap + item.data, item.findings, seal=SEAL)
        return None

    def _masked(self, raw: bytes) -> Masked:
        node = answers.parsed(raw)
        walk = Walk(self._mint)
        if self._columns is not None:
            walk.row(node, (None, f"rows[{self._count}]"), self._columns)
        else:
            walk.document(node, (None, f"items[{self._count}]"), self._kind)
        return answers.written(raw, node, walk)

    def _tail(self, raw: bytes) -> Masked:
        """What comes after the items: the closing brace, and fields that say nothing about them."""
        end = raw.strip()
        if end == b"}":
            return Masked(raw, seal=SEAL)
        if not end.startswith(b","):
            raise Unmaskable("a list that does not end where its items do")
        node = answers.parsed(b"{" + end[1:])
        if not node or not node.keys().isdisjoint(_DECIDES):
            raise Unmaskable("a list that says what it is after its items")
        walk = Walk(self._mint)
        walk.document(node)
        tail = answers.written(b"{" + end[1:], node, walk)
        return Masked(b"," + tail.data[1:] + raw[len(raw.rstrip()) :], tail.findings, seal=SEAL)

    def _brackets(self, begin: int) -> Iterator[re.Match[bytes]]:
        """Each bracket from where counting stopped, counted. Anchored there: a string without its end is read
        once, not from each of its characters on."""
        while (bracket := _BRACKET.match(self._held, max(begin, self._read))) is not None:
            self._read = bracket.end()
            self._depth += 1 if self._held[self._read - 1] in _OPENS else -1
            yield bracket

    def _cut(self, end: int) -> None:
        del self._held[:end]
        self._read = self._depth = 0
