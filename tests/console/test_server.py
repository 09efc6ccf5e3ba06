"""The console's process: where it listens, that it tells when it serves, and that it is quiet."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from identity.provider import certificate
from interlock.console import server
from interlock.console.server import CannotListen, listen, run


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says who called, and over what."""
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['scheme']} {scope['client'][0]}".encode()})


class Served:
    """`run` in a thread of this process, until the block ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.monkeypatch = monkeypatch
        self.more = more

    def __enter__(self) -> str:
        started: list[Any] = []
        startup = server._Announcing.startup

        async def noted(self: Any, sockets: Any = None) -> None:
            started.append(self)
            await startup(self, sockets)

        self.monkeypatch.setattr(server._Announcing, "startup", noted)
        reading, writing = os.pipe()
        self.listening = listen("127.0.0.1", 0, tls="certificate" in self.more)
        self.thread = threading.Thread(
            target=run, args=(app, self.listening), kwargs={"ready_fd": writing, **self.more}
        )
        self.thread.start()
        with os.fdopen(reading) as ready:
            url = ready.read().strip()
        self.server = started[0]
        return url

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.listening.close()


def test_it_serves_and_tells_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with Served(monkeypatch) as url:
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith(":0")
        answer = httpx.get(
            url, headers={"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}, trust_env=False
        )
    assert answer.text == "http 127.0.0.1"
    assert "server" not in answer.headers


def test_it_logs_no_request(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Served(monkeypatch) as url:
        httpx.get(f"{url}/secret-path?token=secret-token", trust_env=False)
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as raw:
            raw.sendall(b"secret-nonsense\r\n\r\n")
            assert b"400" in raw.recv(1000)
    own = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]
    assert "secret" not in "\n".join(own)


def test_it_serves_tls_with_a_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = tmp_path / "console.pem"
    both.write_bytes(certificate())
    trust = ssl.create_default_context(cafile=str(both))
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with Served(monkeypatch, certificate=both, key=both) as url:
        assert url.startswith("https://127.0.0.1:")
        assert httpx.get(url, verify=trust, trust_env=False).text == "https 127.0.0.1"


def test_it_tells_nobody_if_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()
    servers: list[Any] = []
    startup = server._Announcing.startup

    async def noted(self: Any, sockets: Any = None) -> None:
        await startup(self, sockets)
        servers.append(self)
        started.set()

    monkeypatch.setattr(server._Announcing, "startup", noted)
    listening = listen("127.0.0.1", 0, tls=False)
    thread = threading.Thread(target=run, args=(app, listening))
    thread.start()
    assert started.wait(20)
    servers[0].should_exit = True
    thread.join()
    listening.close()


def test_signals_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    announcing = server._Announcing(server.uvicorn.Config(app), None)
    with announcing.capture_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert announcing.should_exit
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_ipv6_address_is_told_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bound:
        def getsockname(self) -> tuple[str, int, int, int]:
            return ("::1", 8090, 0, 0)

    async def nothing(self: Any, sockets: Any = None) -> None:
        self.started = True

    monkeypatch.setattr(server.uvicorn.Server, "startup", nothing)
    reading, writing = os.pipe()
    announcing = server._Announcing(server.uvicorn.Config(app), writing)
    asyncio.run(announcing.startup([Bound()]))  # type: ignore[list-item]
    with os.fdopen(reading) as ready:
        assert ready.read() == "http://[::1]:8090\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.org", "127.0.0.1.example.org"])
def test_tokens_cross_no_network_in_clear(host: str) -> None:
    with pytest.raises(CannotListen, match="is not loopback") as refused:
        listen(host, 0, tls=False)
    assert "certificate" in refused.value.reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    listen(host, 0, tls=False).close()
    listen("0.0.0.0", 0, tls=True).close()


def test_a_port_in_use_says_so() -> None:
    with listen("127.0.0.1", 0, tls=False) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port} cannot be served: Address already in use"):
            listen("127.0.0.1", port, tls=False)


def test_a_host_that_is_none_says_so() -> None:
    with pytest.raises(CannotListen, match="cannot be served"):
        listen("no-such-host.invalid", 0, tls=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_in_order_on_a_signal_and_leaves_the_port(
    tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "serving.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path[:0] = {[str(Path(server.__file__).parents[2]), str(Path(__file__).parents[1])]!r}\n"
        "from console.test_server import app\n"
        "from interlock.console.server import listen, run\n"
        "run(app, listen('127.0.0.1', 0, tls=False), ready_fd=os.dup(1))\n"
        "print('closed what it opened', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(url, trust_env=False).status_code == 200
        process.send_signal(number)
        assert process.stdout.read() == "closed what it opened\n"
        assert process.wait(20) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
