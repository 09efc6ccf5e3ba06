"""mitmproxy's own HTTP layers around a guard, without sockets: bytes in, bytes out, every hook as in a process.

What differs from a process is only what lies below HTTP (TCP, TLS). The connection to the API server counts as
open from the start, so that nothing but the guard's own refusal keeps a request from it. An exception of a
hook is swallowed and a hook's work that never ends is cut off, as mitmproxy and its user would.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

from mitmproxy import connection, options
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode

HOST, PORT = "api.example", 6443


class _Loader:
    def __init__(self, opts: options.Options) -> None:
        self.options = opts

    def add_option(self, name: str, kind: Any, default: Any, help: str, choices: Any = None) -> None:
        self.options.add_option(name, kind, default, help, choices)


def make_options() -> options.Options:
    opts = options.Options()
    Proxyserver().load(_Loader(opts))
    opts.update(rawtcp=False, connection_strategy="lazy", keep_host_header=True, http2=False)
    return opts


class Closing:
    """Stands for the master's proxyserver: what `proxy.hang_up` closes is closed here."""

    def __init__(self) -> None:
        self.connections: dict[str, Any] = {}
        self.addons = self

    def get(self, name: str) -> Closing:
        assert name == "proxyserver"
        return self


class Wire:
    """One client connection to a cluster, admitted and with TLS done."""

    def __init__(self, guard: Any) -> None:
        self.guard = guard
        self.to_server = b""
        self.to_client = b""
        self.closed: set[Any] = set()
        self.client = connection.Client(
            peername=("127.0.0.1", 50000),
            sockname=("127.0.0.1", 8080),
            state=connection.ConnectionState.OPEN,
            timestamp_start=1.0,
            proxy_mode=ProxyMode.parse("regular"),
        )
        self.client.tls = True
        self.client.timestamp_tls_setup = 2.0
        self.client.sni = HOST
        self.client.tls_version = "TLSv1.3"
        self.server = connection.Server(address=(HOST, PORT))
        self.server.state = connection.ConnectionState.OPEN
        self.server.tls = True
        self.server.timestamp_tls_setup = 2.0
        context = Context(self.client, make_options())
        context.server = self.server
        self.layer = HttpLayer(context, HTTPMode.transparent)
        self.transports = {
            self.client: SimpleNamespace(writer=None),
            self.server: SimpleNamespace(writer=None),
        }
        if guard.master is not None:
            guard.master.connections[self.client.id] = self
        guard._tunnels[self.client.id] = "dev"

    # What proxy.hang_up asks of a connection handler

    def close_connection(self, conn: Any) -> None:
        self.closed.add(conn)

    @property
    def hung_up(self) -> bool:
        return self.client in self.closed

    # Driving

    async def start(self) -> Wire:
        await self._feed(events.Start())
        return self

    async def client_sends(self, data: bytes) -> None:
        if self.client not in self.closed:
            await self._feed(events.DataReceived(self.client, data))

    async def server_sends(self, data: bytes) -> None:
        if self.server not in self.closed:
            await self._feed(events.DataReceived(self.server, data))

    async def server_closes(self) -> None:
        if self.server not in self.closed:
            self.server.state = connection.ConnectionState.CLOSED
            await self._feed(events.ConnectionClosed(self.server))

    async def client_closes(self) -> None:
        if self.client not in self.closed:
            self.client.state = connection.ConnectionState.CLOSED
            await self._feed(events.ConnectionClosed(self.client))

    async def _feed(self, event: events.Event) -> None:
        for command in self.layer.handle_event(event):
            if isinstance(command, commands.StartHook):
                await self._hook(command)
                await self._feed(events.HookCompleted(command, None))
            elif isinstance(command, commands.OpenConnection):
                await self._feed(events.OpenConnectionCompleted(command, "no other connection here"))
            elif isinstance(command, commands.SendData):
                if command.connection in self.closed:
                    continue
                if command.connection is self.client:
                    self.to_client += command.data
                else:
                    self.to_server += command.data
            elif isinstance(command, commands.CloseConnection):
                self.closed.add(command.connection)

    async def _hook(self, hook: commands.StartHook) -> None:
        call = getattr(self.guard, hook.name, None)
        if call is None:
            return
        with contextlib.suppress(Exception):
            done = call(*hook.args())
            if done is not None:
                await asyncio.wait_for(done, 20)
