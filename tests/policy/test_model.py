"""What may stand in a policy file, and that nothing else may."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import pytest

from interlock.documents import DocumentError
from interlock.kube.hazards import CLASSES
from interlock.policy.model import Mask, Match, Metadata, Policy, Rule, Spec, Subject, Verb
from policy.asking import allow, deny, document, model

DOCS = Path(__file__).parents[2] / "docs" / "policy.md"


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(DocumentError) as error:
        model(data)
    assert all(problem.line for problem in error.value.problems)
    return [f"{problem.key}: {problem.message}" for problem in error.value.problems]


def test_the_words_of_a_policy() -> None:
    policy = model(
        document(
            {
                "effect": "allow",
                "match": {
                    "clusters": ["dev", "prod-*", "!prod-eu"],
                    "namespaces": ["*", "!kube-*"],
                    "apiGroups": ["", "apps", "*"],
                    "resources": ["pods", "pods/log", "*/scale", "pods/*", "*", "*/*"],
                    "resourceNames": [],
                    "verbs": ["*", "get", "connect", "impersonate"],
                    "classes": list(CLASSES),
                    "dryRun": "any",
                },
                "mask": {"profile": "default"},
            },
            {"effect": "deny", "match": {"nonResourceURLs": ["/metrics", "/debug/*", "/*", "*"]}},
            {"effect": "deny", "match": {}},
            {
                "effect": "allow",
                "unmasked": True,
                "match": {
                    "resources": ["pods/portforward"],
                    "classes": ["connect"],
                    "resourceNames": ["db-0"],
                },
            },
            subjects=[
                {"group": "agents", "issuer": "https://idp.example"},
                {"user": "*"},
                {"agent": "bot", "owner": "ada"},
                {"claim": "repo", "equals": "shop"},
                {"claim": "a.b", "contains": 3},
                {"claim": "c", "equals": False},
            ],
        )
    )
    match = policy.spec.rules[0].match
    assert match.resources == ("pods", "pods/log", "*/scale", "pods/*", "*", "*")
    assert match.resource_names == ()
    assert policy.spec.rules[1].match.non_resource_urls == ("/metrics", "/debug/*", "*", "*")
    assert policy.spec.rules[3].unmasked
    assert policy.spec.subjects[5].equals is False


NOT_BUILT = "is not built yet; a policy that cannot be enforced is not loaded: remove the key"
NAME = "expected a name in lower-case letters, digits, -, _ and ., at most 63 characters"
PATTERN = "expected a name, a pattern such as shop-*, or an exception such as !shop-test (lower case; * stands for any text)"
GROUP = 'expected an API group such as apps, "" for the core group, or "*"'
RESOURCE = 'expected a resource such as pods or pods/log, or "*", "*/scale", "pods/*"'
URL = 'expected a path such as /version, a prefix such as /healthz/*, or "*"; * only at the end'
EMPTY = "must not be empty; leave the key out, or name at least one"
BOTH = (
    "a request is for a resource or for another URL, never both; "
    "remove namespaces, apiGroups, resources and resourceNames, or make it a rule of its own"
)
R = "spec.rules[0]"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # not built yet: refused, never ignored
        ({"effect": "requireApproval", "match": {}}, f"{R}.effect: requireApproval is not built yet; a policy that cannot be enforced is not loaded"),
        ({**allow(), "when": "true"}, f"{R}.when: {NOT_BUILT}"),
        ({**allow(), "approval": {"approvers": ["sre"]}}, f"{R}.approval: {NOT_BUILT}"),
        ({**allow(), "limits": {"rate": "60/m"}}, f"{R}.limits: {NOT_BUILT}"),
        ({**allow(), "mode": "shadow"}, f"{R}.mode: {NOT_BUILT}"),
        ({**allow(), "audit": "none"}, f"{R}.audit: unknown key; known keys: name, effect, match, mask, unmasked, when, approval, limits, mode"),
        ({**allow(), "mask": {"profile": "strict"}}, f"{R}.mask: profiles other than default are not built yet"),
        ({**allow(), "mask": {"profile": "default", "profil": "x"}}, f"{R}.mask.profil: unknown key; did you mean profile?"),
        ({**allow(), "mask": {}}, f"{R}.mask.profile: missing; it must be given"),
        (allow(selectors={"label": "a=b"}), f"{R}.match.selectors: {NOT_BUILT}"),
        # words
        ({"effect": "permit", "match": {}}, f"{R}.effect: expected one of: allow, deny"),
        ({"effekt": "allow", "effect": "allow", "match": {}}, f"{R}.effekt: unknown key; did you mean effect?"),
        ({"effect": "allow"}, f"{R}.match: missing; it must be given"),
        ({"match": {}}, f"{R}.effect: missing; it must be given"),
        ({**allow(), "name": "Work"}, f"{R}.name: {NAME}"),
        ({**allow(), "name": "a b"}, f"{R}.name: {NAME}"),
        ({**allow(), "name": ""}, f"{R}.name: {NAME}"),
        ({**allow(), "name": 7}, f"{R}.name: {NAME}"),
        (allow(verbs=["delte"]), f"{R}.match.verbs[0]: did you mean delete?"),
        (allow(verbs=["bind"]), f"{R}.match.verbs[0]: expected one of: *, get, list, watch, create, update, patch, delete, deletecollection, connect, impersonate, head, post, put"),
        (allow(verbs=[]), f"{R}.match.verbs: {EMPTY}"),
        (allow(verbs=None), f"{R}.match.verbs: has no value; give one, or remove the key"),
        (allow(verbs="get"), f"{R}.match.verbs: expected a list, found text; write it as [ ... ]"),
        (allow(classes=["connec"]), f"{R}.match.classes[0]: did you mean connect?"),
        (allow(classes=[]), f"{R}.match.classes: {EMPTY}"),
        (allow(dryRun=True), f"{R}.match.dryRun: expected one of: any, only, never"),
        (allow(dryrun="any"), f"{R}.match.dryrun: unknown key; did you mean dryRun?"),
        (allow(nonResourceUrls=["*"]), f"{R}.match.nonResourceUrls: unknown key; did you mean nonResourceURLs?"),
        # what could only ever match nothing
        (deny(namespaces=[]), f"{R}.match.namespaces: {EMPTY}"),
        (deny(namespaces=None), f"{R}.match.namespaces: has no value; give one, or remove the key"),
        (deny(namespaces=["!a", "!b"]), f'{R}.match.namespaces: has only exceptions (!), which match nothing; put "*" before them'),
        (deny(namespaces=["*", "!*"]), f'{R}.match.namespaces: "!*" leaves nothing; remove it'),
        (deny(namespaces=["Shop"]), f"{R}.match.namespaces[0]: {PATTERN}"),
        (deny(namespaces=["shop-[ab]"]), f"{R}.match.namespaces[0]: {PATTERN}"),
        (deny(namespaces=["a*b*c*d*e*f"]), f"{R}.match.namespaces[0]: {PATTERN}"),
        (deny(namespaces=[3]), f"{R}.match.namespaces[0]: {PATTERN.removesuffix(' (lower case; * stands for any text)')}"),
        (deny(clusters=["!dev"]), f'{R}.match.clusters: has only exceptions (!), which match nothing; put "*" before them'),
        (deny(apiGroups=[]), f"{R}.match.apiGroups: {EMPTY}"),
        (deny(apiGroups=["apps/v1"]), f"{R}.match.apiGroups[0]: {GROUP}; leave the version out"),
        (deny(apiGroups=["Apps"]), f"{R}.match.apiGroups[0]: {GROUP}"),
        (deny(apiGroups=["*.io"]), f"{R}.match.apiGroups[0]: {GROUP}"),
        (deny(apiGroups=[1]), f'{R}.match.apiGroups[0]: expected an API group such as apps, or "" for the core group'),
        (deny(resources=[]), f"{R}.match.resources: {EMPTY}"),
        (deny(resources=["Pods"]), f"{R}.match.resources[0]: {RESOURCE} (lower case, plural)"),
        (deny(resources=["deployments.apps"]), f"{R}.match.resources[0]: {RESOURCE}; the group goes into apiGroups"),
        (deny(resources=["pods/exec/x"]), f"{R}.match.resources[0]: {RESOURCE} (lower case, plural)"),
        (deny(resources=["po*"]), f"{R}.match.resources[0]: {RESOURCE} (lower case, plural)"),
        (deny(resources=[1]), f"{R}.match.resources[0]: {RESOURCE}"),
        (deny(resourceNames=["db-*"]), f"{R}.match.resourceNames[0]: expected the exact name of an object; names have no patterns"),
        (deny(resourceNames=[""]), f"{R}.match.resourceNames[0]: expected the exact name of an object; names have no patterns"),
        (deny(resourceNames=[1]), f"{R}.match.resourceNames[0]: expected the exact name of an object"),
        (deny(nonResourceURLs=[]), f"{R}.match.nonResourceURLs: {EMPTY}"),
        *[(deny(nonResourceURLs=[url]), f"{R}.match.nonResourceURLs[0]: {URL}") for url in ("metrics", "", "/a*b", "/a b", "//a", "/a?b", "/%61", "/a//b*")],
        (deny(nonResourceURLs=[1]), f"{R}.match.nonResourceURLs[0]: {URL.removesuffix('; * only at the end')}"),
        # what contradicts itself
        (allow(nonResourceURLs=["*"], resources=["pods"]), f"{R}.match.nonResourceURLs: {BOTH}"),
        (allow(nonResourceURLs=["*"], namespaces=["*"]), f"{R}.match.nonResourceURLs: {BOTH}"),
        (allow(nonResourceURLs=["*"], apiGroups=[""]), f"{R}.match.nonResourceURLs: {BOTH}"),
        (allow(nonResourceURLs=["*"], resourceNames=["a"]), f"{R}.match.nonResourceURLs: {BOTH}"),
        ({**deny(), "mask": {"profile": "default"}}, f"{R}.mask: a deny lets nothing through that could be masked; remove it"),
        ({**deny(resources=["pods/portforward"]), "unmasked": True}, f"{R}.unmasked: a deny lets nothing through that could be masked; remove it"),
        # promise 4: one exception to masking, by name
        ({**allow(), "unmasked": True}, f"{R}.unmasked: concerns port-forward alone; name pods/portforward in match.resources, or remove it"),
        ({**allow(resources=["*"]), "unmasked": True}, f"{R}.unmasked: concerns port-forward alone; name pods/portforward in match.resources, or remove it"),
        ({**allow(resources=["pods/portforward"]), "unmasked": "yes"}, f"{R}.unmasked: expected true or false, found text"),
        (
            {**allow(resources=["pods/portforward"]), "unmasked": True, "mask": {"profile": "default"}},
            f"{R}.mask: contradicts unmasked; remove one of the two",
        ),
        (
            allow(verbs=["impersonate"], resources=["users"], resourceNames=["bob"]),
            f"{R}.match.resourceNames: naming whom to impersonate is not built yet; remove it",
        ),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_enforced_or_meant_is_refused(rule: dict[str, Any], expected: str) -> None:
    assert problems(document(rule)) == [expected]


S = "spec.subjects[0]"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ({}, f"{S}: names nobody; expected group, user, agent, owner, issuer or claim"),
        ({"group": ""}, f"{S}.group: {EMPTY}"),
        ({"group": "*"}, f'{S}.group: names are exact; to mean everybody write user: "*"'),
        ({"user": "ada*"}, f'{S}.user: names are exact; to mean everybody write user: "*"'),
        ({"group": 7}, f"{S}.group: expected text, found a number; put it in quotes"),
        ({"grup": "a"}, f"{S}.grup: unknown key; did you mean group?"),
        ({"claim": "repo"}, f"{S}.claim: needs one of: equals, contains"),
        ({"claim": "repo", "equals": "a", "contains": "a"}, f"{S}.claim: needs one of: equals, contains"),
        ({"group": "a", "equals": "a"}, f"{S}.equals: belongs to a claim; add the claim's name"),
        ({"group": "a", "contains": "a"}, f"{S}.contains: belongs to a claim; add the claim's name"),
        ({"claim": "repo", "equals": ["a"]}, f"{S}.equals: expected text, a whole number, or true or false"),
    ],
)
def test_a_subject_that_means_nobody_or_too_many_is_refused(subject: dict[str, Any], expected: str) -> None:
    assert problems(document(deny(), subjects=[subject])) == [expected]


def test_a_policy_needs_name_subjects_and_rules() -> None:
    data = document(deny())
    data["metadata"] = {}
    data["spec"] = {}
    assert set(problems(data)) == {
        "metadata.name: missing; it must be given",
        "spec.subjects: missing; it must be given",
        "spec.rules: missing; it must be given",
    }
    data = document(deny(), name="built-in", roles=[], mode="enforce")
    assert set(problems(data)) == {
        "metadata.name: 'built-in' is what the gateway's own rules are called; choose another name",
        f"spec.mode: {NOT_BUILT}",
        f"spec.roles: {NOT_BUILT}",
    }
    data = document()
    data["spec"]["subjects"] = []
    assert problems(data) == [f"spec.subjects: {EMPTY}", f"spec.rules: {EMPTY}"]


def test_the_canonical_content_is_the_same_in_any_order() -> None:
    rules = [allow(verbs=["get", "list"], namespaces=["b", "a"]), deny(resources=["secrets"])]
    data = document(*rules, subjects=[{"group": "a"}, {"claim": "c", "equals": 1}])
    turned = copy.deepcopy(data)
    turned["spec"]["rules"].reverse()
    turned["spec"]["subjects"].reverse()
    turned["spec"]["rules"][1]["match"] = {
        "namespaces": ["a", "b", "a"],
        "verbs": ["list", "get"],
        "dryRun": "any",
    }
    assert model(data).canonical() == model(turned).canonical()
    turned["spec"]["rules"][1]["effect"] = "deny"
    assert model(data).canonical() != model(turned).canonical()


def test_every_word_is_documented() -> None:
    text = DOCS.read_text()
    for each in (Policy, Metadata, Spec, Subject, Rule, Match, Mask):
        for name, field in each.model_fields.items():
            assert f"`{field.alias or name}`" in text, f"{each.__name__}.{field.alias or name}"
    for word in (*get_args(Verb), *CLASSES):
        assert f"`{word}`" in text, word
