"""Sessions as one process holds them: who may open one, and who has one; built from the configuration.

In: the Gateway configuration, the state database, the journal. Out: the token service and the bearers' check.
The gateway and the console each have their own, over the same database and evidence directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from interlock.config import Gateway
from interlock.evidence import events
from interlock.evidence.journal import Journal
from interlock.identity.bearer import Bearers
from interlock.identity.fetching import fetch
from interlock.identity.oidc import Verifier
from interlock.identity.sessions import Limits
from interlock.identity.token_service import Record, TokenService
from interlock.state import State


def token_service(gateway: Gateway, state: State, journal: Journal, threads: Executor) -> TokenService:
    """What exchanges identity tokens for sessions, with every step in the evidence first."""
    sessions = gateway.sessions
    return TokenService(
        verifier=Verifier(
            [provider.accepted for provider in gateway.identity.oidc],
            fetch=fetch,
            clock=time.time,
            monotonic=time.monotonic,
        ),
        state=state,
        record=recorder(journal),
        clusters=[cluster.name for cluster in gateway.clusters],
        limits=Limits(
            ttl=sessions.ttl.total_seconds(),
            idle=sessions.idle.total_seconds(),
            max=sessions.max.total_seconds(),
        ),
        clock=time.time,
        random=os.urandom,
        threads=threads,
        address=sessions.client_address,
    )


def bearers(gateway: Gateway, state: State, service: TokenService) -> Bearers:
    """The check of every request's bearer; takes identity tokens too where the configuration says so."""
    accepts = gateway.sessions.accept_identity_tokens
    return Bearers(
        state, clock=time.time, monotonic=time.monotonic, open_for=service.open_for if accepts else None
    )


def recorder(journal: Journal) -> Record:
    """A session's events, from the token service's words to the evidence's."""

    async def record(said: Mapping[str, object]) -> None:
        await journal.append(session_event(said))

    return record


def session_event(said: Mapping[str, Any]) -> events.Event:
    """One event of the token service as the evidence holds it. Raises ValueError for one that it does not know."""
    kind = said["type"]
    known: dict[str, Any] = {
        name: said.get(name)
        for name in ("session_id", "issuer", "subject", "agent", "owner", "cluster", "client_ip")
    }
    if kind in ("session_opened", "session_renewed"):
        expires_at = said.get("expires_at")
        return events.SessionOpened(
            ts=_micros(said["opened_at"]) if kind == "session_opened" else time.time_ns() // 1000,
            user_name=said["user"],
            groups=tuple(said["groups"]),
            auth_method=said.get("how"),
            expires_at=_micros(expires_at) if expires_at is not None else None,
            renewed=kind == "session_renewed",
            **known,
        )
    if kind == "session_refused":
        for name in ("owner",):
            known.pop(name)
        return events.SessionRefused(
            ts=_micros(said["at"]), reason=said["reason"], refusal_id=said["id"], code=400, **known
        )
    if kind == "session_ended":
        ended_at = said.get("ended_at")
        return events.SessionEnded(
            ts=_micros(ended_at) if ended_at is not None else time.time_ns() // 1000,
            session_id=said["session_id"],
            reason=said.get("reason") or "ended",
        )
    raise ValueError(f"no event of a session's life: {kind}")


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)
