"""Headers: what of a client's and of the API server's passes, and in which form objects are asked for.

In: headers as they came, (name, value) in bytes. Out: those that go on. The rules: an object comes back as
JSON, because nothing else can be masked; a header that is not named here does not pass, in either direction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.kube.target import RequestInfo

Header = tuple[bytes, bytes]

# Accept ------------------------------------------------------------------------------------------------

JSON = "application/json"

# Media types that stand for an object in some encoding, and become JSON with their parameters kept.
OBJECT_TYPES = frozenset(
    {
        "application/json",
        "application/yaml",
        "application/cbor",
        "application/cbor-seq",
        "application/vnd.kubernetes.protobuf",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        "application/vnd.api+json",
        "application/*",
        "*/*",
    }
)

# The transformations that a client may ask for: (as, group) -> versions (apiserver,
# pkg/endpoints/handlers/response.go and pkg/endpoints/discovery/aggregated).
TRANSFORMS = {
    ("Table", "meta.k8s.io"): frozenset({"v1", "v1beta1"}),
    ("PartialObjectMetadata", "meta.k8s.io"): frozenset({"v1", "v1beta1"}),
    ("PartialObjectMetadataList", "meta.k8s.io"): frozenset({"v1", "v1beta1"}),
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io"): frozenset({"v2", "v2beta1"}),
}

# Subresources that answer with text instead of an object.
TEXT_SUBRESOURCES = frozenset({"log", "proxy"})

# Subresources that switch protocols. The API server hands Accept on to the kubelet, whose port-forward answers
# 406 to one that names media types alone (go-restful: a route without Produces takes */*).
UPGRADED_SUBRESOURCES = frozenset({"exec", "attach", "portforward"})


def rewrite_accept(value: str | None, info: RequestInfo) -> str:
    """The Accept header to send upstream for the client's `value` (None: none was sent).

    Every encoding of an object becomes application/json, a transformation that masking knows keeps its
    `as`, `g` and `v` parameters, and an unknown one falls away, as do quality values (Kubernetes' clients
    order by preference) and ranges with q=0. Nothing left: application/json.
    """
    ranges: list[str] = []
    for item in (value or "").split(","):
        media, *rest = (part.strip() for part in item.split(";"))
        parameters: dict[str, str] = {}
        for part in rest:
            name, _, text = part.partition("=")
            parameters.setdefault(name.strip().lower(), text.strip().strip('"'))
        if media.lower() not in OBJECT_TYPES or _zero(parameters.get("q", "1")):
            continue
        if "as" not in parameters:
            ranges.append(JSON)
            continue
        transform, group, version = parameters["as"], parameters.get("g", ""), parameters.get("v", "")
        if version in TRANSFORMS.get((transform, group), ()):
            ranges.append(f"{JSON};as={transform};v={version};g={group}")
    if info.is_resource and info.subresource in TEXT_SUBRESOURCES:
        ranges += [JSON, "text/plain"]
    if info.is_resource and info.subresource in UPGRADED_SUBRESOURCES:
        ranges += [JSON, "*/*"]
    return ", ".join(dict.fromkeys(ranges)) or JSON


def _zero(quality: str) -> bool:
    return quality.startswith("0") and not quality.strip("0.")


# The client's headers ----------------------------------------------------------------------------------

# Those that go on, each with why. Every other is dropped.
REQUEST_HEADERS = {
    b"accept": "rewritten to JSON: rewrite_accept",
    b"user-agent": "names the client in the cluster's audit log",
    b"kubectl-command": "kubectl's claim of what it runs: recorded, never trusted",
    b"kubectl-session": "kubectl's claim of which requests belong together: recorded, never trusted",
    b"if-none-match": "discovery and OpenAPI caches ask with it; 304 has no body to mask",
    b"if-modified-since": "as if-none-match",
}

# Those that are known and must not go on. They are dropped like every unknown one; the table says why, and a
# test holds the two apart.
STRIPPED_REQUEST_HEADERS = {
    b"authorization": "the agent's session token; the credential stage sets the cluster's",
    b"proxy-authorization": "the agent's",
    b"cookie": "no session of ours or the cluster's lives in one",
    b"impersonate-user": "who acts is the gateway's to say; the first duplicate would win",
    b"impersonate-group": "as impersonate-user",
    b"impersonate-uid": "as impersonate-user",
    b"x-remote-user": "an authenticating front proxy's word, which the agent is not",
    b"x-remote-group": "as x-remote-user",
    b"x-remote-uid": "as x-remote-user",
    b"x-forwarded-for": "would forge the source address in the cluster's audit log",
    b"x-forwarded-uri": "prefixes links in the API server's answers",
    b"x-real-ip": "as x-forwarded-for",
    b"forwarded": "as x-forwarded-for",
    b"audit-id": "the gateway's own joins its evidence to the cluster's audit log",
    b"x-http-method-override": "what is checked is the method that is sent",
    b"accept-encoding": "identity is asked for: a compressed body cannot be masked",
    b"content-type": "set to what the canonical body is",
    b"content-encoding": "the API server ignores it, so a body would be read in two ways",
    b"content-length": "counted anew for the canonical body",
    b"transfer-encoding": "hop by hop (RFC 9110, section 7.6.1)",
    b"te": "hop by hop",
    b"trailer": "hop by hop",
    b"connection": "hop by hop; an upgrade gets the gateway's own",
    b"keep-alive": "hop by hop",
    b"proxy-connection": "hop by hop",
    b"upgrade": "an upgrade gets the gateway's own",
    b"http2-settings": "h2c smuggling (RFC 9113, section 3.1)",
    b"sec-websocket-key": "an upgrade gets the gateway's own set",
    b"sec-websocket-version": "as sec-websocket-key",
    b"sec-websocket-protocol": "can carry a bearer token (base64url.bearer.authorization.k8s.io)",
    b"sec-websocket-extensions": "compressed frames cannot be masked",
    b"x-stream-protocol-version": "SPDY's, which is refused",
    b"host": "the cluster's configured address",
    b"expect": "the body is here in full before it is forwarded",
    b"range": "a part of a body cannot be masked",
}


def request_headers(
    headers: Iterable[Header], info: RequestInfo, media_type: str | None
) -> tuple[Header, ...]:
    """The client's headers as they go upstream, without credentials.

    media_type: of the canonical body, None when there is none. Accept is always there and asks for JSON,
    Accept-Encoding for identity. Of a header that is sent twice the first counts; Accept's are joined.
    """
    accept: list[str] = []
    kept: dict[bytes, Header] = {}
    for name, value in headers:
        low = name.lower()
        if low == b"accept":
            accept.append(value.decode("latin-1"))
        elif low in REQUEST_HEADERS:
            kept.setdefault(low, (name, value))
    out = [
        (b"Accept", rewrite_accept(",".join(accept), info).encode("latin-1")),
        (b"Accept-Encoding", b"identity"),
        *kept.values(),
    ]
    if media_type is not None:
        out.append((b"Content-Type", media_type.encode("latin-1")))
    return tuple(out)


# The API server's headers ------------------------------------------------------------------------------

# Those that reach the agent, each with why. Not here, so dropped: Set-Cookie, Location, WWW-Authenticate
# (they speak of the cluster's credential and address, not of the agent's), Content-Encoding and -Length (the
# body is masked), everything hop by hop, and whatever a webhook or an aggregated server invents.
RESPONSE_HEADERS = {
    b"content-type": "the client chooses its decoder by it",
    b"audit-id": "the exchange's id in the evidence, and in the cluster's audit log",
    b"cache-control": "discovery and OpenAPI caches; `no-cache, private` elsewhere",
    b"date": "RFC 9110, section 6.6.1",
    b"etag": "discovery and OpenAPI caches",
    b"last-modified": "as etag",
    b"expires": "as etag",
    b"vary": "as etag",
    b"retry-after": "the API server's own throttling (429): client-go waits by it",
    b"warning": "deprecations; kubectl prints it",
    b"x-content-type-options": "nosniff",
    b"x-kubernetes-pf-flowschema-uid": "priority and fairness, for people who debug throttling",
    b"x-kubernetes-pf-prioritylevel-uid": "as x-kubernetes-pf-flowschema-uid",
}

# Those of a 101 that the websocket handshake needs (RFC 6455, section 4.2.2); no extensions, none was asked.
UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"sec-websocket-accept", b"sec-websocket-protocol"})


def response_headers(headers: Iterable[Header]) -> tuple[Header, ...]:
    """Of the API server's headers, those that may reach the agent, as they came."""
    return tuple(header for header in headers if header[0].lower() in RESPONSE_HEADERS)


def upgrade_headers(headers: Iterable[Header]) -> tuple[Header, ...]:
    """Of a 101's headers, those that may reach the agent."""
    return tuple(
        header for header in headers if (low := header[0].lower()) in UPGRADE_HEADERS or low == b"audit-id"
    )
