"""Rate limits of the token endpoint, for each client address.

In: an address and a reading of a monotonic clock (seconds). Out: whether one more is allowed, or in how many
seconds it will be. Kept in memory, with a bound on how many addresses are remembered.
"""

from __future__ import annotations

import ipaddress
import math
from typing import Final

from interlock.identity.sessions import parse_address

ADDRESSES: Final = 10_000


class Rate:
    """`per_minute` events a minute for each address, all of which may come at once (a token bucket)."""

    def __init__(self, per_minute: int) -> None:
        self._size = float(per_minute)
        self._refill = per_minute / 60
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, address: str, now: float) -> int:
        """0 if one more event is allowed, else the whole seconds until one is."""
        missing = 1 - self._left(_group(address), now)
        return math.ceil(missing / self._refill) if missing > 0 else 0

    def count(self, address: str, now: float) -> None:
        """Count one event."""
        key = _group(address)
        left = self._left(key, now)
        self._buckets.pop(key, None)
        if len(self._buckets) >= ADDRESSES:
            # The one that was seen longest ago; if that is within the minute, somebody has 10,000 addresses.
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (now, max(0.0, left - 1))

    def _left(self, key: str, now: float) -> float:
        at, left = self._buckets.get(key, (now, self._size))
        return min(self._size, left + max(0.0, now - at) * self._refill)


def _group(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address: whoever has one of those has all of it."""
    try:
        parsed = parse_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
