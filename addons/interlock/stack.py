"""The stages in the order in which a request walks them: the one page that shows the product.

    agent ─▶ perimeter ─▶ authentication ─▶ authorization ─▶ credential ─▶ masking ─▶ recording ─▶ cluster
    agent ◀───────────────────────────── recording ◀─ masking ◀─────────────────────────────────── cluster

On the way there masking refuses what would store a mask and makes the form of the request that may be
recorded, and recording puts request and decision on disk before anything moves. On the way back masking
makes the only body that is delivered, and recording writes it down before its last byte leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.stages.authentication import Authentication
from interlock.stages.authorization import Authorization
from interlock.stages.credential import Credential
from interlock.stages.masking import Masking
from interlock.stages.perimeter import Perimeter
from interlock.stages.recording import Recording

if TYPE_CHECKING:
    from interlock.guard import Stage
    from interlock.lifecycle import Lifecycle


def stages(life: Lifecycle) -> tuple[Stage, ...]:
    return (
        Perimeter(life.gateway),
        Authentication(life.bearers),
        Authorization(lambda: life.policies),
        Credential(),
        Masking(),
        Recording(life.journal),
    )
