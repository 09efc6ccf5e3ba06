"""What may stand in a policy file: `kind: Policy`, in RBAC's words.

In: one YAML document as plain data. Out: a frozen `Policy`. The rule that must not be broken: a word that the
running version cannot enforce is refused here, with its line, and so is a word that could only ever match
nothing, because a deny that matches nothing is an allow.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BeforeValidator, Field, model_validator

from interlock.documents import Fault, Plain, Strict
from interlock.kube.hazards import HazardClass

BUILT_IN = "built-in"
"""The policy that the gateway's own rules belong to; no file's policy may be called so."""


def _refuse_unbuilt(_: object) -> NoReturn:
    raise ValueError("is not built yet; a policy that cannot be enforced is not loaded: remove the key")


NotBuilt = Annotated[None, BeforeValidator(_refuse_unbuilt)]


def _text(value: object, expected: str) -> str:
    if type(value) is not str:
        raise ValueError(f"expected {expected}")
    return value


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def _name(value: object) -> str:
    expected = "a name in lower-case letters, digits, -, _ and ., at most 63 characters"
    name = _text(value, expected)
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected {expected}")
    return name


def _policy_name(value: object) -> str:
    name = _name(value)
    if name == BUILT_IN:
        raise ValueError(f"{BUILT_IN!r} is what the gateway's own rules are called; choose another name")
    return name


Name = Annotated[str, BeforeValidator(_name)]

_PATTERN = re.compile(r"!?[a-z0-9*](?:[a-z0-9.*-]{0,61}[a-z0-9*])?")


def _pattern(value: object) -> str:
    expected = "a name, a pattern such as shop-*, or an exception such as !shop-test"
    pattern = _text(value, expected)
    if not _PATTERN.fullmatch(pattern) or pattern.count("*") > 4:
        raise ValueError(f"expected {expected} (lower case; * stands for any text)")
    return pattern


Pattern = Annotated[str, BeforeValidator(_pattern)]


def _patterns(patterns: object) -> object:
    words = patterns if isinstance(patterns, tuple) else ()
    if words and all(isinstance(word, str) and word.startswith("!") for word in words):
        raise ValueError('has only exceptions (!), which match nothing; put "*" before them')
    if "!*" in words:
        raise ValueError('"!*" leaves nothing; remove it')
    return patterns


Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_patterns), Field(min_length=1)]

_GROUP = re.compile(r"\*|(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)?")


def _api_group(value: object) -> str:
    group = _text(value, 'an API group such as apps, or "" for the core group')
    if not _GROUP.fullmatch(group):
        hint = "; leave the version out" if "/" in group else ""
        raise ValueError(f'expected an API group such as apps, "" for the core group, or "*"{hint}')
    return group


_RESOURCE = re.compile(r"(?:\*|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:/(?:\*|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?))?")


def _resource(value: object) -> str:
    expected = 'a resource such as pods or pods/log, or "*", "*/scale", "pods/*"'
    resource = _text(value, expected)
    if not _RESOURCE.fullmatch(resource):
        hint = "; the group goes into apiGroups" if "." in resource else " (lower case, plural)"
        raise ValueError(f"expected {expected}{hint}")
    return "*" if resource == "*/*" else resource


def _resource_name(value: object) -> str:
    name = _text(value, "the exact name of an object")
    if not name or "*" in name or "/" in name or not name.isprintable():
        raise ValueError("expected the exact name of an object; names have no patterns")
    return name


_URL = re.compile(r"(?:/[A-Za-z0-9._~:@!$&'()+,;=-]*)+\*?|\*")


def _url(value: object) -> str:
    expected = 'a path such as /version, a prefix such as /healthz/*, or "*"'
    url = _text(value, expected)
    if not _URL.fullmatch(url) or "//" in url:
        raise ValueError(f"expected {expected}; * only at the end")
    return "*" if url == "/*" else url


ApiGroup = Annotated[str, BeforeValidator(_api_group)]
Resource = Annotated[str, BeforeValidator(_resource)]
ResourceName = Annotated[str, BeforeValidator(_resource_name)]
Url = Annotated[str, BeforeValidator(_url)]
Verb = Literal[
    "*", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
    "connect", "impersonate", "head", "post", "put",
]  # fmt: skip


class Match(Strict):
    """Which requests a rule is about. The keys are ANDed; a key that is absent matches all."""

    clusters: Patterns | None = None
    namespaces: Patterns | None = None
    api_groups: Annotated[tuple[ApiGroup, ...], Field(min_length=1)] | None = None
    resources: Annotated[tuple[Resource, ...], Field(min_length=1)] | None = None
    resource_names: tuple[ResourceName, ...] = ()
    verbs: Annotated[tuple[Verb, ...], Field(min_length=1)] | None = None
    classes: Annotated[tuple[HazardClass, ...], Field(min_length=1)] | None = None
    non_resource_urls: Annotated[tuple[Url, ...], Field(min_length=1)] | None = Field(
        None, alias="nonResourceURLs"
    )
    dry_run: Literal["any", "only", "never"] = "any"
    selectors: NotBuilt = None

    @model_validator(mode="after")
    def _one_kind_of_request(self) -> Match:
        if self.non_resource_urls is not None and self.names_resources():
            raise Fault(
                "a request is for a resource or for another URL, never both; "
                "remove namespaces, apiGroups, resources and resourceNames, or make it a rule of its own",
                "nonResourceURLs",
            )
        return self

    def names_resources(self) -> bool:
        """Whether a key is there that only a request for a resource can meet."""
        keys = (self.namespaces, self.api_groups, self.resources, self.resource_names or None)
        return any(key is not None for key in keys)


def _effect(value: object) -> object:
    if value == "requireApproval":
        raise ValueError("requireApproval is not built yet; a policy that cannot be enforced is not loaded")
    return value


def _mask(value: object) -> object:
    if isinstance(value, dict) and value.keys() == {"profile"} and value["profile"] != "default":
        raise ValueError("profiles other than default are not built yet")
    return value


class Mask(Strict):
    """How answers are masked."""

    profile: Literal["default"]


class Rule(Strict):
    """One rule: an effect on the requests that `match` describes."""

    name: Name
    effect: Annotated[Literal["allow", "deny"], BeforeValidator(_effect)]
    match: Match
    mask: Annotated[Mask, BeforeValidator(_mask)] | None = None
    unmasked: bool = False
    when: NotBuilt = None
    approval: NotBuilt = None
    limits: NotBuilt = None
    mode: NotBuilt = None

    @model_validator(mode="after")
    def _effect_fits(self) -> Rule:
        if self.effect == "deny":
            for key, given in (("mask", self.mask), ("unmasked", self.unmasked)):
                if given:
                    raise Fault("a deny lets nothing through that could be masked; remove it", key)
            return self
        if self.unmasked:
            if "pods/portforward" not in (self.match.resources or ()):
                message = (
                    "concerns port-forward alone; name pods/portforward in match.resources, or remove it"
                )
                raise Fault(message, "unmasked")
            if self.mask is not None:
                raise Fault("contradicts unmasked; remove one of the two", "mask")
        if "impersonate" in (self.match.verbs or ()) and self.match.resource_names:
            raise Fault("naming whom to impersonate is not built yet; remove it", "match", "resourceNames")
        return self


class Subject(Strict):
    """One way to be meant by a policy: every key of it must fit the principal."""

    group: str | None = Field(None, min_length=1)
    user: str | None = Field(None, min_length=1)
    agent: str | None = Field(None, min_length=1)
    owner: str | None = Field(None, min_length=1)
    issuer: str | None = Field(None, min_length=1)
    claim: str | None = Field(None, min_length=1)
    equals: Plain | None = None
    contains: Plain | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Subject:
        names = {k: getattr(self, k) for k in ("group", "user", "agent", "owner", "issuer", "claim")}
        if not any(names.values()):
            raise ValueError("names nobody; expected group, user, agent, owner, issuer or claim")
        for key, name in names.items():
            if name is not None and "*" in name and (key, name) != ("user", "*"):
                raise Fault('names are exact; to mean everybody write user: "*"', key)
        tests = (self.equals is not None) + (self.contains is not None)
        if self.claim is not None and tests != 1:
            raise Fault("needs one of: equals, contains", "claim")
        if self.claim is None and tests:
            raise Fault(
                "belongs to a claim; add the claim's name", "contains" if self.equals is None else "equals"
            )
        return self


class Metadata(Strict):
    """The policy's name, by which answers and evidence call it."""

    name: Annotated[str, BeforeValidator(_policy_name)]


class Spec(Strict):
    """Whom the policy is for, and its rules."""

    subjects: Annotated[tuple[Subject, ...], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    mode: NotBuilt = None
    roles: NotBuilt = None


class Policy(Strict):
    """One policy document."""

    api_version: Literal["interlock/v1"]
    kind: Literal["Policy"]
    metadata: Metadata
    spec: Spec

    def canonical(self) -> dict[str, Any]:
        """The content that decides, as JSON values: the same for files that differ in order or layout only."""
        rules = [r.model_dump(mode="json", by_alias=True, exclude_defaults=True) for r in self.spec.rules]
        subjects = [
            s.model_dump(mode="json", by_alias=True, exclude_defaults=True) for s in self.spec.subjects
        ]
        for rule in rules:
            rule["match"] = {
                key: sorted(set(value)) if isinstance(value, list) else value
                for key, value in rule["match"].items()
            }
        return {
            "name": self.metadata.name,
            "subjects": sorted(subjects, key=repr),
            "rules": sorted(rules, key=lambda rule: str(rule["name"])),
        }
