"""The check of every request's bearer: from a token to the session that it stands for.

In: the token, the cluster that the request goes to, the address it comes from. Out: a `Session`, or
`NoSession` (401), or `Away` (503).

The rule: an answer rests on a read of the state database that began less than a second ago
(`CACHE_SECONDS` for what is remembered, `READ_SECONDS` for a read under way), so that a revocation anywhere
is felt within a second and no session outlives a database that cannot be read. A read that fails or hangs
is `StateAway`.

The event loop never waits for the database: reads run in threads of this object's own, one at a time for
each token, and use is written at most once for each twentieth of a session's idle time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

from interlock.identity.sessions import (
    Held,
    NoSession,
    Session,
    SessionState,
    SessionStore,
    StateAway,
    admit,
    check_open,
    expiry,
    identity_hash,
    is_token,
    token_hash,
)

CACHE_SECONDS: Final = 0.5
READ_SECONDS: Final = 1.0
REMEMBERED: Final = 4096
"""How many answers are remembered of each kind; the oldest goes first."""
USE_SHARE: Final = 20

UNKNOWN: Final = "no valid session token; run `interlock login`, or exchange an identity token at the console"

Clock = Callable[[], float]
OpenFor = Callable[[str, str, str], Coroutine[Any, Any, Held]]
"""Opens the session of an identity token: (token, cluster, client address) -> what it holds."""


class Fresh[K, V]:
    """Answers of a blocking `read`, remembered for `CACHE_SECONDS`, with one read at a time for each key."""

    def __init__(self, read: Callable[[K], V], threads: Executor, monotonic: Clock) -> None:
        self._read = read
        self._threads = threads
        self._monotonic = monotonic
        self._known: dict[K, tuple[float, V]] = {}
        self._reading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The answer for `key`, as of less than a second ago. Raises what `read` raises, and `StateAway`."""
        known = self._known.get(key)
        if known is not None and 0 <= self._monotonic() - known[0] < CACHE_SECONDS:
            return known[1]
        task = self._reading.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key))
            self._reading[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        # Shielded: one caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def put(self, key: K, value: V) -> None:
        """Remember an answer that is known to hold now."""
        self._remember(key, self._monotonic(), value)

    async def _ask(self, key: K) -> V:
        # From before the read, so that a change right after the database was asked is not missed for longer.
        began = self._monotonic()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READ_SECONDS):
                value = await loop.run_in_executor(self._threads, self._read, key)
        except TimeoutError:
            raise StateAway(f"the state database did not answer within {READ_SECONDS:g} s") from None
        self._remember(key, began, value)
        return value

    def _remember(self, key: K, at: float, value: V) -> None:
        self._known.pop(key, None)
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = (at, value)

    def _done(self, key: K, task: asyncio.Task[V]) -> None:
        del self._reading[key]
        if not task.cancelled():
            task.exception()  # marks it as seen, for the case that every caller has gone away


class Bearers:
    """Checks bearers against `state`. One for each process, for use on one event loop.

    clock: Unix seconds, for what the database holds. monotonic: seconds, for what is remembered here.
    open_for: opens a session for an identity token that is itself the bearer; None (`acceptIdentityTokens:
    false`) refuses such bearers.
    """

    def __init__(
        self, state: SessionStore, *, clock: Clock, monotonic: Clock, open_for: OpenFor | None = None
    ) -> None:
        self._state = state
        self._clock = clock
        self._open_for = open_for
        self._threads = ThreadPoolExecutor(3, thread_name_prefix="interlock-state")
        self._held = Fresh(state.session_by_token_hash, self._threads, monotonic)
        self._sessions = Fresh(state.session, self._threads, monotonic)
        self._openings: dict[bytes, asyncio.Task[Held]] = {}
        self._noted: dict[str, float] = {}
        self._unwritten: dict[str, float] = {}
        self._writing: asyncio.Task[None] | None = None

    async def check(self, token: str, cluster: str, client_ip: str) -> Session:
        """The session that `token` stands for, if it may be used for `cluster` from `client_ip`.

        Raises `NoSession` with one line for the agent; `StateAway`, and for an identity token any `Away`.
        """
        if is_token(token):
            held = await self._held.get(token_hash(token))
        elif self._open_for is not None and token.count(".") == 2 and token.isascii():
            held = await self._by_identity(self._open_for, token, cluster, client_ip)
        else:
            held = None
        if held is None:
            raise NoSession(UNKNOWN)
        now = self._clock()
        session = admit(held, cluster, client_ip, now)
        self._use(session, now)
        return session

    async def still(self, session: Session) -> Session:
        """The session as it is now, for a stream that lives with it; counts as a use of it.

        Raises `NoSession` if it is over, `StateAway` if that cannot be read.
        """
        current = await self._sessions.get(session.id)
        if current is None:
            raise NoSession(UNKNOWN, session_id=session.id)
        now = self._clock()
        check_open(current, now)
        self._use(current, now)
        return current

    async def over(self, session: Session) -> str:
        """Wait until the session is over, and return why, in one line. Cancel it when the stream ends.

        Looks every half second; all streams of one session share the look. Raises `StateAway`.
        """
        while True:
            try:
                await self.still(session)
            except NoSession as ended:
                return ended.reason
            await asyncio.sleep(CACHE_SECONDS)

    async def close(self) -> None:
        """Finish writing what was noted of use, and give the threads back."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=READ_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _by_identity(self, open_for: OpenFor, token: str, cluster: str, client_ip: str) -> Held:
        key = identity_hash(token, cluster)
        held = await self._held.get(key)
        if held is not None and not _timed_out(held.session, self._clock()):
            return held
        task = self._openings.get(key)
        if task is None:
            task = asyncio.create_task(open_for(token, cluster, client_ip))
            self._openings[key] = task
            task.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(task)

    def _opened(self, key: bytes, task: asyncio.Task[Held]) -> None:
        del self._openings[key]
        if not task.cancelled() and task.exception() is None:
            self._held.put(key, task.result())

    def _use(self, session: Session, now: float) -> None:
        known = max(session.last_used_at, self._noted.get(session.id, 0.0))
        if now - known > session.idle_seconds / USE_SHARE:
            self._noted.pop(session.id, None)
            if len(self._noted) >= REMEMBERED:
                del self._noted[next(iter(self._noted))]
            self._noted[session.id] = self._unwritten[session.id] = now
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unwritten:
                used, self._unwritten = self._unwritten, {}
                try:
                    await loop.run_in_executor(self._threads, self._state.touch, used)
                except StateAway:
                    # Not written is the safe side: the session ends earlier. The next use tries again.
                    for id in used:
                        self._noted.pop(id, None)
        finally:
            self._writing = None


def _timed_out(session: Session, now: float) -> bool:
    """Whether only the clock has ended it: then the same identity may begin anew, else it may not."""
    if session.state is SessionState.ACTIVE:
        return expiry(session, now) is not None
    return session.state is SessionState.EXPIRED
