"""Masker: all of masking that a session needs, for one answer, one stream, one connection, one record.

In: what a request was (`RequestInfo`), and the bytes of its answer. Out: `Masked`. A body in which nothing was
found comes out byte for byte as it went in. The rules: what is delivered is what was read, so that nothing can
hide between two ways to parse it; a media type or a shape that is not known here is Unmaskable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import quote, unquote

import orjson

from interlock.kube import frames
from interlock.kube.target import RequestInfo
from interlock.masking import answers, failures
from interlock.masking.fields import Walk, columns
from interlock.masking.lines import Lines
from interlock.masking.listing import Listing
from interlock.masking.masked import SEAL, Finding, Masked, Unmaskable
from interlock.masking.names import sensitive
from interlock.masking.tokens import Mint, minter

__all__ = ["Channels", "Finding", "Listing", "Masked", "Masker", "Stream", "Unmaskable", "Watch"]

# First segments of non-resource paths whose answers describe the API itself and hold no object.
DESCRIPTIONS = frozenset({"api", "apis", "openapi", "version"})

# Subresources whose answer is text, or whatever a program of the cluster's sends.
TEXT_SUBRESOURCES = frozenset({"log", "proxy"})

EVENTS = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")  # apimachinery, pkg/watch/watch.go


class Stream(Protocol):
    """Masks an answer that comes in pieces. What comes out does not depend on where it was cut."""

    def feed(self, chunk: bytes) -> Masked:
        """What `chunk` completes; `data` is empty while everything is held. Raises Unmaskable."""

    def end(self) -> Masked:
        """What was held when the answer ended. Raises Unmaskable."""


class Masker:
    """Masking under one session's key."""

    def __init__(self, key: bytes) -> None:
        self._mint = minter(key)

    # Answers ------------------------------------------------------------------------------------------

    def body(self, info: RequestInfo, code: int, content_type: str | None, raw: bytes) -> Masked:
        """A whole answer. Raises Unmaskable."""
        if not raw:
            return Masked(raw, seal=SEAL)
        media, _, parameters = (content_type or "").partition(";")
        media = media.strip().lower()
        if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
            raise Unmaskable("an answer in a character set other than UTF-8")
        if media == "application/json":
            if not info.is_resource and code == 200 and info.path.split("/")[1] in DESCRIPTIONS:
                return Masked(raw, seal=SEAL)
            return answers.masked(self._mint, raw, info)
        if media == "text/plain" and (
            not info.is_resource or code >= 400 or info.subresource in TEXT_SUBRESOURCES
        ):
            if (
                code >= 400
                and answers.is_secret(info)
                and not failures.PLAIN.fullmatch(raw.strip().decode("utf-8", "replace"))
            ):
                raise Unmaskable("an error about a Secret in words that are not known")
            return self._text(raw, "body")
        raise Unmaskable(f"an answer of media type {media[:60]!r}, which masking cannot read")

    def watch(self, info: RequestInfo) -> Watch:
        """The events of a watch, one JSON document a line."""
        return Watch(self._mint, info)

    def listing(self, info: RequestInfo) -> Listing:
        """A list or Table that is too large to hold, item by item."""
        return Listing(self._mint, info)

    def log(self) -> Lines:
        """Lines of text: `pods/log`."""
        return Lines(self._mint, "log")

    def channels(self) -> Channels:
        """The messages of an exec or attach websocket."""
        return Channels(self._mint)

    def header(self, value: str) -> str:
        """The value of a header that may quote an object: Warning."""
        walk = Walk(self._mint)
        return walk.string(value, (None, "header"))

    def unread(self, message: bytes) -> Masked:
        """A port-forward's message, passed on without being read: what a rule's `unmasked: true` opens.

        Nothing of it is recorded.
        """
        return Masked(b"", frames=(message,), seal=SEAL)

    # The request, for the record ----------------------------------------------------------------------

    def record_body(self, info: RequestInfo, thing: Any) -> Masked:
        """A request's parsed body as the evidence may hold it. `thing` stays as it is. Raises Unmaskable."""
        node = orjson.loads(orjson.dumps(thing))
        walk = Walk(self._mint)
        kind = answers.kind_of(info) if not info.subresource else ""
        if info.verb == "patch" and isinstance(node, list):
            _patch(walk, node, kind)
        elif isinstance(node, str):
            node = walk.string(node, None)
        else:
            walk.document(node, None, kind)
        return Masked(orjson.dumps(node), tuple(walk.findings), seal=SEAL)

    def record_command(self, arguments: Iterable[str]) -> tuple[str, ...]:
        """The argv of an exec as it may be shown: `["--password", "x"]` masks the second."""
        argv = list(arguments)
        Walk(self._mint).document(argv)
        return tuple(argv)

    def record_uri(self, canonical: str) -> str:
        """A canonical target as it may be shown: selectors, argv and parameters of proxied requests masked."""
        path, mark, query = canonical.partition("?")
        path = self._shown(path)
        if not mark:
            return path
        pairs = [pair.partition("=")[::2] for pair in query.split("&")]
        argv = iter(self.record_command(unquote(value) for name, value in pairs if name == "command"))
        shown: list[str] = []
        for name, value in pairs:
            plain = unquote(value)
            if name == "command":
                new = next(argv)
            elif sensitive(unquote(name)):
                new = Walk(self._mint).string(f"{name}={plain}", None).removeprefix(f"{name}=")
            else:
                new = Walk(self._mint).string(plain, None)
            shown.append(f"{name}={value if new == plain else quote(new, safe='')}")
        return f"{path}?{'&'.join(shown)}"

    def _shown(self, path: str) -> str:
        plain = unquote(path)
        new = Walk(self._mint).string(plain, None)
        return path if new == plain else quote(new, safe="/:@")

    def _text(self, raw: bytes, name: str) -> Masked:
        lines = Lines(self._mint, name)
        first, last = lines.feed(raw), lines.end()
        return Masked(first.data + last.data, first.findings + last.findings, seal=SEAL)


class Watch:
    """A watch's events, masked one by one."""

    def __init__(self, mint: Mint, info: RequestInfo) -> None:
        self._mint = mint
        self._info = info
        self._lines = frames.Lines()
        self._columns: list[str] = []  # a Table names its columns in the first event only

    def feed(self, chunk: bytes) -> Masked:
        """The events that `chunk` completes. Raises Unmaskable."""
        try:
            lines = self._lines.feed(chunk)
        except frames.Overlong as error:
            raise Unmaskable(f"a watch event: {error.reason}") from None
        return _joined([self._event(line) for line in lines])

    def end(self) -> Masked:
        """Nothing, or a last event that came without its newline. Raises Unmaskable for half of one."""
        rest = self._lines.end()
        return self._event(rest) if rest.strip() else Masked(b"", seal=SEAL)

    def _event(self, line: bytes) -> Masked:
        if not line.strip():
            return Masked(line, seal=SEAL)
        event = answers.parsed(line)
        if not isinstance(event, dict) or event.keys() != {"type", "object"} or event["type"] not in EVENTS:
            raise Unmaskable("a line of a watch that is no watch event")
        walk = Walk(self._mint)
        thing = event["object"]
        if isinstance(thing, dict) and thing.get("kind") == "Table":
            self._columns = columns(thing.get("columnDefinitions")) or self._columns
            walk.columns = self._columns
        answers.guard(walk, thing, self._info)
        walk.document(thing, (None, "object"), answers.kind_of(self._info))
        return answers.written(line, event, walk)


class Channels:
    """An exec or attach connection: each of its output channels is a stream of lines of its own."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._in = Lines(mint, "stdin")
        self._out = {
            channel: Lines(mint, frames.CHANNELS[channel]) for channel in (frames.STDOUT, frames.STDERR)
        }

    def frame(self, payload: bytes, from_client: bool) -> Masked:
        """One binary message, channel byte first. `frames`: what to deliver for it, maybe nothing yet.

        The agent's own input is delivered as it is and recorded masked. Raises Unmaskable.
        """
        try:
            channel, data = frames.split(payload)
        except ValueError as error:
            raise Unmaskable(str(error)) from None
        return self._sent(channel, data, payload) if from_client else self._received(channel, data, payload)

    def end(self) -> Masked:
        """What was held when the connection ended."""
        rest = [_framed(channel, lines.end()) for channel, lines in self._out.items()]
        return _joined([*rest, Masked(*self._recorded(self._in.end()), seal=SEAL)])

    def _received(self, channel: int, data: bytes, payload: bytes) -> Masked:
        if channel in self._out:
            # An empty message opens a channel; it holds nothing and clients wait for it.
            return (
                _framed(channel, self._out[channel].feed(data))
                if data
                else Masked(b"", (), (payload,), seal=SEAL)
            )
        if channel == frames.ERROR:
            rest = [_framed(name, lines.end()) for name, lines in self._out.items()]
            if not data:
                return _joined([*rest, Masked(b"", (), (payload,), seal=SEAL)])
            return _joined([*rest, _framed(channel, answers.masked(self._mint, data, None))])
        if channel in (frames.STDIN, frames.RESIZE) and not data:
            return Masked(b"", (), (payload,), seal=SEAL)
        if channel == frames.CLOSE and len(data) == 1:
            return Masked(b"", (), (payload,), seal=SEAL)
        raise Unmaskable(f"a message of the cluster's on channel {channel}, which has no meaning there")

    def _sent(self, channel: int, data: bytes, payload: bytes) -> Masked:
        if channel == frames.STDIN:
            return Masked(*self._recorded(self._in.feed(data)), (payload,), seal=SEAL)
        if channel == frames.RESIZE:
            size = answers.parsed(data)
            if not isinstance(size, dict) or not all(type(value) is int for value in size.values()):
                raise Unmaskable("a message on the resize channel that is no terminal size")
            return Masked(b"", (), (payload,), seal=SEAL)
        if channel == frames.CLOSE and len(data) == 1:
            return Masked(b"", (), (payload,), seal=SEAL)
        raise Unmaskable(f"a message of the agent's on channel {channel}, which has no meaning there")

    @staticmethod
    def _recorded(masked: Masked) -> tuple[bytes, tuple[Finding, ...]]:
        return masked.data, masked.findings


def _patch(walk: Walk, operations: list[Any], kind: str) -> None:
    """A JSON patch (RFC 6902): a value counts by the path that it is for."""
    for i, operation in enumerate(operations):
        if not isinstance(operation, dict):
            walk.document(operation, (None, f"[{i}]"))
            continue
        pointer = operation.get("path")
        steps = (
            [s.replace("~1", "/").replace("~0", "~") for s in pointer.split("/")[1:]]
            if isinstance(pointer, str)
            else []
        )
        path = (None, f"[{i}].value")
        value = operation.get("value")
        in_secret = kind == "Secret" and steps[:1] in (["data"], ["stringData"])
        in_env = "env" in steps[:-1] and steps[-1] == "value"
        if in_secret or in_env or any(sensitive(step) for step in steps[-1:]):
            operation["value"] = walk.whole(value, path)
        elif isinstance(value, str) and steps[:-1] == ["metadata", "annotations"]:
            annotations = {steps[-1]: value}
            walk.document({"metadata": {"annotations": annotations}}, path)
            operation["value"] = annotations[steps[-1]]
        elif isinstance(value, str):
            operation["value"] = walk.string(value, path)
        else:
            walk.document(value, path, kind if not steps else "")


def _framed(channel: int, masked: Masked) -> Masked:
    """Masked text as a message on `channel`; no message for no text."""
    if not masked.data:
        return masked
    return Masked(masked.data, masked.findings, (bytes((channel,)) + masked.data,), seal=SEAL)


def _joined(parts: Sequence[Masked]) -> Masked:
    if len(parts) == 1:
        return parts[0]
    return Masked(
        b"".join(part.data for part in parts),
        tuple(finding for part in parts for finding in part.findings),
        tuple(frame for part in parts for frame in part.frames),
        seal=SEAL,
    )
