"""The tables of the state database, one schema for SQLite and Postgres.

The rule: a token is never in here, only its SHA-256. What is secret in here is a session's mask key; it is
erased when the session ends. `VERSION` grows with every change, and a database of another version is not
touched.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from interlock.identity.sessions import FINAL, SessionState

VERSION: Final = 1

metadata = MetaData()


def _among(column: str, values: frozenset[SessionState] | type[SessionState]) -> str:
    return f"{column} IN ({', '.join(sorted(repr(value.value) for value in values))})"


schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("user_name", String, nullable=False, index=True),
    Column("groups", String, nullable=False),  # JSON array
    Column("issuer", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("agent", String),
    Column("owner", String),
    Column("claims", String, nullable=False),  # JSON object
    Column("cluster", String, nullable=False),
    Column("addresses", String, nullable=False),  # JSON array of networks; empty: any
    Column("opened_from", String, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("last_used_at", Double, nullable=False),
    Column("idle_seconds", Double, nullable=False),
    Column("ends_at", Double, nullable=False, index=True),
    Column("ended_at", Double),
    Column("end_reason", String),
    Column("mask_key", LargeBinary),
    CheckConstraint(_among("state", SessionState), name="state_is_known"),
    CheckConstraint(f"({_among('state', FINAL)}) = (ended_at IS NOT NULL)", name="final_states_have_an_end"),
    CheckConstraint(
        f"({_among('state', FINAL)}) = (mask_key IS NULL)", name="mask_key_ends_with_its_session"
    ),
)

tokens = Table(
    "tokens",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False, index=True),
    Column("issued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
)
