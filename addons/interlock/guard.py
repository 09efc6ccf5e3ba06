"""The only mitmproxy addon: runs the stages of `stack.py` over each exchange, and fails closed.

In go mitmproxy's flows; out go the same flows, refused unless every stage has signed. The rule that must
not be broken: mitmproxy forwards what a failing addon leaves alone, so nothing here is ever left alone.
A refusal is put in place *before* the first stage runs and lifted only when all have signed; a response
is taken into quarantine, and what is delivered is only what masking made and recording wrote down; a
fault in a stream closes its sockets. A stage signs by returning its part of the exchange, of exactly the
type that `fills` names, within its deadline. Whatever else happens (an exception, a hang, nonsense, a
cancelled task) is a fault: 503 where an answer is still possible, a closed connection where not.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.proxy import layers, mode_specs
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode

from interlock import proxy
from interlock.exchange import Answer, Arrival, Exchange, Header, Refusal, Reply
from interlock.kube.negotiation import upgrade_headers
from interlock.kube.status import status
from interlock.masking.masker import Masked

log = logging.getLogger("interlock")

KIB, MIB = 1024, 1024 * 1024
REQUEST_LIMIT = 3 * MIB  # the API server's own (k8s.io/apiserver: MaxRequestBodyBytes)
HEAD_LIMIT = 128 * KIB  # of headers that have not ended; net/http's own limit for them is 1 MiB
MESSAGE_LIMIT = 4096  # characters of a refusal's message: it may quote a key as long as the client likes
RESPONSE_LIMIT = 8 * MIB  # above it a list is masked and delivered item by item
ALIVE_EVERY = 0.5  # seconds between two looks at whether the sessions of open streams still stand

# Hooks that a stage may have, with mitmproxy's names; `refused`, `streamed` and `alive` are the guard's own:
# a request that ends at a stage, a streamed body's end, and the look at an open stream's session.
HOOKS = (
    "request",
    "refused",
    "responseheaders",
    "response",
    "stream",
    "streamed",
    "websocket_message",
    "websocket_end",
    "alive",
    "error",
)


class Stage(Protocol):
    """One concern of the walk. It has a method for each hook that it fills."""

    @property
    def name(self) -> str: ...

    @property
    def deadline(self) -> float:
        """Seconds for one hook."""

    @property
    def fills(self) -> Mapping[str, tuple[str, type]]:
        """hook -> the exchange's attribute that it fills, and the type of its value."""


class Fault(Exception):
    """A stage did not do its work."""


@dataclass(frozen=True, slots=True)
class Step:
    stage: str
    call: Callable[..., Any]
    part: str
    kind: type
    deadline: float


def plan(stages: Iterable[Stage]) -> dict[str, tuple[Step, ...]]:
    """hook -> its steps, in the order of the stages."""
    steps: dict[str, list[Step]] = {hook: [] for hook in HOOKS}
    for stage in stages:
        for hook, (part, kind) in stage.fills.items():
            steps[hook].append(Step(stage.name, getattr(stage, hook), part, kind, stage.deadline))
    return {hook: tuple(s) for hook, s in steps.items()}


def where(error: BaseException) -> str:
    """What failed and where, without the exception's text: that may quote a secret."""
    if isinstance(error, Fault):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ + (
        f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    )


_CLOSED = http.Response.make(
    503,
    status(503, "interlock: a guardrail could not do its work, so the request was refused"),
    {"Content-Type": "application/json"},
)


def _response(code: int, headers: tuple[Header, ...], body: bytes | None) -> http.Response:
    """A response of ours. mitmproxy's own constructor checks the type of each field, which costs ten times as
    much as all else here, and every exchange needs three."""
    data = object.__new__(http.ResponseData)
    data.__dict__.update(
        _CLOSED.data.__dict__, status_code=code, reason=b"", headers=http.Headers(headers), content=body
    )
    data.timestamp_start = data.timestamp_end = time.time()
    response = object.__new__(http.Response)
    response.data = data
    return response


class Guard:
    """mitmproxy addon. `stages` in walking order; `perimeter` decides where connections may lead."""

    def __init__(self, stages: tuple[Stage, ...], perimeter: Any, *, master: Any = None) -> None:
        self.stages = stages
        self.perimeter = perimeter
        self.master = master
        self._plan = plan(stages)
        self._required = {hook: [s.stage for s in steps] for hook, steps in self._plan.items()}
        self._exchanges: dict[str, Exchange] = {}  # flow id -> exchange, until it has ended
        self._flows: dict[str, Any] = {}  # flow id -> flow, of open streams
        self._tunnels: dict[str, str] = {}  # client connection id -> cluster that CONNECT was admitted to
        self._cleared: dict[str, Exchange] = {}  # client connection id -> what may open a connection for it
        self._tasks: set[asyncio.Task[Any]] = set()
        proxy.bounds(REQUEST_LIMIT, RESPONSE_LIMIT, self._outgrown)
        proxy.bound_heads(HEAD_LIMIT)
        proxy.own_errors()
        proxy.whole_frames()

    # The walk ---------------------------------------------------------------------------------------

    async def _walk(self, hook: str, x: Exchange, *more: Any) -> None:
        """Run a hook's steps in order. Raises Refusal or Answer (a stage's word) or Fault."""
        signed: list[str] = []
        x.signed[hook] = signed
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as limit:
                for step in self._plan[hook]:
                    end = now() + step.deadline
                    part = step.call(x, *more)
                    if inspect.isawaitable(part):
                        limit.reschedule(end)
                        part = await part
                    self._sign(x, step, part, late=now() > end)
                    signed.append(step.stage)
        except (Refusal, Answer) as word:
            if isinstance(word, Refusal):
                word.stage = word.stage or step.stage
            raise
        except TimeoutError as error:
            raise Fault(f"{step.stage}.{hook} did not end within {step.deadline:g} s") from error
        except Exception as error:
            if isinstance(error, Fault):
                raise
            raise Fault(f"{step.stage}.{hook} failed with {where(error)}") from error

    def _walk_now(self, hook: str, x: Exchange, *more: Any) -> None:
        """The same for the hooks that mitmproxy calls without waiting: a streamed body's pieces."""
        signed: list[str] = []
        x.signed[hook] = signed
        for step in self._plan[hook]:
            end = time.monotonic() + step.deadline
            try:
                part = step.call(x, *more)
            except Exception as error:
                raise Fault(f"{step.stage}.{hook} failed with {where(error)}") from error
            if inspect.iscoroutine(part):
                part.close()
            self._sign(x, step, part, late=time.monotonic() > end)
            signed.append(step.stage)

    @staticmethod
    def _sign(x: Exchange, step: Step, part: Any, *, late: bool) -> None:
        if late:
            raise Fault(f"{step.stage} did not end within {step.deadline:g} s")
        if type(part) is not step.kind:
            raise Fault(f"{step.stage} gave {type(part).__name__} where {step.kind.__name__} was due")
        setattr(x, step.part, part)

    def _signed(self, hook: str, x: Exchange) -> bool:
        return bool(self._required[hook]) and x.signed.get(hook) == self._required[hook]

    # Connections ------------------------------------------------------------------------------------

    def next_layer(self, nextlayer: Any) -> None:
        """Only HTTP/1.1 within TLS leads anywhere: proxy requests in the clear get as far as CONNECT."""
        if nextlayer.layer is not None:
            return
        context = nextlayer.context
        below = context.layers[-1]
        if isinstance(below, modes.HttpProxy) and len(context.layers) == 1:
            nextlayer.layer = layers.HttpLayer(context, HTTPMode.regular)
        elif isinstance(below, layers.ClientTLSLayer):
            nextlayer.layer = layers.HttpLayer(context, HTTPMode.transparent)
        else:
            # Within CONNECT, and on a reverse listener: what is not TLS fails its handshake here.
            nextlayer.layer = layers.ServerTLSLayer(context)
            nextlayer.layer.child_layer = layers.ClientTLSLayer(context)

    async def http_connect(self, flow: Any) -> None:
        flow.response = self._closed()
        x = self._arrive(flow, connect=True)
        try:
            self._tunnels[flow.client_conn.id] = self.perimeter.connect(flow.request.host, flow.request.port)
            flow.response = None
        except Refusal as refusal:
            refusal.stage = refusal.stage or "perimeter"
            flow.response = await self._refuse(x, refusal)
        except Exception as error:
            flow.response = await self._refuse(x, self._fault(error))

    def client_disconnected(self, client: Any) -> None:
        self._tunnels.pop(client.id, None)
        self._cleared.pop(client.id, None)

    def server_connect(self, data: Any) -> None:
        """The one choke point below every layer: only for an exchange that all stages signed."""
        server = data.server
        server.error = "interlock: no request was cleared for this connection"
        x = self._cleared.get(data.client.id)
        if x is not None and x.cleared and x.admission is not None:
            host, port = x.admission.cluster.address
            if tuple(server.address) == (host, port) and server.via is None:
                server.sni = host
                server.alpn_offers = [b"http/1.1"]
                server.error = None

    def tls_start_server(self, data: Any) -> None:
        x = self._cleared.get(data.context.client.id)
        if x is None or x.admission is None:
            raise Fault("TLS towards a server that no request was cleared for")
        data.ssl_conn = self.perimeter.tls(x.admission.cluster)

    def tcp_start(self, flow: Any) -> None:
        proxy.hang_up(self.master, flow)

    def udp_start(self, flow: Any) -> None:
        proxy.hang_up(self.master, flow)

    def dns_request(self, flow: Any) -> None:
        flow.kill()

    # A request --------------------------------------------------------------------------------------

    def _arrive(self, flow: Any, *, connect: bool = False) -> Exchange:
        request, client = flow.request, flow.client_conn
        mode: Any = client.proxy_mode
        reverse = isinstance(mode, mode_specs.ReverseMode)
        cluster = self.perimeter.listener(mode.address) if reverse else self._tunnels.get(client.id)
        arrival = Arrival(
            method=request.data.method.decode(
                "latin-1"
            ),  # `request.method` is in upper case, whatever was sent
            target=request.data.path if not connect else f"{request.host}:{request.port}".encode(),
            headers=tuple(request.headers.fields),
            body=request.raw_content or b"",
            client_ip=client.peername[0] if client.peername else "",
            listener="reverse" if reverse else "proxy",
            cluster=cluster,
            scheme=request.scheme if client.tls_established else "http",
            absolute=request.authority,
            host=request.host_header or "",
            sni=client.sni,
            tls_version=client.tls_version,
            tls_cipher=client.cipher,
            trailers=request.trailers is not None,
            oversized=bool(flow.metadata.get(proxy.OVERSIZED)),
        )
        return Exchange(id=str(uuid.uuid4()), arrival=arrival, began_ns=time.monotonic_ns())

    async def request(self, flow: Any) -> None:
        flow.response = self._closed()
        flow.request.stream = False
        try:
            x = self._arrive(flow)
        except Exception as error:
            log.error("refused: %s", where(error))
            return
        self._exchanges[flow.id] = x
        try:
            await self._walk("request", x)
            if not self._signed("request", x) or x.decision is None or x.decision.effect != "allow":
                raise Fault("not every stage signed the request")
            self._forward(flow, x)
        except Answer as answer:
            x.answer = answer
            flow.response = await self._answer(x, answer)
        except Refusal as refusal:
            flow.response = await self._refuse(x, refusal)
        except asyncio.CancelledError:
            x.cleared = False
            await asyncio.shield(self._refuse(x, Refusal(499, "the client went away", effect="fault")))
            raise
        except BaseException as error:
            x.cleared = False
            flow.response = await self._refuse(x, self._fault(error))
            if not isinstance(error, Exception):
                raise

    def _forward(self, flow: Any, x: Exchange) -> None:
        """Write what was checked over what came, and only then lift the refusal."""
        assert x.admission is not None
        assert x.outbound is not None
        request = flow.request
        request.headers = http.Headers(x.outbound.headers)
        request.data.path = x.admission.target.canonical.encode("ascii")
        request.data.method = x.admission.target.method.encode("ascii")
        request.data.authority = b""
        request.data.http_version = b"HTTP/1.1"
        request.data.host, request.data.port = x.admission.cluster.address
        request.trailers = None
        body = x.admission.body.canonical if x.admission.body is not None else b""
        request.raw_content = body
        request.headers.pop("content-length", None)
        if body or request.method in ("POST", "PUT", "PATCH"):
            request.headers["Content-Length"] = str(len(body))
        x.cleared = True
        self._cleared[flow.client_conn.id] = x
        flow.response = None

    def _closed(self) -> http.Response:
        return _response(503, _CLOSED.data.headers.fields, _CLOSED.data.content)

    def _fault(self, error: BaseException) -> Refusal:
        reason = where(error)
        log.error("refused, a guardrail failed: %s", reason)
        refusal = Refusal(
            503,
            "interlock: a guardrail could not do its work, so the request was refused and nothing was sent on; "
            "tell the operator (`interlock doctor`)",
            reason=reason,
            effect="fault",
        )
        refusal.stage = "guard"
        return refusal

    async def _refuse(self, x: Exchange, refusal: Refusal) -> http.Response:
        """The answer to a refused request, once the refusal is on disk; 503 if it cannot be put there."""
        x.refusal = refusal
        x.cleared = False
        try:
            await self._walk("refused", x)
            if not self._signed("refused", x):
                raise Fault("the refusal was not recorded")
        except Exception as error:
            log.error("a refusal could not be recorded: %s", where(error))
            if refusal.code != 503:
                return self._closed()
        body = status(
            refusal.code,
            f"interlock: {refusal.message[:MESSAGE_LIMIT]}".replace("interlock: interlock:", "interlock:"),
        )
        headers = {"Content-Type": "application/json", "Audit-Id": x.id}
        if refusal.retry_after is not None:
            headers["Retry-After"] = str(refusal.retry_after)
        return http.Response.make(refusal.code, body, headers)

    async def _answer(self, x: Exchange, answer: Answer) -> http.Response:
        try:
            await self._walk("refused", x)
            if not self._signed("refused", x):
                raise Fault("the answer was not recorded")
        except Exception as error:
            log.error("an answer could not be recorded: %s", where(error))
            return self._closed()
        return http.Response.make(
            answer.code, answer.body, {"Content-Type": "application/json", "Audit-Id": x.id}
        )

    # Its response -----------------------------------------------------------------------------------

    async def responseheaders(self, flow: Any) -> None:
        x = self._exchanges.get(flow.id)
        flow.response.stream = False
        if x is None or not x.cleared:
            if x is None or (x.refusal is None and x.answer is None):
                flow.kill()
            return
        code = flow.response.status_code
        x.reply = Reply(code, tuple(flow.response.headers.fields))
        try:
            await self._walk("responseheaders", x)
            if not self._signed("responseheaders", x) or x.reading is None:
                raise Fault("not every stage signed the response's head")
        except asyncio.CancelledError:
            flow.kill()
            raise
        except BaseException as error:
            if isinstance(error, Refusal):
                x.refusal = error
            else:
                x.refusal = self._fault(error)
            if code == 101 or (x.admission and x.admission.target.streams):
                await self._break(x, flow, x.refusal.reason)  # such a body has no end to wait for
            return
        if x.reading.form in ("watch", "log"):
            self._stream_from_here(flow, x)
        elif x.reading.form in ("frames", "opaque"):
            flow.response.headers = http.Headers(upgrade_headers(x.reply.headers))
            self._flows[flow.id] = flow

    def _stream_from_here(self, flow: Any, x: Exchange) -> None:
        headers = http.Headers(x.reading.headers if x.reading else ())
        headers.pop("content-length", None)
        headers["Transfer-Encoding"] = "chunked"
        headers["Audit-Id"] = x.id
        flow.response.headers = headers
        flow.response.stream = self._pieces(flow, x)
        self._flows[flow.id] = flow

    def _pieces(self, flow: Any, x: Exchange) -> Callable[[bytes], list[bytes]]:
        def piece(data: bytes) -> list[bytes]:
            # An empty list, never b"": on chunked HTTP/1.1 b"" would be the end of the body.
            if x.broken:
                return []
            try:
                self._walk_now("stream", x, data)
                if not self._signed("stream", x) or type(x.masked) is not Masked:
                    raise Fault("not every stage signed a piece of the stream")
            except BaseException as error:
                self._hang_up(x, flow, where(error))
                if not isinstance(error, Exception):
                    raise
                return []
            out = x.masked.data
            x.bytes_out += len(out)
            return [out] if out else []

        return piece

    def _outgrown(self, flow: Any) -> Callable[[bytes], list[bytes]] | None:
        """A buffered response has outgrown memory: read on item by item, or end it."""
        x = self._exchanges.get(flow.id)
        if x is None or not x.cleared or x.reading is None or x.reading.stream is None:
            if x is not None and x.refusal is None:
                x.refusal = Refusal(
                    413,
                    f"the answer is larger than {RESPONSE_LIMIT // MIB} MiB and not a list that can be masked "
                    "item by item; ask for less (kubectl --chunk-size, a selector, a namespace)",
                )
            proxy.hang_up(self.master, flow)
            return None
        self._stream_from_here(flow, x)
        stream: Callable[[bytes], list[bytes]] = flow.response.stream
        return stream

    async def response(self, flow: Any) -> None:
        real = flow.response
        x = self._exchanges.get(flow.id)
        if x is None or (not x.cleared and (x.refusal is not None or x.answer is not None)):
            if x is None:
                flow.response = self._closed()
            self._forget(flow)
            return
        if flow.websocket is not None or flow.id in self._flows:
            if flow.websocket is None:
                await self._stream_ended(flow, x)
            elif x.reading is None or x.reading.form not in ("frames", "opaque") or x.broken:
                flow.kill()
            return
        flow.response = self._closed()
        try:
            if x.refusal is not None:
                raise x.refusal
            if real.status_code == 101:
                raise Fault("the cluster switched protocols unasked")
            assert x.reply is not None
            x.reply.body = real.raw_content or b""
            await self._walk("response", x)
            if not self._signed("response", x) or type(x.masked) is not Masked:
                raise Fault("not every stage signed the response")
            flow.response = self._deliver(x, real)
        except Refusal as refusal:
            flow.response = await self._refuse(x, refusal)
        except asyncio.CancelledError:
            flow.kill()
            raise
        except BaseException as error:
            flow.response = await self._refuse(x, self._fault(error))
            if not isinstance(error, Exception):
                raise
        finally:
            self._forget(flow)

    def _deliver(self, x: Exchange, real: Any) -> http.Response:
        assert x.masked is not None
        assert x.reply is not None
        headers = [
            h
            for h in (x.reading.headers if x.reading is not None else ())
            if h[0].lower() not in (b"content-length", b"audit-id")
        ]
        headers.append((b"Audit-Id", x.id.encode("ascii")))
        if x.masked.findings:
            headers.append((b"Warning", _masked_warning(len(x.masked.findings))))
        body = x.masked.data
        if x.arrival.method != "HEAD" and real.status_code not in (204, 304):
            headers.append((b"Content-Length", b"%d" % len(body)))
        else:
            body = b""
        x.bytes_out = len(body)
        return _response(real.status_code, tuple(headers), body)

    async def _stream_ended(self, flow: Any, x: Exchange) -> None:
        """The end of a streamed body: its last byte (the chunked terminator) waits for the record."""
        try:
            if x.broken:
                raise Fault(x.broken)
            x.ended = "complete"
            await self._walk("streamed", x)
            if not self._signed("streamed", x):
                raise Fault("the stream's end was not recorded")
        except BaseException as error:
            self._hang_up(x, flow, where(error))
            flow.kill()
            if not isinstance(error, Exception):
                raise
        finally:
            self._forget(flow)

    # Websockets -------------------------------------------------------------------------------------

    async def websocket_message(self, flow: Any) -> None:
        message = flow.websocket.messages[-1]
        flow.websocket.messages.clear()
        x = self._exchanges.get(flow.id)
        content, message.content = message.content, b""
        try:
            if x is None or x.broken:
                message.drop()
                raise Fault("a message on a connection that has ended")
            if message.is_text or message.injected:
                raise Fault("a text message where Kubernetes sends binary ones")
            await self._walk("websocket_message", x, content, message.from_client)
            if not self._signed("websocket_message", x) or type(x.masked) is not Masked:
                raise Fault("not every stage signed a message")
            frames = x.masked.frames
            if frames:
                message.content = proxy.Frames.of(frames)
                if not message.from_client:
                    x.bytes_out += len(message.content)
            else:
                message.drop()
        except BaseException as error:
            message.drop()
            if x is not None:
                await self._break(x, flow, where(error))
            else:
                proxy.hang_up(self.master, flow)
            if not isinstance(error, Exception):
                raise

    async def websocket_end(self, flow: Any) -> None:
        x = self._exchanges.get(flow.id)
        self._forget(flow)
        if x is not None and not x.broken:
            x.ended = "complete" if flow.websocket.close_code in (1000, 1005) else "closed"
            await self._last_words("websocket_end", x)

    # Ends -------------------------------------------------------------------------------------------

    async def error(self, flow: Any) -> None:
        """A flow that got no response: unreadable request, unreachable cluster, a side that went away."""
        x = self._exchanges.get(flow.id)
        self._forget(flow)
        if x is None:
            if flow.request is not None and flow.request.method != "CONNECT":
                x = self._arrive(flow)
                await self._refuse(x, Refusal(400, "the request could not be read as HTTP and was refused"))
            return
        if x.broken or x.delivered is not None:
            return
        x.ended = "client_gone" if not flow.client_conn.connected else "upstream_failed"
        await self._last_words("error", x)

    async def _last_words(self, hook: str, x: Exchange) -> None:
        try:
            await self._walk(hook, x)
        except Exception as error:
            log.error("the end of an exchange could not be recorded: %s", where(error))

    def _hang_up(self, x: Exchange, flow: Any, reason: str) -> None:
        """End a stream at once; its last record follows as soon as the loop is free."""
        if not x.broken:
            x.broken = reason
            log.error("a stream was ended, a guardrail failed: %s", reason)
            self._spawn(self._broken(x))
        proxy.hang_up(self.master, flow)

    async def _break(self, x: Exchange, flow: Any, reason: str) -> None:
        self._hang_up(x, flow, reason)
        flow.kill()

    async def _broken(self, x: Exchange) -> None:
        x.ended = "fault" if not x.ended.startswith("session") else x.ended
        await self._last_words("error", x)

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, flow: Any) -> None:
        if flow.websocket is None or flow.websocket.timestamp_end is not None or flow.error:
            self._exchanges.pop(flow.id, None)
            self._flows.pop(flow.id, None)

    async def look(self) -> None:
        """One look at whether the sessions of open streams still stand; ends those whose session is over."""
        for flow_id, flow in list(self._flows.items()):
            x = self._exchanges.get(flow_id)
            if x is None or x.broken:
                continue
            try:
                await self._walk("alive", x)
            except Exception as error:
                if isinstance(error, Refusal):
                    x.ended = "session_ended"
                    self._hang_up(x, flow, error.reason)
                else:
                    self._hang_up(x, flow, where(error))

    async def watch_sessions(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY)
            await self.look()

    async def close(self) -> None:
        """Close the record of every exchange that is still open."""
        for flow_id, flow in list(self._flows.items()):
            x = self._exchanges.get(flow_id)
            if x is not None and not x.broken:
                x.ended = "gateway_stopped"
                x.broken = "the gateway was stopped"
                await self._last_words("error", x)
                proxy.hang_up(self.master, flow)
        for x in list(self._exchanges.values()):
            if x.delivered is None and not x.broken:
                x.ended = "gateway_stopped"
                await self._last_words("error", x)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)


def _masked_warning(count: int) -> bytes:
    """RFC 7234, section 5.5: 299, miscellaneous; kubectl prints it."""
    return b'299 - "interlock masked %d value%s in this answer"' % (count, b"" if count == 1 else b"s")


class Closed:
    """What stands in the guard's place when no stack could be built: refuses everything."""

    name = "guard"

    def next_layer(self, nextlayer: Any) -> None:
        if nextlayer.layer is None:
            nextlayer.layer = layers.HttpLayer(nextlayer.context, HTTPMode.regular)

    def http_connect(self, flow: Any) -> None:
        self.request(flow)

    def request(self, flow: Any) -> None:
        message = "interlock: the gateway has no valid configuration, so everything is refused"
        flow.response = http.Response.make(503, status(503, message), {"Content-Type": "application/json"})

    def server_connect(self, data: Any) -> None:
        data.server.error = "interlock: no valid configuration"
