"""Decisions: what the order of effects is, what a refusal says, and that the promises of a policy hold."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.identity.principal import Principal
from interlock.kube.hazards import CLASSES, OPEN_NON_RESOURCE
from interlock.kube.target import RequestInfo
from interlock.policy.engine import PLACE_LENGTH, PLACES, Decision, Matched, PolicySet, Question
from interlock.policy.scope import CLUSTER_SCOPED
from policy.asking import AGENT, allow, allowed, ask, deny, document, model, other, policies, resource

POD = resource("get", "pods", name="web-0")
NONE = PolicySet([])


def test_default_deny() -> None:
    """Promise 2."""
    for info in (POD, other("get", "/version"), resource("list", "widgets", group="x.io")):
        decision = ask(NONE, info)
        assert (decision.effect, decision.rule, decision.policy, decision.matched) == ("deny", "", "", ())
        assert not decision.unmasked
        assert not decision.impersonation


def test_deny_wins_over_any_number_of_allows() -> None:
    rules = policies(allow(namespaces=["*"]), deny(resources=["pods"]), allow(resources=["pods"]))
    decision = ask(rules, POD)
    assert (decision.effect, decision.rule, decision.policy) == ("deny", "r1", "p")
    assert decision.matched == (
        Matched("p", "r0", "allow"),
        Matched("p", "r1", "deny"),
        Matched("p", "r2", "allow"),
    )


def test_a_deny_of_another_policy_wins_too() -> None:
    rules = PolicySet([model(document(allow())), model(document(deny(), name="q", subjects=[{"user": "*"}]))])
    assert ask(rules, POD).policy == "q"


def test_an_allow_names_its_rule_and_the_version() -> None:
    rules = policies(allow(resources=["pods"]))
    decision = ask(rules, POD)
    assert (decision.effect, decision.rule, decision.policy) == ("allow", "r0", "p")
    assert decision.reason == "rule r0 of policy p allows it"
    assert decision.digest == rules.digest
    assert len(rules.digest) == 64
    assert repr(rules) == f"PolicySet(p; {rules.digest[:12]})"
    assert ask(policies({**allow(), "name": "b"}, {**allow(), "name": "a"}), POD).rule == "a"
    assert ask(policies({**deny(), "name": "b"}, {**deny(), "name": "a"}), POD).rule == "a"


# Only the engine makes decisions


def test_nobody_else_makes_a_decision() -> None:
    forged: dict[str, Any] = {
        "effect": "allow", "rule": "r", "policy": "p", "reason": "", "matched": (), "unmasked": True,
        "impersonation": True, "digest": "",
    }  # fmt: skip
    with pytest.raises(TypeError):
        Decision(**forged)
    with pytest.raises(TypeError, match="only the policy engine makes decisions"):
        Decision(**forged, seal=object())
    decision = ask(NONE, POD)
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(decision, effect="allow")
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.effect = "allow"  # type: ignore[misc]


# Whom a policy is for


@pytest.mark.parametrize(
    ("subject", "principal", "meant"),
    [
        ({"group": "agents"}, AGENT, True),
        ({"group": "dev"}, AGENT, True),
        ({"group": "agent"}, AGENT, False),
        ({"user": "ada@example.org"}, AGENT, True),
        ({"user": "Ada@example.org"}, AGENT, False),
        ({"user": "*"}, AGENT, True),
        ({"user": "agents"}, AGENT, False),
        ({"group": "agents", "user": "ada@example.org"}, AGENT, True),
        ({"group": "agents", "user": "bob@example.org"}, AGENT, False),
        ({"group": "sre", "user": "ada@example.org"}, AGENT, False),
        ({"group": "agents", "issuer": "https://idp.example"}, AGENT, True),
        ({"group": "agents", "issuer": "https://other.example"}, AGENT, False),
        ({"user": "*", "issuer": "https://idp.example"}, AGENT, True),
        ({"agent": "bot"}, AGENT, False),
        ({"agent": "bot"}, dataclasses.replace(AGENT, agent="bot"), True),
        ({"owner": "ada"}, dataclasses.replace(AGENT, agent="bot"), False),
        ({"owner": "ada"}, dataclasses.replace(AGENT, owner="ada"), True),
        ({"claim": "repo", "equals": "shop"}, AGENT, False),
        *[
            ({"claim": "repo", "equals": wanted}, dataclasses.replace(AGENT, claims={"repo": value}), meant)
            for wanted, value, meant in [
                ("shop", "shop", True), ("shop", "shop2", False), ("shop", ["shop"], False), ("shop", None, False),
                (1, 1, True), (1, True, False), (True, 1, False), (True, True, True), ("1", 1, False), (0, False, False),
            ]
        ],
        *[
            ({"claim": "roles", "contains": wanted}, dataclasses.replace(AGENT, claims={"roles": value}), meant)
            for wanted, value, meant in [
                ("dev", ["dev", "ops"], True), ("dev", ("dev",), True), ("dev", "dev", False), ("dev", {"dev": 1}, False),
                ("d", ["dev"], False), (1, [True], False), ("dev", [], False), ("dev", None, False),
            ]
        ],
        ({"claim": "a.b", "equals": "c"}, dataclasses.replace(AGENT, claims={"a": {"b": "c"}}), True),
        ({"claim": "a.b", "equals": "c"}, dataclasses.replace(AGENT, claims={"a": "b"}), False),
        ({"group": "agents"}, dataclasses.replace(AGENT, groups=()), False),
    ],
)  # fmt: skip
def test_subjects(subject: dict[str, Any], principal: Principal, meant: bool) -> None:
    assert allowed(policies(allow(), subjects=[subject]), POD, principal=principal) == meant
    assert (
        allowed(policies(allow(), subjects=[{"group": "nobody"}, subject]), POD, principal=principal) == meant
    )


def test_one_principal_may_be_meant_by_several_policies() -> None:
    rules = PolicySet(
        [
            model(document(allow(resources=["pods"]), name="a")),
            model(
                document(
                    allow(resources=["secrets"]), name="b", subjects=[{"group": "dev"}, {"group": "agents"}]
                )
            ),
            model(document(allow(resources=["nodes"]), name="c", subjects=[{"group": "sre"}])),
            model(document(allow(resources=["events"]), name="d", subjects=[{"user": AGENT.user}])),
        ]
    )
    assert [allowed(rules, resource("get", r, name="x")) for r in ("pods", "secrets", "nodes", "events")] == [
        True, True, False, True,
    ]  # fmt: skip


# What needs no rule, and what needs two


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    ],
)
def test_a_self_review_needs_no_rule(group: str, name: str) -> None:
    info = resource("create", name, group=group, namespace="")
    decision = ask(NONE, info)
    assert (decision.effect, decision.rule, decision.policy) == ("allow", "self-review", "built-in")
    assert ask(policies(allow(namespaces=["*"])), info).rule == "r0"
    assert ask(policies(deny()), info).effect == "deny"
    assert ask(policies(deny(namespaces=["prod"])), info).effect == "allow"
    for changed in (
        {"verb": "list"}, {"namespace": "shop"}, {"name": "x"}, {"subresource": "status"}, {"api_group": ""},
        {"resource": "subjectaccessreviews"},
    ):  # fmt: skip
        assert not allowed(NONE, dataclasses.replace(info, **changed))


IMPERSONATE: dict[str, Any] = {
    "namespaces": ["*"],
    "resources": ["users", "groups", "serviceaccounts"],
    "verbs": ["impersonate"],
    "classes": ["escalation"],
}


def test_row_16_impersonation_headers_need_a_rule() -> None:
    rules = policies(allow(), allow(**IMPERSONATE))
    decision = ask(rules, POD, impersonates=True)
    assert (decision.effect, decision.rule, decision.impersonation) == ("allow", "r0", True)
    assert not ask(rules, POD).impersonation
    decision = ask(policies(allow(namespaces=["*"])), POD, impersonates=True)
    assert (decision.effect, decision.impersonation) == ("deny", False)
    assert "act as other users (Impersonate-* headers)" in decision.reason


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["connect"]}, {"namespaces": ["shop"]}, {"resources": ["users", "groups"]}, {"verbs": ["get"]},
        {"apiGroups": ["authentication.k8s.io"]}, {"clusters": ["prod"]},
    ],
)  # fmt: skip
def test_half_a_rule_for_impersonation_is_none(change: dict[str, Any]) -> None:
    assert ask(policies(allow(), allow(**{**IMPERSONATE, **change})), POD, impersonates=True).effect == "deny"


def test_impersonation_lifts_no_refusal_and_a_deny_on_it_wins() -> None:
    assert ask(policies(allow(**IMPERSONATE)), POD, impersonates=True).effect == "deny"
    rules = policies(allow(), allow(**IMPERSONATE), deny(verbs=["impersonate"], resources=["groups"]))
    decision = ask(rules, POD, impersonates=True)
    assert (decision.effect, decision.rule) == ("deny", "r2")
    assert "act as other groups" in decision.reason


# Reasons


def reason(info: RequestInfo, *rules: dict[str, Any], **options: Any) -> str:
    answer = ask(policies(*rules), info, **options)
    assert answer.effect == "deny"
    version = policies(*rules).digest[:12]
    assert answer.reason.endswith(f" (policy version {version})")
    return answer.reason.removesuffix(f" (policy version {version})")


EXEC = resource("get", "pods/exec", name="web-0")
FORWARD = resource("get", "pods/portforward", name="web-0")
ASK = "; ask the operator for a rule"
GET_POD = "policy refuses to get pods web-0 in namespace shop on cluster dev"
CLOSEST = "no rule allows it; rule r0 of policy p comes closest, but"


def test_a_refusal_names_the_rule_that_denies() -> None:
    assert reason(POD, allow(), deny()) == (
        f"{GET_POD}: rule r1 of policy p denies it, and nothing overrides a deny; "
        "ask the operator if it should change"
    )


@pytest.mark.parametrize(
    ("match", "info", "options", "hint"),
    [
        ({"verbs": ["list"]}, POD, {}, "its verbs leave out get"),
        ({"namespaces": ["prod"]}, POD, {}, "its namespaces leave out shop"),
        ({"namespaces": ["prod"]}, resource("list", "pods", namespace=""), {}, 'what is not in one namespace needs namespaces: ["*"]'),
        ({"resourceNames": ["a"]}, POD, {}, "its resourceNames leave out web-0"),
        ({"resourceNames": ["a"]}, resource("list", "pods"), {}, "its resourceNames cannot cover a request without a name"),
        ({"dryRun": "only"}, POD, {}, "it is for dry runs only"),
        ({"dryRun": "never"}, POD, {"dry_run": True}, "it is not for dry runs"),
        ({"classes": ["destructive"]}, POD, {}, "its classes are of another kind"),
        ({}, EXEC, {"classes": ["connect"]}, "its classes must name connect"),
        ({}, EXEC, {"classes": ["escalation", "connect", "secret-read"]}, "its classes must name connect and escalation"),
        ({"classes": ["connect"]}, EXEC, {"classes": ["escalation", "connect"]}, "its classes must name escalation"),
        ({"classes": ["connect"]}, FORWARD, {"classes": ["connect"]}, "a port-forward cannot be masked, so it needs unmasked: true"),
        ({"nonResourceURLs": ["/version"]}, other("get", "/metrics"), {}, "its nonResourceURLs leave out /metrics"),
        ({"nonResourceURLs": ["*"], "verbs": ["get"]}, other("post", "/version"), {}, "its verbs leave out post"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_rule_that_comes_closest_and_what_it_lacks(
    match: dict[str, Any], info: RequestInfo, options: dict[str, Any], hint: str
) -> None:
    text = reason(
        info, allow(**match), allow(clusters=["prod"]), deny(dryRun="only", verbs=["delete"]), **options
    )
    assert text.endswith(f": {CLOSEST} {hint}{ASK}")


def test_a_refusal_without_a_rule_that_comes_close() -> None:
    assert reason(POD, allow(resources=["secrets"])) == f"{GET_POD}: no rule allows it{ASK}"
    assert reason(POD, allow(clusters=["prod"])) == f"{GET_POD}: no rule allows it{ASK}"


def test_a_refusal_of_somebody_whom_no_policy_means() -> None:
    bob = Principal("bob", tuple("abcdefg"), "https://idp.example", "2", claims={"secret": "hunter2"})
    assert reason(POD, allow(), principal=bob) == (
        f"{GET_POD}: no policy is for user bob (groups: a, b, c, d, e){ASK}"
    )
    assert "(groups: none)" in reason(POD, allow(), principal=dataclasses.replace(bob, groups=()))


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (resource("list", "deployments", group="apps"), "list deployments of group apps in namespace shop on cluster dev"),
        (resource("list", "nodes", namespace=""), "list nodes on cluster dev"),
        (resource("list", "pods", namespace=""), "list pods in all namespaces on cluster dev"),
        (other("get", "/metrics"), "get /metrics on cluster dev"),
        (other("g\r", "/metrics"), '"g\\r" /metrics on cluster dev'),
        (resource("g\n", "nodes", namespace=""), '"g\\n" nodes on cluster dev'),
        (resource("impersonate", "us\ners", namespace=""), 'act as other "us\\ners" (Impersonate-* headers) on cluster dev'),
        (resource("get", "pods", name='x"\r\nX: y'), 'get pods "x\\"\\r\\nX: y" in namespace shop on cluster dev'),
        (resource("get", "pods", name="é" * 200), f'get pods "{"\\u00e9" * 96}" in namespace shop on cluster dev'),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_asked_in_one_line(info: RequestInfo, words: str) -> None:
    text = ask(policies(allow(resources=["secrets"])), info).reason
    assert text.startswith(f"policy refuses to {words}: no rule allows it; ask")
    assert text.isprintable()
    assert text.isascii()


# The set


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two are called p;"):
        PolicySet([model(document(deny())), model(document(allow()))])
    with pytest.raises(ValueError, match="two are called a;"):
        policies({**allow(), "name": "a"}, {**deny(), "name": "a"})


def test_the_digest_is_of_what_decides() -> None:
    one, two = document(allow(), deny(resources=["secrets"])), document(allow(), name="q")
    digest = PolicySet([model(one), model(two)]).digest
    assert PolicySet([model(two), model(one)]).digest == digest
    one["spec"]["rules"].reverse()
    assert PolicySet([model(one), model(two)]).digest == digest
    one["spec"]["rules"][0]["match"]["verbs"] = ["get"]
    assert PolicySet([model(one), model(two)]).digest != digest
    assert pickle.loads(pickle.dumps(digest)) != NONE.digest


def test_places_are_remembered_but_not_without_bound() -> None:
    rules = policies(allow(namespaces=["shop-*"], resources=["pods"]))
    assert allowed(rules, resource("get", "pods", namespace="shop-a", name="a"))
    assert allowed(rules, resource("get", "pods", namespace="shop-a", name="b"))
    remembered = rules._candidates.cache_info()
    assert (remembered.hits, remembered.currsize) == (1, 1)
    long = "shop-" + "a" * PLACE_LENGTH
    for info in (
        resource("get", "pods", namespace=long),
        resource(long, "pods"),
        resource("get", long),
        resource("get", f"pods/{long}"),
        resource("get", "pods", group=long),
        other("get", f"/{long}"),
    ):
        assert allowed(rules, info) == (info.namespace == long)
    assert rules._candidates.cache_info().currsize == 1
    for i in range(PLACES + 10):
        ask(rules, resource("get", "pods", namespace=f"n{i}"))
    assert rules._candidates.cache_info().currsize == PLACES


# The same rules once more, as plainly as they can be told, against the engine on generated policies


def oracle(rules: list[dict[str, Any]], q: Question) -> str:
    if any(r["effect"] == "deny" and deny_matches(r["match"], q) for r in rules):
        return "deny"
    return "allow" if any(r["effect"] == "allow" and allow_matches(r["match"], q) for r in rules) else "deny"


def common(m: dict[str, Any], q: Question) -> bool:
    i = q.info
    full = i.resource + (f"/{i.subresource}" if i.subresource else "")
    wanted = [full, "*", "*/*"] + ([f"*/{i.subresource}", f"{i.resource}/*"] if i.subresource else [])
    return (
        ("clusters" not in m or names(m["clusters"], q.cluster))
        and (not i.is_resource or "apiGroups" not in m or bool({i.api_group, "*"} & set(m["apiGroups"])))
        and (not i.is_resource or "resources" not in m or bool(set(wanted) & set(m["resources"])))
        and (m.get("dryRun", "any") == "any" or (m["dryRun"] == "only") == q.dry_run)
        and ("classes" not in m or bool(set(m["classes"]) & q.classes))
        and not (i.is_resource and "nonResourceURLs" in m)
        and not (not i.is_resource and {"apiGroups", "resources", "resourceNames"} & m.keys())
    )


def names(patterns: list[str], name: str) -> bool:
    yes = [p for p in patterns if p[0] != "!"]
    no = [p[1:] for p in patterns if p[0] == "!"]
    return any(fnmatch.fnmatchcase(name, p) for p in yes) and not any(
        fnmatch.fnmatchcase(name, p) for p in no
    )


def url(patterns: list[str], path: str) -> bool:
    return any(path == p or (p.endswith("*") and path.startswith(p[:-1])) for p in patterns)


def allow_matches(m: dict[str, Any], q: Question) -> bool:
    i = q.info
    if not common(m, q) or not (q.classes & {"connect", "escalation"}) <= set(m.get("classes", ())):
        return False
    if "verbs" in m and not {i.verb, "*", *(["connect"] if "connect" in q.classes else [])} & set(m["verbs"]):
        return False
    if (i.resource, i.subresource) == ("pods", "portforward"):
        return False
    if not i.is_resource:
        open_here = url(list(OPEN_NON_RESOURCE), i.path)
        if "nonResourceURLs" not in m:
            return open_here and names_all(m)
        return url([p for p in m["nonResourceURLs"] if p != "*"], i.path) or (
            "*" in m["nonResourceURLs"] and open_here
        )
    in_namespace = names(m.get("namespaces", ["*"]), i.namespace) if i.namespace else names_all(m)
    return in_namespace and (not m.get("resourceNames") or i.name in m["resourceNames"])


def names_all(m: dict[str, Any]) -> bool:
    return "*" in m.get("namespaces", ()) and not any(p[0] == "!" for p in m["namespaces"])


def deny_matches(m: dict[str, Any], q: Question) -> bool:
    i = q.info
    if not common(m, q):
        return False
    verbs = {i.verb, "*", *(["connect", "create"] if "connect" in q.classes else [])}
    if "verbs" in m and not verbs & set(m["verbs"]):
        return False
    if not i.is_resource:
        return (
            url(m["nonResourceURLs"], i.path) if "nonResourceURLs" in m else "*" in m.get("namespaces", ["*"])
        )
    if i.namespace:
        if not names(m.get("namespaces", ["*"]), i.namespace):
            return False
    elif "*" not in m.get("namespaces", ["*"]) and (i.api_group, i.resource) in CLUSTER_SCOPED:
        return False
    if not m.get("resourceNames") or not i.name or i.verb in ("list", "watch", "deletecollection"):
        return True
    return i.name in m["resourceNames"]


def some(*words: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=3, unique=True)


_resource_keys = {
    "namespaces": some("*", "shop", "sh*", "*p", "prod", "!prod", "!s*").filter(
        lambda p: any(w[0] != "!" for w in p)
    ),
    "apiGroups": some("", "apps", "x.io", "*"),
    "resources": some(
        "pods", "secrets", "deployments", "nodes", "*", "*/scale", "pods/*", "pods/exec", "*/*"
    ),
    "resourceNames": some("a", "b"),
}
_any_keys = {
    "clusters": some("dev", "prod", "*", "p*", "!prod").filter(lambda p: p != ["!prod"]),
    "verbs": some("*", "get", "list", "create", "delete", "deletecollection", "connect", "patch", "post"),
    "classes": some(*CLASSES),
    "dryRun": st.sampled_from(["any", "only", "never"]),
}
_match = st.one_of(
    st.fixed_dictionaries({}, optional={**_any_keys, **_resource_keys}),
    st.fixed_dictionaries(
        {"nonResourceURLs": some("*", "/version", "/metrics", "/debug/*", "/m*")}, optional=_any_keys
    ),
)
_rule = st.fixed_dictionaries({"effect": st.sampled_from(["allow", "allow", "deny"]), "match": _match})
_rules = st.lists(_rule, max_size=5)
_info = st.one_of(
    st.builds(
        resource,
        st.sampled_from(["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]),
        st.sampled_from(
            [
                "pods",
                "pods/log",
                "pods/exec",
                "secrets",
                "deployments",
                "deployments/scale",
                "nodes",
                "widgets",
            ]
        ),
        namespace=st.sampled_from(["", "shop", "prod", "shop"]),
        name=st.sampled_from(["", "a", "b", "c"]),
        group=st.sampled_from(["", "", "apps", "x.io"]),
    ),
    st.builds(
        other,
        st.sampled_from(["get", "post"]),
        st.sampled_from(["/version", "/metrics", "/debug/pprof", "/api/v1"]),
    ),
)
_classes = st.frozensets(st.sampled_from(CLASSES), max_size=2)
_question = st.builds(
    Question, st.just(AGENT), st.sampled_from(["dev", "prod"]), _info, _classes, st.booleans(), st.booleans()
)
bounded = settings(max_examples=60, deadline=None, derandomize=True)


@given(_rules, st.lists(_question, min_size=1, max_size=8))
@bounded
def test_the_engine_agrees_with_the_rules_as_they_are_told(
    rules: list[dict[str, Any]], questions: list[Question]
) -> None:
    compiled = policies(*rules)
    for question in questions:
        plain = dataclasses.replace(question, impersonates=False)
        assert compiled.decide(plain).effect == oracle(rules, plain)


@given(_rules, _rule, st.lists(_question, min_size=1, max_size=8))
@bounded
def test_a_rule_more_moves_decisions_one_way_only(
    rules: list[dict[str, Any]], extra: dict[str, Any], questions: list[Question]
) -> None:
    """Adding a deny never allows more; adding an allow never denies."""
    before = policies(*rules)
    with_deny = policies(*rules, {**extra, "effect": "deny"})
    with_allow = policies(*rules, {**extra, "effect": "allow"})
    for question in questions:
        was = before.decide(question).effect == "allow"
        assert with_deny.decide(question).effect == "deny" or was
        assert with_allow.decide(question).effect == "allow" or not was


@given(_rules.filter(len), st.lists(_question, min_size=1, max_size=8), st.randoms(use_true_random=False))
@bounded
def test_neither_order_nor_files_nor_versions_matter(
    rules: list[dict[str, Any]], questions: list[Question], shuffle: random.Random
) -> None:
    named = [{**rule, "name": f"r{i}"} for i, rule in enumerate(rules)]
    one = policies(*named)
    turned = copy.deepcopy(named)
    shuffle.shuffle(turned)
    for rule in turned:
        for value in rule["match"].values():
            if isinstance(value, list):
                shuffle.shuffle(value)
    half = len(turned) // 2
    files = [
        policy
        for i, part in enumerate((turned[:half], turned[half:]))
        for policy in policies(*part, name=f"p{i}").policies
    ]
    shuffle.shuffle(files)
    for question in questions:
        decision = one.decide(question)
        assert policies(*turned).decide(question) == decision
        assert PolicySet(files).decide(question).effect == decision.effect
        other_version = dataclasses.replace(question.info, api_version="v1beta9", path="/other")
        if question.info.is_resource:
            assert one.decide(dataclasses.replace(question, info=other_version)) == decision


@given(_rules, _classes, st.booleans())
@bounded
def test_a_resource_that_no_rule_names_is_refused(
    rules: list[dict[str, Any]], classes: frozenset[str], dry_run: bool
) -> None:
    named = [r for r in rules if not {"*", "*/*"} & set(r["match"].get("resources", ["*"]))]
    compiled = policies(*named)
    assert not allowed(
        compiled, resource("get", "gadgets", name="a", group="x.io"), classes=classes, dry_run=dry_run
    )


@given(_rules, _question)
@bounded
def test_what_every_decision_holds(rules: list[dict[str, Any]], question: Question) -> None:
    compiled = policies(*rules)
    decision = compiled.decide(question)
    assert decision.reason.isprintable()
    assert decision.digest == compiled.digest
    assert not decision.unmasked
    assert decision.impersonation == (decision.effect == "allow" and question.impersonates)
    if decision.rule:
        assert Matched(decision.policy, decision.rule, decision.effect) in decision.matched
    if decision.effect == "allow":
        assert all(matched.effect == "allow" for matched in decision.matched)
        gated = question.classes & {"connect", "escalation"}
        named = [set(r["match"].get("classes", ())) for i, r in enumerate(rules) if f"r{i}" == decision.rule]
        assert gated <= named[0]
