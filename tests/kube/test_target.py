"""What the API server will understand by a target, and that nothing with a second meaning goes on."""

from __future__ import annotations

import string
from dataclasses import replace
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interlock.kube import target as module
from interlock.kube.target import (
    GROUP_PARAMETERS,
    MAX_PARAMETERS,
    MAX_SEGMENT,
    MAX_TARGET,
    NON_RESOURCE_PARAMETERS,
    REPEATABLE,
    SUBRESOURCE_PARAMETERS,
    VERB_PARAMETERS,
    BadTarget,
    Target,
    parse_target,
)


def seen(method: str, raw: str) -> tuple[str, str, str, str, str, str]:
    """verb, group, resource, subresource, namespace, name: what the audit log would show."""
    info = parse_target(method, raw).info
    assert info.is_resource
    return info.verb, info.api_group, info.resource, info.subresource, info.namespace, info.name


def refused(method: str, raw: str | bytes) -> BadTarget:
    with pytest.raises(BadTarget) as caught:
        parse_target(method, raw)
    assert caught.value.reason == str(caught.value)
    assert "\n" not in caught.value.reason
    assert caught.value.reason.isascii()
    assert len(caught.value.reason) < 250
    return caught.value


# RequestInfo, in the order of NewRequestInfo

NS = "/api/v1/namespaces/shop"


@pytest.mark.parametrize(
    ("method", "raw", "expected"),
    [
        # the forms of a resource path
        ("GET", "/api/v1/namespaces", ("list", "", "namespaces", "", "", "")),
        ("GET", NS, ("get", "", "namespaces", "", "shop", "shop")),
        ("GET", f"{NS}/pods", ("list", "", "pods", "", "shop", "")),
        ("GET", f"{NS}/pods/web", ("get", "", "pods", "", "shop", "web")),
        ("GET", f"{NS}/pods/web/status", ("get", "", "pods", "status", "shop", "web")),
        ("GET", "/api/v1/pods", ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/nodes/n1", ("get", "", "nodes", "", "", "n1")),
        ("GET", "/api/v1/nodes/n1/status", ("get", "", "nodes", "status", "", "n1")),
        ("GET", "/apis/apps/v1/deployments", ("list", "apps", "deployments", "", "", "")),
        ("GET", "/apis/apps/v1/namespaces/shop/deployments", ("list", "apps", "deployments", "", "shop", "")),
        (
            "GET",
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            ("get", "apps", "deployments", "scale", "a", "b"),
        ),
        ("GET", "/apis/metrics.k8s.io/v1beta1/nodes", ("list", "metrics.k8s.io", "nodes", "", "", "")),
        # the subresources of namespaces, and resources that are called like them elsewhere
        ("PUT", f"{NS}/finalize", ("update", "", "namespaces", "finalize", "shop", "shop")),
        ("GET", f"{NS}/status", ("get", "", "namespaces", "status", "shop", "shop")),
        ("GET", "/api/v1/namespaces/status", ("get", "", "namespaces", "", "status", "status")),
        ("GET", f"{NS}/namespaces/x", ("get", "", "namespaces", "", "shop", "x")),
        # verbs
        ("HEAD", f"{NS}/pods/web", ("get", "", "pods", "", "shop", "web")),
        ("HEAD", f"{NS}/pods", ("list", "", "pods", "", "shop", "")),
        ("POST", f"{NS}/pods", ("create", "", "pods", "", "shop", "")),
        ("POST", f"{NS}/pods/web/eviction", ("create", "", "pods", "eviction", "shop", "web")),
        ("PUT", f"{NS}/pods/web", ("update", "", "pods", "", "shop", "web")),
        ("PATCH", f"{NS}/pods/web", ("patch", "", "pods", "", "shop", "web")),
        ("DELETE", f"{NS}/pods/web", ("delete", "", "pods", "", "shop", "web")),
        ("DELETE", f"{NS}/pods", ("deletecollection", "", "pods", "", "shop", "")),
        ("DELETE", "/api/v1/namespaces", ("deletecollection", "", "namespaces", "", "", "")),
        # a field selector names what is listed and watched, not what is deleted
        ("GET", f"{NS}/pods?fieldSelector=metadata.name%3Dweb", ("list", "", "pods", "", "shop", "web")),
        (
            "GET",
            f"{NS}/pods?watch=1&fieldSelector=metadata.name==web",
            ("watch", "", "pods", "", "shop", "web"),
        ),
        (
            "DELETE",
            f"{NS}/pods?fieldSelector=metadata.name=web",
            ("deletecollection", "", "pods", "", "shop", ""),
        ),
        # a trailing slash is none
        ("GET", f"{NS}/pods/", ("list", "", "pods", "", "shop", "")),
        ("GET", f"{NS}/pods/web/", ("get", "", "pods", "", "shop", "web")),
        # parts that look like prefixes, where none is read
        ("GET", f"{NS}/watch/pods", ("get", "", "watch", "", "shop", "pods")),
        ("GET", f"{NS}/proxy", ("list", "", "proxy", "", "shop", "")),
        ("GET", "/apis/example.com/v1/watch/watch", ("watch", "example.com", "watch", "", "", "")),
    ],
)
def test_request_info_is_that_of_the_api_server(
    method: str, raw: str, expected: tuple[str, str, str, str, str, str]
) -> None:
    assert seen(method, raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "/", "/api", "/api/", "/api/v1", "/api/v1/", "/apis", "/apis/apps", "/apis/apps/v1", "/version", "/healthz",
        "/healthz/etcd", "/metrics", "/openapi/v3/apis/apps/v1?hash=ab%2Fc", "/logs/a/b/c", "/API/v1/pods", "/a/b/c/d",
        "/readyz?verbose&exclude=etcd&exclude=ping", "/debug/pprof/heap?seconds=3",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_not_resources(method: str, raw: str) -> None:
    found = parse_target(method, raw)
    assert not found.info.is_resource
    assert found.info.verb == method.lower()
    assert found.info.path == (raw.partition("?")[0].rstrip("/") or "/")
    assert (found.info.resource, found.info.namespace, found.info.name) == ("", "", "")


def test_every_field_of_request_info() -> None:
    info = parse_target(
        "GET", "/apis/apps/v1/namespaces/shop/deployments?labelSelector=a%3Db&fieldSelector=x%3Dy"
    ).info
    assert info == module.RequestInfo(
        is_resource=True,
        path="/apis/apps/v1/namespaces/shop/deployments",
        verb="list",
        api_prefix="apis",
        api_group="apps",
        api_version="v1",
        namespace="shop",
        resource="deployments",
        subresource="",
        name="",
        parts=("deployments",),
        label_selector="a=b",
        field_selector="x=y",
    )


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_selectors_are_read_for_list_and_deletecollection(method: str) -> None:
    info = parse_target(method, f"{NS}/pods?labelSelector=app&fieldSelector=spec.nodeName!%3Dn1").info
    assert (info.label_selector, info.field_selector) == ("app", "spec.nodeName!=n1")


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("metadata.name=a", "a"),
        ("metadata.name==a", "a"),
        ("metadata.name!=a", ""),
        ("metadata.name=", ""),
        ("", ""),
        (",", ""),
        ("=", ""),
        ("metadata.namespace=x,metadata.name=a,", "a"),
        # ParseSelector sorts the terms: the first of them counts
        ("metadata.name=b,metadata.name=a", "a"),
        ("metadata.name=b,metadata.name==a", "a"),
        # escapes
        (r"metadata.name=a\,b", "a,b"),
        (r"metadata.name=a\=b", "a=b"),
        (r"metadata.name=a\\", "a\\"),
        (r"x=\\,metadata.name=a", "a"),
        (r"x=\,metadata.name\=z,metadata.name=a", "a"),
        # no path segment, so no name
        ("metadata.name=..", ""),
        ("metadata.name=.", ""),
        ("metadata.name=a/b", ""),
        ("metadata.name=a%2Fb", ""),
        # another field
        ("METADATA.NAME=a", ""),
        ("metadata.name =a", ""),
        ("metadata.name= a", " a"),
    ],
)
def test_field_selector_names_the_object(selector: str, name: str) -> None:
    assert seen("GET", f"{NS}/pods?fieldSelector={quote(selector, safe='')}")[5] == name


@pytest.mark.parametrize(
    "selector",
    ["a", "metadata.name", "a=b=c", "a==b=", "a===b", r"a=\x", "a=b\\", "\\", "a=b,c", r"a\,b", "a=\tb"],
)
def test_field_selector_that_does_not_parse_is_refused(selector: str) -> None:
    for method in ("GET", "DELETE"):
        assert refused(method, f"{NS}/pods?fieldSelector={quote(selector, safe='')}").code == 400


@pytest.mark.parametrize(
    "selector",
    [
        "", "app", "!app", "app=web", "app==web", "app!=web", "app=", "app in (web,api)", "app in ()", "app notin (,web)",
        "app in(web)", "app.kubernetes.io/name=web,!x", " a = b , c ", "weight>5", "weight < -5", "in=in", "in in (in)",
        "notin", "a" * 63, "a=" + "b" * 63, "a.b-c.d/e_F.9=x",
    ],
)  # fmt: skip
def test_label_selectors_that_kubernetes_knows_pass(selector: str) -> None:
    assert parse_target("GET", f"{NS}/pods?labelSelector={quote(selector)}").info.label_selector == selector


@pytest.mark.parametrize(
    "selector",
    [
        ",", "a,", "a=b=c", "a===b", "a=!b", "a b", "a in b", "a in (b", "a in (b))", "!a=b", "-a", "a=-b", "A/b=c", "a/b/c",
        "a>x", "a=>5", "a\tin (b)", "x" * 64, "a=" + "x" * 64, "a..b/c", "/a", "a/", "é", "a=é", "x" * 254 + "/a",
    ],
)  # fmt: skip
def test_label_selectors_that_kubernetes_refuses_are_refused(selector: str) -> None:
    assert "labelSelector" in refused("GET", f"{NS}/pods?labelSelector={quote(selector, safe='')}").reason


# The rows of bypasses


@pytest.mark.parametrize(
    "raw",
    [
        "/api/v1/namespaces/default%2fsecrets%2fs1", "/api%2Fv1%2fsecrets", "/api/v1/namespaces/default%5csecrets",
        "/api/v1/namespaces/a%00b/pods", "/api/v1/namespaces/a%0Ab/pods", "/api/v1/namespaces/a%7fb/pods",
        "/api/v1/namespaces/a%C2%85b/pods", "/api/v1/namespaces/a%E2%80%AEb/pods", "/api/v1/namespaces/a%E2%80%8Bb/pods",
        "/api/v1/./pods", "/api/v1/../v1/pods", "/api/v1/%2e/pods", "/api/v1/x/%2E%2e/pods", "/api/v1/.%2e/pods", "/..",
        "/api/v1/namespaces/default/pods/..", "/api//v1/pods", "//api/v1/pods", "/api/v1/pods//", "//", "/api/v1//",
        "/%2561pi/v1/pods", "/api/v1/namespaces/a%25b/pods", "/api/v1/%252e%252e/pods", "/api/v1/pods%3Bx=1", "/api/v1/pods;x=1",
        "/api/v1/pods%ff", "/api/v1/pods%c0%ae", "/api/v1/%ed%a0%80/x", f"{NS}/pods/{'x' * (MAX_SEGMENT + 1)}",
    ],
)  # fmt: skip
def test_row_1_segments_with_a_second_meaning_are_refused(raw: str) -> None:
    assert refused("GET", raw).code == 400
    assert refused("GET", raw.encode()).code == 400


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("/%61pi/v1/%73ecrets", "/api/v1/secrets"),
        ("/api/v1/namespaces/sho%70/pods", "/api/v1/namespaces/shop/pods"),
        ("/api/v1/namespaces/sho%70/pods/", "/api/v1/namespaces/shop/pods"),
        (f"{NS}/pods/a%20b", f"{NS}/pods/a%20b"),
        (f"{NS}/pods/%c3%bc", f"{NS}/pods/%C3%BC"),
        (f"{NS}/pods/system:a@b+c", f"{NS}/pods/system:a@b+c"),
        (f"{NS}/pods/a%3Fb%23c%2B", f"{NS}/pods/a%3Fb%23c+"),
        (f"{NS}/pods/{'x' * MAX_SEGMENT}", f"{NS}/pods/{'x' * MAX_SEGMENT}"),
        ("/healthz/", "/healthz"),
        ("/", "/"),
        ("/api/v1/pods?", "/api/v1/pods"),
        ("/api/v1/pods?&", "/api/v1/pods"),
        ("/api/v1/pods?&&limit=5&", "/api/v1/pods?limit=5"),
        ("/api/v1/pods?watch", "/api/v1/pods?watch="),
        ("/api/v1/pods?%77atch=1", "/api/v1/pods?watch=1"),
        ("/api/v1/pods?limit=5&continue=a%2Bb+c", "/api/v1/pods?limit=5&continue=a%2Bb%20c"),
        ("/api/v1/pods?continue=a?b", "/api/v1/pods?continue=a%3Fb"),
    ],
)
def test_row_1_what_is_forwarded_is_the_canonical_form(raw: str, canonical: str) -> None:
    assert parse_target("GET", raw).canonical == canonical


@pytest.mark.parametrize(
    "raw", ["/api/v1/namespaces//secrets", "/api/v1/namespaces/%2f/secrets", "/api/v1/namespaces//"]
)
def test_row_2_an_empty_namespace_is_not_all_namespaces(raw: str) -> None:
    assert refused("GET", raw).code == 400


@pytest.mark.parametrize(
    ("raw", "namespace", "name"),
    [
        ("/api/v1/watch/secrets", "", ""),
        ("/api/v1/watch/namespaces/shop/secrets", "shop", ""),
        ("/api/v1/watch/namespaces/shop/secrets/s1", "shop", "s1"),
        ("/api/v1/watch/secrets?watch=false&fieldSelector=metadata.name=s1&labelSelector=a", "", ""),
    ],
)
def test_row_3_the_watch_prefix_is_a_watch(raw: str, namespace: str, name: str) -> None:
    found = parse_target("GET", raw)
    assert found.streams == "watch"
    assert seen("GET", raw) == ("watch", "", "secrets", "", namespace, name)
    # The API server does not tell its authorizers the selectors of this form.
    assert (found.info.field_selector, found.info.label_selector) == ("", "")


def test_row_3_the_watch_prefix_takes_no_other_method_and_no_less() -> None:
    assert refused("DELETE", "/api/v1/watch/pods").code == 405
    assert refused("HEAD", "/api/v1/watch/pods").code == 405
    assert refused("GET", "/api/v1/watch").code == 400
    assert refused("GET", "/apis/apps/v1/watch/").code == 400


def test_the_proxy_prefix_is_gone() -> None:
    for method in ("GET", "POST"):
        assert refused(method, "/api/v1/proxy/namespaces/shop/pods/web").code == 404


@pytest.mark.parametrize("value", ["", "=", "=1", "=true", "=no", "=FALSE1", "=f", "=00", "=2", "=yes"])
def test_row_4_watch_is_read_as_go_does(value: str) -> None:
    found = parse_target("GET", f"{NS}/pods?watch{value}")
    assert (found.info.verb, found.streams) == ("watch", "watch")


@pytest.mark.parametrize("value", ["0", "false", "False", "FALSE", "fAlSe"])
def test_row_4_only_0_and_false_are_no(value: str) -> None:
    found = parse_target("GET", f"{NS}/pods?watch={value}")
    assert (found.info.verb, found.streams) == ("list", "")


def test_row_4_no_letter_that_folds_to_another() -> None:
    # Go's EqualFold takes U+017F for an s, so that `watch=fal%C5%BFe` is a list to the API server.
    assert refused("GET", f"{NS}/pods?watch=fal%C5%BFe").code == 400


@pytest.mark.parametrize(
    "query",
    [
        "watch=1;x=2", "watch=1%3B&a;b", "watch=%zz", "watch=%", "watch=%1", "%", "watch=true&watch=false", "watch=1&watch=1",
        "%77atch=1&watch=0", "Watch=1", "WATCH=1", "fieldselector=a%3Db", "limit=1&Limit=2", "=x", "=", "watch%20=1", "+watch=1",
        "watch%00=1", "x=1", "access_token=x", "export=1", "pretty=%ff", "continue=%00", "continue=a%0Ab", "path=/x", "[a]=1",
        "limit=x", "limit=", "limit=1e3", "limit=9223372036854775808", "limit=1_0", "timeout=x", "timeout=5", "timeout=-1s",
    ],
)  # fmt: skip
def test_row_5_parameters_with_a_second_meaning_are_refused(query: str) -> None:
    assert refused("GET", f"{NS}/pods?{query}").code == 400


@pytest.mark.parametrize(
    "query", ["dryrun=All", "dryRun=All;x", "dryRun=All&dryRun=", "dryRun=", "dryRun=all", "dryRun"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_row_5_a_dry_run_is_one_or_is_refused(method: str, query: str) -> None:
    assert refused(method, f"{NS}/pods/web?{query}").code == 400
    assert parse_target(method, f"{NS}/pods/web?dryRun=All").query == (("dryRun", "All"),)


def test_row_5_the_hint_names_the_parameter_that_was_meant() -> None:
    assert "did you mean dryRun?" in refused("POST", f"{NS}/pods?dryrun=All").reason
    assert "did you mean" not in refused("POST", f"{NS}/pods?watch=1").reason


def test_row_5_values_with_names_and_values_of_parameters_stay_values() -> None:
    found = parse_target("GET", f"{NS}/pods?continue=a%26watch%3Dtrue")
    assert found.info.verb == "list"
    assert found.query == (("continue", "a&watch=true"),)
    assert found.canonical == f"{NS}/pods?continue=a%26watch%3Dtrue"


def test_row_6_a_delete_keeps_its_parameters_in_order() -> None:
    found = parse_target("DELETE", f"{NS}/pods/web?propagationPolicy=Orphan&dryRun=All&gracePeriodSeconds=0")
    assert found.query == (("propagationPolicy", "Orphan"), ("dryRun", "All"), ("gracePeriodSeconds", "0"))
    assert found.canonical == f"{NS}/pods/web?propagationPolicy=Orphan&dryRun=All&gracePeriodSeconds=0"


@pytest.mark.parametrize(
    "method", ["get", "Get", "OPTIONS", "TRACE", "CONNECT", "FOO", "", "GET ", "PROPFIND", "é\n" * 80]
)
def test_row_13_other_methods_are_refused(method: str) -> None:
    assert refused(method, f"{NS}/pods").code == 405


@pytest.mark.parametrize(
    "raw",
    [
        "", "*", "api/v1/pods", "https://other.example/api/v1/pods", "http://x/", "host:443", "?watch=1", "/api/v1/pods#x", "/#",
        "/api/v1/po ds", "/api/v1/pods\r\nX: y", "/api/v1/pods\x00", "/api/v1/pods\t", "/api\\v1", "/api/v1/p\u00f6ds", "/\ud800",
        "/api/v1/pods%", "/api/v1/pods%2", "/api/v1/pods%gg", "/api/v1/pods?a=%2", "/a|b", "/a^b", "/a`b", '/a"b', "/a<b>", "/{a}",
        "/api/v1/pods?watch=1#x", "/api/v1/pods?a=|", "/api/v1/pods?a b", " /api/v1/pods", "/api/v1/pods ",
    ],
)  # fmt: skip
def test_row_14_only_a_path_in_its_own_alphabet_is_a_target(raw: str) -> None:
    assert refused("GET", raw).code == 400


def test_row_14_bytes_that_are_no_ascii_are_refused() -> None:
    assert refused("GET", "/api/v1/p\u00f6ds".encode()).code == 400
    assert refused("GET", b"/api/v1/\xff").code == 400


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (f"{NS}/services/web:80/proxy", ("services", "web:80", "proxy")),
        (f"{NS}/services/https:web:443/proxy/", ("services", "https:web:443", "proxy")),
        (f"{NS}/pods/p/proxy/a//b/?x=1&x=2&watch", ("pods", "p", "proxy", "a", "", "b")),
        (f"{NS}/pods/p/proxy/a%20b/%C3%BC?q=%26a+b&path=/x", ("pods", "p", "proxy", "a b", "ü")),
        ("/api/v1/nodes/n1/proxy/run/ns/pod/c?cmd=id", ("nodes", "n1", "proxy", "run", "ns", "pod", "c")),
        ("/api/v1/nodes/n1/proxy//", ("nodes", "n1", "proxy")),
    ],
)
def test_row_24_a_proxy_subpath_goes_on_as_it_was_sent(raw: str, parts: tuple[str, ...]) -> None:
    found = parse_target("POST", raw)
    assert (found.canonical, found.streams) == (raw, "connect")
    assert (found.info.verb, found.info.subresource, found.info.parts) == ("create", "proxy", parts)


def test_row_24_the_path_before_proxy_is_canonical() -> None:
    found = parse_target("GET", "/api/v1/n%6Fdes/n%31/prox%79/a%2Db?&")
    assert found.canonical == "/api/v1/nodes/n1/proxy/a%2Db"


@pytest.mark.parametrize(
    "raw",
    [
        "/api/v1/nodes/n1/proxy/..", "/api/v1/nodes/n1/proxy/a/%2e%2e/b", "/api/v1/nodes/n1/proxy/./a", "/api/v1/nodes/n1/proxy/a%2fb",
        "/api/v1/nodes/n1/proxy/a%5Cb", "/api/v1/nodes/n1/proxy/a%252e", "/api/v1/nodes/n1/proxy/a%00", "/api/v1/nodes//proxy/a",
        "/api/v1/nodes/../proxy/a", "/api/v1/namespaces//pods/p/proxy/a", "/api/v1/nodes/n1/proxy/a;b", "/api/v1/nodes/n1/proxy?%ff",
    ],
)  # fmt: skip
def test_row_24_a_proxy_subpath_leads_nowhere_else(raw: str) -> None:
    assert refused("GET", raw).code == 400


@pytest.mark.parametrize(
    "raw",
    [
        f"{NS}/pods/p/status/more", f"{NS}/pods/p/exec/x", f"{NS}/secrets/s/proxy/a", f"{NS}/finalize/x",
        "/apis/example.com/v1/nodes/n/proxy/a", "/api/v1/watch/namespaces/shop/pods/p/proxy/a", "/apis/apps/v1/deployments/d/scale/x",
    ],
)  # fmt: skip
def test_nothing_is_served_below_other_subresources(raw: str) -> None:
    assert refused("GET", raw).code == 404


def test_row_25_the_command_of_an_exec_is_its_argv() -> None:
    raw = f"{NS}/pods/p/exec?command=sh&command=-c&command=echo+%22a%22%0Ab&command=&stdin=true&container=c"
    for method in ("GET", "POST"):
        found = parse_target(method, raw)
        assert found.command == ("sh", "-c", 'echo "a"\nb', "")
        assert found.streams == "connect"
    assert refused("GET", f"{NS}/pods/p/exec?command=a%00b").code == 400
    assert refused("GET", f"{NS}/pods/p/attach?command=sh").code == 400
    assert refused("GET", f"{NS}/pods/p/exec?stdin=1&stdin=0").code == 400


@pytest.mark.parametrize(
    ("raw", "streams"),
    [
        (f"{NS}/pods/p/log", "log"),
        (f"{NS}/pods/p/log?follow=true&tailLines=5&sinceTime=2026-01-01T00:00:00Z&container=c", "log"),
        (f"{NS}/pods/p/attach?stdout=1", "connect"),
        (f"{NS}/pods/p/portforward?ports=80&ports=81", "connect"),
        (f"{NS}/pods/p/status", ""),
        (f"{NS}/pods", ""),
        ("/apis/example.com/v1/namespaces/a/pods/p/exec", ""),
        (f"{NS}/secrets/p/log", ""),
        (f"{NS}/serviceaccounts/p/token", ""),
        ("/logs", ""),
    ],
)
def test_kinds_of_streams(raw: str, streams: str) -> None:
    found = parse_target("GET", raw)
    assert (found.streams, found.command) == (streams, ())


# Parameters


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("GET", f"{NS}/pods/web?watch=1"),
        ("GET", f"{NS}/pods/web/status?watch=1"),
        ("GET", f"{NS}/pods/web?dryRun=All"),
        ("POST", f"{NS}/pods?limit=1"),
        ("PUT", f"{NS}/pods/web?force=true"),
        ("DELETE", f"{NS}/pods/web?labelSelector=a"),
        ("DELETE", f"{NS}/pods?watch=1"),
        ("GET", f"{NS}/pods/p/log?command=x"),
        ("GET", f"{NS}/pods/p/exec?limit=1"),
        ("GET", "/healthz?watch=1"),
        ("GET", "/apis/custom.metrics.k8s.io/v1beta1/namespaces/a/pods/x/y?command=x"),
    ],
)
def test_a_parameter_of_another_request_is_refused(method: str, raw: str) -> None:
    assert "is not one of Kubernetes' for this request" in refused(method, raw).reason


VALUES = {
    module.TEXT: "x", module.BOOL: "true", module.INT: "-5", module.DURATION: "1m30.5s", module.LABELS: "a=b",
    module.FIELDS: "a=b", module.DRY_RUN: "All", module.ARGV: "a\nb",
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "parameters"),
    [
        ("GET", f"{NS}/pods/web", VERB_PARAMETERS["get"]),
        ("GET", f"{NS}/pods", VERB_PARAMETERS["list"]),
        ("GET", "/api/v1/watch/pods", VERB_PARAMETERS["watch"]),
        ("POST", f"{NS}/pods", VERB_PARAMETERS["create"]),
        ("PUT", f"{NS}/pods/web", VERB_PARAMETERS["update"]),
        ("PATCH", f"{NS}/pods/web", VERB_PARAMETERS["patch"]),
        ("DELETE", f"{NS}/pods/web", VERB_PARAMETERS["delete"]),
        ("DELETE", f"{NS}/pods", VERB_PARAMETERS["deletecollection"]),
        *((m, f"{NS}/{r}/p/{s}", p) for (r, s), p in SUBRESOURCE_PARAMETERS.items() for m in ("GET", "POST")),
        *(("GET", f"/apis/{g}/v1beta1/namespaces/a/pods/p/x", p) for g, p in GROUP_PARAMETERS.items()),
        ("GET", "/openapi/v3", NON_RESOURCE_PARAMETERS),
    ],
)
def test_every_parameter_of_the_tables_passes_once(
    method: str, path: str, parameters: dict[str, str]
) -> None:
    for key, kind in parameters.items():
        pair = f"{key}={quote(VALUES[kind], safe='')}"
        assert parse_target(method, f"{path}?{pair}").query == ((key, VALUES[kind]),)
        if key in REPEATABLE:
            assert len(parse_target(method, f"{path}?{pair}&{pair}").query) == 2
        else:
            assert f"{key} is there more than once" in refused(method, f"{path}?{pair}&{pair}").reason


def test_limits() -> None:
    head = f"{NS}/pods/p/exec?command="
    assert parse_target("GET", head + "x" * (MAX_TARGET - len(head))).command
    assert "longer" in refused("GET", head + "x" * (MAX_TARGET - len(head) + 1)).reason
    many = "&".join(["command=x"] * MAX_PARAMETERS)
    assert len(parse_target("GET", f"{NS}/pods/p/exec?{many}").command) == MAX_PARAMETERS
    assert "parameters" in refused("GET", f"{NS}/pods/p/exec?{many}&command=x").reason


def test_a_target_is_made_by_the_parser_alone() -> None:
    good = parse_target("GET", "/api/v1/pods")
    with pytest.raises(TypeError, match="parse_target alone"):
        Target("GET", "/api/v1/secrets", (), good.info, "", (), object())
    with pytest.raises((TypeError, ValueError)):
        replace(good, canonical="/api/v1/secrets")


def test_reasons_do_not_repeat_what_was_sent_at_length() -> None:
    assert len(refused("GET", f"{NS}/pods?{'x' * 5000}=1").reason) < 200
    assert "s3cret" not in refused("GET", f"{NS}/pods?limit=s3cret").reason


# Properties

RESERVED = "/\\%;"
segment = st.text(
    st.characters(codec="utf-8", exclude_characters=RESERVED, exclude_categories=("C", "Zl", "Zp", "Zs")),
    min_size=1,
    max_size=12,
).filter(lambda s: s not in (".", "..") and s.isprintable())
plain = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=8)


@st.composite
def encoded(draw: st.DrawFn, text: str) -> str:
    """A segment or value with any of its characters percent-encoded, and all that must be."""
    out = []
    for c in text:
        literal = c in string.ascii_letters + string.digits + "-._~"
        if literal and draw(st.integers(0, 3)):
            out.append(c)
        else:
            out.append("".join(f"%{b:02x}" if draw(st.booleans()) else f"%{b:02X}" for b in c.encode()))
    return "".join(out)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.data(), plain, plain, segment, st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "POST", "HEAD"]))
def test_encoding_never_changes_the_meaning(
    data: st.DataObject, namespace: str, resource: str, name: str, method: str
) -> None:
    segments = ["api", "v1", "namespaces", namespace, resource, name]
    literal = parse_target(method, "/" + "/".join(quote(s, safe="") for s in segments))
    assert (literal.info.namespace, literal.info.resource, literal.info.name) == (namespace, resource, name)
    other = parse_target(method, "/" + "/".join(data.draw(encoded(s)) for s in segments))
    assert other == literal


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.data(), st.text(max_size=20), st.text(max_size=8))
@example(None, "a\x00", "")
def test_values_arrive_as_they_were_sent_or_not_at_all(
    data: st.DataObject | None, value: str, command: str
) -> None:
    raw = quote(value, safe="", errors="surrogatepass") if data is None else data.draw(encoded(value))
    path = f"{NS}/pods/p/exec?command={raw}&container={quote(command, safe='', errors='surrogatepass')}"
    try:
        found = parse_target("GET", path)
    except BadTarget:
        assert "\0" in value or not command.isprintable()
    else:
        assert found.command == (value,)
        assert dict(found.query)["container"] == command
        assert parse_target("GET", found.canonical) == found


wild = st.lists(
    st.sampled_from(
        ["/", "api", "apis", "v1", "namespaces", "shop", "pods", "secrets", "watch", "proxy", "status", "nodes", "%2F", "%2e", "..",
         "%25", "%61", "?", "&", "=", ";", "watch=", "fieldSelector=metadata.name%3D", "limit=1", "#", "\\", "\x00", "é", "+", "%C3%BC"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
    wild.map(lambda t: "/" + t) | st.text(),
)
def test_anything_is_refused_or_has_one_canonical_form(method: str, raw: str) -> None:
    try:
        found = parse_target(method, raw)
    except BadTarget:
        assert refused(method, raw).code in (400, 404, 405)
        return
    assert found.canonical.isascii()
    assert found.canonical.isprintable()
    assert parse_target(method, found.canonical) == found
    path, _, _ = found.canonical.partition("?")
    assert unquote(path) == found.info.path
    assert "//" not in path or found.info.subresource == "proxy"
    assert parse_target(method, raw.encode()) == found
