"""The front door: an identity token in, a session and its token out (RFC 8693 token exchange, without HTTP).

In: a token, the audience (a cluster's name, or `console`), the caller's address. Out: `Issued`, or `Refused`
with an id, or `Away`.

The rules: what happens is in the evidence before it is answered: an opening is recorded durably before the
session is stored, and if it cannot be recorded there is no session. A refusal is recorded with its whole
reason; the caller hears that reason only if it held a real token, and else always the same words.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from interlock.identity.oidc import TokenRefused, Verifier
from interlock.identity.principal import Principal
from interlock.identity.sessions import (
    ANY,
    CONSOLE,
    Away,
    Held,
    Limits,
    NoSession,
    ProviderAway,
    Random,
    RecordAway,
    Session,
    SessionState,
    SessionStore,
    StateAway,
    address_rule,
    admit,
    identity_hash,
    new_session,
    new_token,
    token_expiry,
    token_hash,
)

Record = Callable[[Mapping[str, object]], Awaitable[None]]
"""Makes one event durable in the evidence, and returns when it is; raises if it cannot.

An event's `type` is `session_opened` or `session_renewed` (with `how`, `client_ip`, `token_expires_at`),
`session_ended` (with `reason`), each with what `_event` tells of the session; or `session_refused`, with `id`
(which the caller is told), `reason`, `verified`, `at`, and what is known of session and principal. Times are
Unix seconds.
"""

WITHHELD: Final = "the token was not accepted; `interlock doctor --id {id}` tells the operator why"


class Refused(Exception):
    """No session: `invalid_grant`.

    id: under which the whole reason is in the evidence. reason: what the caller may hear, in one line.
    """

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(reason)
        self.id = id
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Issued:
    """A token and the session that it stands for. expires_in: seconds, of the token."""

    session: Session
    token: str = field(repr=False)
    expires_in: int


class TokenService:
    """Opens and renews sessions.

    clusters: the audiences there are beside `console`. address: `any`, `same` or networks (`clientAddress`).
    clock: Unix seconds. random: n -> n random bytes. threads: where the blocking `state` is called.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        state: SessionStore,
        record: Record,
        clusters: Collection[str],
        limits: Limits,
        clock: Callable[[], float],
        random: Random,
        threads: Executor,
        address: str | Sequence[str] = ANY,
    ) -> None:
        if CONSOLE in clusters:
            raise ValueError(f"a cluster cannot be named {CONSOLE}: that is the audience of this API")
        self.audiences = frozenset(clusters) | {CONSOLE}
        self._verifier = verifier
        self._state = state
        self._record = record
        self._limits = limits
        self._clock = clock
        self._random = random
        self._threads = threads
        self._address = address
        self._untold: list[Session] = []  # ended, and the evidence could not be told yet

    async def open(self, identity_token: str, audience: str, client_ip: str) -> Issued:
        """Open a session for who `identity_token` speaks for.

        Raises `Refused`; `Away` if provider, state or evidence are not there.
        """
        try:
            verified = await self._verifier.verify(identity_token)
            session = self._new(verified.principal, audience, client_ip)
        except TokenRefused as refused:
            raise await self._refuse(refused.reason, refused.verified, audience, client_ip) from None
        except NoSession as refused:
            raise await self._refuse(refused.reason, True, audience, client_ip) from None
        except ProviderAway as away:
            await self._refuse(away.reason, False, audience, client_ip)
            raise
        token = new_token(self._random)
        expires_at = token_expiry(session, self._limits.ttl, session.opened_at)
        if not await self._store(session, token_hash(token), expires_at, "oidc"):
            raise StateAway("the state database holds another session under a fresh random token")
        return Issued(session, token, int(expires_at - session.opened_at))

    async def renew(self, session_token: str, audience: str | None, client_ip: str) -> Issued:
        """A fresh token for the session that `session_token` stands for: same id, same mask key, same end.

        audience: None for the one that the session has. Raises `Refused`, `Away`.
        """
        held = await self._call(lambda: self._state.session_by_token_hash(token_hash(session_token)))
        if held is None:
            raise await self._refuse("a session token that is not known here", False, audience, client_ip)
        audience = audience or held.session.cluster
        now = self._clock()
        try:
            session = admit(held, audience, client_ip, now)
        except NoSession as refused:
            raise await self._refuse(refused.reason, True, audience, client_ip, held.session) from None
        token = new_token(self._random)
        expires_at = token_expiry(session, self._limits.ttl, now)
        await self._tell(
            _event(
                "session_renewed",
                session,
                how="session-token",
                client_ip=client_ip,
                token_expires_at=expires_at,
            )
        )
        try:
            renewed = await self._call(
                lambda: self._state.renew(session.id, token_hash(token), expires_at, now)
            )
        except StateAway as away:
            await self._refuse(away.reason, False, audience, client_ip, session)
            raise
        if renewed is None:
            raise await self._refuse("the session ended meanwhile", True, audience, client_ip, session)
        return Issued(renewed, token, int(expires_at - now))

    async def open_for(self, identity_token: str, cluster: str, client_ip: str) -> Held:
        """The session of an identity token that is itself the bearer (`acceptIdentityTokens`), opened if needed.

        A session that was revoked or ended is not opened again by the same token, one that expired is.
        Raises `NoSession`, `Away`.
        """
        try:
            verified = await self._verifier.verify(identity_token)
        except TokenRefused as refused:
            told = await self._refuse(refused.reason, refused.verified, cluster, client_ip)
            raise NoSession(told.reason) from None
        except ProviderAway as away:
            await self._refuse(away.reason, False, cluster, client_ip)
            raise
        hash = identity_hash(identity_token, cluster)
        replaces = None
        held = await self._call(lambda: self._state.session_by_token_hash(hash))
        if held is not None:
            await self.expire(held.session.id)
            current = await self._call(lambda: self._state.session(held.session.id))
            if current is None or current.state is not SessionState.EXPIRED:
                return Held(current or held.session, held.token_expires_at)
            replaces = current.id
        session = self._new(verified.principal, cluster, client_ip)
        if await self._store(session, hash, verified.until, "oidc-bearer", replaces):
            return Held(session, verified.until)
        # Another request of the same agent, here or in another process, was first.
        found = await self._call(lambda: self._state.session_by_token_hash(hash))
        if found is None:
            raise StateAway("the state database lost a session that it has just refused to store twice")
        return found

    async def expire(self, session_id: str | None = None) -> None:
        """End what the clock has ended (one session, or all) and record it. To be called every few seconds.

        Raises `Away`. A session that is over by the clock is refused with or without this.
        """
        now = self._clock()
        self._untold += await self._call(lambda: self._state.expire(now, session_id))
        while self._untold:
            ended = self._untold.pop()
            try:
                await self._tell(_event("session_ended", ended, reason=ended.end_reason))
            except Away:
                self._untold.append(ended)
                raise

    def _new(self, principal: Principal, audience: str, client_ip: str) -> Session:
        return new_session(
            principal,
            audience,
            limits=self._limits,
            addresses=address_rule(self._address, client_ip),
            opened_from=client_ip,
            now=self._clock(),
            random=self._random,
        )

    async def _store(
        self, session: Session, hash: bytes, expires_at: float, how: str, replaces: str | None = None
    ) -> bool:
        await self._tell(
            _event(
                "session_opened",
                session,
                how=how,
                client_ip=session.opened_from,
                token_expires_at=expires_at,
            )
        )
        try:
            stored = await self._call(
                lambda: self._state.open_session(session, hash, expires_at, replaces=replaces)
            )
        except StateAway as away:
            await self._tell(_event("session_ended", session, reason=f"never stored: {away.reason}"))
            raise
        if not stored:
            await self._tell(_event("session_ended", session, reason="another request opened one first"))
        return stored

    async def _refuse(
        self,
        reason: str,
        tell: bool,
        audience: str | None,
        client_ip: str,
        session: Session | None = None,
    ) -> Refused:
        id = str(uuid.UUID(bytes=self._random(16), version=4))
        known = {} if session is None else _event("session_refused", session)
        refusal = {
            "type": "session_refused",
            "id": id,
            "reason": reason,
            "verified": tell,
            "cluster": audience,
            "client_ip": client_ip,
            "at": self._clock(),
        }
        await self._tell({**known, **refusal})
        return Refused(id, reason if tell else WITHHELD.format(id=id))

    async def _tell(self, event: Mapping[str, object]) -> None:
        try:
            await self._record(event)
        except Away:
            raise
        except Exception as error:  # whatever it was: nothing may happen that is not on disk
            raise RecordAway(f"the evidence cannot be written ({type(error).__name__})") from error

    async def _call[T](self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _event(type: str, session: Session, **more: object) -> dict[str, object]:
    """What the evidence is told of a session: everything but its claims, its tokens and its mask key."""
    principal = session.principal
    return {
        "type": type,
        "session_id": session.id,
        "user": principal.user,
        "groups": list(principal.groups),
        "issuer": principal.issuer,
        "subject": principal.subject,
        "agent": principal.agent,
        "owner": principal.owner,
        "cluster": session.cluster,
        "addresses": list(session.addresses),
        "opened_at": session.opened_at,
        "idle_seconds": session.idle_seconds,
        "expires_at": session.ends_at,
        "ended_at": session.ended_at,
        **more,
    }
