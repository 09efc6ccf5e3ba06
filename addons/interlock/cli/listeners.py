"""Whether the gateway could listen where its file says, in words that name the key to change.

In: the configuration. Out: what is in the way, if anything. It is a look before the start and nothing more:
between it and the start somebody may come first, and then mitmproxy says so.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.config import Address, Gateway


def listeners(gateway: Gateway) -> Iterator[tuple[str, Address]]:
    """The proxy and the clusters' reverse listeners, each with its key. The console looks for itself."""
    yield "listen.proxy", gateway.listen.proxy
    for i, cluster in enumerate(gateway.clusters):
        if cluster.reverse is not None:
            yield f"clusters[{i}].reverse", cluster.reverse


def taken(gateway: Gateway) -> list[str]:
    """One line for each listener that cannot be opened now."""
    return [
        f"{gateway.path}: {key}: {address}: {reason}; stop what is there, or choose another port"
        for key, address in listeners(gateway)
        if (reason := _reason(address)) is not None
    ]


def _reason(address: Address) -> str | None:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the gateway does: what only waits for its last packets is not in the way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        return (error.strerror or "cannot be used").lower()
    return None
