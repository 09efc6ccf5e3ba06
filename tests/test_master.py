"""The straight way to the addons: each hook is called in order, whatever the one before did."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from mitmproxy import connection, hooks, options
from mitmproxy.master import Master
from mitmproxy.proxy import server_hooks

from interlock.master import Addons

SECRET = "hunter2-value"


class Addon:
    """Notes that it was called, then does as it is told."""

    def __init__(self, name: str, calls: list[str], then: Any = None) -> None:
        self.name = name
        self.calls = calls
        self.then = then

    def client_connected(self, client: Any) -> Any:
        self.calls.append(self.name)
        return self.then() if self.then is not None else None


class Deaf:
    """Has no hook at all."""


def fails() -> None:
    raise ValueError(SECRET)


async def fails_late() -> None:
    await asyncio.sleep(0)
    raise ValueError(SECRET)


def connected() -> hooks.Hook:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
    return server_hooks.ClientConnectedHook(client)


async def dispatched(*then: Any) -> list[str]:
    master = Master(options.Options())
    master.addons = Addons(master)
    calls: list[str] = []
    master.addons.add(Deaf(), *(Addon(f"addon{i}", calls, t) for i, t in enumerate(then)))
    await master.addons.handle_lifecycle(connected())
    return calls


async def test_hooks_are_called_in_the_order_of_the_chain_and_awaited() -> None:
    done: list[str] = []

    async def waits() -> None:
        await asyncio.sleep(0)
        done.append("waited")

    assert await dispatched(None, waits, lambda: done.append("last")) == ["addon0", "addon1", "addon2"]
    assert done == ["waited", "last"]


@pytest.mark.parametrize("fault", [fails, fails_late])
async def test_a_hook_that_fails_keeps_no_other_from_being_called(
    fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert await dispatched(fault, None) == ["addon0", "addon1"]
    assert "an addon failed at client_connected: ValueError at test_master.py" in caplog.text
    assert SECRET not in caplog.text


async def test_a_cancelled_hook_ends_the_dispatch() -> None:
    def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await dispatched(cancelled, None)
