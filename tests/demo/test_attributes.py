"""The demo's server reads a request line as kube-apiserver does (results measured on a real 1.36)."""

import pytest

from interlock.demo.attributes import attributes


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        # (verb, group, version, namespace, resource, name, subresource)
        ("GET", "/api/v1/namespaces", ("list", "", "v1", "", "namespaces", "", "")),
        ("GET", "/api/v1/namespaces/shop", ("get", "", "v1", "shop", "namespaces", "shop", "")),
        (
            "PUT",
            "/api/v1/namespaces/shop/finalize",
            ("update", "", "v1", "shop", "namespaces", "shop", "finalize"),
        ),
        ("GET", "/api/v1/namespaces/shop/pods", ("list", "", "v1", "shop", "pods", "", "")),
        ("HEAD", "/api/v1/namespaces/shop/pods/a", ("get", "", "v1", "shop", "pods", "a", "")),
        ("GET", "/api/v1/namespaces/shop/pods/a/log", ("get", "", "v1", "shop", "pods", "a", "log")),
        (
            "POST",
            "/apis/apps/v1/namespaces/shop/deployments",
            ("create", "apps", "v1", "shop", "deployments", "", ""),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/shop/deployments/d",
            ("patch", "apps", "v1", "shop", "deployments", "d", ""),
        ),
        ("DELETE", "/api/v1/namespaces/shop/pods", ("deletecollection", "", "v1", "shop", "pods", "", "")),
        ("DELETE", "/api/v1/namespaces/shop/pods/a", ("delete", "", "v1", "shop", "pods", "a", "")),
        ("FOO", "/api/v1/namespaces/shop/pods/a", ("", "", "v1", "shop", "pods", "a", "")),
        # an empty namespace is all namespaces
        ("GET", "/api/v1/namespaces//secrets", ("list", "", "v1", "", "secrets", "", "")),
        # decoded once, then split
        (
            "GET",
            "/api/v1/namespaces/default%2fsecrets%2fs1",
            ("get", "", "v1", "default", "secrets", "s1", ""),
        ),
        ("GET", "/%61pi/v1/%73ecrets", ("list", "", "v1", "", "secrets", "", "")),
        ("GET", "/api/v1/secrets//", ("list", "", "v1", "", "secrets", "", "")),
        # a host in the target is of no interest
        ("GET", "https://other.example/api/v1/pods?limit=1", ("list", "", "v1", "", "pods", "", "")),
        # the legacy prefixes
        ("GET", "/api/v1/watch/namespaces/shop/secrets/s", ("watch", "", "v1", "shop", "secrets", "s", "")),
        ("GET", "/api/v1/proxy/namespaces/shop/pods/a", ("proxy", "", "v1", "shop", "pods", "a", "")),
        ("GET", "/api/v1/watch", ("watch", "", "v1", "", "", "", "")),
        # not a resource
        ("GET", "/version", ("get", "", "", "", "", "", "")),
        ("POST", "/apis/apps/v1", ("post", "", "", "", "", "", "")),
        ("GET", "//api/v1/secrets", ("get", "", "", "", "", "", "")),
        ("GET", "*", ("get", "", "", "", "", "", "")),
    ],
)
def test_the_request_line_is_read_as_the_real_server_reads_it(
    method: str, target: str, expected: tuple[str, ...]
) -> None:
    seen = attributes(method, target)
    assert (
        seen.verb,
        seen.group,
        seen.version,
        seen.namespace,
        seen.resource,
        seen.name,
        seen.subresource,
    ) == expected


@pytest.mark.parametrize(
    ("query", "verb"),
    [
        ("watch=true", "watch"),
        ("watch", "watch"),
        ("watch=", "watch"),
        ("watch=no", "watch"),
        ("watch=0", "list"),
        ("watch=False", "list"),
        ("watch=1;x=2", "list"),
        ("watch=%zz", "list"),
        ("watch=false&watch=true", "list"),
        ("", "list"),
    ],
)
def test_a_watch_is_what_go_takes_for_true(query: str, verb: str) -> None:
    assert attributes("GET", f"/api/v1/pods?{query}").verb == verb


def test_parameters_keep_order_and_are_decoded() -> None:
    seen = attributes("GET", "/api/v1/namespaces/s/pods/p/exec?command=sh&command=-c&command=a+b%26c&&x")
    assert seen.every("command") == ("sh", "-c", "a b&c")
    assert seen.first("command") == "sh"
    assert seen.first("absent", "default") == "default"


def test_what_follows_the_subresource_is_kept() -> None:
    assert attributes("GET", "/api/v1/namespaces/s/services/x/proxy/a/b").rest == ("a", "b")


def test_a_broken_escape_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid URL escape"):
        attributes("GET", "/api/v1/pods%zz")
