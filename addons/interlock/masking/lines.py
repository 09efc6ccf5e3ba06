"""Lines: masking of text that streams (logs, standard output), line by line, with a bound on what is held.

In: bytes cut anywhere. Out: whole masked lines. The rules: what comes out depends on the bytes alone, never on
how they were cut; no line is released before its end, except one that is longer than may be held, and that
only up to a place where the cut changes nothing of what is found; of a stream that the client may cut where it
likes, a last line without its end is not released at all: the masks of a value's beginnings spell it out.
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

_TRIES = 2  # places of each kind at which a cut is tried

_BLANK = re.compile(rb"[ \t\r]")
_QUOTE = re.compile(rb"[\"',;]")
_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END = b"-----END "
# A line of a PEM body whose first line was not asked for (tailLines, sinceTime): 64 characters (RFC 7468), 70 in
# OpenSSH's keys, 76 in MIME; a digest in hexadecimal is none.
_BODY = re.compile(rb"(?![0-9a-f]*\Z)(?:[A-Za-z0-9+/]{64}|[A-Za-z0-9+/]{70}|[A-Za-z0-9+/]{76})\Z")


class Lines:
    """One stream of text. name: what findings call it (`log`, `stdout`)."""

    def __init__(self, mint: Mint, name: str) -> None:
        self._mint = mint
        self._path = (None, name)
        self._held = b""
        self._key: hashlib._Hash | None = None  # of a private key's body so far, while it is passed over
        self._dropping = False  # the rest of an overlong line, which a value fills
        self._within = False  # what is held is the rest of an overlong line, not its begin
        self._findings: list[Finding] = []
        self._cut = False

    def cut_by_client(self) -> None:
        """The client chose how many bytes come (limitBytes): its last line may end anywhere."""
        self._cut = True

    def feed(self, chunk: bytes) -> Masked:
        """The lines that `chunk` completes, masked."""
        *whole, rest = (self._held + chunk).split(b"\n")
        out: list[bytes] = []
        if whole:
            together = b"\n".join(whole) + b"\n"
            if self._alone(whole) and not text.touches(together.decode("utf-8", "surrogateescape")):
                out.append(together)
            else:
                out += [self._line(line, b"\n") for line in whole]
        while len(rest) > LIMIT:
            piece, rest = self._window(rest)
            out.append(piece)
        self._held = rest
        return self._masked(out)

    def end(self) -> Masked:
        """What is left when the stream ends: a last line without its newline."""
        rest, self._held = self._held, b""
        if self._cut:
            self._key = None
            return self._masked([])
        out = [self._line(rest, b"")]
        if self._key is not None:
            out.append(self._closed())
        return self._masked(out)

    def _masked(self, out: list[bytes]) -> Masked:
        findings, self._findings = tuple(self._findings), []
        return Masked(b"".join(out), findings, seal=SEAL)

    def _alone(self, whole: list[bytes]) -> bool:
        """Whether each line stands by itself: no private key's, not part of an overlong one."""
        return (
            self._key is None
            and not self._dropping
            and not self._within
            and max(map(len, whole)) <= LIMIT
            and not any(map(_BODY.match, whole))
        )

    def _line(self, line: bytes, end: bytes) -> bytes:
        """One line, with its newline in `end`; the lines of a private key are one."""
        out = b""
        while len(line) > LIMIT:
            piece, line = self._window(line)
            out += piece
        within, self._within = self._within, False
        if self._dropping:
            self._dropping = False
            return out + end
        if self._key is not None:
            at = line.find(_END)
            if at < 0:
                self._key.update(line)
                return out
            self._key.update(line[:at])
            out += self._closed()
            line = line[at:]
        if not within and _BODY.match(line):
            token = self._mint(line)
            self._findings.append(Finding("secret", str(self._path[1]), token))
            return out + token.encode() + end
        masked, findings = self._text(line, within)
        self._findings += findings
        self._open(line)
        return out + masked + end

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
        within, self._within = self._within, True
        masked, findings = self._text(window, within)
        for cut in _cuts(window):
            head, of_head = self._text(window[:cut], within)
            if head + self._text(window[cut:], True)[0] == masked:
                self._findings += of_head
                self._open(window[:cut])
                return head, line[cut:]
        self._findings += findings
        self._open(window)
        self._dropping = self._key is None
        return masked, line[LIMIT:]

    def _text(self, raw: bytes, within: bool) -> tuple[bytes, list[Finding]]:
        """`raw` masked; within: it does not begin its line, so that a rule for the begin of one does not apply."""
        walk = Walk(self._mint)
        masked = walk.string("\0" * within + raw.decode("utf-8", "surrogateescape"), self._path)
        return (
            (masked[within:].encode("utf-8", "surrogateescape"), walk.findings)
            if walk.findings
            else (raw, [])
        )

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
    """Places where an overlong line may be cut, the best first: before a blank, a quote, in a long word."""
    end = len(window) - TAIL
    for mark in (_BLANK, _QUOTE):
        places = [found.start() for found in mark.finditer(window, 1, end)]
        yield from reversed(places[-_TRIES:])
    start = end
    while start and end - start < _WORD and _is_word(window[start - 1]):
        start -= 1
    yield start or end


def _is_word(byte: int) -> bool:
    return byte >= 0x80 or chr(byte).isalnum() or byte in b"_.-"
