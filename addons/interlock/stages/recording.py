"""Recording: what was decided and what was delivered, on disk before it happens.

In: the parts of an exchange, masked. Out: `Recorded`, once the journal has synced it. The request with its
decision is on disk before the request is forwarded; the response's record before its last byte is delivered;
a stream's pieces are on their way to the disk when they are delivered, and the end of the stream waits for
them. A journal that cannot be written raises, and the guard refuses.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.evidence import events
from interlock.evidence.journal import Journal
from interlock.exchange import Exchange, Recorded

MIB = 1024 * 1024
LARGEST_BODY = 1 * MIB  # of a masked body, what is kept; the rest is counted and marked as truncated
MOST_FINDINGS = 500  # of one event; an event that is too large (evidence.lines) would be none at all
LARGEST_WORDS = 256  # characters of a finding's path; of a reason four times as many
KNOWN_BODIES = 4096  # digests of bodies that this process has written; they are content-addressed


@dataclass(slots=True)
class Tape:
    """A stream's pieces so far. pending: the newest piece's way to the disk."""

    began_us: int
    pieces: int = 0
    masked: int = 0
    bytes: int = 0
    truncated: bool = False
    pending: asyncio.Future[Any] | None = None


def now_us() -> int:
    """Microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1000


class Recording:
    name = "recording"
    deadline = 10.0
    fills = {
        "request": ("recorded", Recorded),
        "refused": ("delivered", Recorded),
        "responseheaders": ("recorded", Recorded),
        "response": ("delivered", Recorded),
        "stream": ("recorded", Recorded),
        "streamed": ("delivered", Recorded),
        "websocket_message": ("recorded", Recorded),
        "websocket_end": ("delivered", Recorded),
        "error": ("delivered", Recorded),
    }

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: OrderedDict[str, None] = OrderedDict()

    async def request(self, x: Exchange) -> Recorded:
        digest, bodies = self._body(x.shown.body if x.shown is not None else b"")
        await self._journal.append(self._request(x, digest), bodies)
        self._wrote(bodies)
        return Recorded("request")

    async def refused(self, x: Exchange) -> Recorded:
        """A request that a stage refused or answered: request, decision and answer at one go. Where the
        request was recorded before (it failed later), the answer alone."""
        ending = x.refusal
        code = ending.code if ending is not None else x.answer.code if x.answer is not None else 503
        answer = events.Response(
            request_id=x.id,
            ts=now_us(),
            origin="gateway",
            code=code,
            upstream_code=x.reply.code if x.reply is not None else None,
            ended="complete" if ending is None or ending.effect != "fault" else "fault",
            reason=_reason(
                ending.reason if ending is not None else x.answer.reason if x.answer is not None else None
            ),
            duration_us=_since(x),
        )
        if x.recorded is None:
            first = self._journal.put(self._request(x, None))
            await self._journal.append(answer)
            await first
        else:
            await self._journal.append(answer)
        return Recorded("refusal")

    def responseheaders(self, x: Exchange) -> Recorded:
        if not self._journal.writable:
            raise OSError("the journal cannot be written")
        return Recorded("head")

    async def response(self, x: Exchange) -> Recorded:
        assert x.masked is not None
        assert x.reply is not None
        data = x.masked.data
        digest, bodies = self._body(data)
        await self._journal.append(
            events.Response(
                request_id=x.id,
                ts=now_us(),
                origin="upstream",
                code=x.reply.code,
                upstream_code=x.reply.code,
                content_type=x.reply.value(b"content-type") or None,
                bytes=len(data),
                body_sha256=digest,
                body_truncated=len(data) > LARGEST_BODY,
                masked=len(x.masked.findings),
                duration_us=_since(x),
                findings=_findings(x.masked.findings),
            ),
            bodies,
        )
        self._wrote(bodies)
        return Recorded("response")

    # Streams

    def stream(self, x: Exchange, data: bytes) -> Recorded:
        """A piece of a watch, log or long list: mitmproxy waits for nothing here, so neither does this. A
        piece that could not be written fails the next one, and the end."""
        assert x.masked is not None
        tape = self._tape(x)
        if tape.pending is not None and tape.pending.done():
            tape.pending.result()
        if not self._journal.writable:
            raise OSError("the journal cannot be written")
        if x.masked.data:
            assert x.reading is not None
            tape.pending = self._piece(x, tape, x.reading.form, "out", x.masked.data, x.masked.findings)
        return Recorded("piece")

    async def streamed(self, x: Exchange) -> Recorded:
        return await self._end(x)

    async def websocket_message(self, x: Exchange, content: bytes, from_client: bool) -> Recorded:
        assert x.masked is not None
        tape = self._tape(x)
        opaque = x.reading is not None and x.reading.form == "opaque"
        data = b"" if opaque else x.masked.data
        if opaque:
            tape.bytes += len(content)
        if data or opaque:
            direction = "in" if from_client else "out"
            channel = "portforward" if opaque else _channel(content)
            await self._piece(
                x,
                tape,
                channel,
                direction,
                data,
                x.masked.findings,
                size=len(content) if opaque else None,
                raw=content,
            )
        return Recorded("message")

    async def websocket_end(self, x: Exchange) -> Recorded:
        return await self._end(x)

    async def error(self, x: Exchange) -> Recorded:
        if x.recorded is None:
            return await self.refused(x)
        return await self._end(x)

    def _tape(self, x: Exchange) -> Tape:
        if x.tape is None:
            x.tape = Tape(now_us())
        tape: Tape = x.tape
        return tape

    def _piece(
        self,
        x: Exchange,
        tape: Tape,
        channel: str,
        direction: Any,
        data: bytes,
        findings: Sequence[Any],
        *,
        size: int | None = None,
        raw: bytes = b"",
    ) -> asyncio.Future[Any]:
        """Number one piece and send it to the journal. `size` given: its bytes are not kept, only counted and
        hashed (keyed, as a plain hash could be guessed)."""
        ts = now_us()
        # Of a long list as much is kept as of a short one; what comes after is counted, with its findings.
        full = channel == "body" and tape.bytes >= LARGEST_BODY
        digest, bodies = (None, {}) if size is not None or full else self._body(data)
        tape.truncated = tape.truncated or full or len(data) > LARGEST_BODY
        event = events.StreamChunk(
            request_id=x.id,
            ts=ts,
            chunk=tape.pieces,
            channel=channel,
            direction=direction,
            bytes=len(data) if size is None else size,
            offset_us=max(0, ts - tape.began_us),
            body_sha256=digest,
            raw_hmac=hashlib.blake2b(raw, key=x.session.mask_key, digest_size=32).hexdigest()
            if size is not None and x.session is not None
            else None,
            masked=len(findings),
            unmasked=size is not None,
            findings=_findings(findings),
        )
        tape.pieces += 1
        tape.masked += len(findings)
        tape.bytes += len(data)
        written = self._journal.put(event, bodies)
        if bodies:
            written.add_done_callback(lambda done: self._settled(done, bodies))
        return written

    async def _end(self, x: Exchange) -> Recorded:
        tape = x.tape
        if tape is not None and tape.pending is not None:
            await tape.pending
        unmasked = x.reading is not None and x.reading.form == "opaque"
        await self._journal.append(
            events.Response(
                request_id=x.id,
                ts=now_us(),
                origin="upstream" if x.reply is not None else "gateway",
                code=x.reply.code if x.reply is not None else None,
                upstream_code=x.reply.code if x.reply is not None else None,
                ended=x.ended or "complete",
                reason=_reason(x.broken or None),
                content_type=x.reply.value(b"content-type") or None if x.reply is not None else None,
                bytes=tape.bytes if tape is not None else x.bytes_out,
                body_truncated=tape is not None and tape.truncated,
                masked=tape.masked if tape is not None else 0,
                unmasked=unmasked,
                chunks=tape.pieces if tape is not None else None,
                duration_us=_since(x),
            )
        )
        return Recorded("end")

    # Bodies and the request's row

    def _body(self, data: bytes) -> tuple[str | None, Mapping[str, bytes]]:
        """A masked body's digest, and the body itself unless this process has written it before."""
        if not data:
            return None, {}
        kept = data[:LARGEST_BODY]
        digest = hashlib.sha256(kept).hexdigest()
        if digest in self._known:
            self._known.move_to_end(digest)
            return digest, {}
        return digest, {digest: kept}

    def _settled(self, done: asyncio.Future[Any], bodies: Mapping[str, bytes]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._wrote(bodies)

    def _wrote(self, bodies: Mapping[str, bytes]) -> None:
        for digest in bodies:
            self._known[digest] = None
            if len(self._known) > KNOWN_BODIES:
                self._known.popitem(last=False)

    def _request(self, x: Exchange, body: str | None) -> events.Request:
        a, admitted, session, shown = x.arrival, x.admission, x.session, x.shown
        info = admitted.target.info if admitted is not None else None
        principal = session.principal if session is not None else None
        return events.Request(
            id=x.id,
            ts=now_us() - _since(x),
            decision=_decision(x),
            session_id=session.id if session is not None else None,
            cluster=admitted.cluster.name if admitted is not None else a.cluster,
            listener=a.listener,
            method=a.method[:16],
            uri=shown.uri if shown is not None else None,
            verb=info.verb if info is not None else None,
            is_resource=info.is_resource if info is not None else None,
            api_group=info.api_group if info is not None else None,
            version=info.api_version if info is not None else None,
            resource=info.resource if info is not None else None,
            subresource=info.subresource if info is not None else None,
            namespace=info.namespace if info is not None else None,
            name=info.name if info is not None else None,
            classes=sorted(admitted.classes) if admitted is not None else (),
            dry_run=admitted.dry_run if admitted is not None else False,
            streams=bool(admitted.target.streams) if admitted is not None else False,
            user_name=principal.user if principal is not None else None,
            groups=principal.groups if principal is not None else (),
            agent=principal.agent if principal is not None else None,
            owner=principal.owner if principal is not None else None,
            issuer=principal.issuer if principal is not None else None,
            client_ip=a.client_ip,
            tls_version=a.tls_version,
            tls_cipher=a.tls_cipher,
            user_agent=admitted.user_agent or None if admitted is not None else None,
            kubectl_command=admitted.kubectl_command or None if admitted is not None else None,
            kubectl_session=admitted.kubectl_session or None if admitted is not None else None,
            content_type=admitted.body.sent_as
            if admitted is not None and admitted.body is not None
            else None,
            body_sha256=body,
            body_bytes=len(a.body),
            body_truncated=shown is not None and len(shown.body) > LARGEST_BODY,
            findings=_findings(shown.findings) if shown is not None else (),
        )


def _decision(x: Exchange) -> events.Decision:
    """Policy's decision as it stands in the evidence; a refusal by another stage is a decision too."""
    refusal = x.refusal
    decided = x.decision if x.decision is not None else refusal.decision if refusal is not None else None
    ends = refusal is not None or x.answer is not None
    return events.Decision(
        effect=refusal.effect if refusal is not None else "answer" if x.answer is not None else "allow",
        stage=(refusal.stage or "guard") if refusal is not None else "authorization",
        rule=decided.rule if decided is not None else None,
        policy=decided.policy if decided is not None else None,
        policy_digest=decided.digest if decided is not None else None,
        reason=_reason(
            refusal.reason if refusal is not None else decided.reason if decided is not None else None
        ),
        code=refusal.code
        if refusal is not None
        else x.answer.code
        if x.answer is not None and ends
        else None,
        matched=tuple(str(m) for m in decided.matched) if decided is not None else (),
        unmasked=decided.unmasked if decided is not None else False,
        impersonation=decided.impersonation if decided is not None else False,
        latency_us=_since(x),
    )


def _findings(findings: Sequence[Any]) -> tuple[events.Finding, ...]:
    return tuple(
        events.Finding(path=_short(f.path), detector="structure", category=f.type, token=f.token)
        for f in findings[:MOST_FINDINGS]
    )


def _short(words: str, most: int = LARGEST_WORDS) -> str:
    """Words that a client can make as long as it likes: a path holds its keys, a reason holds a path."""
    return words if len(words) <= most else words[: most - 3] + "..."


def _reason(words: str | None) -> str | None:
    return None if words is None else _short(words, 4 * LARGEST_WORDS)


def _since(x: Exchange) -> int:
    return (time.monotonic_ns() - x.began_ns) // 1000


_CHANNELS = {0: "stdin", 1: "stdout", 2: "stderr", 3: "error", 4: "resize", 255: "close"}


def _channel(content: bytes) -> str:
    return _CHANNELS.get(content[0], "unknown") if content else "empty"
