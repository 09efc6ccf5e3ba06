"""Sessions as values: the table of states, the tokens, the addresses, and who is let through."""

from __future__ import annotations

import dataclasses
import itertools
import os
import string
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.identity.principal import Principal
from interlock.identity.sessions import (
    CLOCK_BACK,
    CONSOLE,
    END_REASONS,
    FINAL,
    MASK_KEY_BYTES,
    TOKEN_LENGTH,
    TRANSITIONS,
    Away,
    Held,
    Limits,
    NoSession,
    ProviderAway,
    RecordAway,
    Session,
    SessionEvent,
    SessionState,
    StateAway,
    address_rule,
    admit,
    after,
    check_open,
    expiry,
    identity_hash,
    in_networks,
    is_token,
    new_session,
    new_token,
    parse_address,
    sources,
    token_expiry,
    token_hash,
)

NOW = 1_000_000.0
ADA = Principal("ada", ("agents",), "https://idp", "id-of-ada")


def session(*, limits: Limits = Limits(), addresses: tuple[str, ...] = (), cluster: str = "dev") -> Session:
    return new_session(
        ADA,
        cluster,
        limits=limits,
        addresses=addresses,
        opened_from="10.0.0.1",
        now=NOW,
        random=os.urandom,
    )


# ------------------------------------------------------------------------------------------- the table


def test_nothing_follows_a_final_state() -> None:
    assert {SessionState.EXPIRED, SessionState.REVOKED, SessionState.ENDED} == FINAL == set(END_REASONS)
    for state, event in itertools.product(FINAL, SessionEvent):
        assert after(state, event) is None


def test_no_walk_over_the_table_comes_back_from_a_final_state() -> None:
    reached = {SessionState.REQUESTED}
    for _ in SessionState:
        reached |= {to for (fro, _), to in TRANSITIONS.items() if fro in reached}
    assert reached == set(SessionState)
    assert not {to for (fro, _), to in TRANSITIONS.items() if fro in FINAL}


def test_only_opening_leads_to_active() -> None:
    into = {(fro, event) for (fro, event), to in TRANSITIONS.items() if to is SessionState.ACTIVE}
    assert into == {
        (SessionState.REQUESTED, SessionEvent.OPEN),
        (SessionState.ACTIVE, SessionEvent.USE),
        (SessionState.ACTIVE, SessionEvent.RENEW),
    }


def test_every_event_leads_to_one_state() -> None:
    for event in SessionEvent:
        assert len({after(state, event) for state in sources(event)}) == 1


# ----------------------------------------------------------------------------------------------- tokens


def test_a_token_can_be_told_from_any_other_text() -> None:
    token = new_token(os.urandom)
    assert len(token) == TOKEN_LENGTH
    assert token.startswith("ilk_")
    assert is_token(token)
    assert len({new_token(os.urandom) for _ in range(100)}) == 100


def test_the_randomness_is_all_in_the_token() -> None:
    tokens = [new_token(lambda n, k=k: (1 << k).to_bytes(n)) for k in range(192)]
    assert len(set(tokens)) == 192
    assert is_token(new_token(lambda n: b"\xff" * n))
    assert is_token(new_token(bytes))


def test_one_wrong_character_is_seen() -> None:
    token = new_token(os.urandom)
    for place, character in itertools.product(
        range(len(token)), string.ascii_letters + string.digits + "_-. é"
    ):
        if token[place] != character:
            assert not is_token(token[:place] + character + token[place + 1 :])


@settings(derandomize=True)
@given(
    st.text(max_size=60)
    | st.text(string.ascii_letters + string.digits, min_size=39, max_size=39).map("ilk_".__add__)
)
def test_other_text_is_no_token(text: str) -> None:
    assert not is_token(text)


def test_hashes_do_not_show_the_token_and_know_the_cluster() -> None:
    token = new_token(os.urandom)
    assert len(token_hash(token)) == 32
    assert token_hash(token) != token_hash(token[:-1])
    assert len({identity_hash("a.b.c", "dev"), identity_hash("a.b.c", "prod"), token_hash("a.b.c")}) == 3


# -------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("rule", "opened_from", "networks"),
    [
        ("any", "10.0.0.1", ()),
        ("any", "nonsense", ()),
        ("same", "10.0.0.1", ("10.0.0.1/32",)),
        ("same", "::ffff:10.0.0.1", ("10.0.0.1/32",)),
        ("same", "fd00::1", ("fd00::1/128",)),
        ("same", "fe80::1%eth0", ("fe80::1/128",)),
        (["10.0.0.0/8", "fd00::/8"], "10.9.9.9", ("10.0.0.0/8", "fd00::/8")),
    ],
)
def test_address_rules(rule: str | list[str], opened_from: str, networks: tuple[str, ...]) -> None:
    assert address_rule(rule, opened_from) == networks


def test_a_session_is_not_opened_from_outside_the_networks() -> None:
    with pytest.raises(NoSession, match="clientAddress"):
        address_rule(["10.0.0.0/8"], "11.0.0.1")
    with pytest.raises(NoSession, match="clientAddress"):
        address_rule(["10.0.0.0/8"], "nonsense")


@pytest.mark.parametrize("rule", ["other", [], "10.0.0.0/8", ["nonsense"], ["10.0.0.1/8"]])
def test_a_rule_that_is_none_is_an_error(rule: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"clientAddress|nonsense|host bits"):
        address_rule(rule, "10.0.0.1")
    with pytest.raises(ValueError, match="does not appear"):
        address_rule("same", "nonsense")


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("::1", False),
        ("", False),
        ("x", False),
    ],
)
def test_networks(address: str, inside: bool) -> None:
    assert in_networks(("10.0.0.0/8", "fd00::/8"), address) is inside


def test_an_address_has_one_spelling() -> None:
    assert parse_address("::ffff:10.0.0.1") == parse_address("10.0.0.1")


# --------------------------------------------------------------------------------------------- sessions


def test_a_new_session_is_active_and_of_its_own() -> None:
    one, two = session(), session()
    assert one.state is SessionState.ACTIVE
    assert (one.opened_at, one.last_used_at, one.ends_at) == (NOW, NOW, NOW + 8 * 3600)
    assert len(one.mask_key) == MASK_KEY_BYTES
    assert one.mask_key != two.mask_key
    assert one.id != two.id
    assert len(one.id) == 36


def test_a_session_shows_no_mask_key() -> None:
    one = session()
    assert "mask_key" not in repr(one)
    assert repr(one.mask_key)[2:-1] not in repr(one)


@pytest.mark.parametrize(
    "limits", [(0.5, 600, 900), (900, 0, 900), (901, 600, 900), (900, 901, 900), (-1, -1, -1)]
)
def test_limits_that_make_no_sense_are_refused(limits: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="sessions: ttl and idle"):
        Limits(*limits)


def test_a_token_ends_with_its_session_at_the_latest() -> None:
    one = session(limits=Limits(900, 600, 3600))
    assert token_expiry(one, 900, NOW) == NOW + 900
    assert token_expiry(one, 900, NOW + 3000) == one.ends_at


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (0, None),
        (-CLOCK_BACK, None),
        (599.9, None),
        (600, "idle"),
        (3600, "max"),
        (1e9, "max"),
        (-CLOCK_BACK - 1, "max"),
    ],
)
def test_the_clock_ends_a_session(later: float, why: str | None) -> None:
    assert expiry(session(limits=Limits(600, 600, 3600)), NOW + later) == why


GOOD = Held(session(addresses=("10.0.0.0/8",)), NOW + 900)
REFUSED: dict[str, tuple[Callable[[Held], Held], str, str, float, str]] = {
    "requested": (lambda h: ended(h, SessionState.REQUESTED), "dev", "10.0.0.1", NOW, "not open yet"),
    "expired": (
        lambda h: ended(h, SessionState.EXPIRED, "idle"),
        "dev",
        "10.0.0.1",
        NOW,
        r"has expired \(idle\)",
    ),
    "revoked": (
        lambda h: ended(h, SessionState.REVOKED, "left"),
        "dev",
        "10.0.0.1",
        NOW,
        r"was revoked \(left\)",
    ),
    "ended": (lambda h: ended(h, SessionState.ENDED), "dev", "10.0.0.1", NOW, r"has ended \(no reason"),
    "idle by the clock": (lambda h: h, "dev", "10.0.0.1", NOW + 600, r"has expired \(idle\)"),
    "max by the clock": (lambda h: h, "dev", "10.0.0.1", NOW + 1e6, r"has expired \(max\)"),
    "token expired": (lambda h: Held(h.session, NOW), "dev", "10.0.0.1", NOW, "token has expired"),
    "another cluster": (lambda h: h, "prod", "10.0.0.1", NOW, "is not for prod; .*audience=prod"),
    "console": (lambda h: h, CONSOLE, "10.0.0.1", NOW, "is not for console"),
    "another address": (lambda h: h, "dev", "11.0.0.1", NOW, "may not be used from this address"),
    "no address": (lambda h: h, "dev", "", NOW, "may not be used from this address"),
}


def ended(held: Held, state: SessionState, reason: str | None = None) -> Held:
    return Held(dataclasses.replace(held.session, state=state, end_reason=reason), held.token_expires_at)


def test_a_good_token_is_let_through() -> None:
    assert admit(GOOD, "dev", "10.255.0.1", NOW + 10) is GOOD.session
    check_open(GOOD.session, NOW + 10)


@pytest.mark.parametrize(("change", "cluster", "address", "at", "why"), REFUSED.values(), ids=REFUSED)
def test_nothing_else_is(
    change: Callable[[Held], Held], cluster: str, address: str, at: float, why: str
) -> None:
    with pytest.raises(NoSession, match=why) as refused:
        admit(change(GOOD), cluster, address, at)
    assert refused.value.session_id == GOOD.session.id
    assert refused.value.reason.isprintable()


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.ACTIVE])
def test_a_session_in_another_state_is_not_open(state: SessionState) -> None:
    with pytest.raises(NoSession):
        check_open(ended(GOOD, state).session, NOW)


def test_what_is_away_says_so_in_one_line() -> None:
    for kind in (StateAway, ProviderAway, RecordAway):
        assert kind("gone").reason == "gone"
        assert issubclass(kind, Away)
