"""How rules match: each rule of docs/policy.md, for an allow and for a deny, as a sentence."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.hazards import OPEN_NON_RESOURCE
from interlock.policy.matching import Patterns, Urls
from policy.asking import allow, allowed, ask, deny, other, policies, resource

EVERYTHING = allow(namespaces=["*"], classes=["connect", "escalation"])
OTHERWISE = [allow(namespaces=["*"]), allow(nonResourceURLs=["*", "/metrics"])]


def denied(rule: dict[str, Any], info: Any, **options: Any) -> bool:
    """Whether the deny itself matches, all else being allowed."""
    rules = policies(*OTHERWISE, {**EVERYTHING, "name": "gated"}, {**rule, "name": "deny"})
    return ask(rules, info, **options).rule == "deny"


def lets(rule: dict[str, Any], info: Any, **options: Any) -> bool:
    return allowed(policies(rule), info, **options)


# Each key, and both effects: (key's words, request that fits, request that does not)
POD = resource("get", "pods", name="web-0")


@pytest.mark.parametrize(
    ("match", "fits", "misses"),
    [
        ({"apiGroups": [""]}, POD, resource("get", "deployments", group="apps", name="web")),
        ({"apiGroups": ["apps"]}, resource("get", "deployments", group="apps", name="web"), POD),
        ({"apiGroups": ["x", "*"]}, POD, None),
        ({"resources": ["pods"]}, POD, resource("get", "pods/log", name="web-0")),
        ({"resources": ["pods/log"]}, resource("get", "pods/log", name="web-0"), POD),
        ({"resources": ["pods/*"]}, resource("get", "pods/log", name="web-0"), POD),
        ({"resources": ["*/scale"]}, resource("get", "deployments/scale", group="apps", name="web"), POD),
        ({"resources": ["*/scale"]}, resource("get", "widgets/scale", group="x.io", name="web"), resource("get", "scale")),
        ({"resources": ["*"]}, resource("get", "pods/log", name="web-0"), None),
        ({"resources": ["*/*"]}, POD, None),
        ({"resources": ["secrets", "pods"]}, POD, resource("get", "configmaps", name="a")),
        ({"verbs": ["get"]}, POD, resource("delete", "pods", name="web-0")),
        ({"verbs": ["*"]}, POD, None),
        ({"namespaces": ["shop"]}, POD, resource("get", "pods", namespace="shop-a", name="web-0")),
        ({"namespaces": ["sh*"]}, POD, resource("get", "pods", namespace="prod", name="web-0")),
        ({"namespaces": ["*", "!prod", "!test-*"]}, POD, resource("get", "pods", namespace="prod", name="web-0")),
        ({"namespaces": ["*", "!prod", "!test-*"]}, POD, resource("get", "pods", namespace="test-1", name="web-0")),
        ({"namespaces": ["*"]}, resource("get", "nodes", namespace="", name="n1"), None),
        ({"resourceNames": ["web-0"]}, POD, resource("get", "pods", name="web-1")),
        ({"resourceNames": []}, POD, None),
        ({"nonResourceURLs": ["/version"]}, other("get", "/version"), other("get", "/version/x")),
        ({"nonResourceURLs": ["/healthz/*"]}, other("get", "/healthz/etcd"), other("get", "/healthz")),
        ({"nonResourceURLs": ["/metrics"]}, other("get", "/metrics"), other("get", "/version")),
        ({"nonResourceURLs": ["/version"]}, other("get", "/version"), POD),
        ({"nonResourceURLs": ["*"], "verbs": ["get"]}, other("get", "/version"), other("post", "/version")),
        ({"resources": ["*"], "namespaces": ["*"]}, POD, other("get", "/version")),
        ({"apiGroups": ["*"], "namespaces": ["*"]}, POD, other("get", "/version")),
        ({"namespaces": ["*"]}, other("get", "/version"), None),
    ],
)  # fmt: skip
def test_a_key_matches_alike_for_both_effects(match: dict[str, Any], fits: Any, misses: Any) -> None:
    assert lets(allow(**match), fits)
    assert denied(deny(**match), fits)
    if misses is not None:
        assert not lets(allow(**match), misses)
        assert not denied(deny(**match), misses)


def test_clusters_match_by_name_and_pattern() -> None:
    for rule in (allow, deny):
        check = lets if rule is allow else denied
        assert check(rule(clusters=["dev"]), POD)
        assert not check(rule(clusters=["dev"]), POD, cluster="prod")
        assert check(rule(clusters=["prod-*", "!prod-eu"]), POD, cluster="prod-us")
        assert not check(rule(clusters=["prod-*", "!prod-eu"]), POD, cluster="prod-eu")


def test_dry_runs() -> None:
    for rule, check in ((allow, lets), (deny, denied)):
        assert check(rule(dryRun="only"), POD, dry_run=True)
        assert not check(rule(dryRun="only"), POD)
        assert check(rule(dryRun="never"), POD)
        assert not check(rule(dryRun="never"), POD, dry_run=True)
        assert check(rule(dryRun="any"), POD, dry_run=True)


def test_classes_narrow_both_effects() -> None:
    for rule, check in ((allow, lets), (deny, denied)):
        assert not check(rule(classes=["destructive"]), POD)
        assert check(rule(classes=["destructive"]), POD, classes=["destructive"])
        assert check(rule(classes=["destructive", "connect"]), POD, classes=["destructive", "secret-read"])


EXEC = resource("get", "pods/exec", name="web-0")


@pytest.mark.parametrize("gated", ["connect", "escalation"])
def test_an_allow_covers_connect_and_escalation_only_by_name(gated: str) -> None:
    assert not lets(allow(namespaces=["*"], resources=["*"], verbs=["*"]), EXEC, classes=[gated])
    assert not lets(allow(resources=["pods/exec"], verbs=["connect", "get"]), EXEC, classes=[gated])
    assert not lets(allow(classes=["destructive"]), EXEC, classes=[gated, "destructive"])
    assert lets(allow(classes=[gated]), EXEC, classes=[gated])
    assert not lets(allow(classes=[gated], resources=["pods/attach"]), EXEC, classes=[gated])
    assert not lets(allow(classes=[gated]), EXEC, classes=["connect", "escalation"])
    assert lets(allow(classes=["connect", "escalation"]), EXEC, classes=["connect", "escalation"])


@pytest.mark.parametrize("hazard", ["connect", "escalation", "destructive", "secret-read"])
def test_a_deny_covers_every_class(hazard: str) -> None:
    assert denied(deny(), EXEC, classes=[hazard])
    assert denied(deny(resources=["*"], verbs=["*"]), EXEC, classes=[hazard])


@pytest.mark.parametrize("method_verb", ["get", "create", "update", "delete"])
def test_connect_is_a_verb_whatever_the_method(method_verb: str) -> None:
    info = resource(method_verb, "services/proxy", name="web")
    assert lets(allow(verbs=["connect"], classes=["connect"]), info, classes=["connect"])
    assert not lets(allow(verbs=["connect"]), resource(method_verb, "services", name="web"))
    assert denied(deny(verbs=["connect"]), info, classes=["connect"])
    assert denied(deny(verbs=["create"]), info, classes=["connect"])
    assert not denied(deny(verbs=["patch"]), info, classes=["connect"])
    assert not denied(deny(verbs=["connect"]), resource(method_verb, "services", name="web"))


ALL_PODS = resource("list", "pods", namespace="")
NODES = resource("list", "nodes", namespace="")
WIDGETS = resource("list", "widgets", namespace="", group="x.io")


@pytest.mark.parametrize("info", [ALL_PODS, NODES, WIDGETS])
def test_an_allow_needs_all_namespaces_for_what_is_not_in_one(info: Any) -> None:
    assert lets(allow(namespaces=["*"]), info)
    assert lets(allow(namespaces=["shop", "*"]), info)
    for match in (
        {},
        {"namespaces": ["shop"]},
        {"namespaces": ["*", "!prod"]},
        {"namespaces": ["**"]},
        {"namespaces": ["*a*"]},
    ):
        assert not lets(allow(**match), info), match


def test_a_deny_on_a_namespace_matches_a_request_over_all_of_them() -> None:
    assert denied(deny(namespaces=["prod"]), ALL_PODS)
    assert denied(deny(namespaces=["prod-*"], resources=["pods"]), ALL_PODS)
    assert denied(deny(namespaces=["*", "!shop"]), ALL_PODS)
    assert denied(deny(namespaces=["prod"]), WIDGETS)
    assert denied(deny(namespaces=["prod"]), resource("deletecollection", "pods", namespace=""))
    assert denied(deny(namespaces=["prod"]), resource("list", "namespaces", namespace=""))
    assert denied(deny(namespaces=["prod"]), resource("create", "namespaces", namespace=""))


def test_a_deny_on_a_namespace_leaves_alone_what_is_known_to_be_outside() -> None:
    assert not denied(deny(namespaces=["prod"]), NODES)
    assert not denied(
        deny(namespaces=["prod"]),
        resource("get", "clusterroles", namespace="", group="rbac.authorization.k8s.io"),
    )
    assert denied(deny(namespaces=["prod"]), resource("list", "nodes", namespace="", group="metrics.k8s.io"))
    assert not denied(deny(namespaces=["prod"]), other("get", "/version"))
    assert denied(deny(namespaces=["*", "!shop"]), NODES)
    assert denied(deny(namespaces=["*"]), other("get", "/metrics"))


def test_a_namespace_itself_is_in_that_namespace() -> None:
    info = resource("get", "namespaces", namespace="shop-a", name="shop-a")
    assert lets(allow(namespaces=["shop-*"], resources=["namespaces"]), info)
    assert not lets(allow(namespaces=["prod"], resources=["namespaces"]), info)
    assert denied(deny(namespaces=["shop-a"]), info)
    assert not denied(deny(namespaces=["prod"]), info)


@pytest.mark.parametrize("verb", ["list", "watch", "deletecollection", "create"])
def test_resource_names_and_requests_without_a_name(verb: str) -> None:
    info = resource(verb, "pods")
    assert not lets(allow(resourceNames=["web-0"]), info)
    assert denied(deny(resourceNames=["web-0"]), info)


def test_resource_names_and_a_name_from_a_field_selector() -> None:
    info = resource("list", "pods", name="web-1")
    assert lets(allow(resourceNames=["web-1"]), info)
    assert not lets(allow(resourceNames=["web-0"]), info)
    assert denied(deny(resourceNames=["web-0"]), info)  # an aggregated server may ignore the selector
    assert not denied(deny(resourceNames=["web-0"]), resource("create", "pods/eviction", name="web-1"))


CLOSED = ["/metrics", "/debug/pprof/heap", "/logs", "/logs/kube-apiserver.log", "/configz", "/flagz", "/statusz",
          "/.well-known/openid-configuration", "/openid/v1/jwks", "/", "/apix", "/versions"]  # fmt: skip
OPEN = ["/api", "/api/v1", "/apis", "/apis/apps/v1", "/openapi/v2", "/openapi/v3/api/v1", "/version", "/healthz",
        "/livez", "/readyz/etcd"]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_row_41_star_leaves_out_what_is_not_for_everybody(path: str) -> None:
    assert not lets(allow(nonResourceURLs=["*"]), other("get", path))
    assert not lets(allow(nonResourceURLs=["/*"]), other("get", path))
    assert not lets(allow(namespaces=["*"]), other("get", path))
    assert lets(allow(nonResourceURLs=["*", path]), other("get", path))
    assert denied(deny(nonResourceURLs=["*"]), other("get", "/metrics"))
    assert denied(deny(), other("get", "/metrics"))


@pytest.mark.parametrize("path", OPEN)
def test_star_covers_discovery_version_and_health(path: str) -> None:
    assert lets(allow(nonResourceURLs=["*"]), other("get", path))
    assert lets(allow(namespaces=["*"]), other("get", path))
    assert not lets(allow(), other("get", path))
    assert not lets(allow(namespaces=["shop"]), other("get", path))
    assert not lets(allow(nonResourceURLs=["*"], classes=["destructive"]), other("get", path))


FORWARD = resource("get", "pods/portforward", name="db-0")


def test_a_port_forward_needs_an_unmasked_allow() -> None:
    match = {"resources": ["pods/portforward", "pods/exec"], "classes": ["connect"]}
    masked = policies(allow(**match), allow(namespaces=["*"], classes=["connect", "escalation"]))
    assert not allowed(masked, FORWARD, classes=["connect"])
    unmasked = policies({**allow(**match), "unmasked": True})
    decision = ask(unmasked, FORWARD, classes=["connect"])
    assert (decision.effect, decision.unmasked) == ("allow", True)
    decision = ask(unmasked, EXEC, classes=["connect"])
    assert (decision.effect, decision.unmasked) == ("allow", False)
    elsewhere = resource("get", "pods/portforward", name="db-0", group="x.io")
    assert not ask(unmasked, elsewhere, classes=["connect"]).unmasked
    without_class = policies({**allow(resources=["pods/portforward"]), "unmasked": True})
    assert not allowed(without_class, FORWARD, classes=["connect"])


_names = st.text("ab*-", min_size=1, max_size=7)


@given(_names, st.text("ab-", max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_pattern_matches_as_the_regular_expression_does(pattern: str, name: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert Patterns((pattern,)).cover(name) == expected
    assert Patterns(("*", f"!{pattern}")).cover(name) == (not expected)


def test_a_pattern_of_many_stars_takes_no_time_to_speak_of() -> None:
    """A hostile name cannot make the gateway think: each part is looked for once."""
    assert not Patterns(("*a*a*a*a*b",)).cover("a" * 1_000_000)


def test_open_urls_are_those_of_the_hazards() -> None:
    assert all(Urls(OPEN_NON_RESOURCE).cover(path.removesuffix("*")) for path in OPEN_NON_RESOURCE)
