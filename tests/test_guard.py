"""The guard, with the real stages around mitmproxy's real HTTP layers: what passes, and that no fault does.

The fault matrix is made from the stack itself: each step of each hook of each stage, times each way to fail,
times each kind of traffic.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wsproto.frame_protocol as ws

from gateways import ALLOW_ALL
from interlock import stack
from interlock.config import Address, Server
from interlock.evidence import events
from interlock.exchange import Refusal
from interlock.guard import HOOKS, Fault, Guard, plan
from interlock.identity.principal import Principal
from interlock.identity.sessions import NoSession, Session, SessionState
from interlock.policy.files import load_policies
from wire import HOST, PORT, Closing, Wire

SECRET = b"the-raw-secret-value-71c0"
TOKEN = "ilk_test"


class Bearers:
    """Sessions without a database."""

    over = False

    async def check(self, token: str, cluster: str, client_ip: str) -> Session:
        if token != TOKEN:
            raise NoSession("no valid session token")
        return SESSION

    async def still(self, session: Session) -> Session:
        if self.over:
            raise NoSession("the session was revoked")
        return session


SESSION = Session(
    id="0b9c8f5e-6a0e-4c1e-9e43-0d5a7a1f4c10",
    state=SessionState.ACTIVE,
    principal=Principal("ada@example.com", ("agents",), "https://idp.example", "ada"),
    cluster="dev",
    addresses=(),
    opened_from="127.0.0.1",
    opened_at=0.0,
    last_used_at=0.0,
    idle_seconds=600.0,
    ends_at=1e12,
    mask_key=b"k" * 32,
)


class Journal:
    """Keeps the leaves that would be written, in memory."""

    gateway_id = "gateway-test"

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.bodies: dict[str, bytes] = {}
        self.writable = True

    def put(self, event: Any, bodies: Any = None) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.writable:
            done.set_exception(OSError("unwritable"))
            done.exception()
            return done
        self.written.append(json.loads(events.leaf(event, "gateway-test", len(self.written) + 1)))
        self.bodies.update(bodies or {})
        done.set_result(None)
        return done

    async def append(self, event: Any, bodies: Any = None) -> Any:
        return await self.put(event, bodies)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.written if event["type"] == kind]


class Cluster(SimpleNamespace):
    name = "dev"
    server = Server(HOST, PORT)
    address = (HOST, PORT)
    host_header = f"{HOST}:{PORT}"
    act_as = "none"
    reverse = Address("127.0.0.1", 8443)
    credential = SimpleNamespace(bearer=lambda: "the-clusters-own-credential")


@pytest.fixture
def life(tmp_path: Path) -> Any:
    policy = tmp_path / "policy.yaml"
    policy.write_text(ALLOW_ALL)
    return SimpleNamespace(
        gateway=SimpleNamespace(clusters=(Cluster(),)),
        bearers=Bearers(),
        policies=load_policies([policy], clusters=["dev"]),
        journal=Journal(),
    )


def guard_of(life: Any, stages: Any = None) -> Guard:
    stages = stages or stack.stages(life)
    return Guard(stages, stages[0], master=Closing())


# Traffic ------------------------------------------------------------------------------------------------


def request(
    target: str, *, method: str = "GET", body: bytes = b"", headers: str = "", token: str = TOKEN
) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nAuthorization: Bearer {token}\r\n{length}{headers}\r\n"
    return head.encode() + body


def answer(body: bytes, *, code: int = 200, media: str = "application/json") -> bytes:
    return (
        f"HTTP/1.1 {code} OK\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def a_secret() -> dict[str, Any]:
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "s", "namespace": "shop"},
        "stringData": {"password": SECRET.decode()},
    }


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)


def frame(payload: bytes, *, masked: bool = False) -> bytes:
    protocol = ws.FrameProtocol(client=masked, extensions=[])
    out: bytes = protocol.send_data(payload)
    return out


async def plain(wire: Wire) -> None:
    await wire.client_sends(request("/api/v1/namespaces/shop/secrets/s"))
    if wire.to_server:
        await wire.server_sends(answer(json.dumps(a_secret()).encode()))


async def watch(wire: Wire) -> None:
    await wire.client_sends(request("/api/v1/namespaces/shop/secrets?watch=true"))
    if wire.to_server:
        await wire.server_sends(CHUNKED % b"application/json")
        for name in ("a", "b", "c"):
            event = {"type": "ADDED", "object": {**a_secret(), "metadata": {"name": name}}}
            await wire.server_sends(chunk(json.dumps(event).encode() + b"\n"))
        await wire.server_sends(b"0\r\n\r\n")


async def logs(wire: Wire) -> None:
    await wire.client_sends(request("/api/v1/namespaces/shop/pods/p/log?follow=true"))
    if wire.to_server:
        await wire.server_sends(CHUNKED % b"text/plain")
        for n in range(3):
            await wire.server_sends(chunk(b"line %d password=%s\n" % (n, SECRET)))
        await wire.server_sends(b"0\r\n\r\n")


async def exec_(wire: Wire) -> None:
    target = "/api/v1/namespaces/shop/pods/p/exec?command=env&stdout=true&stdin=true"
    await wire.client_sends(request(target, headers=UPGRADE))
    if wire.to_server:
        await wire.server_sends(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        )
        for n in range(3):
            await wire.server_sends(frame(b"\x01line %d PASSWORD=%s\n" % (n, SECRET)))
        await wire.client_sends(frame(b"\x00typed\n", masked=True))
        await wire.server_sends(frame(b'\x03{"metadata":{},"status":"Success"}'))
        await wire.server_sends(ws.FrameProtocol(client=False, extensions=[]).close(1000))


TRAFFIC: dict[str, Callable[[Wire], Any]] = {"plain": plain, "watch": watch, "log": logs, "exec": exec_}


# What passes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRAFFIC)
async def test_traffic_passes_masked_and_recorded(life: Any, kind: str) -> None:
    wire = await Wire(guard_of(life)).start()
    await TRAFFIC[kind](wire)
    assert b"Bearer the-clusters-own-credential" in wire.to_server
    assert TOKEN.encode() not in wire.to_server
    assert SECRET not in wire.to_client
    assert b"masked-secret-" in wire.to_client or b"bWFza2Vk" in wire.to_client
    (asked,) = life.journal.of("request")
    (ended,) = life.journal.of("response")
    assert asked["decision"]["effect"] == "allow"
    assert asked["id"] == ended["request_id"]
    assert asked["id"].encode() in wire.to_server  # Audit-ID
    assert ended["ended"] == "complete"
    assert SECRET.decode() not in json.dumps(life.journal.written)
    assert not any(SECRET in body for body in life.journal.bodies.values())
    if kind != "plain":
        assert len(life.journal.of("stream_chunk")) >= 3


async def test_the_request_is_on_disk_before_it_moves(life: Any) -> None:
    guard = guard_of(life)
    wire = await Wire(guard).start()
    seen: list[bytes] = []
    put = life.journal.put

    def watched(event: Any, bodies: Any = None) -> Any:
        seen.append(wire.to_server)
        return put(event, bodies)

    life.journal.put = watched
    await wire.client_sends(request("/api/v1/namespaces/shop/pods"))
    assert seen == [b""]
    assert wire.to_server.startswith(b"GET /api/v1/namespaces/shop/pods HTTP/1.1\r\n")


async def test_the_end_of_a_stream_waits_for_its_record(life: Any) -> None:
    wire = await Wire(guard_of(life)).start()
    await wire.client_sends(request("/api/v1/namespaces/shop/pods/p/log"))
    await wire.server_sends(CHUNKED % b"text/plain" + chunk(b"one\n"))
    assert b"one\n" in wire.to_client
    life.journal.writable = False
    await wire.server_sends(b"0\r\n\r\n")
    assert not wire.to_client.endswith(b"0\r\n\r\n")
    assert wire.hung_up


async def test_an_unwritable_journal_refuses_and_forwards_nothing(life: Any) -> None:
    life.journal.writable = False
    wire = await Wire(guard_of(life)).start()
    await wire.client_sends(request("/api/v1/namespaces/shop/pods"))
    assert wire.to_server == b""
    assert wire.to_client.startswith(b"HTTP/1.1 503 ")
    life.journal.writable = True
    wire = await Wire(guard_of(life)).start()
    await wire.client_sends(request("/api/v1/namespaces/shop/pods"))
    assert wire.to_server != b""


# What is refused, and how -------------------------------------------------------------------------------


async def refused(life: Any, sent: bytes, code: int) -> dict[str, Any]:
    wire = await Wire(guard_of(life)).start()
    await wire.client_sends(sent)
    assert wire.to_server == b""
    head, _, body = wire.to_client.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % code), head
    status: dict[str, Any] = json.loads(body)
    assert status["kind"] == "Status"
    assert status["code"] == code
    assert "\n" not in status["message"]
    (asked,) = life.journal.of("request")
    (ended,) = life.journal.of("response")
    assert asked["decision"]["effect"] != "allow"
    assert ended["code"] == code
    assert ended["origin"] == "gateway"
    return status


async def test_no_session_is_401(life: Any) -> None:
    status = await refused(life, request("/api/v1/namespaces/shop/pods", token="wrong"), 401)
    assert "session" in status["message"]


async def test_what_no_rule_allows_is_403(life: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        ALLOW_ALL.replace('namespaces: ["*"], apiGroups: ["*"]', 'namespaces: [other], apiGroups: ["*"]')
    )
    life.policies = load_policies([tmp_path / "policy.yaml"], clusters=["dev"])
    await refused(life, request("/api/v1/namespaces/shop/pods"), 403)


async def test_impersonation_that_no_rule_allows_is_403_and_not_stripped(life: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(ALLOW_ALL.replace("escalation, ", ""))
    life.policies = load_policies([tmp_path / "policy.yaml"], clusters=["dev"])
    await refused(life, request("/api/v1/pods", headers="Impersonate-User: root\r\n"), 403)


async def test_a_body_above_the_limit_is_413_and_not_kept(life: Any) -> None:
    sent = request("/api/v1/namespaces/shop/configmaps", method="POST", body=b"x" * (3 * 1024 * 1024 + 1))
    await refused(life, sent, 413)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request("/api/v1/namespaces//secrets"), 400),
        (request("/api/v1/namespaces/shop/pods?watch=1;x"), 400),
        (request("/api/v1/pods", headers="Authorization: Bearer second\r\n"), 401),
        (request("/api/v1/pods", headers="Upgrade: SPDY/3.1\r\nConnection: Upgrade\r\n"), 403),
        (request("/api/v1/pods", headers=UPGRADE), 403),
        (request("/api/v1/namespaces/shop/pods/p/exec?command=id"), 400),
        (request("/api/v1/pods").replace(f"Host: {HOST}".encode(), b"Host: elsewhere.example"), 421),
        (request("https://elsewhere.example/api/v1/pods"), 421),
        (request("/api/v1/namespaces/shop/configmaps", method="POST", body=b'{"a":1,"a":2}'), 400),
        (request("/api/v1/namespaces/shop/configmaps", method="POST", body=b"{"), 400),
        (request("/api/v1/pods", method="TRACE"), 405),
    ],
)
async def test_what_is_ambiguous_is_refused(life: Any, sent: bytes, code: int) -> None:
    await refused(life, sent, code)


async def test_a_mask_is_not_written_back(life: Any) -> None:
    wire = await Wire(guard_of(life)).start()
    await plain(wire)
    seen = json.loads(wire.to_client.partition(b"\r\n\r\n")[2])
    body = json.dumps(seen).encode()
    life.journal.written.clear()
    await refused(life, request("/api/v1/namespaces/shop/secrets/s", method="PUT", body=body), 422)


# What the cluster may not do to us ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        answer(SECRET, media="application/vnd.kubernetes.protobuf"),
        answer(SECRET, media="text/html"),
        answer(SECRET + b"{", media="application/json"),
        answer(json.dumps(a_secret()).encode()).replace(
            b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1
        ),
        answer(SECRET, code=302).replace(b"\r\n\r\n", b"\r\nLocation: https://elsewhere/\r\n\r\n", 1),
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n" + SECRET,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        + frame(SECRET),
    ],
    ids=["protobuf", "html", "broken", "gzip", "redirect", "spdy", "websocket"],
)
async def test_an_answer_that_cannot_be_masked_is_withheld(life: Any, reply: bytes) -> None:
    guard = guard_of(life)
    wire = await Wire(guard).start()
    await wire.client_sends(request("/api/v1/namespaces/shop/secrets/s"))
    await wire.server_sends(reply)
    assert SECRET not in wire.to_client
    assert wire.to_client.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 503 ")) or wire.hung_up
    await asyncio.gather(*guard._tasks)
    (ended,) = life.journal.of("response")
    assert ended["origin"] == "gateway" or ended["ended"] == "fault"


async def test_headers_of_the_cluster_do_not_pass_unnamed(life: Any) -> None:
    wire = await Wire(guard_of(life)).start()
    await wire.client_sends(request("/version"))
    await wire.server_sends(
        answer(b"{}").replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=%s\r\n\r\n" % SECRET, 1)
    )
    assert wire.to_client.startswith(b"HTTP/1.1 200 ")
    assert SECRET not in wire.to_client


async def test_a_stream_ends_with_its_session(life: Any) -> None:
    guard = guard_of(life)
    wire = await Wire(guard).start()
    await wire.client_sends(request("/api/v1/namespaces/shop/pods/p/log?follow=true"))
    await wire.server_sends(CHUNKED % b"text/plain" + chunk(b"one\n"))
    await guard.look()
    assert not wire.hung_up
    life.bearers.over = True
    await guard.look()
    assert wire.hung_up
    before = wire.to_client
    await wire.server_sends(chunk(b"two\n"))
    assert wire.to_client == before
    await asyncio.gather(*guard._tasks)
    (ended,) = life.journal.of("response")
    assert ended["ended"] == "session_ended"


# The fault matrix ---------------------------------------------------------------------------------------


def raises(*_: Any) -> Any:
    raise RuntimeError(f"a fault that quotes {SECRET.decode()}")


async def hangs(*_: Any) -> Any:
    await asyncio.Event().wait()


def blocks(*_: Any) -> Any:
    time.sleep(0.12)
    return None


def killed(*_: Any) -> Any:
    raise asyncio.CancelledError


def exits(*_: Any) -> Any:
    raise SystemExit(1)


def nothing(*_: Any) -> Any:
    return None


def nonsense(*_: Any) -> Any:
    return {"data": SECRET, "effect": "allow"}


FAULTS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (raises, hangs, blocks, killed, exits, nothing, nonsense)
}


class Faulty:
    """A stage of which one hook fails."""

    def __init__(self, stage: Any, hook: str, fault: Callable[..., Any]) -> None:
        self._stage = stage
        self.name = stage.name
        self.deadline = 0.1
        self.fills = stage.fills
        setattr(self, hook, fault)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)


def matrix() -> Iterator[tuple[str, str, str, str]]:
    class Life:
        gateway = SimpleNamespace(clusters=())
        bearers = policies = journal = None

    for stage in stack.stages(Life()):  # type: ignore[arg-type]
        for hook in stage.fills:
            for fault in FAULTS:
                for kind in TRAFFIC:
                    yield stage.name, hook, fault, kind


# Which hooks a kind of traffic goes through; a fault elsewhere must change nothing.
WALKED = {
    "plain": {"request", "responseheaders", "response"},
    "watch": {"request", "responseheaders", "stream", "streamed"},
    "log": {"request", "responseheaders", "stream", "streamed"},
    "exec": {"request", "responseheaders", "websocket_message", "websocket_end"},
}
ENDS = {"streamed", "websocket_end"}  # what is delivered before is complete; only the end is withheld


@pytest.mark.parametrize(("name", "hook", "fault", "kind"), list(matrix()))
async def test_no_fault_lets_anything_through(life: Any, name: str, hook: str, fault: str, kind: str) -> None:
    stages = tuple(
        Faulty(stage, hook, FAULTS[fault]) if stage.name == name else stage for stage in stack.stages(life)
    )
    guard = guard_of(life, stages)
    wire = await Wire(guard).start()
    died = False
    try:
        await TRAFFIC[kind](wire)
    except BaseException as error:  # SystemExit, CancelledError: the process or the connection would be gone
        died = True
        if isinstance(error, KeyboardInterrupt):
            raise
    for task in list(guard._tasks):
        task.cancel()
    assert SECRET not in wire.to_client
    assert TOKEN.encode() not in wire.to_server
    if hook not in WALKED[kind]:
        assert not died
        assert b"masked-secret-" in wire.to_client or b"bWFza2Vk" in wire.to_client
        return
    if hook == "request":
        assert wire.to_server == b"", "a request was forwarded without all signatures"
    elif hook not in ENDS:
        assert b"masked-secret-" not in wire.to_client
        assert b"bWFza2Vk" not in wire.to_client, "something was delivered without all signatures"
    if not died and hook != "websocket_end":
        assert wire.to_client.startswith(b"HTTP/1.1 503 ") or wire.hung_up or wire.client in wire.closed
    assert not wire.to_client.endswith(b"\r\n0\r\n\r\n"), "a broken stream ended as if it were whole"


async def test_after_a_fault_in_a_stream_no_further_byte_passes(life: Any) -> None:
    guard = guard_of(life)
    wire = await Wire(guard).start()
    await wire.client_sends(request("/api/v1/namespaces/shop/pods/p/log?follow=true"))
    await wire.server_sends(CHUNKED % b"text/plain" + chunk(b"one\n"))
    for steps in (guard._plan["stream"],):
        broken = tuple(s if s.stage != "masking" else _failing(s) for s in steps)
        guard._plan["stream"] = broken
    await wire.server_sends(chunk(b"two password=%s\n" % SECRET))
    guard._plan["stream"] = steps
    await wire.server_sends(chunk(b"three\n") + b"0\r\n\r\n")
    assert wire.to_client.count(b"one\n") == 1
    assert b"two" not in wire.to_client
    assert b"three" not in wire.to_client
    assert wire.hung_up


def _failing(step: Any) -> Any:
    return type(step)(step.stage, raises, step.part, step.kind, step.deadline)


# The guard itself ---------------------------------------------------------------------------------------


def test_every_hook_of_every_stage_is_one_the_guard_calls(life: Any) -> None:
    for stage in stack.stages(life):
        assert set(stage.fills) <= set(HOOKS)
        for hook in stage.fills:
            assert callable(getattr(stage, hook))


def test_stages_walk_in_the_order_of_the_stack(life: Any) -> None:
    order = [stage.name for stage in stack.stages(life)]
    for steps in plan(stack.stages(life)).values():
        names = [step.stage for step in steps]
        assert names == [name for name in order if name in names]


async def test_a_fault_is_logged_without_what_it_quotes(life: Any, caplog: pytest.LogCaptureFixture) -> None:
    stages = tuple(Faulty(s, "request", raises) if s.name == "masking" else s for s in stack.stages(life))
    wire = await Wire(guard_of(life, stages)).start()
    await plain(wire)
    assert "masking.request failed with RuntimeError" in caplog.text
    assert SECRET.decode() not in caplog.text
    assert SECRET.decode() not in json.dumps(life.journal.written)


async def test_connect_leads_to_configured_clusters_alone(life: Any) -> None:
    perimeter = stack.stages(life)[0]
    assert perimeter.connect(HOST, PORT) == "dev"  # type: ignore[attr-defined]
    for host, port in ((HOST, 443), ("elsewhere.example", PORT), ("127.0.0.1", 22), (HOST + ".", 1)):
        with pytest.raises(Refusal):
            perimeter.connect(host, port)  # type: ignore[attr-defined]


async def test_no_connection_is_opened_for_what_was_not_cleared(life: Any) -> None:
    guard = guard_of(life)
    data = SimpleNamespace(
        client=SimpleNamespace(id="c"), server=SimpleNamespace(address=(HOST, PORT), via=None, error=None)
    )
    guard.server_connect(data)
    assert data.server.error
    with pytest.raises(Fault):
        guard.tls_start_server(SimpleNamespace(context=SimpleNamespace(client=SimpleNamespace(id="c"))))


async def test_headers_without_end_are_not_kept(life: Any) -> None:
    wire = await Wire(guard_of(life)).start()
    await wire.client_sends(b"GET /version HTTP/1.1\r\nHost: x\r\nX-Long: ")
    for _ in range(40):
        await wire.client_sends(b"a" * 4096)
    assert wire.to_client.startswith(b"HTTP/1.1 431 ")
    assert wire.client in wire.closed
    assert wire.to_server == b""


async def test_a_bare_line_break_in_a_header_is_refused(life: Any) -> None:
    await refused(life, request("/version", headers="Kubectl-Command: a\rX: b\r\n"), 400)


async def test_a_refusal_quotes_only_so_much(life: Any) -> None:
    body = json.dumps({"k" * 100_000: "masked-secret-abcdefghijklmnop"}).encode()
    status = await refused(life, request("/api/v1/namespaces/shop/configmaps", method="POST", body=body), 422)
    assert len(status["message"]) < 5000
