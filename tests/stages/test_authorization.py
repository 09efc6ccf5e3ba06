"""Policy's decision on a request, and on what a self-review asks about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.exchange import Answer, Refusal
from interlock.policy.files import load_policies
from interlock.stages.authorization import Authorization, asked_about
from stages.parts import admitted

POLICY = """
apiVersion: interlock/v1
kind: Policy
metadata: {name: p}
spec:
  subjects: [{group: agents}]
  rules:
  - name: read-pods
    effect: allow
    match: {namespaces: [shop], apiGroups: [""], resources: [pods], verbs: [get, list]}
  - name: paths
    effect: allow
    match: {nonResourceURLs: [/version], verbs: [get]}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Authorization:
    (tmp_path / "p.yaml").write_text(POLICY)
    policies = load_policies([tmp_path / "p.yaml"], clusters=["dev"])
    return Authorization(lambda: policies)


def test_what_a_rule_allows_gets_its_decision(stage: Authorization) -> None:
    decision = stage.request(admitted())
    assert (decision.effect, decision.rule, decision.policy) == ("allow", "read-pods", "p")


def test_what_no_rule_allows_is_403_with_its_decision(stage: Authorization) -> None:
    with pytest.raises(Refusal) as caught:
        stage.request(admitted(target="/api/v1/namespaces/other/pods"))
    assert caught.value.code == 403
    assert caught.value.decision is not None
    assert caught.value.decision.effect == "deny"


def review(**spec: Any) -> bytes:
    return json.dumps(
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    ).encode()


def asks(stage: Authorization, **spec: Any) -> Any:
    return stage.request(
        admitted("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review(**spec))
    )


def test_can_i_is_answered_here_where_policy_says_no(stage: Authorization) -> None:
    with pytest.raises(Answer) as caught:
        asks(stage, resourceAttributes={"namespace": "shop", "verb": "delete", "resource": "pods"})
    assert caught.value.code == 201
    body = json.loads(caught.value.body)
    assert body["status"]["allowed"] is False
    assert body["kind"] == "SelfSubjectAccessReview"
    with pytest.raises(Answer):
        asks(stage, nonResourceAttributes={"path": "/metrics", "verb": "get"})


def test_can_i_goes_on_to_the_cluster_where_policy_says_yes(stage: Authorization) -> None:
    assert (
        asks(stage, resourceAttributes={"namespace": "shop", "verb": "get", "resource": "pods"}).effect
        == "allow"
    )
    assert asks(stage, nonResourceAttributes={"path": "/version", "verb": "get"}).effect == "allow"


@pytest.mark.parametrize(
    "thing", [None, [], {}, {"spec": 1}, {"spec": {}}, {"spec": {"resourceAttributes": 1}}]
)
def test_a_review_that_asks_nothing_readable_is_the_clusters_to_answer(thing: Any) -> None:
    assert asked_about(thing) is None


def test_attributes_of_another_type_count_as_absent() -> None:
    info = asked_about({"spec": {"resourceAttributes": {"verb": 1, "resource": "pods", "group": "apps"}}})
    assert info is not None
    assert (info.verb, info.resource, info.api_prefix) == ("", "pods", "apis")
