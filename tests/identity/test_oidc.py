"""Identity tokens: what holds, and every known way of making one that does not, each refused by name."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.provider import AUDIENCE, DISCOVERY, KEYS, Provider, encode, private_key, public_jwk, sign
from interlock.identity import oidc
from interlock.identity.fetching import fetch
from interlock.identity.oidc import Issuer, Key, TokenRefused, Verified, Verifier, parse_keys
from interlock.identity.sessions import ProviderAway

OTHER_KEY = private_key("RS256")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def issuer(provider: Provider, **more: Any) -> Issuer:
    return Issuer(**{"issuer": provider.issuer, "audience": AUDIENCE, "username_claim": "email", **more})


def offline(provider: Provider, **more: Any) -> Verifier:
    """A verifier that has the provider's keys and no network."""

    async def no_network(url: str, _: bytes | None) -> bytes:
        raise AssertionError(f"asked for {url}")

    keys = json.dumps({"keys": provider.keys}).encode()
    return Verifier(
        [issuer(provider, **{"jwks": keys, **more})],
        fetch=no_network,
        clock=time.time,
        monotonic=time.monotonic,
    )


def verify(verifier: Verifier, token: str) -> Verified:
    return asyncio.run(verifier.verify(token))


# ------------------------------------------------------------------------------------- what is accepted


@pytest.mark.parametrize("algorithm", oidc.ALGORITHMS)
def test_every_algorithm_of_the_table_works(algorithm: str) -> None:
    with Provider(algorithm=algorithm) as provider:
        principal = verify(offline(provider), provider.token("ada", ["agents", "dev"], repo="shop")).principal
    assert (principal.user, principal.groups) == ("ada", ("agents", "dev"))
    assert (principal.issuer, principal.subject) == (provider.issuer, "id-of-ada")
    assert (principal.agent, principal.owner) == (None, None)
    assert principal.claims["repo"] == "shop"


@dataclass(frozen=True)
class Ago:
    """A time by the clock of the test that uses it: tests run minutes after they are collected."""

    seconds: float

    def time(self) -> float:
        return time.time() - self.seconds


ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "no groups at all": ({}, {"groups": None}, {"groups": ()}),
    "no groups wanted": ({"groups_claim": None}, {"groups": 7}, {"groups": ()}),
    "one group as a string": ({}, {"groups": "agents"}, {"groups": ("agents",)}),
    "nested groups": (
        {"groups_claim": "realm_access.roles"},
        {"realm_access": {"roles": ["x"]}},
        {"groups": ("x",)},
    ),
    "a claim with dots in its name": (
        {"groups_claim": "https://e.org/g"},
        {"https://e.org/g": ["x"]},
        {"groups": ("x",)},
    ),
    "audience in a list": ({}, {"aud": [AUDIENCE]}, {"user": "ada"}),
    "several audiences, for us": ({}, {"aud": [AUDIENCE, "other"], "azp": AUDIENCE}, {"user": "ada"}),
    "several audiences, for a client that we know": (
        {"authorized_parties": ("ci",)},
        {"aud": [AUDIENCE, "other"], "azp": "ci"},
        {"user": "ada"},
    ),
    "verified email": ({}, {"email_verified": True}, {"user": "ada"}),
    "unverified email that is not the user name": (
        {"username_claim": "sub"},
        {"email_verified": False},
        {"user": "id-of-ada"},
    ),
    "prefixes": (
        {"username_prefix": "idp:", "groups_prefix": "idp:"},
        {},
        {"user": "idp:ada", "groups": ("idp:agents",)},
    ),
    "a service account of a cluster": (
        {"username_claim": "sub", "username_prefix": "dev:", "groups_claim": None},
        {"sub": "system:serviceaccount:ci:bot", "groups": None},
        {"user": "dev:system:serviceaccount:ci:bot"},
    ),
    "agent and owner": (
        {"agent_claim": "azp", "owner_claim": "act.sub"},
        {"azp": "claude", "act": {"sub": "ada"}},
        {"agent": "claude", "owner": "ada"},
    ),
    "agent not said": ({"agent_claim": "client_id"}, {}, {"agent": None}),
    "required claims": (
        {"required_claims": {"repo": "shop", "ci.trusted": True, "n": 3}},
        {"repo": "shop", "ci": {"trusted": True}, "n": 3},
        {"user": "ada"},
    ),
    "times with fractions": ({}, {"nbf": Ago(0.5)}, {"user": "ada"}),
    "clocks a little apart": (
        {},
        {"iat": Ago(-20), "nbf": Ago(-20)},
        {"user": "ada"},
    ),
    "just expired, by a clock a little apart": ({}, {"exp": Ago(5)}, {"user": "ada"}),
    "groups claim elsewhere, but not the one that is used": (
        {"groups_claim": "roles"},
        {"_claim_names": {"groups": "src1"}, "roles": ["x"]},
        {"groups": ("x",)},
    ),
    "hasgroups, with the groups there": ({}, {"hasgroups": True}, {"groups": ("agents",)}),
}


@pytest.mark.parametrize(("settings_", "claims", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_these_hold(
    provider: Provider, settings_: dict[str, Any], claims: dict[str, Any], expected: dict[str, Any]
) -> None:
    now = {name: value.time() if isinstance(value, Ago) else value for name, value in claims.items()}
    token = provider.token(**{"user": "ada", **now})
    principal = verify(offline(provider, **settings_), token).principal
    assert {name: getattr(principal, name) for name in expected} == expected


def test_the_end_is_told(provider: Provider) -> None:
    end = int(time.time()) + 77
    assert verify(offline(provider), provider.token(exp=end)).until == end + oidc.LEEWAY


# ------------------------------------------------------------------------------------------ the attacks


def header(provider: Provider, **more: Any) -> dict[str, Any]:
    good = {"alg": "RS256", "typ": "JWT", "kid": provider.kid}
    return {name: value for name, value in {**good, **more}.items() if value is not None}


def signed(claims: Callable[[Provider], dict[str, Any]], **more: Any) -> Callable[[Provider], str]:
    return lambda provider: sign(header(provider, **more), claims(provider), provider.key)


def claims(**more: Any) -> Callable[[Provider], str]:
    """A token that is well signed and says this."""
    return lambda provider: provider.token(**more)


def heads(**more: Any) -> Callable[[Provider], str]:
    """A token that is well signed and has this in its header."""
    return lambda provider: sign(header(provider, **more), provider.claims(), provider.key)


def raw(payload: bytes) -> Callable[[Provider], str]:
    """A token that is well signed over these bytes, in which ISS stands for the issuer."""
    return lambda provider: sign(
        header(provider), payload.replace(b"ISS", provider.issuer.encode()), provider.key
    )


def raw_header(head: bytes) -> Callable[[Provider], str]:
    """A token whose header is these bytes, in which KID stands for the key's id."""

    def make(provider: Provider) -> str:
        text = f"{encode(head.replace(b'KID', provider.kid.encode()))}.{encode(provider.claims())}"
        signature = oidc._IMPLEMENTED["RS256"].sign(text.encode(), provider.key)
        return f"{text}.{encode(signature)}"

    return make


def unsigned(alg: str) -> Callable[[Provider], str]:
    return lambda provider: f"{encode(header(provider, alg=alg))}.{encode(provider.claims())}."


def hmac_with_public_key(alg: str, digest: str) -> Callable[[Provider], str]:
    def make(provider: Provider) -> str:
        public = provider.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = f"{encode(header(provider, alg=alg))}.{encode(provider.claims())}"
        return f"{text}.{encode(hmac.new(public, text.encode(), digest).digest())}"

    return make


def foreign_key(**more: Any) -> Callable[[Provider], str]:
    """Signed by an attacker's key, with a header that offers it."""
    return lambda provider: sign(header(provider, **more), provider.claims(), OTHER_KEY)


def swapped(provider: Provider) -> str:
    head, _, signature = provider.token("ada").split(".")
    return f"{head}.{encode(provider.claims('eve'))}.{signature}"


def changed(part: int, change: Callable[[str], str]) -> Callable[[Provider], str]:
    def make(provider: Provider) -> str:
        parts = provider.token().split(".")
        parts[part] = change(parts[part])
        return ".".join(parts)

    return make


def loose_end(text: str) -> str:
    """The same bytes in another spelling: the last character's unused bits set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text) % 4 != 0
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def jwk_of(key: Any) -> dict[str, Any]:
    return public_jwk(key, "RS256", "key-1")


def x5c_of(key: Any) -> list[str]:
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return [base64.b64encode(der).decode()]


NOW = int(time.time())

# name: (how it is made, what the operator reads, whether the signature was good)
ATTACKS: dict[str, tuple[Callable[[Provider], str], str, bool]] = {
    # no signature, or one that anybody can make
    "alg none": (unsigned("none"), "algorithm 'none' is not accepted", False),
    "alg None": (unsigned("None"), "algorithm 'None' is not accepted", False),
    "alg nOnE": (unsigned("nOnE"), "algorithm 'nOnE' is not accepted", False),
    "alg empty": (unsigned(""), "algorithm '' is not accepted", False),
    "alg missing": (raw_header(b'{"typ":"JWT","kid":"KID"}'), "algorithm None is not accepted", False),
    "alg a list": (raw_header(b'{"alg":["RS256"],"kid":"KID"}'), "is not accepted", False),
    "no signature under a good alg": (unsigned("RS256"), "the signature does not verify", False),
    "HMAC with the public key, 256": (
        hmac_with_public_key("HS256", "sha256"),
        "'HS256' is not accepted",
        False,
    ),
    "HMAC with the public key, 512": (
        hmac_with_public_key("HS512", "sha512"),
        "'HS512' is not accepted",
        False,
    ),
    "a curve that is not in the table": (heads_alg := unsigned("ES256K"), "'ES256K' is not accepted", False),
    # a signature by somebody else, or over something else
    "another key under the right id": (foreign_key(), "the signature does not verify", False),
    "payload of another": (swapped, "the signature does not verify", False),
    "signature of another": (
        changed(2, lambda s: ("A" if s[0] != "A" else "B") + s[1:]),
        "the signature does not verify",
        False,
    ),
    "signature shortened": (changed(2, lambda s: s[:40]), "the signature does not verify", False),
    "jwk in the header": (foreign_key(jwk=jwk_of(OTHER_KEY)), "the signature does not verify", False),
    "jku in the header": (foreign_key(jku="http://127.0.0.1:1/keys"), "the signature does not verify", False),
    "x5u in the header": (foreign_key(x5u="http://127.0.0.1:1/c"), "the signature does not verify", False),
    "x5c in the header": (foreign_key(x5c=x5c_of(OTHER_KEY)), "the signature does not verify", False),
    "kid unknown": (foreign_key(kid="mine"), "has no RS256 key with id 'mine'", False),
    "kid a path": (foreign_key(kid="../../dev/null"), "has no RS256 key with id '../../dev/null'", False),
    "kid a query": (foreign_key(kid="' OR 1=1 --"), "has no RS256 key with id", False),
    "kid a URL": (foreign_key(kid="http://127.0.0.1:1/k"), "has no RS256 key with id", False),
    "kid empty": (foreign_key(kid=""), "has no RS256 key with id ''", False),
    "kid a number": (foreign_key(kid=1), "key id is not a string", False),
    "kid endless": (foreign_key(kid="k" * 9000), "has no RS256 key with id 'kkkk", False),
    "no kid, another key": (foreign_key(kid=None), "the signature does not verify", False),
    "alg of the same key, but not the one it is for": (
        heads(alg="PS256"),
        "has no PS256 key with id 'key-1'",
        False,
    ),
    "alg of another kind of key": (
        lambda p: sign(header(p, alg="ES256"), p.claims(), private_key("ES256")),
        "has no ES256 key",
        False,
    ),
    # a header or payload that may be read in two ways
    "crit": (heads(crit=["exp"]), "header has 'crit'", False),
    "crit empty": (heads(crit=[]), "header has 'crit'", False),
    "payload not encoded (b64)": (heads(b64=False), "header has 'b64'", False),
    "compressed (zip)": (heads(zip="DEF"), "header has 'zip'", False),
    "encrypted (enc)": (heads(enc="A256GCM"), "header has 'enc'", False),
    "an access token": (heads(typ="at+jwt"), "of type 'at+jwt', expected JWT", False),
    "a logout token": (heads(typ="logout+jwt"), "of type 'logout+jwt', expected JWT", False),
    "typ a number": (heads(typ=7), "of type 7, expected JWT", False),
    "header key twice": (
        raw_header(b'{"alg":"RS256","alg":"none","kid":"KID"}'),
        "header has a repeated key",
        False,
    ),
    "claim twice": (
        raw(b'{"iss":"ISS","sub":"a","sub":"b","aud":"interlock"}'),
        "payload has a repeated key",
        False,
    ),
    "nested claim twice": (raw(b'{"iss":"ISS","act":{"sub":"a","sub":"b"}}'), "repeated key", False),
    "payload not JSON": (raw(b"iss=ISS"), "payload is not JSON", False),
    "payload a list": (raw(b'["ISS"]'), "payload is not a JSON object", False),
    "payload not UTF-8": (raw(b'{"iss":"\xff"}'), "payload is not JSON", False),
    "payload with NaN": (raw(b'{"iss":"ISS","exp":NaN}'), "payload is not JSON", False),
    "payload with an endless number": (raw(b'{"iss":"ISS","exp":1e999}'), "payload is not JSON", False),
    "payload with a long number": (
        raw(b'{"iss":"ISS","n":' + b"9" * 40 + b"}"),
        "payload is not JSON",
        False,
    ),
    "payload with half a character": (raw(b'{"iss":"ISS","n":"\\ud800"}'), "payload is not JSON", False),
    "payload without a bottom": (
        raw(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        "payload is not JSON",
        False,
    ),
    "padding": (changed(0, lambda s: s + "="), "header is not", False),
    "loose bits at the end": (changed(2, loose_end), "signature is not canonical base64url", False),
    "the other base64": (changed(2, lambda s: "+/" + s[2:]), "signature is not", False),
    "white space inside": (changed(1, lambda s: s[:4] + "\n" + s[4:]), "payload is not base64url", False),
    "two parts": (lambda p: p.token().rpartition(".")[0], "not a signed JWT", False),
    "four parts": (lambda p: p.token() + ".x", "not a signed JWT", False),
    "five parts (JWE)": (lambda p: "a.b.c.d.e", "not a signed JWT", False),
    "empty": (lambda p: "", "not a signed JWT", False),
    "not ASCII": (lambda p: p.token() + "é", "not a signed JWT", False),
    "too long": (claims(pad="x" * 13000), "at most 16384 are read", False),
    # from somebody else, or for somebody else
    "another issuer": (
        claims(iss="https://evil.example"),
        "'https://evil.example', which is not configured",
        False,
    ),
    "issuer with a slash more": (lambda p: p.token(iss=p.issuer + "/"), "which is not configured", False),
    "issuer in upper case": (lambda p: p.token(iss=p.issuer.upper()), "which is not configured", False),
    "issuer a list": (lambda p: p.token(iss=[p.issuer]), "names no issuer", False),
    "issuer missing": (claims(iss=None), "names no issuer", False),
    "another audience": (claims(aud="other"), "has audience 'other', expected 'interlock'", True),
    "audience in another case": (claims(aud="Interlock"), "expected 'interlock'", True),
    "audience a prefix": (claims(aud="interlock2"), "expected 'interlock'", True),
    "audience missing": (claims(aud=None), "claim aud is None", True),
    "audience empty": (claims(aud=[]), "expected 'interlock'", True),
    "audience an object": (claims(aud={"interlock": 1}), "expected a string or a list", True),
    "audience a list of lists": (claims(aud=[["interlock"]]), "expected a string or a list", True),
    "several audiences, no azp": (claims(aud=["interlock", "x"]), "azp is None", True),
    "several audiences, azp of another": (claims(aud=["interlock", "x"], azp="x"), "azp is 'x'", True),
    "azp a list": (claims(aud=["interlock", "x"], azp=["interlock"]), "azp is ['interlock']", True),
    "reports an event": (claims(events={"logout": {}}), "reports an event", True),
    # at another time
    "expired": (claims(exp=NOW - 60), "expired", True),
    "expiry missing": (claims(exp=None), "has no exp claim", True),
    "expiry a string": (claims(exp=str(NOW + 60)), "claim exp is", True),
    "expiry true": (claims(exp=True), "claim exp is True", True),
    "expiry null": (raw(b'{"iss":"ISS","exp":null,"iat":1}'), "claim exp is None", True),
    "expiry beyond all times": (claims(exp=10**15), "claim exp is", True),
    "not valid yet": (claims(nbf=NOW + 36_000), "not valid for another", True),
    "issued in the future": (claims(iat=NOW + 36_000), "in the future", True),
    "time of issue missing": (claims(iat=None), "has no iat claim", True),
    # names
    "no subject": (claims(sub=None), "claim sub is missing", True),
    "subject empty": (claims(sub=""), "claim sub is missing", True),
    "subject endless": (claims(sub="x" * 257), "claim sub is missing", True),
    "user missing": (claims(email=None), "claim email (the user name) is missing", True),
    "user empty": (claims(email=""), "claim email (the user name) is missing", True),
    "user a list": (claims(email=["ada"]), "claim email (the user name) is missing", True),
    "user of Kubernetes' own": (claims(user="system:admin"), "begins with `system:`", True),
    "user with a header in it": (claims(user="ada\r\nX: y"), "holds the character U+000D", True),
    "email not verified": (claims(email_verified=False), "email_verified is not true", True),
    "email verified by a word": (claims(email_verified="true"), "email_verified is not true", True),
    "groups an object": (claims(groups={"agents": True}), "the groups", True),
    "groups a number": (claims(groups=7), "the groups", True),
    "groups null": (lambda p: sign(header(p), {**p.claims(), "groups": None}, p.key), "the groups", True),
    "groups with a number": (claims(groups=["agents", 7]), "the groups", True),
    "group of the cluster's masters": (
        claims(groups=["agents", "system:masters"]),
        "begins with `system:`",
        True,
    ),
    "group of masters, after a space": (claims(groups=[" system:masters"]), "white space", True),
    "group empty": (claims(groups=[""]), "the group is empty", True),
    "groups elsewhere": (
        claims(
            groups=None, _claim_names={"groups": "src1"}, _claim_sources={"src1": {"endpoint": "https://x"}}
        ),
        "groups overage",
        True,
    ),
    "groups here and elsewhere": (claims(_claim_names={"groups": "src1"}), "groups overage", True),
    "too many groups for an implicit flow": (claims(groups=None, hasgroups=True), "groups overage", True),
    "groups without end": (claims(groups=[f"g{n}" for n in range(600)]), "600 groups", True),
}


@pytest.mark.parametrize(("make", "reason", "verified"), ATTACKS.values(), ids=ATTACKS)
def test_attacks_are_refused_by_name(
    provider: Provider, make: Callable[[Provider], str], reason: str, verified: bool
) -> None:
    token = make(provider)
    with pytest.raises(TokenRefused) as refused:
        verify(offline(provider), token)
    assert reason in refused.value.reason
    assert refused.value.verified is verified
    assert refused.value.reason.isprintable()
    assert len(refused.value.reason) < 400
    for part in token.split("."):
        assert len(part) < 8 or part not in refused.value.reason


NESTED = {
    "nested groups elsewhere": ({"groups_claim": "a.b"}, {"_claim_names": {"a": "s"}}, "groups overage"),
    "groups in part null": ({"groups_claim": "a.b"}, {"a": {"b": None}}, "the groups"),
    "agent a list": ({"agent_claim": "azp"}, {"azp": ["x"]}, "claim azp"),
    "agent null": ({"agent_claim": "act.sub"}, {"act": {"sub": None}}, "claim act.sub is None"),
    "agent empty": ({"agent_claim": "azp"}, {"azp": ""}, "the agent is empty"),
    "owner of Kubernetes' own": ({"owner_claim": "o"}, {"o": "system:x"}, "the owner 'system:x' begins"),
    "required claim missing": (
        {"required_claims": {"repo": "shop"}},
        {},
        "claim repo is missing, expected 'shop'",
    ),
    "required claim wrong": (
        {"required_claims": {"repo": "shop"}},
        {"repo": "shop2"},
        "claim repo is 'shop2'",
    ),
    "required claim in a list": (
        {"required_claims": {"repo": "shop"}},
        {"repo": ["shop"]},
        "claim repo is ['shop']",
    ),
    "required true is not one": (
        {"required_claims": {"ci": True}},
        {"ci": 1},
        "claim ci is 1, expected True",
    ),
    "required one is not true": (
        {"required_claims": {"ci": 1}},
        {"ci": True},
        "claim ci is True, expected 1",
    ),
    "prefix that completes a reserved name": (
        {"username_prefix": "sys"},
        {"user": "tem:x"},
        "begins with `system:`",
    ),
}


@pytest.mark.parametrize(("settings_", "claims", "reason"), NESTED.values(), ids=NESTED)
def test_what_the_configuration_asks_for_is_checked(
    provider: Provider, settings_: dict[str, Any], claims: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TokenRefused) as refused:
        verify(offline(provider, **settings_), provider.token(**claims))
    assert reason in refused.value.reason
    assert refused.value.verified


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: f"{encode(b)}.{encode(b)}.{encode(b)}"))
def test_no_text_breaks_the_reader(text: str) -> None:
    verifier = Verifier([], fetch=fetch, clock=time.time, monotonic=time.monotonic)
    with pytest.raises(TokenRefused):
        verify(verifier, text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "aud",
                "azp",
                "exp",
                "nbf",
                "iat",
                "sub",
                "email",
                "email_verified",
                "groups",
                "_claim_names",
                "events",
            ]
        ),
        _JSON,
    )
)
def test_no_claims_of_any_shape_get_past_the_checks_by_a_fault(odd: dict[str, Any]) -> None:
    good = {"iss": "https://i", "aud": "interlock", "sub": "s", "email": "a", "iat": 1000, "exp": 2000}
    wanted = Issuer("https://i", "interlock", username_claim="email", agent_claim="azp")
    try:
        principal = oidc.check_claims(wanted, {**good, **odd}, 1500.0).principal
    except TokenRefused:
        return
    assert principal.user == odd.get("email", "a")
    assert "interlock" in (odd.get("aud", "interlock") or [])
    assert odd.get("exp", 2000) > 1470


# -------------------------------------------------------------------------------------------- key sets


def test_a_key_without_id_or_algorithm_is_tried_for_tokens_without_id() -> None:
    with Provider() as provider:
        jwk = {name: provider.keys[0][name] for name in ("kty", "n", "e")}
        other = public_jwk(OTHER_KEY, "RS256", None)
        keys = json.dumps({"keys": [other, jwk]}).encode()
        token = sign(header(provider, kid=None), provider.claims(), provider.key)
        assert verify(offline(provider, jwks=keys), token).principal.user == "ada"
        pss = sign(header(provider, kid=None, alg="PS256"), provider.claims(), provider.key)
        assert verify(offline(provider, jwks=keys), pss).principal.user == "ada"
        with pytest.raises(TokenRefused, match="has no RS256 key with id 'key-1'"):
            verify(offline(provider, jwks=keys), provider.token())


RSA = public_jwk(OTHER_KEY, "RS256", "r")
EC = public_jwk(private_key("ES256"), "ES256", "e")
USELESS = {
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "x"},
    "for encryption": {**RSA, "use": "enc"},
    "for signing only": {**RSA, "key_ops": ["sign"]},
    "operations not a list": {**RSA, "key_ops": "verify"},
    "of an algorithm that is not in the table": {**RSA, "alg": "RSA-OAEP"},
    "of an algorithm of another kind": {**RSA, "alg": "ES256"},
    "of no kind": {"kid": "x"},
    "of an odd kind": {**RSA, "kty": ["RSA"]},
    "of another curve": {**EC, "crv": "secp256k1", "alg": None},
    "off its curve": {**EC, "x": EC["y"], "y": EC["x"]},
    "cut": {**EC, "x": "AA"},
    "without numbers": {"kty": "RSA", "alg": "RS256"},
    "with odd numbers": {**RSA, "n": 7},
    "with an odd id": {**RSA, "kid": 7},
    "too short": public_jwk(rsa.generate_private_key(65537, 1024), "RS256", "s"),
    "no object": "RSA",
}


@pytest.mark.parametrize("jwk", USELESS.values(), ids=USELESS)
def test_keys_that_must_not_verify_are_left_out(jwk: Any) -> None:
    found = parse_keys(json.dumps({"keys": [jwk, EC]}).encode())
    assert [key.kid for key in found] == ["e"]
    with pytest.raises(ValueError, match="no key that could verify"):
        parse_keys(json.dumps({"keys": [jwk]}).encode())


@pytest.mark.parametrize(
    ("raw_set", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "needs a list"),
        (b"{}", "needs a list"),
        (b'{"keys": {}}', "needs a list"),
        (b'{"keys": [], "keys": []}', "repeated keys"),
        (b'{"keys": []}', "no key that could verify"),
        (json.dumps({"keys": [RSA] * 101}).encode(), "at most 100 keys"),
        (json.dumps({"keys": [{**EC, "d": "AA"}]}).encode(), "private key"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_key_sets_that_cannot_be_used_say_why(raw_set: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_keys(raw_set)


def test_a_key_fits_only_algorithms_of_its_kind() -> None:
    (key,) = parse_keys(json.dumps({"keys": [EC]}).encode())
    assert [name for name in oidc.ALGORITHMS if key.fits(name)] == ["ES256"]
    loose = Key(None, oidc.KeyKind("RSA", None), None, key.public)
    assert [name for name in oidc.ALGORITHMS if loose.fits(name)] == [
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
    ]


# ------------------------------------------------------------------------------------------- discovery


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def online(provider: Provider, monotonic: Callable[[], float] = time.monotonic, **more: Any) -> Verifier:
    return Verifier([issuer(provider, **more)], fetch=fetch, clock=time.time, monotonic=monotonic)


async def test_keys_are_discovered_once_and_remembered() -> None:
    with Provider(path="/realms/main") as provider:
        verifier = online(provider)
        assert provider.asked == []
        await asyncio.gather(*(verifier.verify(provider.token(f"user{n}")) for n in range(20)))
        assert provider.asked == ["/realms/main" + DISCOVERY, "/realms/main" + KEYS]


async def test_keys_are_asked_for_again_when_they_are_old() -> None:
    clock = Clock()
    with Provider() as provider:
        verifier = online(provider, clock)
        token = provider.token()
        await verifier.verify(token)
        provider.rotate()
        clock.now += oidc.KEYS_SECONDS - 1
        assert (await verifier.verify(token)).principal.user == "ada"
        clock.now += 1
        with pytest.raises(TokenRefused, match="has no RS256 key with id 'key-1'"):
            await verifier.verify(token)
        assert (await verifier.verify(provider.token())).principal.user == "ada"


async def test_a_new_key_is_found_at_once() -> None:
    with Provider() as provider:
        verifier = online(provider)
        await verifier.verify(provider.token())
        for _ in range(3):
            provider.rotate()
            assert (await verifier.verify(provider.token())).principal.user == "ada"


async def test_unknown_key_ids_do_not_flood_the_provider() -> None:
    clock = Clock()
    with Provider() as provider:
        verifier = online(provider, clock)
        await verifier.verify(provider.token())
        asked = len(provider.asked)

        async def guess(n: int) -> None:
            with pytest.raises(TokenRefused, match="has no RS256 key"):
                await verifier.verify(sign(header(provider, kid=f"guess-{n}"), provider.claims(), OTHER_KEY))

        await asyncio.gather(*(guess(n) for n in range(100)))
        assert len(provider.asked) - asked == 2 * oidc.REFETCHES
        provider.rotate()
        with pytest.raises(TokenRefused, match="has no RS256 key"):
            await verifier.verify(provider.token())
        clock.now += oidc.REFETCH_WINDOW
        assert (await verifier.verify(provider.token())).principal.user == "ada"


async def test_a_provider_that_is_away_is_no_refusal_and_is_left_alone_for_a_second() -> None:
    clock = Clock()
    with Provider() as provider:
        verifier = online(provider, clock)
        good = provider.answers
        provider.answers = {DISCOVERY: (500, {}, b"")}
        for _ in range(3):
            with pytest.raises(ProviderAway, match="answered 500"):
                await verifier.verify(provider.token())
        assert len(provider.asked) == 1
        provider.answers = good
        clock.now += oidc.RETRY_SECONDS
        assert (await verifier.verify(provider.token())).principal.user == "ada"
    clock.now += oidc.KEYS_SECONDS - 1
    assert (await verifier.verify(provider.token())).principal.user == "ada"
    clock.now += 1
    with pytest.raises(ProviderAway, match="cannot be reached"):
        await verifier.verify(provider.token())


async def test_a_provider_that_goes_away_when_a_new_key_is_asked_for_is_away() -> None:
    with Provider() as provider:
        verifier = online(provider)
        await verifier.verify(provider.token())
        provider.rotate()
        token = provider.token()
    with pytest.raises(ProviderAway, match="cannot be reached"):
        await verifier.verify(token)


BROKEN_DISCOVERY = {
    "not JSON": (b"<html>", "is not JSON"),
    "a list": (b"[]", "names the issuer nothing"),
    "another issuer": (
        b'{"issuer": "https://evil.example", "jwks_uri": "KEYS"}',
        "'https://evil.example', expected",
    ),
    "twice": (b'{"issuer": "ISS", "issuer": "ISS", "jwks_uri": "KEYS"}', "is not JSON"),
    "no keys": (b'{"issuer": "ISS"}', "jwks_uri is missing"),
    "keys a list": (b'{"issuer": "ISS", "jwks_uri": ["KEYS"]}', "jwks_uri is missing"),
    "keys in clear": (b'{"issuer": "ISS", "jwks_uri": "http://example.org/k"}', "jwks_uri must be https"),
    "keys in a file": (b'{"issuer": "ISS", "jwks_uri": "file:///etc/passwd"}', "jwks_uri must be"),
    "keys with a password": (
        b'{"issuer": "ISS", "jwks_uri": "https://a:b@example.org/k"}',
        "jwks_uri must be",
    ),
    "keys that are none": (
        b'{"issuer": "ISS", "jwks_uri": "ISS/.well-known/openid-configuration"}',
        "needs a list",
    ),
    "keys elsewhere": (b'{"issuer": "ISS", "jwks_uri": "ISS/missing?a=b"}', "answered 404"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN_DISCOVERY.values(), ids=BROKEN_DISCOVERY)
async def test_discovery_that_cannot_be_trusted_is_away(provider: Provider, body: bytes, reason: str) -> None:
    body = body.replace(b"ISS", provider.issuer.encode()).replace(b"KEYS", (provider.issuer + KEYS).encode())
    provider.answers[DISCOVERY] = (200, {}, body)
    try:
        with pytest.raises(ProviderAway, match=reason) as away:
            await online(provider).verify(provider.token())
    finally:
        provider.answers.clear()
    assert away.value.reason.isprintable()


async def test_keys_of_a_tls_provider_may_not_come_from_loopback_in_clear() -> None:
    with Provider(tls=True) as provider:
        body = json.dumps({"issuer": provider.issuer, "jwks_uri": "http://127.0.0.1:1/keys"}).encode()
        provider.answers[DISCOVERY] = (200, {}, body)
        with pytest.raises(ProviderAway, match="jwks_uri must be https"):
            await online(provider, certificate_authority=provider.ca).verify(provider.token())


async def test_a_private_ca_is_trusted_for_its_issuer_alone() -> None:
    with Provider(tls=True) as provider:
        verifier = online(provider, certificate_authority=provider.ca)
        assert (await verifier.verify(provider.token())).principal.user == "ada"
        with pytest.raises(ProviderAway, match="cannot be reached"):
            await online(provider).verify(provider.token())


async def test_issuers_do_not_vouch_for_each_other() -> None:
    with Provider() as one, Provider() as two:
        verifier = Verifier(
            [issuer(one), issuer(two)], fetch=fetch, clock=time.time, monotonic=time.monotonic
        )
        assert (await verifier.verify(one.token())).principal.issuer == one.issuer
        assert (await verifier.verify(two.token())).principal.issuer == two.issuer
        with pytest.raises(TokenRefused, match="the signature does not verify"):
            await verifier.verify(two.token(iss=one.issuer))


# --------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "ftp://idp.example",
        "idp.example",
        "https://",
        "https://a:b@idp.example",
        "https://idp.example?x=y",
        "https://idp.example#x",
        "https://idp.example:port",
        "https://[::1",
        "https://idp.example/\n",
        "https://ídp.example",
        "",
    ],
)
def test_an_issuer_is_https_and_plain(url: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        Issuer(url, AUDIENCE)


@pytest.mark.parametrize(
    "url",
    ["https://idp.example/realms/main", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:1/x"],
)
def test_http_is_for_loopback_alone(url: str) -> None:
    assert Issuer(url, AUDIENCE).issuer == url


def test_an_issuer_needs_an_audience_and_is_named_once(provider: Provider) -> None:
    with pytest.raises(ValueError, match="audience is empty"):
        Issuer(provider.issuer, "")
    with pytest.raises(ValueError, match="configured twice"):
        Verifier([issuer(provider)] * 2, fetch=fetch, clock=time.time, monotonic=time.monotonic)
    with pytest.raises(ValueError, match="not JSON"):
        Verifier([issuer(provider, jwks=b"?")], fetch=fetch, clock=time.time, monotonic=time.monotonic)
