"""The gateway as a process of its own: mitmproxy's core with the guard, and nothing else.

mitmdump brings some thirty built-in addons, each called at each event; this brings the three that a proxy
needs. That halves the processor time of a small request, and there is no script that could be reloaded.
"""

from __future__ import annotations

import asyncio
import signal

from mitmproxy import options
from mitmproxy.addons import core, errorcheck, proxyserver, tlsconfig
from mitmproxy.master import Master

from interlock import lifecycle


async def serve(life: lifecycle.Lifecycle) -> None:
    """Serve until SIGTERM or SIGINT. Exits with status 1 if a listener cannot be opened."""
    master = Master(options.Options())
    master.addons.add(core.Core(), proxyserver.Proxyserver(), tlsconfig.TlsConfig())
    lifecycle.install(master, life)
    master.addons.add(errorcheck.ErrorCheck())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, master.shutdown)
    await master.run()
