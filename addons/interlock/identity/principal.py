"""The principal: who a session speaks for, as policy, the cluster and the evidence will name them.

In: names that an identity provider vouched for. Out: a frozen `Principal`, or `BadPrincipal`.

The rule: a name here may become an `Impersonate-User` or `Impersonate-Group` header upstream, so no name
can be one that Kubernetes gives a meaning of its own (`system:masters`), nor turn into one on the way (an
HTTP header value loses its outer white space), nor look like another person's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

MAX_NAME = 256
MAX_GROUPS = 500

RESERVED = "system:"
# Control, format (zero width, text direction), surrogate, private and unassigned characters, line and
# paragraph separators: none belongs in a name, and each can make one name look like another.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class BadPrincipal(ValueError):
    """A name that cannot be a principal's. `reason` is one line and shows the name only escaped."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_name(what: str, name: object) -> str:
    """`name` if it can stand for `what` ("user name", "group", …), upstream and in the evidence.

    Raises `BadPrincipal` if it is not a string of 1 to 256 characters, has outer white space or characters
    that cannot be seen, or begins with `system:`, which Kubernetes keeps for itself (its authentication
    documentation, "Users in Kubernetes").
    """
    if not isinstance(name, str):
        raise BadPrincipal(f"{what} is {type(name).__name__}, expected a string")
    if not name:
        raise BadPrincipal(f"{what} is empty")
    if len(name) > MAX_NAME:
        raise BadPrincipal(f"{what} has {len(name)} characters, at most {MAX_NAME} are allowed")
    if not (name.isascii() and name.isprintable()):
        for character in name:
            if unicodedata.category(character) in _UNFIT:
                raise BadPrincipal(f"{what} {name!a} holds the character U+{ord(character):04X}")
    if name != name.strip():
        raise BadPrincipal(f"{what} {name!a} begins or ends with white space")
    # NFKC folds full-width letters and the like: a look-alike of a reserved name is as unwelcome as it.
    if unicodedata.normalize("NFKC", name).casefold().startswith(RESERVED):
        raise BadPrincipal(f"{what} {name!a} begins with `{RESERVED}`, which Kubernetes keeps for itself")
    return name


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified identity.

    user, groups: names as policy and the cluster see them, prefixes included; groups without repeats, in
    the provider's order. issuer, subject: where the identity came from and its stable id there. agent: the
    program that acts, owner: the human that it acts for, each None if the provider does not say. claims:
    all claims of the identity token, for policies that match on one.

    Raises `BadPrincipal` for a name that `check_name` refuses, or for more than 500 groups.
    """

    user: str
    groups: tuple[str, ...]
    issuer: str
    subject: str
    agent: str | None = None
    owner: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        check_name("the user name", self.user)
        if len(self.groups) > MAX_GROUPS:
            raise BadPrincipal(f"{len(self.groups)} groups, at most {MAX_GROUPS} are allowed")
        for group in self.groups:
            check_name("the group", group)
        for what, name in (("the agent", self.agent), ("the owner", self.owner)):
            if name is not None:
                check_name(what, name)
        object.__setattr__(self, "groups", tuple(dict.fromkeys(self.groups)))
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))


MISSING: Any = object()
"""What `claim` gives for a claim that is not there (one that is null gives None)."""


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or `MISSING`. A longer name wins over a nested one.

    `a.b.c` is the claim of that name, else `c` in the object `a.b`, else `b.c` in the object `a`.
    """
    if path in claims:
        return claims[path]
    dot = path.rfind(".")
    while dot > 0:
        inner = claims.get(path[:dot])
        if isinstance(inner, dict) and (found := claim(inner, path[dot + 1 :])) is not MISSING:
            return found
        dot = path.rfind(".", 0, dot)
    return MISSING
