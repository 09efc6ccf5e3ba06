"""No name becomes one that Kubernetes, or a reader, would take for another."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.identity.principal import MAX_GROUPS, MISSING, BadPrincipal, Principal, check_name, claim

GOOD = [
    "ada",
    "ada@example.org",
    "repo:shop/api:ref:main",
    "Ådá",
    "a b",
    "日本",
    "oidc:system:masters",
    "x" * 256,
]
BAD = {
    "empty": "",
    "no string": 7,
    "none": None,
    "too long": "x" * 257,
    "masters": "system:masters",
    "a node": "system:node:n1",
    "upper case": "System:masters",
    "full width": "ｓystem:masters",
    "full width colon": "system：masters",
    "long s": "ſystem:masters",
    "space before, which a header loses": " system:masters",
    "tab after": "ada\t",
    "no-break space before": "\u00a0system:masters",
    "line end": "ada\r\nImpersonate-Group: system:masters",
    "NUL": "ada\0",
    "zero width": "ad\u200ba",
    "right to left": "ada\u202e",
    "byte order mark": "\ufeffada",
    "line separator": "a\u2028b",
    "half a character": "a\ud800",
    "private use": "a\ue000",
    "delete": "a\x7f",
}


@pytest.mark.parametrize("name", GOOD)
def test_names_that_people_have_are_kept_as_they_are(name: str) -> None:
    assert check_name("the user name", name) == name


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_names_with_another_meaning_are_refused_everywhere(name: str) -> None:
    with pytest.raises(BadPrincipal, match="the user name"):
        Principal(name, (), "i", "s")
    with pytest.raises(BadPrincipal, match="the group"):
        Principal("ada", ("agents", name), "i", "s")
    if name is not None:
        with pytest.raises(BadPrincipal, match="the agent"):
            Principal("ada", (), "i", "s", agent=name)
        with pytest.raises(BadPrincipal, match="the owner"):
            Principal("ada", (), "i", "s", owner=name)


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_a_refusal_is_one_printable_line(name: str) -> None:
    with pytest.raises(BadPrincipal) as refused:
        check_name("the user name", name)
    assert refused.value.reason.isprintable()
    assert refused.value.reason.isascii()


@settings(derandomize=True)
@given(st.text(max_size=20))
def test_what_is_accepted_survives_an_http_header(name: str) -> None:
    try:
        check_name("the user name", name)
    except BadPrincipal:
        return
    sent = name.encode()
    assert sent.strip() == sent
    assert sent
    assert not set(sent) & set(b"\0\r\n")
    assert not sent.lower().startswith(b"system:")


def test_groups_are_kept_once_and_in_order() -> None:
    assert Principal("ada", ("b", "a", "b"), "i", "s").groups == ("b", "a")


def test_there_is_a_bound_on_groups() -> None:
    groups = tuple(f"g{n}" for n in range(MAX_GROUPS))
    assert len(Principal("ada", groups, "i", "s").groups) == MAX_GROUPS
    with pytest.raises(BadPrincipal, match="501 groups"):
        Principal("ada", (*groups, "one-more"), "i", "s")


def test_a_principal_cannot_be_changed() -> None:
    claims = {"repo": "shop"}
    principal = Principal("ada", ("a",), "i", "s", claims=claims)
    claims["repo"] = "other"
    assert principal.claims["repo"] == "shop"
    with pytest.raises(TypeError):
        principal.claims["repo"] = "other"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        principal.user = "eve"  # type: ignore[misc]
    assert hash(principal) == hash(Principal("ada", ("a",), "i", "s"))
    assert "shop" not in repr(principal)


CLAIMS = {
    "plain": 1,
    "null": None,
    "https://example.org/groups": ["a"],
    "realm_access": {"roles": ["x"], "null": None},
    "kubernetes.io": {"serviceaccount": {"name": "bot"}},
    "a": {"b": {"c": "nested"}, "b.c": "longer"},
    "a.b": {"d": "in a.b"},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("plain", 1),
        ("null", None),
        ("missing", MISSING),
        ("https://example.org/groups", ["a"]),
        ("realm_access.roles", ["x"]),
        ("realm_access.null", None),
        ("realm_access.missing", MISSING),
        ("plain.deeper", MISSING),
        ("kubernetes.io.serviceaccount.name", "bot"),
        ("a.b.c", "longer"),
        ("a.b.d", "in a.b"),
        (".a", MISSING),
        ("a.", MISSING),
        ("", MISSING),
    ],
)
def test_a_path_finds_the_claim_with_the_longest_name(path: str, found: object) -> None:
    assert claim(CLAIMS, path) is found or claim(CLAIMS, path) == found
