"""Authentication: bearer token -> session and principal, on every request.

In: the Admission's bearer. Out: the Session, or 401 (no session) or 503 (the state database is away).
Nothing but the bearer counts as identity: no client certificate, no address, no header.
"""

from __future__ import annotations

from interlock.exchange import Exchange, Refusal
from interlock.identity.bearer import Bearers
from interlock.identity.sessions import Away, NoSession, Session


class Authentication:
    name = "authentication"
    deadline = 5.0
    fills = {"request": ("session", Session), "alive": ("session", Session)}

    def __init__(self, bearers: Bearers) -> None:
        self._bearers = bearers

    async def request(self, x: Exchange) -> Session:
        assert x.admission is not None
        try:
            return await self._bearers.check(
                x.admission.bearer, x.admission.cluster.name, x.arrival.client_ip
            )
        except NoSession as no:
            raise Refusal(401, no.reason) from None
        except Away as away:
            raise Refusal(
                503,
                "sessions cannot be checked just now, so nothing passes; try again shortly",
                reason=away.reason,
            ) from None

    async def alive(self, x: Exchange) -> Session:
        """A stream lives with its session, not with the token that opened it."""
        assert x.session is not None
        try:
            return await self._bearers.still(x.session)
        except NoSession as no:
            raise Refusal(401, no.reason) from None
