"""The gateway as a process of its own: mitmproxy's core with the guard, and nothing else.

mitmdump brings some thirty built-in addons, each called at each event; this brings the three that a proxy
needs. That halves the processor time of a small request, and there is no script that could be reloaded.
"""

from __future__ import annotations

import asyncio
import logging
import signal

from mitmproxy import hooks, options
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons import core, errorcheck, proxyserver, tlsconfig
from mitmproxy.master import Master

from interlock import lifecycle
from interlock.guard import where

log = logging.getLogger("interlock")


class Addons(AddonManager):
    """mitmproxy's chain of addons with a straight way for the events of connections and flows.

    None of the addons here holds further ones, stops the others, or has an `update` hook; looking for these
    is a quarter of mitmproxy's work for a small request. A hook that fails is logged, and the next are called.
    """

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        arguments = event.args()
        for addon in self.chain:
            hook = getattr(addon, event.name, None)
            if hook is None:
                continue
            try:
                waits = hook(*arguments)
                if waits is not None:
                    await waits
            except Exception as error:  # noqa: BLE001 - without an answer mitmproxy would wait for ever
                log.error("an addon failed at %s: %s", event.name, where(error))


async def serve(life: lifecycle.Lifecycle) -> None:
    """Serve until SIGTERM or SIGINT. Exits with status 1 if a listener cannot be opened."""
    master = Master(options.Options())
    master.addons = Addons(master)
    master.addons.add(core.Core(), proxyserver.Proxyserver(), tlsconfig.TlsConfig())
    lifecycle.install(master, life)
    master.addons.add(errorcheck.ErrorCheck())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    await master.run()
