import pytest

from interlock.kube.negotiation import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    STRIPPED_REQUEST_HEADERS,
    request_headers,
    response_headers,
    rewrite_accept,
    upgrade_headers,
)
from interlock.kube.target import parse_target

PODS = parse_target("GET", "/api/v1/namespaces/default/pods").info
LOG = parse_target("GET", "/api/v1/namespaces/default/pods/web/log").info
HEALTH = parse_target("GET", "/healthz").info
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

ACCEPT = [
    (None, "application/json"),
    ("", "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("application/json", "application/json"),
    ("APPLICATION/JSON", "application/json"),
    ("application/json;stream=watch", "application/json"),
    ("application/vnd.kubernetes.protobuf", "application/json"),
    ("application/vnd.kubernetes.protobuf,application/json", "application/json"),
    ("application/vnd.kubernetes.protobuf;q=0.9, application/json;q=0.1", "application/json"),
    ("application/cbor,application/json", "application/json"),
    ("application/yaml", "application/json"),
    ("text/html", "application/json"),
    ("text/plain", "application/json"),
    ("nonsense", "application/json"),
    ("application/json;q=0", "application/json"),
    ("application/json;as=Table;v=v1;g=meta.k8s.io;q=0, */*", "application/json"),
    # kubectl get, k9s
    (
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        f"{TABLE}, application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
    ),
    ('application/json; as=Table; g="meta.k8s.io"; v=v1', TABLE),
    ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", TABLE),
    # metadata informers
    (
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,"
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io, application/json",
    ),
    (
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    ),
    # discovery
    (
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
        "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io, "
        "application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io, application/json",
    ),
    # OpenAPI
    ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/json"),
    ("application/com.github.proto-openapi.spec.v3.v1.0+protobuf", "application/json"),
    # what masking does not know falls away
    ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "application/json"),
    ("application/json;as=Raw;v=v1;g=meta.k8s.io", "application/json"),
    ("application/json;as=Table;v=v1", "application/json"),
    ("application/json;as=Table\r\nX: y;v=v1;g=meta.k8s.io", "application/json"),
]


@pytest.mark.parametrize(("sent", "upstream"), ACCEPT)
def test_every_encoding_of_an_object_is_asked_for_as_json(sent, upstream):
    assert rewrite_accept(sent, PODS) == upstream
    assert rewrite_accept(sent, HEALTH) == upstream


def test_logs_may_come_as_text():
    assert rewrite_accept("application/json, */*", LOG) == "application/json, text/plain"
    assert rewrite_accept(TABLE, LOG) == f"{TABLE}, application/json, text/plain"


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
def test_a_connection_that_names_no_type_is_not_turned_away_for_the_one_that_we_add(subresource):
    info = parse_target("GET", f"/api/v1/namespaces/a/pods/b/{subresource}").info
    assert rewrite_accept(None, info) == "application/json, */*"


def test_headers_that_are_not_named_do_not_pass():
    sent = [
        *((name, b"x") for name in STRIPPED_REQUEST_HEADERS),
        (b"X-Anything", b"x"),
        (b"Impersonate-Extra-Scopes", b"x"),
        (b"X-Remote-Extra-Scopes", b"x"),
        (b"X-Forwarded-Host", b"x"),
        (b"Cookie2", b"x"),
    ]
    assert request_headers(sent, PODS, None) == (
        (b"Accept", b"application/json"),
        (b"Accept-Encoding", b"identity"),
    )


def test_headers_that_are_named_pass_as_they_came():
    sent = [
        (b"USER-AGENT", b"kubectl/v1.37"),
        (b"Kubectl-Command", b"kubectl get"),
        (b"kubectl-session", b"1"),
        (b"If-None-Match", b'"etag"'),
        (b"If-Modified-Since", b"Mon"),
        (b"User-Agent", b"second"),
    ]
    out = request_headers(sent, PODS, None)
    assert out[2:] == tuple(sent[:-1])


def test_accept_headers_are_read_together():
    sent = [(b"Accept", b"text/html"), (b"accept", TABLE.encode())]
    assert request_headers(sent, PODS, None)[0] == (b"Accept", TABLE.encode())


def test_the_content_type_is_the_canonical_bodys():
    sent = [(b"Content-Type", b"application/yaml")]
    assert request_headers(sent, PODS, "application/json")[-1] == (b"Content-Type", b"application/json")


def test_no_header_is_both_forwarded_and_stripped():
    assert not REQUEST_HEADERS.keys() & STRIPPED_REQUEST_HEADERS.keys()
    for name in (*REQUEST_HEADERS, *STRIPPED_REQUEST_HEADERS, *RESPONSE_HEADERS):
        assert name == name.lower()


def test_of_the_clusters_headers_those_pass_that_clients_need():
    came = [
        (b"Content-Type", b"application/json"),
        (b"Audit-Id", b"1"),
        (b"Warning", b'299 - "old"'),
        (b"ETag", b"x"),
        (b"Retry-After", b"1"),
    ]
    hidden = [
        (b"Set-Cookie", b"x"),
        (b"Location", b"https://10.0.0.1/"),
        (b"WWW-Authenticate", b"Bearer"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"Keep-Alive", b"x"),
        (b"Server", b"x"),
        (b"X-Webhook-Says", b"secret"),
        (b"Strict-Transport-Security", b"x"),
    ]
    assert response_headers([*hidden, *came]) == tuple(came)


def test_of_an_upgrades_headers_the_handshakes_pass():
    came = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", b"x"),
        (b"Sec-Websocket-Protocol", b"v5.channel.k8s.io"),
        (b"Audit-Id", b"1"),
    ]
    hidden = [(b"Sec-WebSocket-Extensions", b"permessage-deflate"), (b"Set-Cookie", b"x"), (b"Warning", b"x")]
    assert upgrade_headers([*came, *hidden]) == tuple(came)
