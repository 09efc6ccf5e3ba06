"""Lines: masking of text that streams (logs, standard output), line by line, with a bound on what is held.

In: bytes cut anywhere. Out: whole masked lines. The rules: what comes out depends on the bytes alone, never on
how they were cut; no line is released before its end, except one that is longer than may be held, and that
only up to a place where the cut changes nothing of what is found.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from interlock.masking import text
from interlock.masking.fields import Walk
from interlock.masking.masked import SEAL, Finding, Masked
from interlock.masking.tokens import Mint

LIMIT = 32 * 1024  # bytes of a line that has not ended
TAIL = 512  # bytes of a longer one that stay, so that a name and its value are not torn apart
_WORD = 256  # bytes of one word that stay together: `names` reads no longer names

_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END = b"-----END "


class Lines:
    """One stream of text. name: what findings call it (`log`, `stdout`)."""

    def __init__(self, mint: Mint, name: str) -> None:
        self._mint = mint
        self._path = (None, name)
        self._held = b""
        self._key: hashlib._Hash | None = (
            None  # of the body so far of a private key that is being passed over
        )
        self._dropping = False  # the rest of an overlong line, which a value fills
        self._findings: list[Finding] = []

    def feed(self, chunk: bytes) -> Masked:
        """The lines that `chunk` completes, masked."""
        *whole, rest = (self._held + chunk).split(b"\n")
        out: list[bytes] = []
        if whole:
            together = b"\n".join(whole) + b"\n"
            if self._plain(together):
                out.append(together)
            else:
                out += [self._line(line) + b"\n" for line in whole]
        while len(rest) > LIMIT:
            piece, rest = self._window(rest)
            out.append(piece)
        self._held = rest
        return self._masked(out)

    def end(self) -> Masked:
        """What is left when the stream ends: a last line without its newline."""
        rest, self._held = self._held, b""
        out = [self._line(rest)]
        if self._key is not None:
            out.append(self._closed())
        return self._masked(out)

    def _masked(self, out: list[bytes]) -> Masked:
        findings, self._findings = tuple(self._findings), []
        return Masked(b"".join(out), findings, seal=SEAL)

    def _plain(self, lines: bytes) -> bool:
        """Whether there is nothing to find in lines that are not part of anything longer."""
        return (
            self._key is None
            and not self._dropping
            and len(lines) <= LIMIT
            and not text.touches(lines.decode("utf-8", "surrogateescape"))
        )

    def _line(self, line: bytes) -> bytes:
        """One line, without its newline."""
        out = b""
        while len(line) > LIMIT:
            piece, line = self._window(line)
            out += piece
        if self._dropping:
            self._dropping = False
            return out
        if self._key is not None:
            at = line.find(_END)
            if at < 0:
                self._key.update(line)
                return out
            self._key.update(line[:at])
            out += self._closed()
            line = line[at:]
        masked, findings = self._text(line)
        self._findings += findings
        self._open(line)
        return out + masked

    def _window(self, line: bytes) -> tuple[bytes, bytes]:
        """Of a line longer than LIMIT: what can be released of its first LIMIT bytes, and what stays."""
        window = line[:LIMIT]
        if self._dropping:
            return b"", line[LIMIT:]
        if self._key is not None:
            at = window.find(_END)
            if at >= 0:
                self._key.update(window[:at])
                return self._closed(), line[at:]
            self._key.update(window[: -len(_END)])
            return b"", line[LIMIT - len(_END) :]
        masked, findings = self._text(window)
        for cut in _cuts(window):
            head, of_head = self._text(window[:cut])
            if head + self._text(window[cut:])[0] == masked:
                self._findings += of_head
                self._open(window[:cut])
                return head, line[cut:]
        self._findings += findings
        self._open(window)
        self._dropping = self._key is None
        return masked, line[LIMIT:]

    def _text(self, raw: bytes) -> tuple[bytes, list[Finding]]:
        walk = Walk(self._mint)
        plain = raw.decode("utf-8", "surrogateescape")
        masked = walk.string(plain, self._path)
        return (masked.encode("utf-8", "surrogateescape"), walk.findings) if walk.findings else (raw, [])

    def _open(self, line: bytes) -> None:
        """A private key begins in `line` and goes on after it."""
        for begin in _BEGIN.finditer(line):
            self._key = None if _END in line[begin.end() :] else hashlib.sha256(line[begin.end() :])

    def _closed(self) -> bytes:
        """What stands in the place of the private key that ended."""
        assert self._key is not None
        token = self._mint(self._key.digest())
        self._key = None
        self._findings.append(Finding("secret", str(self._path[1]), token))
        return token.encode() + b"\n"


def _cuts(window: bytes) -> Iterator[int]:
    """Places where an overlong line may be cut, the best first: at a blank, at a quote, in a long word."""
    end = len(window) - TAIL
    for marks in (b" \t\r", b"\"',;"):
        cut = max(window.rfind(mark, 0, end) for mark in (marks[i : i + 1] for i in range(len(marks)))) + 1
        if cut:
            yield cut
    start = end
    while start and end - start < _WORD and _is_word(window[start - 1]):
        start -= 1
    yield start or end


def _is_word(byte: int) -> bool:
    return byte >= 0x80 or chr(byte).isalnum() or byte in b"_.-"
