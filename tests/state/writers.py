"""A process that uses the state database beside others: `writers.py write|expire FILE`, begins when stdin ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "addons"))

from interlock.identity.principal import Principal
from interlock.identity.sessions import Held, Limits, new_session
from interlock.state import State

NOW = 1_000_000.0


def write(state: State) -> list[str]:
    written = []
    for _ in range(15):
        one = new_session(
            Principal("ada", (), "https://idp", "1"),
            "dev",
            limits=Limits(),
            addresses=(),
            opened_from="10.0.0.1",
            now=NOW,
            random=os.urandom,
        )
        hash = os.urandom(32)
        assert state.open_session(one, hash, NOW + 900)
        assert state.session_by_token_hash(hash) == Held(one, NOW + 900)
        assert state.renew(one.id, os.urandom(32), NOW + 1000, NOW + 1) is not None
        written.append(one.id)
    return written


def expire(state: State) -> list[str]:
    return [one.id for one in state.expire(NOW + 1e6)]


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.read()
    state = State(f"sqlite:///{sys.argv[2]}")
    for id in {"write": write, "expire": expire}[sys.argv[1]](state):
        print(id)
    state.close()
