"""Authorization: principal and request -> decision, by the policies in force.

In: Admission and Session. Out: a Decision that allows, or 403 with the rule and what to do next.
A SelfSubjectAccessReview is answered as gateway and cluster together: where policy refuses, here and now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from interlock.exchange import Answer, Exchange, Refusal
from interlock.kube.hazards import certain
from interlock.kube.target import RequestInfo
from interlock.policy.engine import Decision, PolicySet, Question

if TYPE_CHECKING:
    from collections.abc import Callable


class Authorization:
    name = "authorization"
    deadline = 2.0
    fills = {"request": ("decision", Decision)}

    def __init__(self, policies: Callable[[], PolicySet]) -> None:
        self._policies = policies

    def request(self, x: Exchange) -> Decision:
        assert x.admission is not None
        assert x.session is not None
        a = x.admission
        policies = self._policies()
        decision = policies.decide(
            Question(
                principal=x.session.principal,
                cluster=a.cluster.name,
                info=a.target.info,
                classes=a.classes,
                dry_run=a.dry_run,
                impersonates=a.impersonates,
            )
        )
        if decision.effect != "allow":
            refusal = Refusal(403, decision.reason)
            refusal.decision = decision
            raise refusal
        self._self_review(x, policies, decision)
        return decision

    def _self_review(self, x: Exchange, policies: PolicySet, decision: Decision) -> None:
        """Answer `kubectl auth can-i` with no where policy says no; what it allows, the cluster answers."""
        assert x.admission is not None
        assert x.session is not None
        a = x.admission
        info = a.target.info
        if (info.api_group, info.resource) != ("authorization.k8s.io", "selfsubjectaccessreviews"):
            return
        review = a.body.object if a.body is not None else None
        asked = asked_about(review)
        if asked is None:
            return
        answer = policies.decide(
            Question(
                principal=x.session.principal,
                cluster=a.cluster.name,
                info=asked,
                classes=certain(asked),
                dry_run=False,
                impersonates=False,
            )
        )
        if answer.effect != "allow":
            assert isinstance(review, Mapping)
            x.decision = decision
            status = {"allowed": False, "denied": True, "reason": f"interlock: {answer.reason}"}
            raise Answer(201, json.dumps({**review, "status": status}).encode(), f"answered by {answer.rule}")


def asked_about(review: Any) -> RequestInfo | None:
    """The request that a SelfSubjectAccessReview (authorization.k8s.io/v1) asks about; None if unreadable.

    `resource: "*"`, `verb: "*"` and the like are looked up as they stand: only a rule that names all matches.
    """
    spec = review.get("spec") if isinstance(review, Mapping) else None
    if not isinstance(spec, Mapping):
        return None
    r, n = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")

    def text(source: Mapping[str, Any], key: str) -> str:
        value = source.get(key, "")
        return value if isinstance(value, str) else ""

    if isinstance(r, Mapping):
        return RequestInfo(
            is_resource=True,
            path="",
            verb=text(r, "verb"),
            api_prefix="apis" if text(r, "group") else "api",
            api_group=text(r, "group"),
            api_version=text(r, "version"),
            namespace=text(r, "namespace"),
            resource=text(r, "resource"),
            subresource=text(r, "subresource"),
            name=text(r, "name"),
            parts=(),
            label_selector="",
            field_selector="",
        )
    if isinstance(n, Mapping):
        path = text(n, "path")
        return RequestInfo(
            is_resource=False,
            path=path,
            verb=text(n, "verb"),
            api_prefix="",
            api_group="",
            api_version="",
            namespace="",
            resource="",
            subresource="",
            name="",
            parts=(),
            label_selector="",
            field_selector="",
        )
    return None
