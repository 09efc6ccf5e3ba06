"""What an API server makes of a request line, with all its leniency.

In: method and raw target as they came over the wire. Out: `Attributes`. This is on purpose not the
gateway's strict parser: it follows `RequestInfoFactory.NewRequestInfo` (Kubernetes,
apiserver/pkg/endpoints/request/requestinfo.go) and Go's url.ParseQuery in what they let through, so
that a target which the gateway should have refused is served here and a test can see the damage.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Attributes:
    """One request as the server sees it; `resource` is empty for a non-resource path."""

    path: str
    query: tuple[tuple[str, str], ...]
    verb: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    rest: tuple[str, ...] = ()

    def first(self, key: str, default: str = "") -> str:
        """The first value of a query parameter, as Go's `Values.Get`."""
        return next((value for name, value in self.query if name == key), default)

    def every(self, key: str) -> tuple[str, ...]:
        """All values of a query parameter in order (exec's `command`)."""
        return tuple(value for name, value in self.query if name == key)

    def flag(self, key: str) -> bool:
        """A boolean option: absent, `0` and `false` are false, anything else is true (conversion.Convert_Slice_string_To_bool)."""
        return any(name == key for name, _ in self.query) and self.first(key).lower() not in ("0", "false")


def attributes(method: str, target: str) -> Attributes:
    """Reads a request line. Raises ValueError for a path with a broken escape (Go: 400)."""
    raw_path, _, raw_query = _origin_form(target).partition("?")
    if _BAD_ESCAPE.search(raw_path):
        raise ValueError("invalid URL escape in the path")
    path = unquote_to_bytes(raw_path).decode("utf-8", "surrogateescape")
    query = tuple(_pairs(raw_query))
    parts = path.strip("/").split("/")
    non_resource = Attributes(path, query, method.lower())
    # The server's mux matches whole prefixes: two leading slashes are another path.
    if path.startswith("//") or len(parts) < 3 or parts[0] not in ("api", "apis"):
        return non_resource
    if parts[0] == "api":
        group, version, parts = "", parts[1], parts[2:]
    elif len(parts) < 4:
        return non_resource
    else:
        group, version, parts = parts[1], parts[2], parts[3:]
    verb = VERBS.get(method, "")
    if parts[0] in ("watch", "proxy"):
        verb, parts = parts[0], parts[1:]
    namespace = ""
    if len(parts) > 1 and parts[0] == "namespaces":
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    resource, name, subresource = [*parts, "", "", ""][:3]
    if not name and verb == "get":
        verb = "watch" if non_resource.flag("watch") else "list"
    elif not name and verb == "delete":
        verb = "deletecollection"
    return Attributes(
        path, query, verb, group, version, namespace, resource, name, subresource, tuple(parts[3:])
    )


def _origin_form(target: str) -> str:
    """The path and query of an absolute-form target, whatever its host (Go serves any)."""
    if target.startswith("/"):
        return target
    _, scheme, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if scheme else target


def _pairs(query: str) -> list[tuple[str, str]]:
    """Go's url.ParseQuery: a pair with a semicolon or a broken escape is dropped, silently."""
    pairs = []
    for pair in query.split("&"):
        if not pair or ";" in pair or _BAD_ESCAPE.search(pair):
            continue
        key, _, value = (
            unquote_to_bytes(part.replace("+", " ")).decode("utf-8", "replace")
            for part in pair.partition("=")
        )
        pairs.append((key, value))
    return pairs
