"""Masking: what the agent and the evidence may see of an exchange.

In: requests and answers in clear. Out: `Shown` (the request as the evidence may hold it), `Reading` (in what
form an answer is read) and `Masked`, the only bytes that are delivered. What cannot be parsed or is of an
unknown form is refused. A write that holds a mask is refused with 422: it would put the mask in place of the
value.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace

from interlock.exchange import Exchange, Reading, Refusal, Shown
from interlock.kube.negotiation import response_headers
from interlock.masking import patches
from interlock.masking.masker import Channels, Masked, Masker, Unmaskable
from interlock.masking.write_back import HoldsMask, check

SESSIONS = 4096  # maskers that are kept, each with its session's key
OFF_LOOP = 32 * 1024  # bytes from which a body is masked in a thread, so that others need not wait
NO_SESSION = bytes(32)  # masks what has no session to key it by: a refused request's own words


class Masking:
    name = "masking"
    deadline = 30.0
    fills = {
        "request": ("shown", Shown),
        "refused": ("shown", Shown),
        "responseheaders": ("reading", Reading),
        "response": ("masked", Masked),
        "stream": ("masked", Masked),
        "websocket_message": ("masked", Masked),
    }

    def __init__(self) -> None:
        self._maskers: OrderedDict[str, Masker] = OrderedDict()
        self._nobody = Masker(NO_SESSION)

    async def request(self, x: Exchange) -> Shown:
        assert x.admission is not None
        body = x.admission.body
        if body is not None and len(body.canonical) > OFF_LOOP:
            return await asyncio.to_thread(self._request, x)
        return self._request(x)

    def _request(self, x: Exchange) -> Shown:
        assert x.admission is not None
        assert x.decision is not None
        a = x.admission
        if a.unreadable:
            raise Refusal(403, a.unreadable)
        thing = a.body.object if a.body is not None else None
        try:
            check(thing, a.target.query)
            if a.target.method == "PATCH" and isinstance(thing, list):
                patches.check(a.target.info, thing)
            elif a.target.method == "PATCH":
                patches.check_merge(thing)
        except (HoldsMask, patches.Uncovers) as refused:
            raise Refusal(422, refused.reason) from None
        if a.target.info.subresource == "portforward" and not x.decision.unmasked:
            raise Refusal(
                403,
                "a port-forward cannot be masked; only a rule with `unmasked: true` opens it, and none does here",
            )
        return self._shown(x)

    def refused(self, x: Exchange) -> Shown:
        if x.shown is not None:
            return x.shown
        if x.admission is not None:
            return self._shown(x, body=False)
        # Not parsed, so not maskable: the path alone, as far as it is plain, says what was tried.
        target = x.arrival.target.partition(b"?")[0][:1024].decode("latin-1")
        return Shown(uri=self._nobody.record_uri(target.replace("%", "%25")), body=b"", command=())

    def _shown(self, x: Exchange, *, body: bool = True) -> Shown:
        assert x.admission is not None
        a, masker = x.admission, self._masker(x)
        command = masker.record_command(a.target.command)
        uri = masker.record_uri(a.target.canonical)
        if a.body is None or not body:
            return Shown(uri, b"", command)
        try:
            masked = masker.record_body(a.target.info, a.body.object)
        except Unmaskable as unmaskable:
            raise Refusal(400, f"the body cannot be recorded: {unmaskable.reason}") from None
        return Shown(uri, masked.data, command, masked.findings)

    def _masker(self, x: Exchange) -> Masker:
        if x.session is None:
            return self._nobody
        masker = self._maskers.get(x.session.id)
        if masker is None:
            masker = self._maskers[x.session.id] = Masker(x.session.mask_key)
            if len(self._maskers) > SESSIONS:
                self._maskers.popitem(last=False)
        return masker

    # Answers

    def responseheaders(self, x: Exchange) -> Reading:
        assert x.reply is not None
        header = self._masker(x).header
        # A webhook's or a policy's own words come as warnings, and may quote an object.
        headers = tuple(
            (name, header(value.decode("utf-8", "replace")).encode())
            if name.lower() == b"warning"
            else (name, value)
            for name, value in response_headers(x.reply.headers)
        )
        return replace(self._reading(x), headers=headers)

    def _reading(self, x: Exchange) -> Reading:
        assert x.admission is not None
        assert x.reply is not None
        target, code = x.admission.target, x.reply.code
        if x.reply.value(b"content-encoding") not in ("", "identity"):
            raise Refusal(502, "the cluster answered in a compressed form that was not asked for")
        if code == 101:
            return self._connection(x)
        if 300 <= code < 400 and code != 304:
            raise Refusal(502, "the cluster answered with a redirect, which is not followed")
        if x.admission.protocols and code < 400:
            raise Refusal(502, "the cluster answered a connection with something else")
        masker = self._masker(x)
        if code == 200 and target.streams == "watch":
            self._media(x, "application/json")
            return Reading("watch", masker.watch(target.info))
        if code == 200 and target.streams == "log":
            self._media(x, "text/plain", "application/json", "")
            lines = masker.log()
            if any(name == "limitBytes" for name, _ in target.query):
                lines.cut_by_client()
            return Reading("log", lines)
        # Only a list that outgrows memory is read by it: a smaller one is masked whole, in `response`.
        is_list = code == 200 and target.info.verb == "list" and _media(x) == "application/json"
        return Reading("body", masker.listing(target.info) if is_list else None)

    def _connection(self, x: Exchange) -> Reading:
        assert x.admission is not None
        assert x.reply is not None
        chosen = x.reply.value(b"sec-websocket-protocol")
        if not x.admission.protocols or chosen not in x.admission.protocols:
            raise Refusal(502, "the cluster switched to a protocol that was not asked for")
        if x.reply.value(b"upgrade").lower() != "websocket" or x.reply.value(b"sec-websocket-extensions"):
            raise Refusal(502, "the cluster switched to a connection that cannot be masked")
        if x.admission.target.info.subresource == "portforward":
            return Reading("opaque", None)
        return Reading("frames", self._masker(x).channels())

    @staticmethod
    def _media(x: Exchange, *expected: str) -> None:
        media = _media(x)
        if media not in expected:
            raise Refusal(502, f"the cluster answered in {media[:60]!r}, which cannot be masked as a stream")

    async def response(self, x: Exchange) -> Masked:
        assert x.admission is not None
        assert x.reply is not None
        reply, masker = x.reply, self._masker(x)
        info, media = x.admission.target.info, reply.value(b"content-type")
        try:
            if len(reply.body) > OFF_LOOP:
                return await asyncio.to_thread(masker.body, info, reply.code, media, reply.body)
            return masker.body(info, reply.code, media, reply.body)
        except Unmaskable as unmaskable:
            raise Refusal(
                502, f"the cluster's answer cannot be masked and is withheld: {unmaskable.reason}"
            ) from None

    def stream(self, x: Exchange, data: bytes) -> Masked:
        assert x.reading is not None
        assert x.reading.stream is not None
        stream = x.reading.stream
        assert not isinstance(stream, Channels)
        return stream.feed(data) if data else stream.end()

    def websocket_message(self, x: Exchange, content: bytes, from_client: bool) -> Masked:
        assert x.reading is not None
        if x.reading.form == "opaque":
            return self._masker(x).unread(content)
        channels = x.reading.stream
        assert isinstance(channels, Channels)
        return channels.frame(content, from_client)


def _media(x: Exchange) -> str:
    """The answer's media type, in lower case, without parameters."""
    assert x.reply is not None
    return x.reply.value(b"content-type").partition(";")[0].strip().lower()
