"""The console's process: the application on a socket of its own, quiet, and only on TLS or loopback.

In: an ASGI application and an address. Out: JSON, until SIGTERM or SIGINT. The rule: tokens cross no network
in clear, and no request line is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

BACKLOG: Final = 512
CONNECTIONS: Final = 512
GRACE_SECONDS: Final = 5


class CannotListen(Exception):
    """The address cannot be served. `reason` is one line, with what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def listen(host: str, port: int, *, tls: bool) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `CannotListen`."""
    if not tls and not _loopback(host):
        raise CannotListen(
            f"console: {host} is not loopback, and tokens would cross the network in clear; "
            "give the console a certificate, or listen on 127.0.0.1"
        )
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise CannotListen(
            f"console: {host}:{port} cannot be served: {error.strerror}; choose another"
        ) from None
    return listening


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(
    app: ASGIApp,
    listening: socket.socket,
    *,
    ready_fd: int | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve until told to stop. ready_fd: gets the URL and a line end once it serves, and is closed."""
    asyncio.run(serve(app, listening, ready_fd=ready_fd, certificate=certificate, key=key))


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    *,
    ready_fd: int | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """`run`, on the event loop that is running."""
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # X-Forwarded-For is what anybody may write
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    await _Announcing(config, ready_fd).serve(sockets=[listening])


class _Announcing(uvicorn.Server):
    """Uvicorn's server, telling when it serves."""

    def __init__(self, config: uvicorn.Config, ready_fd: int | None) -> None:
        super().__init__(config)
        self._ready_fd = ready_fd

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the serving, and only that.

        Uvicorn's own would raise the signal again when it has stopped, and kill the process before its caller
        has closed what it opened.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._ready_fd is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            with os.fdopen(self._ready_fd, "w") as ready:
                ready.write(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}\n")
