"""Request targets: what the API server will understand by a method and a target.

In: the method and the request target as they came off the wire. Out: a `Target`, which holds the one
canonical target to forward and the `RequestInfo` that the API server will compute from it, or `BadTarget`.

Rule: what is checked is what is sent. Whatever the API server, a proxy on the way or a reader of the record
could understand in two ways is refused here, and only `Target.canonical` is forwarded, never the raw target.

`_request_info` follows NewRequestInfo of kube-apiserver 1.36 (staging/src/k8s.io/apiserver/pkg/endpoints/
request/requestinfo.go) in its order and in its words, so that the two can be read side by side. Which query
parameters exist, and of what type, is the tables below; a parameter that is not there is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass
from urllib.parse import quote, unquote_to_bytes

# The longest target, in bytes. A command line that is longer does not fit an HTTP/2 header block of the
# usual 64 KiB either, and whether a request passes must not depend on the version of HTTP.
MAX_TARGET = 65536
# The most query parameters. Only `command` and `ports` repeat.
MAX_PARAMETERS = 1000
# The longest name in Kubernetes, in characters (validation.DNS1123SubdomainMaxLength).
MAX_SEGMENT = 253

# OPTIONS, TRACE and the rest: the API server gives them the verb "" and answers 405. CONNECT is the guard's.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

# Resources of the core group whose `proxy` subresource takes a path of its own behind it.
PROXIED = frozenset({"pods", "services", "nodes"})
NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
VERBS_WITH_SELECTORS = frozenset({"list", "watch", "deletecollection"})

# Query parameters by the type that the API server decodes them to (apimachinery/pkg/apis/meta/v1 and
# k8s.io/api/core/v1 types.go, the `json` names of the options types).
TEXT = "printable text"
BOOL = "true or false, in ASCII"  # the server folds case as Unicode does, where `ſ` is an `s`
INT = "a whole number"
DURATION = "a duration such as 30s"
LABELS = "a label selector such as app=web,tier in (a,b)"
FIELDS = "a field selector such as metadata.name=web"
DRY_RUN = "All"
ARGV = "text without NUL"
Parameters = dict[str, str]

# `timeout`: apiserver/pkg/endpoints/filters/request_deadline.go; `pretty`: handlers/negotiation.
_EVERY: Parameters = {"timeout": DURATION, "pretty": TEXT}
_GET: Parameters = {**_EVERY, "resourceVersion": TEXT, "includeObject": TEXT}
_LIST: Parameters = {
    **_GET, "labelSelector": LABELS, "fieldSelector": FIELDS, "watch": BOOL, "allowWatchBookmarks": BOOL,
    "resourceVersionMatch": TEXT, "timeoutSeconds": INT, "limit": INT, "continue": TEXT,
    "sendInitialEvents": BOOL, "shardSelector": TEXT,
}  # fmt: skip
_WRITE: Parameters = {**_EVERY, "dryRun": DRY_RUN, "fieldManager": TEXT, "fieldValidation": TEXT}
_DELETE: Parameters = {
    **_EVERY, "dryRun": DRY_RUN, "gracePeriodSeconds": INT, "orphanDependents": BOOL, "propagationPolicy": TEXT,
    "ignoreStoreReadErrorWithClusterBreakingPotential": BOOL,
}  # fmt: skip
_STREAMS: Parameters = {
    "timeout": DURATION, "stdin": BOOL, "stdout": BOOL, "stderr": BOOL, "tty": BOOL, "container": TEXT,
}  # fmt: skip

VERB_PARAMETERS: dict[str, Parameters] = {
    "get": _GET,
    "list": _LIST,
    "watch": _LIST,
    "create": _WRITE,
    "update": _WRITE,
    "patch": {**_WRITE, "force": BOOL},
    "delete": _DELETE,
    "deletecollection": {
        **_DELETE, "labelSelector": LABELS, "fieldSelector": FIELDS, "resourceVersion": TEXT,
        "resourceVersionMatch": TEXT, "timeoutSeconds": INT, "limit": INT, "continue": TEXT,
        "sendInitialEvents": BOOL,
    },
}  # fmt: skip
# By (resource, subresource) of the core group; these take the place of the verb's.
SUBRESOURCE_PARAMETERS: dict[tuple[str, str], Parameters] = {
    ("pods", "log"): {
        **_EVERY, "container": TEXT, "follow": BOOL, "previous": BOOL, "sinceSeconds": INT, "sinceTime": TEXT,
        "timestamps": BOOL, "tailLines": INT, "limitBytes": INT, "insecureSkipTLSVerifyBackend": BOOL,
        "stream": TEXT,
    },
    ("pods", "exec"): {**_STREAMS, "command": ARGV},
    ("pods", "attach"): _STREAMS,
    ("pods", "portforward"): {"timeout": DURATION, "ports": INT},
}  # fmt: skip
# Aggregated APIs that read parameters of their own (k8s.io/metrics, custom_metrics MetricListOptions).
GROUP_PARAMETERS: dict[str, Parameters] = {
    "custom.metrics.k8s.io": {"labelSelector": LABELS, "metricLabelSelector": LABELS},
}
# Discovery, OpenAPI, health checks, and the debug pages that a rule may name.
NON_RESOURCE_PARAMETERS: Parameters = {
    **_EVERY, "hash": TEXT, "verbose": TEXT, "exclude": TEXT, "seconds": INT, "debug": INT, "gc": INT,
}  # fmt: skip
REPEATABLE = frozenset({"command", "ports", "exclude"})

# RFC 3986: path and query, in the bytes that may stand there. `;` is left out: the API server drops a query
# pair that holds one, others take it for a separator.
_TARGET = re.compile(
    r"(/(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]++|%[0-9A-Fa-f]{2})*+)"
    r"(?:\?((?:[A-Za-z0-9\-._~!$&'()*+,=:@/?]++|%[0-9A-Fa-f]{2})*+))?"
)
# What a canonical segment or value leaves unescaped beside letters, digits and `-._~`.
_PATH_LITERALS = "!$&'()*+,=:@"
_QUERY_LITERALS = "!*(),:/@"
# No decoded segment holds these: a `/` or `\\` is a separator to some readers, `%` is a second encoding,
# `;` begins a parameter (RFC 3986, section 3.3). No name in Kubernetes has `/` or `%` (IsPathSegmentName).
_AMBIGUOUS = re.compile(r"[/\\%;]")
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_DURATION = re.compile(r"0|(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h)){1,6}")
# apimachinery/pkg/fields/selector.go: splitTerms, splitTerm and UnescapeValue.
_OPERATOR = re.compile(r"!=|==|=")
_FIELD_VALUE = re.compile(r"(?:[^\\,=]|\\[\\,=])*+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TERM = re.compile(r"(?:[^\\,]|\\.)*+\\?", re.DOTALL)
# apimachinery/pkg/labels/selector.go, Parse, and the validation of keys and values. Possessive, so that no
# input is read twice; blanks are spaces only.
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN = r"(?=[-a-z0-9.]{1,253}/)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_KEY = rf"(?>(?:{_SUBDOMAIN}/)?{_NAME})"
_VALUE = rf" *+(?>{_NAME})?+"
_REQUIREMENT = (
    rf"(?> *+(?:{_KEY} ++(?:not)?in *+\({_VALUE}(?> *+,{_VALUE})*+ *+\)"
    rf"|{_KEY} *+(?:(?:==?|!=){_VALUE}|[<>] *+[+-]?[0-9]{{1,18}})"
    rf"|(?:! *+)?{_KEY}) *+)"
)
_LABEL_SELECTOR = re.compile(rf"(?:{_REQUIREMENT}(?:,{_REQUIREMENT})*+)?")


class BadTarget(ValueError):
    """A method or target that is refused.

    reason: one line for the client: what was wrong, what was expected. code: 400 for what has no one
    meaning, 404 for what the API server does not serve, 405 for a method.
    """

    def __init__(self, reason: str, code: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What kube-apiserver computes from a request (RequestInfo in requestinfo.go, the same fields).

    verb: get list watch create update patch delete deletecollection; for a non-resource request the method
    in lower case. namespace: "" for cluster-scoped resources and for requests over all namespaces; the
    namespace's own name for `namespaces/NAME`. name: the path's, or for list and watch that of a field
    selector `metadata.name=NAME`. parts: the path from the resource on.
    """

    is_resource: bool
    path: str
    verb: str
    api_prefix: str
    api_group: str
    api_version: str
    namespace: str
    resource: str
    subresource: str
    name: str
    parts: tuple[str, ...]
    label_selector: str
    field_selector: str


@dataclass(frozen=True, slots=True)
class Target:
    """A target that has been understood. Made by `parse_target` alone.

    canonical: path[?query] to forward, in ASCII. query: the decoded parameters in the order in which they came.
    streams: "watch" (JSON lines), "log" (text lines), "connect" (exec, attach, portforward, proxy) or "".
    command: the argv of an exec, else ().
    """

    method: str
    canonical: str
    query: tuple[tuple[str, str], ...]
    info: RequestInfo
    streams: str
    command: tuple[str, ...]
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a Target is made by parse_target alone")


_SEAL = object()


def parse_target(method: str, raw: str | bytes) -> Target:
    """The one meaning of a method and an origin-form target (RFC 9112, section 3.2.1).

    raw: the target as sent, still percent-encoded, at most MAX_TARGET bytes. Raises BadTarget.
    """
    if method not in METHODS:
        raise BadTarget(
            f"the method {_quote(method)} is not one of Kubernetes' (GET, HEAD, POST, PUT, PATCH, DELETE)",
            405,
        )
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    match = _TARGET.fullmatch(text) if len(text) <= MAX_TARGET else None
    if match is None:
        raise _not_a_target(text)
    raw_path, raw_query = match.groups()

    segments = _segments(raw_path)
    subpath = _proxy_subpath(segments)
    if subpath:
        _check_segments(segments[:subpath])
        _check_segments([segment for segment in segments[subpath:] if segment])
    else:
        if not segments[-1]:
            # The API server serves a path with one trailing slash as that without; the canonical form has none.
            segments.pop()
        _check_segments(segments)

    query = _query(raw_query) if raw_query else ()
    info = _request_info(method, "/" + "/".join(segments), query)

    if subpath:
        # What stands behind `proxy` is the backend's, not Kubernetes': it goes on as it was sent.
        canonical = _encode(segments[:subpath])
        canonical += "".join("/" + part for part in raw_path[1:].split("/")[subpath:])
        if query:
            canonical += f"?{raw_query}"
        return Target(method, canonical, query, info, "connect", (), _SEAL)
    if len(info.parts) > 3:
        raise BadTarget(f"nothing is served below {_quote(info.resource + '/' + info.subresource)}", 404)
    canonical = _encode(segments) if "%" in raw_path else info.path
    if query:
        _check_parameters(info, query)
        canonical += "?" + "&".join([f"{key}={_encode_value(value)}" for key, value in query])
    return Target(method, canonical, query, info, *_stream(info, query), _SEAL)


def _request_info(method: str, path: str, query: Sequence[tuple[str, str]]) -> RequestInfo:
    """NewRequestInfo, top to bottom. path: decoded once, from "/" on."""
    verb = method.lower()
    current = _split_path(path)
    if len(current) < 3 or current[0] not in ("api", "apis"):
        return _non_resource(path, verb)
    prefix, current = current[0], current[1:]
    group = ""
    if prefix == "apis":
        if len(current) < 3:
            return _non_resource(path, verb, prefix)
        group, current = current[0], current[1:]
    version, current = current[0], current[1:]

    # /{special verb}/*
    by_prefix = False
    if current[0] == "proxy":
        raise BadTarget("the /proxy/ prefix was removed from Kubernetes; use the proxy subresource", 404)
    if current[0] == "watch":
        if len(current) < 2:
            raise BadTarget("nothing follows the /watch/ prefix; expected a resource")
        if method != "GET":
            raise BadTarget("what stands behind the /watch/ prefix is read by GET", 405)
        verb, current = "watch", current[1:]
        by_prefix = True
    else:
        verb = VERBS[method]

    # /namespaces/{namespace}/{resource}/*: parts are made relative to the resource
    namespace = ""
    if current[0] == "namespaces" and len(current) > 1:
        namespace = current[1]
        if len(current) > 2 and current[2] not in NAMESPACE_SUBRESOURCES:
            current = current[2:]

    parts = tuple(current)
    resource = parts[0]
    name = parts[1] if len(parts) >= 2 else ""
    subresource = parts[2] if len(parts) >= 3 else ""

    label_selector = field_selector = ""
    if not name and verb == "get":
        verb = "watch" if _bool(_value(query, "watch")) else "list"
        exact = _exact_match(_value(query, "fieldSelector") or "", "metadata.name")
        if exact not in (".", "..") and "/" not in exact and "%" not in exact:
            name = exact
    elif not name and verb == "delete":
        verb = "deletecollection"
    if not by_prefix and verb in VERBS_WITH_SELECTORS:
        field_selector = _value(query, "fieldSelector") or ""
        label_selector = _value(query, "labelSelector") or ""

    return RequestInfo(
        is_resource=True,
        path=path,
        verb=verb,
        api_prefix=prefix,
        api_group=group,
        api_version=version,
        namespace=namespace,
        resource=resource,
        subresource=subresource,
        name=name,
        parts=parts,
        label_selector=label_selector,
        field_selector=field_selector,
    )


def _non_resource(path: str, verb: str, prefix: str = "") -> RequestInfo:
    return RequestInfo(False, path, verb, prefix, "", "", "", "", "", "", (), "", "")


def _split_path(path: str) -> list[str]:
    path = path.strip("/")
    return path.split("/") if path else []


def _bool(value: str | None) -> bool:
    """runtime.Convert_Slice_string_To_bool: only absence, `0` and `false` in any case are false."""
    return value is not None and value != "0" and value.lower() != "false"


def _value(query: Sequence[tuple[str, str]], key: str) -> str | None:
    for name, value in query:
        if name == key:
            return value
    return None


def _exact_match(selector: str, field: str) -> str:
    """The value that a field selector requires of a field, or "" (apimachinery/pkg/fields/selector.go).

    ParseSelector sorts the terms first, so of two requirements the first in that order counts.
    Raises BadTarget for a selector that does not parse.
    """
    found = ""
    for term in sorted(_terms(selector), reverse=True):
        if not term:
            continue
        operator = _OPERATOR.search(term)
        if operator is None:
            raise _bad_value("fieldSelector", FIELDS)
        value = term[operator.end() :]
        if not _FIELD_VALUE.fullmatch(value):
            raise _bad_value("fieldSelector", FIELDS)
        if operator.group() != "!=" and term[: operator.start()] == field:
            found = _ESCAPED.sub(r"\1", value)
    return found


def _terms(selector: str) -> list[str]:
    """The comma-separated terms; a comma behind a backslash does not separate."""
    if "\\" not in selector:
        return selector.split(",")
    terms, at = [], 0
    while at <= len(selector):
        match = _TERM.match(selector, at)
        assert match is not None
        terms.append(match.group())
        at = match.end() + 1
    return terms


def _stream(info: RequestInfo, query: Sequence[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """What kind of stream the answer is, and the argv of an exec."""
    if info.verb == "watch":
        return "watch", ()
    if info.api_group == "" and info.resource == "pods":
        if info.subresource == "log":
            return "log", ()
        if info.subresource in ("attach", "portforward"):
            return "connect", ()
        if info.subresource == "exec":
            return "connect", tuple([value for key, value in query if key == "command"])
    return "", ()


# Decoding


def _segments(raw_path: str) -> list[str]:
    """The path's segments, decoded once."""
    segments = raw_path[1:].split("/")
    if "%" not in raw_path:
        return segments
    return [_decode(segment, "path") if "%" in segment else segment for segment in segments]


def _decode(text: str, where: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadTarget(f"the {where} is not UTF-8 once its %-escapes are decoded") from None


def _proxy_subpath(segments: Sequence[str]) -> int:
    """The index of the first segment behind a `proxy` subresource; 0 for a target that is none."""
    at = 4 if len(segments) > 6 and segments[2] == "namespaces" else 2
    if (
        len(segments) > at + 2
        and segments[0] == "api"
        and segments[at] in PROXIED
        and segments[at + 2] == "proxy"
    ):
        return at + 3
    return 0


def _check_segments(segments: Sequence[str]) -> None:
    """Refuse what is no plain segment: empty, `.`, `..`, separators, a second encoding, unprintable text."""
    for segment in segments:
        if not segment:
            raise BadTarget("the path has an empty segment (`//`); give each segment, or leave it out")
        if segment in (".", ".."):
            raise BadTarget("the path has a `.` or `..` segment; send the path that is meant")
        if _AMBIGUOUS.search(segment):
            raise BadTarget(
                "a path segment holds an encoded `/`, `\\`, `;` or `%`; no Kubernetes name has these"
            )
        if not segment.isprintable():
            raise BadTarget("a path segment holds a control or invisible character")
        if len(segment) > MAX_SEGMENT:
            raise BadTarget(
                f"a path segment is longer than {MAX_SEGMENT} characters, the longest name in Kubernetes"
            )


def _encode(segments: Sequence[str]) -> str:
    return "/" + "/".join([quote(segment, safe=_PATH_LITERALS) for segment in segments])


def _encode_value(value: str) -> str:
    return value if value.isascii() and value.isalnum() else quote(value, safe=_QUERY_LITERALS)


def _query(raw: str) -> tuple[tuple[str, str], ...]:
    """The parameters in their order, decoded once, empty pairs left out (net/url.parseQuery)."""
    if raw.count("&") >= MAX_PARAMETERS:
        raise BadTarget(f"the query has more than {MAX_PARAMETERS} parameters")
    query = []
    for pair in raw.split("&"):
        if pair:
            key, _, value = pair.partition("=")
            if "%" in key or "+" in key:
                key = _decode(key.replace("+", " "), "query")
            if "%" in value or "+" in value:
                value = _decode(value.replace("+", " "), "query")
            query.append((key, value))
    return tuple(query)


# Checks of parameters


def _parameters(info: RequestInfo) -> Parameters:
    """The parameters that the API server reads for this request."""
    if not info.is_resource:
        return NON_RESOURCE_PARAMETERS
    if info.subresource and info.api_group == "":
        own = SUBRESOURCE_PARAMETERS.get((info.resource, info.subresource))
        if own is not None:
            return own
    own = VERB_PARAMETERS[info.verb]
    extra = GROUP_PARAMETERS.get(info.api_group)
    return own if extra is None else {**own, **extra}


def _check_parameters(info: RequestInfo, query: Sequence[tuple[str, str]]) -> None:
    allowed = _parameters(info)
    seen: set[str] = set()
    for key, value in query:
        kind = allowed.get(key)
        if kind is None:
            near = [name for name in allowed if name.lower() == key.lower()]
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadTarget(
                f"the query parameter {_quote(key)} is not one of Kubernetes' for this request{hint}"
            )
        if key in seen and key not in REPEATABLE:
            raise BadTarget(f"the query parameter {key} is there more than once; send it once")
        seen.add(key)
        if not _CHECKS[kind](value):
            raise _bad_value(key, kind)


def _is_int(value: str) -> bool:
    """strconv.ParseInt(value, 10, 64)"""
    return _INT.fullmatch(value) is not None and -(2**63) <= int(value) < 2**63


_CHECKS: dict[str, Callable[[str], bool]] = {
    TEXT: str.isprintable,
    BOOL: lambda value: value.isascii() and value.isprintable(),
    INT: _is_int,
    DURATION: lambda value: _DURATION.fullmatch(value) is not None,
    LABELS: lambda value: _LABEL_SELECTOR.fullmatch(value) is not None,
    FIELDS: lambda value: value.isprintable() and isinstance(_exact_match(value, ""), str),
    DRY_RUN: lambda value: value == "All",
    ARGV: lambda value: "\0" not in value,
}


# Refusals


def _bad_value(key: str, expected: str) -> BadTarget:
    return BadTarget(f"the query parameter {key} has a value that is not understood; expected {expected}")


def _quote(text: str) -> str:
    """At most 40 characters of the client's text, fit for one line."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def _not_a_target(text: str) -> BadTarget:
    """Why a target that the grammar does not take is refused, in one line."""
    if len(text) > MAX_TARGET:
        return BadTarget(f"the target is longer than {MAX_TARGET} bytes")
    if not text.startswith("/"):
        return BadTarget("the target does not begin with `/`; expected a path such as /api/v1/pods")
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        return BadTarget("the target has a `%` that is no %-escape")
    bad = next(c for c in text if not re.match(r"[A-Za-z0-9\-._~!$&'()*+,=:@/?%]", c))
    return BadTarget(f"the target holds {bad!a}, which must be %-escaped there (RFC 3986)")
