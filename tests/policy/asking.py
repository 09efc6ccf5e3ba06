"""Short ways to write policies and to ask about requests; used by the tests of this folder and by others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from interlock.documents import DocumentError, parse
from interlock.identity.principal import Principal
from interlock.kube.target import RequestInfo
from interlock.policy.engine import Decision, PolicySet, Question
from interlock.policy.model import Policy

AGENT = Principal("ada@example.org", ("agents", "dev"), "https://idp.example", "1")


def document(*rules: dict[str, Any], name: str = "p", subjects: Any = None, **spec: Any) -> dict[str, Any]:
    """A policy as its file has it; each rule may leave out its name."""
    named = [{"name": f"r{i}", **rule} for i, rule in enumerate(rules)]
    return {
        "apiVersion": "interlock/v1",
        "kind": "Policy",
        "metadata": {"name": name},
        "spec": {"subjects": subjects or [{"group": "agents"}], "rules": named, **spec},
    }


def model(data: dict[str, Any]) -> Policy:
    """The policy of `data`, read as a file is (JSON is YAML). Raises DocumentError."""
    (read,) = parse(json.dumps(data), "policy.yaml")
    policy, problems = read.validate(Policy)
    if policy is None:
        raise DocumentError(problems)
    return policy


def policies(*rules: dict[str, Any], **options: Any) -> PolicySet:
    """One policy of these rules, compiled; none if there are no rules."""
    return PolicySet([Policy.model_validate(_tuples(document(*rules, **options)))] if rules else [])


def _tuples(data: Any) -> Any:
    """Plain data as `documents.parse` gives it."""
    if isinstance(data, dict):
        return {key: _tuples(value) for key, value in data.items()}
    return tuple(map(_tuples, data)) if isinstance(data, list) else data


def allow(**match: Any) -> dict[str, Any]:
    return {"effect": "allow", "match": match}


def deny(**match: Any) -> dict[str, Any]:
    return {"effect": "deny", "match": match}


def resource(
    verb: str,
    combined: str,
    *,
    namespace: str = "shop",
    name: str = "",
    group: str = "",
    version: str = "v1",
) -> RequestInfo:
    """A request for `resource` or `resource/subresource`."""
    base, _, sub = combined.partition("/")
    return RequestInfo(
        is_resource=True,
        path="/not/looked/at",
        verb=verb,
        api_prefix="apis" if group else "api",
        api_group=group,
        api_version=version,
        namespace=namespace,
        resource=base,
        subresource=sub,
        name=name,
        parts=tuple(part for part in (base, name, sub) if part),
        label_selector="",
        field_selector="",
    )


def other(verb: str, path: str) -> RequestInfo:
    """A request for a path that is no resource."""
    return RequestInfo(False, path, verb, "", "", "", "", "", "", "", (), "", "")


def ask(
    rules: PolicySet,
    info: RequestInfo,
    *,
    classes: Iterable[str] = (),
    principal: Principal = AGENT,
    cluster: str = "dev",
    dry_run: bool = False,
    impersonates: bool = False,
) -> Decision:
    return rules.decide(Question(principal, cluster, info, frozenset(classes), dry_run, impersonates))


def allowed(rules: PolicySet, info: RequestInfo, **options: Any) -> bool:
    return ask(rules, info, **options).effect == "allow"
