"""The policy engine: principal and request in, one decision with its reason out.

    deny > allow > default deny        in any order of rules and files, whatever version an API group has

A rule says how far a request reaches into it (`matching`): all the way is a match, and the furthest miss is
the hint in a refusal, so that decision and explanation are one pass. Which rules cover a place (cluster,
resource, verb, namespace) is remembered, so that a decision looks only at the few that do. The rules that must not be broken:
what no rule allows is refused, and nothing outside this module makes a `Decision`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import rfc8785

from interlock.identity.principal import Principal, claim
from interlock.kube.target import RequestInfo
from interlock.policy.matching import (
    CLASSES,
    COVERED,
    DRY_RUN,
    MATCHED,
    NAMES,
    NAMESPACES,
    RESOURCES,
    UNMASKED,
    URLS,
    VERBS,
    Allow,
    Compiled,
    Deny,
    Place,
    Request,
)
from interlock.policy.model import BUILT_IN, Policy, Subject
from interlock.policy.scope import CLUSTER_SCOPED

SELF_REVIEW: Final = "self-review"
"""The built-in rule that lets a principal ask what it may do itself."""

SELF_REVIEWS: Final = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)

IMPERSONATED: Final = ("users", "groups", "serviceaccounts")
"""What a request with Impersonate-* headers needs to be allowed to impersonate: all, as it may name any."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided.

    cluster: its configured name. classes: as `kube.hazards.classify` gives them. dry_run: as the API server
    will decode it. impersonates: whether the agent sent Impersonate-* headers of its own.
    """

    principal: Principal
    cluster: str
    info: RequestInfo
    classes: frozenset[str]
    dry_run: bool = False
    impersonates: bool = False


class Matched(NamedTuple):
    """A rule that matched a request."""

    policy: str
    rule: str
    effect: Literal["allow", "deny"]


_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says of one request. Only this module can make one.

    effect, rule, policy: what was decided and by which rule; both names are "" when no rule decided.
    reason: one line for a person. matched: every rule that matched, of either effect. unmasked: the bytes may
    pass unread (port-forward alone). impersonation: the agent's own Impersonate-* headers may go on.
    digest: which policies decided.
    """

    effect: Literal["allow", "deny"]
    rule: str
    policy: str
    reason: str
    matched: tuple[Matched, ...]
    unmasked: bool
    impersonation: bool
    digest: str
    _: KW_ONLY
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only the policy engine makes decisions")


PLACES: Final = 4096
"""Places that a PolicySet remembers the candidates of, those asked for last; others are worked out anew."""

PLACE_LENGTH: Final = 512
"""Characters of a place that is remembered: no real one is longer, and memory is not the agent's to fill."""


class _Candidates(NamedTuple):
    """What the rules make of one place: those that cover it, and of each policy the allow that comes closest."""

    place: Place
    covering: tuple[Compiled, ...]
    closest: dict[str, tuple[int, Compiled]]


class PolicySet:
    """All policies in force, compiled once and never changed.

    policies: sorted by name. digest: hex SHA-256 of what decides (RFC 8785 JSON of the policies' content),
    the same for files that differ in order, layout and comments only. files: the text that each policy file
    had when it was read, by its path.
    """

    def __init__(self, policies: Iterable[Policy], files: Mapping[str, str] | None = None) -> None:
        """Raises ValueError if two policies, or two rules of one policy, have the same name."""
        self.policies: Final = tuple(sorted(policies, key=lambda policy: policy.metadata.name))
        self.files: Final = MappingProxyType(dict(files or {}))
        _refuse_twins(policy.metadata.name for policy in self.policies)
        content = [policy.canonical() for policy in self.policies]
        self.digest: Final = hashlib.sha256(rfc8785.dumps(content)).hexdigest()
        self._rules: Final = tuple(rule for policy in self.policies for rule in _compiled(policy))
        self._candidates: Final = lru_cache(PLACES)(self._at)
        self._by_group: Final[dict[str, set[str]]] = {}
        self._by_user: Final[dict[str, set[str]]] = {}
        self._by_subject: Final[list[tuple[Subject, str]]] = []
        for policy in self.policies:
            for subject in policy.spec.subjects:
                self._index(subject, policy.metadata.name)

    def __repr__(self) -> str:
        return f"PolicySet({', '.join(policy.metadata.name for policy in self.policies)}; {self.digest[:12]})"

    def decide(self, question: Question) -> Decision:
        """The decision for `question`; there always is one."""
        info = question.info
        applying = self._applying(question.principal)
        length = len(info.path) + len(info.namespace) + len(info.resource) + len(info.subresource)
        known = length + len(info.verb) + len(info.api_group) <= PLACE_LENGTH
        candidates = (self._candidates if known else self._at)(
            question.cluster,
            info.is_resource,
            "" if info.is_resource else info.path,
            info.verb,
            info.api_group,
            info.resource,
            info.subresource,
            info.namespace,
            "connect" in question.classes,
        )
        request = Request(candidates.place, info.name, question.classes, question.dry_run)
        decision = self._judge(request, candidates, question.principal, applying)
        if question.impersonates and decision.effect == "allow":
            return self._judge_impersonation(decision, question, applying)
        return decision

    def _at(
        self,
        cluster: str,
        is_resource: bool,
        path: str,
        verb: str,
        group: str,
        resource: str,
        subresource: str,
        namespace: str,
        connects: bool,
    ) -> _Candidates:
        """What the rules make of this place; remembered by `_candidates`."""
        place = Place(cluster, is_resource, path, verb, group, resource, subresource, namespace, connects)
        covering: list[Compiled] = []
        closest: dict[str, tuple[int, Compiled]] = {}
        for rule in self._rules:
            if not (rule.for_resources if is_resource else rule.for_others):
                continue
            reach = rule.cover(place)
            if reach == COVERED:
                covering.append(rule)
            elif rule.effect == "allow" and reach > closest.get(rule.policy, (RESOURCES, rule))[0]:
                closest[rule.policy] = reach, rule
        return _Candidates(place, tuple(covering), closest)

    def _judge(
        self, request: Request, candidates: _Candidates, principal: Principal, applying: set[str]
    ) -> Decision:
        matched: list[Compiled] = []
        missed: list[tuple[int, Compiled]] = []
        for rule in candidates.covering:
            if rule.policy in applying:
                reach = rule.reach(request)
                if reach == MATCHED:
                    matched.append(rule)
                elif rule.effect == "allow":
                    missed.append((reach, rule))
        seen = tuple([Matched(rule.policy, rule.name, rule.effect) for rule in matched])
        for rule in matched:
            if rule.effect == "deny":
                return self._decide("deny", rule.name, rule.policy, self._denied(request, rule), seen)
        if matched:
            rule = matched[0]
            # An allow that is not `unmasked` does not match a port-forward.
            unmasked = request.place.port_forward
            return self._decide("allow", rule.name, rule.policy, rule.allows, seen, unmasked=unmasked)
        if _is_self_review(request):
            return self._decide("allow", SELF_REVIEW, BUILT_IN, "everybody may ask what they may do", seen)
        missed.extend(near for policy, near in candidates.closest.items() if policy in applying)
        return self._decide("deny", "", "", self._refused(request, principal, applying, missed), seen)

    def _judge_impersonation(self, decision: Decision, question: Question, applying: set[str]) -> Decision:
        """The decision for a request that is allowed by itself, and is to be made in another's name."""
        for resource in IMPERSONATED:
            candidates = self._candidates(
                question.cluster, True, "", "impersonate", "", resource, "", "", False
            )
            asked = Request(candidates.place, "", frozenset({"escalation"}), False)
            verdict = self._judge(asked, candidates, question.principal, applying)
            if verdict.effect == "deny":
                return verdict
        return self._decide(
            "allow",
            decision.rule,
            decision.policy,
            decision.reason,
            decision.matched,
            unmasked=decision.unmasked,
            impersonation=True,
        )

    def _decide(
        self,
        effect: Literal["allow", "deny"],
        rule: str,
        policy: str,
        reason: str,
        matched: tuple[Matched, ...],
        *,
        unmasked: bool = False,
        impersonation: bool = False,
    ) -> Decision:
        return Decision(
            effect, rule, policy, reason, matched, unmasked, impersonation, self.digest, seal=_SEAL
        )

    # Whom a policy is for

    def _index(self, subject: Subject, policy: str) -> None:
        if subject.model_fields_set == {"group"} and subject.group is not None:
            self._by_group.setdefault(subject.group, set()).add(policy)
        elif subject.model_fields_set == {"user"} and subject.user is not None:
            self._by_user.setdefault(subject.user, set()).add(policy)
        else:
            self._by_subject.append((subject, policy))

    def _applying(self, principal: Principal) -> set[str]:
        """The names of the policies that are for `principal`."""
        found: set[str] = set()
        for group in principal.groups:
            if group in self._by_group:
                found |= self._by_group[group]
        for user in (principal.user, "*"):
            if user in self._by_user:
                found |= self._by_user[user]
        found.update([policy for subject, policy in self._by_subject if _means(subject, principal)])
        return found

    # Reasons: one line each, for the agent and the evidence. They never hold a claim's value.

    def _denied(self, request: Request, rule: Compiled) -> str:
        return (
            f"policy refuses to {_act(request)}: rule {rule.name} of policy {rule.policy} denies it, and nothing "
            f"overrides a deny; ask the operator if it should change (policy version {self.digest[:12]})"
        )

    def _refused(
        self, request: Request, principal: Principal, applying: set[str], missed: list[tuple[int, Compiled]]
    ) -> str:
        if not applying:
            groups = ", ".join(_word(group) for group in principal.groups[:5]) or "none"
            why = f"no policy is for user {_word(principal.user)} (groups: {groups})"
        elif not missed:
            why = "no rule allows it"
        else:
            key, rule = max(missed, key=lambda near: near[0])
            why = (
                f"no rule allows it; rule {rule.name} of policy {rule.policy} comes closest, "
                f"but {_miss(request, rule, key)}"
            )
        version = self.digest[:12]
        return f"policy refuses to {_act(request)}: {why}; ask the operator for a rule (policy version {version})"


def _compiled(policy: Policy) -> list[Compiled]:
    rules = sorted(policy.spec.rules, key=lambda rule: rule.name)
    _refuse_twins(rule.name for rule in rules)
    return [(Allow if rule.effect == "allow" else Deny)(policy.metadata.name, rule) for rule in rules]


def _refuse_twins(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two are called {name}; each name must be its own")
        seen.add(name)


def _is_self_review(request: Request) -> bool:
    place = request.place
    return (
        (place.group, place.resource) in SELF_REVIEWS
        and place.verb == "create"
        and not (place.subresource or request.name or place.namespace)
    )


def _means(subject: Subject, principal: Principal) -> bool:
    """Whether every key of `subject` fits `principal`."""
    if subject.group is not None and subject.group not in principal.groups:
        return False
    if subject.user is not None and subject.user not in ("*", principal.user):
        return False
    if subject.agent is not None and subject.agent != principal.agent:
        return False
    if subject.owner is not None and subject.owner != principal.owner:
        return False
    if subject.issuer is not None and subject.issuer != principal.issuer:
        return False
    if subject.claim is None:
        return True
    value = claim(principal.claims, subject.claim)
    if subject.equals is not None:
        return _same(value, subject.equals)
    return isinstance(value, (list, tuple)) and any(_same(item, subject.contains) for item in value)


def _same(value: object, wanted: object) -> bool:
    """Equal and of one type: in Python True is 1, in a claim it is not."""
    return type(value) is type(wanted) and value == wanted


_PLAIN = re.compile(r"[A-Za-z0-9:/.@_*+-]{1,96}")


def _word(text: str) -> str:
    """A name in a message: as it is if it is plain, else quoted, escaped and cut, so that a line stays a line."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text[:96])


def _act(request: Request) -> str:
    place = request.place
    if place.verb == "impersonate":
        return f"act as other {_word(place.resource)} (Impersonate-* headers) on cluster {place.cluster}"
    if not place.is_resource:
        return f"{_word(place.verb)} {_word(place.path)} on cluster {place.cluster}"
    what = f"{_word(place.verb)} {_word(place.combined)}"
    if place.group:
        what += f" of group {_word(place.group)}"
    if request.name:
        what += f" {_word(request.name)}"
    if place.namespace:
        what += f" in namespace {_word(place.namespace)}"
    elif (place.group, place.resource) not in CLUSTER_SCOPED:
        what += " in all namespaces"
    return f"{what} on cluster {place.cluster}"


def _miss(request: Request, rule: Compiled, key: int) -> str:
    """What keeps `rule` from allowing `request`, for each key that can be the first miss after RESOURCES."""
    place = request.place
    if key == NAMESPACES and not place.namespace:
        return 'what is not in one namespace needs namespaces: ["*"]'
    if key == NAMES and not request.name:
        return "its resourceNames cannot cover a request without a name"
    if key == CLASSES:
        lacking = sorted(request.gated - (rule.classes or frozenset()))
        return (
            f"its classes must name {' and '.join(lacking)}" if lacking else "its classes are of another kind"
        )
    if key == DRY_RUN:
        return "it is for dry runs only" if rule.dry_run else "it is not for dry runs"
    if key == UNMASKED:
        return "a port-forward cannot be masked, so it needs unmasked: true"
    name, value = {
        URLS: ("nonResourceURLs", place.path),
        VERBS: ("verbs", place.verb),
        NAMESPACES: ("namespaces", place.namespace),
        NAMES: ("resourceNames", request.name),
    }[key]
    return f"its {name} leave out {_word(value)}"
