"""The state that gateways and console share: sessions and their tokens, in SQLite or Postgres."""

from interlock.identity.sessions import StateAway
from interlock.state.database import State

__all__ = ["State", "StateAway"]
