"""The type that delivery and recording accept: bytes that went through masking.

The rule: only this room makes a `Masked`. Its constructor asks for a seal that nothing else imports, so that a
stage which forgets to mask does not type-check and does not run.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass


class Unmaskable(Exception):
    """Bytes that masking cannot vouch for. `.reason`: one line, without a value of theirs."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Finding:
    """One value that was masked.

    type: what it is (`secret`). path: where it was, by names and indices, never by value
    (`data.password`, `items[3].spec.containers[0].env[1].value`). token: what stands in its place.
    """

    type: str
    path: str
    token: str


SEAL = object()


@dataclass(frozen=True, slots=True)
class Masked:
    """Masked bytes. data: what is delivered and recorded; of a websocket message, what is recorded.

    frames: the websocket messages to deliver, each with its channel byte. Those of the agent's own side are
    its bytes as sent, which is why they are never recorded.
    """

    data: bytes
    findings: tuple[Finding, ...] = ()
    frames: tuple[bytes, ...] = ()
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not SEAL:
            raise TypeError("only interlock.masking makes a Masked")
