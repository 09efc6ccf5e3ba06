"""How a rule matches: a `match` compiled, and how far a request reaches into it.

In: a `Request`: its `Place`, which many requests share, and what is its own. Out: the first key, in the order
of `KEYS`, that does not fit, or that all do. An allow and a deny read the same keys in the same order and
differ in what they make of the unknown, so they stand side by side here. The rule that must not be broken:
an allow matches only what it surely covers, a deny matches whatever it may cover.

Sources: RBAC (plugin/pkg/auth/authorizer/rbac, pkg/apis/rbac/v1/evaluation_helpers.go); docs/policy.md has
the rules in words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Literal

from interlock.kube.hazards import OPEN_NON_RESOURCE
from interlock.policy.model import Match, Rule
from interlock.policy.scope import CLUSTER_SCOPED

KEYS: Final = (
    "clusters",
    "apiGroups",
    "resources",
    "nonResourceURLs",
    "verbs",
    "namespaces",
    "resourceNames",
    "dryRun",
    "classes",
    "unmasked",
)
CLUSTERS, API_GROUPS, RESOURCES, URLS, VERBS, NAMESPACES, NAMES, DRY_RUN, CLASSES, UNMASKED = range(len(KEYS))
MATCHED: Final = len(KEYS)

COVERED: Final = NAMES
"""How far a place reaches that fits: the keys before it are about the place, those from it on about the act."""

GATED: Final = frozenset({"connect", "escalation"})
"""The classes that an allow covers only by name."""

COLLECTIONS: Final = frozenset({"list", "watch", "deletecollection"})


class Place:
    """What is asked for and where, without which object or what is in it. Nobody changes it."""

    __slots__ = (
        *("cluster", "combined", "connects", "group", "is_resource", "namespace", "path", "port_forward"),
        *("resource", "subresource", "verb", "verbs"),
    )

    def __init__(
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
    ) -> None:
        self.cluster = cluster
        self.is_resource = is_resource
        self.path = path
        self.verb = verb
        self.group = group
        self.resource = resource
        self.subresource = subresource
        self.combined = f"{resource}/{subresource}" if subresource else resource
        self.namespace = namespace
        self.connects = connects
        self.verbs = (verb, "connect") if connects else (verb,)
        self.port_forward = (group, self.combined) == ("", "pods/portforward")


class Request:
    """One request: its place, and what is its own. Nobody changes it."""

    __slots__ = ("classes", "dry_run", "gated", "name", "place")

    def __init__(self, place: Place, name: str, classes: frozenset[str], dry_run: bool) -> None:
        self.place = place
        self.name = name
        self.classes = classes
        self.gated = classes & GATED
        self.dry_run = dry_run


class Patterns:
    """Names, globs (`*` is any text) and exceptions (`!`), compiled. None of them stands for all names."""

    __slots__ = ("_exact", "_exceptions", "_globs", "all", "all_but")

    def __init__(self, patterns: tuple[str, ...] | None) -> None:
        positive = [p for p in patterns or ("*",) if not p.startswith("!")]
        negative = tuple(p[1:] for p in patterns or () if p.startswith("!"))
        self._exact = frozenset(p for p in positive if "*" not in p)
        self._globs = tuple(tuple(p.split("*")) for p in positive if "*" in p)
        self._exceptions = Patterns(negative) if negative else None
        self.all_but = "*" in positive
        self.all = self.all_but and not negative

    def cover(self, name: str) -> bool:
        """Whether `name` fits one of the names or globs and none of the exceptions."""
        if self.all:
            return True
        if name not in self._exact and not any(_fits(glob, name) for glob in self._globs):
            return False
        return self._exceptions is None or not self._exceptions.cover(name)


def _fits(glob: tuple[str, ...], name: str) -> bool:
    """Leftmost matches suffice when `*` is the only wildcard, so no name makes this more than linear."""
    first, *middle, last = glob
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


class Urls:
    """Paths and prefixes of nonResourceURLs; `whole` if `*` is among them."""

    __slots__ = ("_exact", "_prefixes", "whole")

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.whole = "*" in urls
        self._exact = frozenset(u for u in urls if not u.endswith("*"))
        self._prefixes = tuple(u[:-1] for u in urls if u.endswith("*") and u != "*")

    def cover(self, path: str) -> bool:
        """Whether `path` is named, or begins as one that is named does; `*` is the caller's to judge."""
        return path in self._exact or path.startswith(self._prefixes)


OPEN: Final = Urls(OPEN_NON_RESOURCE)
"""What `*` covers in an allow; the rest (metrics, pprof, logs, ...) opens to a rule that names it."""


class Compiled(ABC):
    """A rule, ready to be matched.

    for_resources, for_others: which of the two kinds of request it can be about. allows: the reason that it
    gives when it allows.
    """

    __slots__ = (
        *("allows", "classes", "clusters", "dry_run", "everywhere", "for_others", "for_resources", "groups"),
        *("name", "namespaces", "names", "policy", "resources", "unmasked", "urls", "verbs"),
    )

    effect: Literal["allow", "deny"]

    def __init__(self, policy: str, rule: Rule) -> None:
        match: Match = rule.match
        self.policy = policy
        self.name = rule.name
        self.unmasked = rule.unmasked
        self.clusters = Patterns(match.clusters)
        self.namespaces = None if match.namespaces is None else Patterns(match.namespaces)
        self.groups = _any_or(match.api_groups)
        self.resources = _any_or(match.resources)
        self.names = frozenset(match.resource_names)
        self.verbs = _any_or(match.verbs)
        self.classes = None if match.classes is None else frozenset(match.classes)
        self.dry_run = {"any": None, "only": True, "never": False}[match.dry_run]
        self.urls = None if match.non_resource_urls is None else Urls(match.non_resource_urls)
        self.everywhere = self.namespaces is not None and self.namespaces.all
        self.for_resources = self.urls is None
        self.for_others = self.urls is not None or not (match.api_groups or match.resources or self.names)
        self.allows = f"rule {rule.name} of policy {policy} allows it"

    @abstractmethod
    def cover(self, place: Place) -> int:
        """The first of KEYS that `place` does not fit, or COVERED."""

    @abstractmethod
    def reach(self, request: Request) -> int:
        """The first of KEYS that `request`, whose place is covered, does not fit, or MATCHED."""

    def _covers_resource(self, place: Place) -> bool:
        resources = self.resources
        if resources is None or place.combined in resources:
            return True
        sub = place.subresource
        return bool(sub) and (f"*/{sub}" in resources or f"{place.resource}/*" in resources)


class Allow(Compiled):
    """Matches only what it surely covers."""

    __slots__ = ()
    effect = "allow"

    def cover(self, place: Place) -> int:
        if not self.clusters.cover(place.cluster):
            return CLUSTERS
        if place.is_resource:
            if self.groups is not None and place.group not in self.groups:
                return API_GROUPS
            if not self._covers_resource(place):
                return RESOURCES
        elif self.urls is None:
            if not OPEN.cover(place.path):
                return URLS
        elif not self.urls.cover(place.path) and not (self.urls.whole and OPEN.cover(place.path)):
            return URLS
        if self.verbs is not None and self.verbs.isdisjoint(place.verbs):
            return VERBS
        if not place.namespace:
            if not self.everywhere and self.urls is None:
                return NAMESPACES
        elif self.namespaces is not None and not self.namespaces.cover(place.namespace):
            return NAMESPACES
        return COVERED

    def reach(self, request: Request) -> int:
        if self.names and request.name not in self.names:
            return NAMES
        if self.dry_run is not None and self.dry_run is not request.dry_run:
            return DRY_RUN
        if self.classes is None:
            if request.gated:
                return CLASSES
        elif not request.classes & self.classes or not request.gated <= self.classes:
            return CLASSES
        if request.place.port_forward and not self.unmasked:
            return UNMASKED
        return MATCHED


class Deny(Compiled):
    """Matches whatever it may cover."""

    __slots__ = ()
    effect = "deny"

    def cover(self, place: Place) -> int:
        if not self.clusters.cover(place.cluster):
            return CLUSTERS
        if place.is_resource:
            if self.groups is not None and place.group not in self.groups:
                return API_GROUPS
            if not self._covers_resource(place):
                return RESOURCES
        elif self.urls is not None and not self.urls.whole and not self.urls.cover(place.path):
            return URLS
        # To kube-apiserver 1.35, opening a connection is a create too, whatever the method was.
        verbs = (*place.verbs, "create") if place.connects else place.verbs
        if self.verbs is not None and self.verbs.isdisjoint(verbs):
            return VERBS
        if self.namespaces is not None:
            if place.namespace:
                if not self.namespaces.cover(place.namespace):
                    return NAMESPACES
            elif not self.namespaces.all_but and not _spans_namespaces(place):
                return NAMESPACES
        return COVERED

    def reach(self, request: Request) -> int:
        named = request.name and request.place.verb not in COLLECTIONS
        if self.names and named and request.name not in self.names:
            return NAMES
        if self.dry_run is not None and self.dry_run is not request.dry_run:
            return DRY_RUN
        if self.classes is not None and not request.classes & self.classes:
            return CLASSES
        return MATCHED


def _any_or(words: tuple[str, ...] | None) -> frozenset[str] | None:
    """The words as a set; None if any will do."""
    return None if words is None or "*" in words else frozenset(words)


def _spans_namespaces(place: Place) -> bool:
    """Whether a request without a namespace may be for the objects of all of them."""
    return place.is_resource and (place.group, place.resource) not in CLUSTER_SCOPED
