"""The demo's API answers as kube-apiserver does, as far as a client or a gateway can see."""

import asyncio
import base64
import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.demo import seed
from interlock.demo.bulk import Bulk
from interlock.demo.faults import Fault
from interlock.demo.resources import RESOURCES
from interlock.demo.wire import Answer, Upgrade

from .conftest import Asker

SHOP = "/api/v1/namespaces/shop"
APPS = "/apis/apps/v1/namespaces/shop"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
PARTIAL = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "a2V5"}
CHANNELS = {**WEBSOCKET, "Sec-WebSocket-Protocol": "v5.channel.k8s.io, v4.channel.k8s.io"}
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


async def _pod(ask: Asker) -> str:
    name: str = (await ask("GET", f"{SHOP}/pods")).json["items"][0]["metadata"]["name"]
    return name


# Who asks


@pytest.mark.parametrize("path", ["/version", "/healthz", "/livez", "/readyz"])
async def test_a_few_paths_are_open(ask: Asker, path: str) -> None:
    assert (await ask("GET", path, token=None)).code == 200
    assert (await ask("GET", path, token="wrong")).code == 401


@pytest.mark.parametrize("target", ["/api", f"{SHOP}/pods", "/nowhere", "/healthz/etcd"])
@pytest.mark.parametrize("token", [None, "wrong", ""])
async def test_everything_else_needs_a_credential(ask: Asker, target: str, token: str | None) -> None:
    answer = await ask("GET", target, token=token)
    assert (answer.code, answer.json["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize("header", ["bearer admin", "Bearer admin junk"])
async def test_a_bearer_is_read_as_leniently_as_the_real_one(ask: Asker, header: str) -> None:
    assert (await ask("GET", "/api", token=None, headers={"Authorization": header})).code == 200


async def test_basic_is_no_bearer(ask: Asker) -> None:
    assert (await ask("GET", "/api", token=None, headers={"Authorization": "Basic admin"})).code == 401


async def test_a_client_certificate_is_a_credential(ask: Asker) -> None:
    subject = ((("organizationName", "system:masters"),), (("commonName", "agent-1"),))
    answer = await ask("GET", "/api", token=None, certificate={"subject": subject})
    assert answer.code == 200
    assert ask.api.record.all()[-1].user == "agent-1"
    assert (await ask("GET", "/api", token="wrong", certificate={"subject": subject})).code == 401


async def test_a_websocket_subprotocol_is_a_credential(ask: Asker) -> None:
    token = base64.urlsafe_b64encode(b"admin").decode().rstrip("=")
    offered = f"base64url.bearer.authorization.k8s.io.{token}, v5.channel.k8s.io"
    headers = {**WEBSOCKET, "Sec-WebSocket-Protocol": offered, "Authorization": "Bearer wrong"}
    target = f"{SHOP}/pods/{await _pod(ask)}/exec?command=env"
    assert isinstance(await ask.reply("GET", target, token=None, headers=headers), Upgrade)


async def test_impersonation_is_recorded(ask: Asker) -> None:
    await ask(
        "GET", "/api", headers={"Impersonate-User": "agent-1", "Impersonate-Group": "dev", "Audit-ID": "mine"}
    )
    received = ask.api.record.all()[-1]
    assert (received.user, received.impersonated_user) == ("gateway", "agent-1")
    assert received.impersonated_groups == ("dev", "system:authenticated")
    assert received.audit_id == "mine"


async def test_who_may_not_impersonate_is_refused(ask: Asker) -> None:
    answer = await ask("GET", "/api", token="plain", headers={"Impersonate-User": "agent-1"})
    assert (answer.code, answer.json["reason"]) == (403, "Forbidden")
    assert 'User "plain" cannot impersonate' in answer.message


async def test_groups_without_a_user_are_refused(ask: Asker) -> None:
    assert (await ask("GET", "/api", headers={"Impersonate-Group": "dev"})).code == 400


# What is recorded


async def test_every_request_is_recorded_with_what_it_got(ask: Asker) -> None:
    ask.api.record.clear()
    answer = await ask("GET", f"{SHOP}/pods?limit=1", headers={"X-Thing": "1"})
    missing = await ask("GET", f"{SHOP}/pods/none", headers={"Audit-ID": "abc"})
    first, second = ask.api.record.all()
    assert (first.method, first.target, first.code, first.sent) == (
        "GET",
        f"{SHOP}/pods?limit=1",
        200,
        len(answer.body),
    )
    assert answer.header("Audit-Id") == first.audit_id
    assert (second.code, second.audit_id, missing.header("Audit-Id")) == (404, "abc", "abc")


async def test_a_target_that_cannot_be_read_is_400(ask: Asker) -> None:
    answer = await ask("GET", "/api/v1/pods%zz")
    assert (answer.code, answer.body) == (400, b"400 Bad Request: invalid URL escape in the path")


async def test_a_body_beyond_the_limit_is_413(ask: Asker) -> None:
    assert (await ask("POST", f"{SHOP}/configmaps", too_large=True)).code == 413


# Non-resource paths


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/", "APIGroupList"),
        ("/api/v1", "APIResourceList"),
        ("/apis/apps", "APIGroup"),
        ("/apis/apps/v1", "APIResourceList"),
    ],
)
async def test_discovery_is_served(ask: Asker, path: str, kind: str) -> None:
    answer = await ask("GET", path)
    assert (answer.code, answer.json["kind"]) == (200, kind)


async def test_openapi_is_served_where_the_index_says(ask: Asker) -> None:
    for entry in (await ask("GET", "/openapi/v3")).json["paths"].values():
        assert (await ask("GET", entry["serverRelativeURL"])).json["openapi"] == "3.0.0"


@pytest.mark.parametrize("path", ["/api", "/apis"])
async def test_aggregated_discovery_is_served_to_who_asks(ask: Asker, path: str) -> None:
    v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = await ask("GET", path, headers={"Accept": f"{v2},application/json"})
    assert answer.json["kind"] == "APIGroupDiscoveryList"
    assert answer.header("Content-Type") == v2
    again = await ask("GET", path, headers={"Accept": v2, "If-None-Match": str(answer.header("ETag"))})
    assert (again.code, again.body) == (304, b"")
    old = await ask("GET", path, headers={"Accept": v2.replace("v2", "v2beta1")})
    assert old.json["kind"] != "APIGroupDiscoveryList"


async def test_what_an_agent_should_not_see_is_there(ask: Asker) -> None:
    assert b"apiserver_request_total" in (await ask("GET", "/metrics")).body
    assert b"clientSecret" in (await ask("GET", "/configz")).body


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/openapi/v2", 404),
        ("GET", "//api/v1/secrets", 404),
        ("GET", "/api//v1/secrets", 404),
        ("GET", "/api/v1/namespaces/default//secrets", 404),
        ("GET", "/api/v1/Secrets", 404),
        ("GET", "/api/v1/namespaces/shop/../secrets", 404),
        ("GET", "/api/v1/namespaces/shop/pods/a/nothing", 404),
        ("GET", "/api/v1/namespaces/shop/pods/a/log/more", 404),
        ("GET", "/api/v1/proxy/namespaces/shop/pods/a", 404),
        ("GET", "/apis/none/v1/things", 404),
        ("POST", "/version", 405),
        ("POST", "/api", 404),
        ("FOO", f"{SHOP}/pods", 405),
        ("OPTIONS", f"{SHOP}/pods", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("PATCH", f"{SHOP}/pods", 405),
        ("PUT", f"{SHOP}/pods", 405),
        ("GET", f"{SHOP}/pods?watch=1&labelSelector=((", 400),
        ("POST", f"{SHOP}/pods/a", 405),
        ("POST", f"{SHOP}/pods/a/log", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
        ("GET", f"{SHOP}/secrets/none", 404),
        ("GET", f"{SHOP}/pods/none/log", 404),
    ],
)
async def test_what_is_not_there_is_not_served(ask: Asker, method: str, target: str, code: int) -> None:
    answer = await ask(method, target, {} if method == "POST" else None)
    assert answer.code == code
    assert answer.json["kind"] == "Status"


# Reading


async def test_one_object(ask: Asker) -> None:
    answer = await ask("GET", f"{SHOP}/secrets/payments")
    assert base64.b64decode(answer.json["data"]["password"]).decode() == seed.PASSWORD


@pytest.mark.parametrize(
    "target", ["/api/v1/secrets", "/api/v1/namespaces//secrets", "/api/v1/namespaces/shop%2fsecrets"]
)
async def test_lists_are_served_under_every_odd_target_of_the_real_one(ask: Asker, target: str) -> None:
    answer = await ask("GET", target)
    assert answer.json["kind"] == "SecretList"
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["payments"]


async def test_representations(ask: Asker) -> None:
    target = f"{SHOP}/secrets/payments"
    table = (await ask("GET", target, headers=TABLE)).json
    assert table["rows"][0]["cells"][:3] == ["payments", "Opaque", 2]
    assert (await ask("GET", target, headers=PARTIAL)).json["kind"] == "PartialObjectMetadata"
    assert (await ask("GET", f"{SHOP}/secrets", headers=PARTIAL)).json["items"][0][
        "kind"
    ] == "PartialObjectMetadata"
    assert (await ask("GET", f"{SHOP}/secrets", headers=TABLE)).json["kind"] == "Table"
    whole = (await ask("GET", f"{target}?includeObject=Object", headers=TABLE)).json
    assert "data" in whole["rows"][0]["object"]
    for text in (target, f"{SHOP}/secrets"):
        answer = await ask("GET", text, headers={"Accept": "application/yaml"})
        assert answer.header("Content-Type") == "application/yaml"
        assert "data" in str(yaml.safe_load(answer.body))
    assert (await ask("GET", target, headers={"Accept": "application/cbor"})).code == 406


async def test_selectors(ask: Asker) -> None:
    pods = (await ask("GET", f"{SHOP}/pods?labelSelector=app%3Dshop-web")).json["items"]
    assert len(pods) == 2
    assert (await ask("GET", f"{SHOP}/secrets?fieldSelector=metadata.name%3Dnone")).json["items"] == []
    assert (await ask("GET", f"{SHOP}/pods?fieldSelector=data.x%3D1")).code == 400


async def test_pages(ask: Asker) -> None:
    first = (await ask("GET", f"{SHOP}/pods?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 1
    second = (await ask("GET", f"{SHOP}/pods?limit=2&continue={first['metadata']['continue']}")).json
    assert len(first["items"]) == 2
    assert len(second["items"]) == 1
    assert "continue" not in second["metadata"]
    assert (await ask("GET", f"{SHOP}/pods?continue=x")).code == 400


async def test_a_list_of_any_size(ask: Asker) -> None:
    ask.api.bulk = Bulk(1200)
    every = (await ask("GET", "/api/v1/pods")).json["items"]
    assert len(every) == 1203
    pods = (await ask("GET", "/api/v1/namespaces/bulk/pods")).json["items"]
    assert pods[1199] == (await ask("GET", "/api/v1/namespaces/bulk/pods/bulk-0001199")).json
    assert len((await ask("GET", "/api/v1/namespaces/bulk/pods", headers=PARTIAL)).json["items"]) == 1200
    page = (await ask("GET", "/api/v1/namespaces/bulk/pods?limit=500", headers=TABLE)).json
    assert page["rows"][0]["cells"][:3] == ["bulk-0000000", "1/1", "Running"]
    assert page["metadata"]["remainingItemCount"] == 700
    assert (await ask("GET", "/api/v1/namespaces/bulk/pods?labelSelector=app%3Dother")).json["items"] == []
    assert (await ask("GET", "/api/v1/namespaces/bulk/pods/bulk-9999999")).code == 404


# Writing


async def test_create_and_delete(ask: Asker) -> None:
    made = await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "a"}, "data": {"x": "y"}})
    assert made.code == 201
    assert (await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "a"}})).code == 409
    gone = await ask("DELETE", f"{SHOP}/configmaps/a")
    assert (gone.code, gone.json["status"], gone.json["details"]["name"]) == (200, "Success", "a")
    assert (await ask("DELETE", f"{SHOP}/configmaps/a")).code == 404


async def test_what_is_created_may_be_asked_for_as_a_table(ask: Asker) -> None:
    made = await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "a"}}, headers=TABLE)
    assert (made.code, made.json["kind"]) == (201, "Table")


@pytest.mark.parametrize(
    ("target", "body", "how", "code"),
    [
        ("/api/v1/configmaps", {"metadata": {"name": "a"}}, {}, 400),
        ("/api/v1/namespaces/none/configmaps", {"metadata": {"name": "a"}}, {}, 404),
        (f"{SHOP}/configmaps", b"k8s\x00", {"media_type": "application/vnd.kubernetes.protobuf"}, 415),
        (f"{SHOP}/secrets", {"metadata": {"name": "a"}, "data": {"p": "***"}}, {}, 400),
        (f"{SHOP}/configmaps?dryRun=Some", {"metadata": {"name": "a"}}, {}, 422),
        (f"{SHOP}/configmaps", {"metadata": {"name": "A"}}, {}, 422),
        (f"{SHOP}/serviceaccounts/default/token", {"spec": {"expirationSeconds": 60}}, {}, 422),
        (f"{APPS}/deployments", {"metadata": {"name": "a"}, "spec": {"replicas": -1}}, {}, 400),
    ],
)
async def test_creations_that_are_refused(ask: Asker, target: str, body: Any, how: Any, code: int) -> None:
    assert (await ask("POST", target, body, **how)).code == code


async def test_a_namespace_is_created_and_deleted(ask: Asker) -> None:
    assert (await ask("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}})).code == 201
    assert (await ask("GET", "/api/v1/namespaces/new/serviceaccounts/default")).code == 200
    assert (await ask("DELETE", "/api/v1/namespaces/new")).json["kind"] == "Namespace"
    assert (await ask("GET", "/api/v1/namespaces/new/serviceaccounts/default")).code == 404


async def test_a_dry_run_creates_nothing_unless_it_is_misspelt(ask: Asker) -> None:
    target = f"{SHOP}/configmaps"
    assert (await ask("POST", f"{target}?dryRun=All", {"metadata": {"name": "a"}})).code == 201
    assert (await ask("GET", f"{target}/a")).code == 404
    await ask("POST", f"{target}?dryRun=All;x", {"metadata": {"name": "a"}})
    assert (await ask("GET", f"{target}/a")).code == 200


async def test_a_delete_with_a_body_ignores_the_query(ask: Asker) -> None:
    """Measured on the real server: `?dryRun=All` with any body deletes."""
    target = f"{SHOP}/configmaps/shop-config"
    assert (await ask("DELETE", f"{target}?dryRun=All")).code == 200
    assert (await ask("DELETE", target, {"dryRun": ["All"]})).code == 200
    assert (await ask("GET", target)).code == 200
    assert (await ask("DELETE", f"{target}?dryRun=All", {"propagationPolicy": "Background"})).code == 200
    assert (await ask("GET", target)).code == 404


async def test_preconditions_are_kept(ask: Asker) -> None:
    target = f"{SHOP}/configmaps/shop-config"
    uid = (await ask("GET", target)).json["metadata"]["uid"]
    assert (await ask("DELETE", target, {"preconditions": {"uid": "other"}})).code == 409
    assert (await ask("DELETE", target, {"preconditions": {"uid": uid, "resourceVersion": None}})).code == 200


async def test_what_has_finalizers_is_marked_and_shown(ask: Asker) -> None:
    body = {"metadata": {"name": "a", "finalizers": ["x"]}}
    await ask("POST", f"{SHOP}/configmaps", body)
    assert (await ask("DELETE", f"{SHOP}/configmaps/a")).json["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize("dry", [{"dryRun": ["All"]}, None, {}])
async def test_a_collection_is_deleted_and_shown(ask: Asker, dry: Any) -> None:
    query = "?dryRun=All" if dry is None else ""
    gone = (await ask("DELETE", f"{SHOP}/secrets{query}", dry)).json
    assert [item["metadata"]["name"] for item in gone["items"]] == ["payments"]
    assert (await ask("GET", f"{SHOP}/secrets/payments")).code == (404 if dry == {} else 200)


async def test_an_update_replaces(ask: Asker) -> None:
    target = f"{SHOP}/configmaps/shop-config"
    live = (await ask("GET", target)).json
    assert (await ask("PUT", target, {**live, "data": {"a": "b"}})).json["data"] == {"a": "b"}
    assert (await ask("PUT", target, live)).code == 409
    assert (await ask("PUT", f"{SHOP}/configmaps/none", live)).code == 404


@pytest.mark.parametrize(
    ("media_type", "patch"),
    [
        (MERGE, {"data": {"FEATURES": "new"}}),
        (STRATEGIC, {"data": {"FEATURES": "new"}}),
        (JSON_PATCH, [{"op": "replace", "path": "/data/FEATURES", "value": "new"}]),
        (APPLY, b"data:\n  FEATURES: new\n"),
        (f"{MERGE}; charset=utf-8", {"data": {"FEATURES": "new"}}),
    ],
)
async def test_every_patch_type(ask: Asker, media_type: str, patch: Any) -> None:
    target = f"{SHOP}/configmaps/shop-config"
    dry = await ask("PATCH", f"{target}?dryRun=All", patch, media_type=media_type)
    assert dry.json["data"]["FEATURES"] == "new"
    assert (await ask("GET", target)).json["data"]["FEATURES"] != "new"
    made = await ask("PATCH", target, patch, media_type=media_type)
    assert made.json["data"]["FEATURES"] == "new"
    assert made.json["data"]["SUPPORT_EMAIL"] == seed.EMAIL


@pytest.mark.parametrize(
    ("media_type", "patch", "code"),
    [
        ("application/json", {}, 415),
        ("", b"{}", 415),
        (MERGE, b"{", 400),
        (MERGE, [], 400),
        (MERGE, {"data": {"FEATURES": 1}}, 400),
        (JSON_PATCH, {}, 400),
        (JSON_PATCH, [{"op": "test", "path": "/data/FEATURES", "value": "x"}], 422),
    ],
)
async def test_patches_that_are_refused(ask: Asker, media_type: str, patch: Any, code: int) -> None:
    assert (await ask("PATCH", f"{SHOP}/configmaps/shop-config", patch, media_type=media_type)).code == code


async def test_an_empty_patch_shows_the_object(ask: Asker) -> None:
    answer = await ask("PATCH", f"{SHOP}/secrets/payments", {}, media_type=MERGE)
    assert "password" in answer.json["data"]


async def test_apply_creates_what_is_missing(ask: Asker) -> None:
    answer = await ask("PATCH", f"{SHOP}/configmaps/new?fieldManager=x", b"data: {a: b}", media_type=APPLY)
    assert (answer.code, answer.json["metadata"]["name"]) == (201, "new")
    space = await ask("PATCH", "/api/v1/namespaces/new?fieldManager=x", b"{}", media_type=APPLY)
    assert space.code == 201
    nowhere = "/api/v1/namespaces/none/configmaps/new"
    assert (await ask("PATCH", nowhere, b"{}", media_type=APPLY)).code == 404
    assert (await ask("PATCH", f"{SHOP}/configmaps/other", {}, media_type=MERGE)).code == 404


@pytest.mark.parametrize(
    ("media_type", "patch", "quotes"),
    [
        (MERGE, {"data": {"other": "***"}}, True),
        (JSON_PATCH, [{"op": "add", "path": "/data/other", "value": "***"}], True),
        (STRATEGIC, {"data": {"other": "***"}}, False),
        (APPLY, b"data: {other: '***'}", False),
    ],
)
async def test_a_patch_that_breaks_a_secret_quotes_it_as_the_real_server_does(
    ask: Asker, media_type: str, patch: Any, quotes: bool
) -> None:
    """Measured on the real server: merge and JSON patches dump the stored object into the error."""
    stored = base64.b64encode(seed.PASSWORD.encode()).decode()
    for query in ("", "?dryRun=All"):
        answer = await ask("PATCH", f"{SHOP}/secrets/payments{query}", patch, media_type=media_type)
        assert (answer.code, answer.json["reason"]) == (422, "Invalid")
        assert (stored in answer.message) is quotes
        assert (stored in answer.json["details"]["causes"][0]["message"]) is quotes
    assert "other" not in (await ask("GET", f"{SHOP}/secrets/payments")).json["data"]


# Watching


async def test_a_watch_tells_what_is_and_what_comes(ask: Asker) -> None:
    stream = await ask.stream(f"{SHOP}/configmaps?watch=true")
    first = [json.loads(await anext(stream)) for _ in range(2)]
    assert [event["type"] for event in first] == ["ADDED", "ADDED"]
    assert await anext(stream) == b""
    await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "a"}})
    await ask("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "elsewhere"}})
    await ask("DELETE", f"{SHOP}/configmaps/a")
    events = [json.loads(await anext(stream)) for _ in range(2)]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "a"),
        ("DELETED", "a"),
    ]
    await stream.aclose()  # type: ignore[attr-defined]
    await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "b"}})


async def test_a_watch_resumes(ask: Asker) -> None:
    version = (await ask("GET", f"{SHOP}/configmaps")).json["metadata"]["resourceVersion"]
    await ask("POST", f"{SHOP}/secrets", {"metadata": {"name": "of-another-kind"}})
    await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "a"}})
    events = await ask.events(f"{SHOP}/configmaps?watch=1&resourceVersion={version}", 1)
    assert events[0]["object"]["metadata"]["name"] == "a"


async def test_a_watch_of_a_forgotten_version_gets_an_error_event(ask: Asker) -> None:
    live = ask.api.store.get(ask.api._rows["", "v1", "configmaps"], "shop", "shop-config")
    for number in range(4100):
        live = ask.api.store.update(
            ask.api._rows["", "v1", "configmaps"], live, {**live, "data": {"n": str(number)}}
        )
    answer = await ask("GET", f"{SHOP}/configmaps?watch=1&resourceVersion=1000")
    assert (answer.json["type"], answer.json["object"]["code"]) == ("ERROR", 410)
    bad = await ask.stream(f"{SHOP}/configmaps?watch=1&resourceVersion=x")
    assert json.loads(await anext(bad))["object"]["code"] == 400


async def test_a_watch_may_begin_with_everything_and_a_bookmark(ask: Asker) -> None:
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    events = await ask.events(f"{SHOP}/secrets?{query}", 2)
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_when_its_time_is_over(ask: Asker) -> None:
    answer = await ask("GET", f"{SHOP}/secrets?watch=1&timeoutSeconds=1&labelSelector=app%3Dnone")
    assert answer.body == b""


async def test_a_watch_in_other_shapes(ask: Asker) -> None:
    tables = await ask.events("/api/v1/namespaces?watch=1", 2, headers=TABLE)
    assert [event["object"]["kind"] for event in tables] == ["Table", "Table"]
    assert [bool(event["object"]["columnDefinitions"]) for event in tables] == [True, False]
    partial = await ask.events(f"{SHOP}/secrets?watch=1", 1, headers=PARTIAL)
    assert partial[0]["object"]["kind"] == "PartialObjectMetadata"


async def test_the_legacy_prefix_watches_one(ask: Asker) -> None:
    events = await ask.events("/api/v1/watch/namespaces/shop/secrets/payments", 1)
    assert events[0]["object"]["metadata"]["name"] == "payments"


async def test_a_selector_makes_objects_enter_and_leave(ask: Asker) -> None:
    stream = await ask.stream(f"{SHOP}/configmaps?watch=1&labelSelector=x%3D1")
    assert await anext(stream) == b""
    target = f"{SHOP}/configmaps/shop-config"
    for label in ("1", "2"):
        await ask("PATCH", target, {"metadata": {"labels": {"x": label}}}, media_type=MERGE)
    assert [json.loads(await anext(stream))["type"] for _ in range(2)] == ["ADDED", "DELETED"]
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", ["", "?watch=1"])
async def test_an_upgrade_turns_a_list_or_a_watch_into_frames(ask: Asker, query: str) -> None:
    assert isinstance(await ask.reply("GET", f"{SHOP}/secrets{query}", headers=WEBSOCKET), Upgrade)
    missing = await ask.reply("GET", f"{SHOP}/secrets/none", headers=WEBSOCKET)
    assert isinstance(missing, Answer)


# Subresources


async def test_status_is_written_apart(ask: Asker) -> None:
    target = f"{SHOP}/pods/{await _pod(ask)}/status"
    live = (await ask("GET", target)).json
    assert live["kind"] == "Pod"
    changed = await ask("PUT", target, {**live, "spec": {}, "status": {"phase": "Failed"}})
    assert changed.json["status"] == {"phase": "Failed"}
    assert changed.json["spec"]["nodeName"] == "demo-node-1"
    again = await ask("PATCH", target, {"status": {"reason": "x"}}, media_type=MERGE)
    assert again.json["status"] == {"phase": "Failed", "reason": "x"}


async def test_an_ephemeral_container_is_added(ask: Asker) -> None:
    target = f"{SHOP}/pods/{await _pod(ask)}/ephemeralcontainers"
    patch = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "x"}]}}
    assert (await ask("PATCH", target, patch, media_type=STRATEGIC)).code == 200
    frames = Frames()
    await _connected(
        ask, f"{target.removesuffix('ephemeralcontainers')}exec?command=true&container=debug", frames
    )
    assert b"Success" in frames.sent[-1]


async def test_scale(ask: Asker) -> None:
    target = f"{APPS}/deployments/shop-web/scale"
    scale = (await ask("GET", target)).json
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 2)
    assert (await ask("PATCH", target, {"spec": {"replicas": 3}}, media_type=MERGE)).json["spec"][
        "replicas"
    ] == 3
    assert (await ask("PUT", target, {"spec": {"replicas": 1}})).json["status"]["replicas"] == 1
    assert len((await ask("GET", f"{SHOP}/pods?labelSelector=app%3Dshop-web")).json["items"]) == 1


async def test_eviction(ask: Asker) -> None:
    name = await _pod(ask)
    target = f"{SHOP}/pods/{name}/eviction"
    assert (await ask("POST", target, {"deleteOptions": {"dryRun": ["All"]}})).code == 201
    assert (await ask("GET", f"{SHOP}/pods/{name}")).code == 200
    budget = {
        "metadata": {"name": "b"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "shop-db"}}},
    }
    await ask("POST", "/apis/policy/v1/namespaces/shop/poddisruptionbudgets", budget)
    assert (await ask("POST", target, {})).code == 429
    other = {
        "metadata": {"name": "b"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "none"}}},
    }
    await ask("PUT", "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/b", other)
    assert (await ask("POST", target, {})).code == 201
    assert (await ask("GET", f"{SHOP}/pods/{name}")).code == 404


async def test_binding(ask: Asker) -> None:
    name = await _pod(ask)
    assert (await ask("POST", f"{SHOP}/pods/{name}/binding", {"target": {"name": "n2"}})).code == 201
    assert (await ask("GET", f"{SHOP}/pods/{name}")).json["spec"]["nodeName"] == "n2"


@pytest.mark.parametrize(("query", "works"), [("", True), ("?dryRun=All", False)])
async def test_a_service_accounts_token_is_a_credential(ask: Asker, query: str, works: bool) -> None:
    target = f"{SHOP}/serviceaccounts/default/token{query}"
    answer = (await ask("POST", target, {"spec": {"expirationSeconds": 600}})).json
    assert answer["status"]["expirationTimestamp"] == "2026-06-01T08:10:00Z"
    used = await ask("GET", "/api", token=answer["status"]["token"])
    assert (used.code == 200) is works
    if works:
        assert ask.api.record.all()[-1].user == "system:serviceaccount:shop:default"


async def test_a_proxy_subresource_reaches_anything(ask: Asker) -> None:
    assert (await ask("GET", f"{SHOP}/services/shop-web/proxy/a/b")).body == b"proxied GET /a/b\n"
    assert (await ask("POST", f"{SHOP}/services/shop-web/proxy")).body == b"proxied POST /\n"
    assert (await ask("GET", f"{SHOP}/services/none/proxy")).code == 404
    assert (await ask("GET", f"{SHOP}/secrets/payments/proxy")).code == 404


async def test_logs(ask: Asker) -> None:
    target = f"{SHOP}/pods/{await _pod(ask)}/log"
    every = (await ask("GET", target)).body.decode()
    assert every.splitlines() == list(seed.LOG)
    assert (await ask("GET", f"{target}?tailLines=1")).body.decode() == f"{seed.LOG[-1]}\n"
    assert (await ask("GET", f"{target}?tailLines=0")).body == b""
    assert (await ask("GET", f"{target}?limitBytes=5&container=shop-db")).body == b"start"
    stamped = (await ask("GET", f"{target}?timestamps=true&tailLines=1")).body.decode()
    assert stamped.startswith("2026-06-01T08:00:00Z GET")
    assert (await ask("GET", f"{target}?container=none")).code == 400


async def test_a_followed_log_goes_on_until_the_pod_goes(ask: Asker) -> None:
    name = await _pod(ask)
    stream = await ask.stream(f"{SHOP}/pods/{name}/log?follow=true&tailLines=1")
    assert await anext(stream) == f"{seed.LOG[-1]}\n".encode()
    assert await anext(stream) == b""
    ask.api.logs.append(("shop", name, "shop-db"), "more")
    assert await anext(stream) == b"more\n"
    await ask("DELETE", f"{SHOP}/pods/{name}")
    assert [piece async for piece in stream] == []


async def test_the_followed_log_of_a_pod_that_is_done_ends(ask: Asker) -> None:
    template = {"spec": {"containers": [{"name": "c"}]}}
    await ask(
        "POST",
        "/apis/batch/v1/namespaces/shop/jobs",
        {"metadata": {"name": "j"}, "spec": {"template": template}},
    )
    pods = (await ask("GET", f"{SHOP}/pods?labelSelector=job-name%3Dj")).json["items"]
    assert (await ask("GET", f"{SHOP}/pods/{pods[0]['metadata']['name']}/log?follow=1")).body == b""


class Frames:
    """The client's end of an upgrade, in memory."""

    def __init__(self, *frames: bytes) -> None:
        self.frames = list(frames)
        self.sent: list[bytes] = []
        self.something = asyncio.Event()

    async def receive(self) -> bytes | None:
        if self.frames:
            return self.frames.pop(0)
        await asyncio.Event().wait()
        return None

    async def send(self, payload: bytes, *, text: bool = False) -> None:
        self.sent.append(payload)
        self.something.set()


async def _connected(ask: Asker, target: str, frames: Frames, **how: Any) -> Upgrade:
    reply = await ask.reply("GET", target, headers=CHANNELS, **how)
    assert isinstance(reply, Upgrade), reply
    assert reply.protocol == "v5.channel.k8s.io"
    await reply.run(frames)  # type: ignore[arg-type]
    return reply


async def test_exec_sees_what_the_container_sees(ask: Asker) -> None:
    frames = Frames()
    name = await _pod(ask)
    command = "command=sh&command=-c&command=env%3B+cat+/etc/payments/password"
    reply = await _connected(ask, f"{SHOP}/pods/{name}/exec?{command}&stdout=true", frames)
    out = b"".join(frame[1:] for frame in frames.sent if frame[:1] == b"\x01").decode()
    assert f"DB_PASSWORD={seed.PASSWORD}\n" in out
    assert f"PAYMENTS_API_KEY={seed.API_KEY}\n" in out
    assert f"SUPPORT_EMAIL={seed.EMAIL}\n" in out
    assert out.endswith(seed.PASSWORD)
    assert any(key == "Audit-Id" for key, _ in reply.headers)


async def test_exec_reads_its_standard_input(ask: Asker) -> None:
    frames = Frames(b"\x00abc", b"\xff\x00")
    await _connected(ask, f"{SHOP}/pods/{await _pod(ask)}/exec?command=cat&stdin=true&tty=false", frames)
    assert frames.sent[0] == b"\x01abc"


async def test_the_token_in_a_container_is_a_credential(ask: Asker) -> None:
    frames = Frames()
    path = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    await _connected(ask, f"{SHOP}/pods/{await _pod(ask)}/exec?command=cat&command={path}", frames)
    assert (await ask("GET", "/api", token=frames.sent[0][1:].decode())).code == 200


async def test_a_container_whose_references_are_gone_still_runs(ask: Asker) -> None:
    await ask("DELETE", f"{SHOP}/secrets/payments")
    frames = Frames()
    await _connected(
        ask, f"{SHOP}/pods/{await _pod(ask)}/exec?command=printenv&command=PAYMENTS_API_KEY", frames
    )
    assert frames.sent[0] == b"\x01\n"


async def test_attach_gives_what_is_logged_from_now_on(ask: Asker) -> None:
    name = await _pod(ask)
    frames = Frames()
    attached = asyncio.ensure_future(_connected(ask, f"{SHOP}/pods/{name}/attach?stdout=1", frames))
    await asyncio.sleep(0.01)
    ask.api.logs.append(("shop", name, "shop-db"), "now")
    await asyncio.wait_for(frames.something.wait(), 5)
    await ask("DELETE", f"{SHOP}/pods/{name}")
    await asyncio.wait_for(attached, 5)
    assert frames.sent == [b"\x01now\n"]


async def test_port_forward_opens_its_ports(ask: Asker) -> None:
    frames = Frames()
    target = f"{SHOP}/pods/{await _pod(ask)}/portforward?ports=80,x,99999,0&ports=81"
    forwarding = asyncio.ensure_future(_connected(ask, target, frames))
    await asyncio.wait_for(frames.something.wait(), 5)
    await asyncio.sleep(0.01)
    forwarding.cancel()
    assert [frame[1:] for frame in frames.sent] == [b"P\x00", b"P\x00", b"Q\x00", b"Q\x00"]


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ("command=env", {}, 400),
        ("command=env", {"Upgrade": "SPDY/3.1", "Connection": "Upgrade"}, 400),
        ("command=env", WEBSOCKET, 400),
        ("command=env", {**WEBSOCKET, "Sec-WebSocket-Protocol": "v1.channel.k8s.io"}, 400),
        ("", CHANNELS, 400),
        ("command=env&container=none", CHANNELS, 400),
    ],
)
async def test_what_cannot_be_connected_is_refused(
    ask: Asker, query: str, headers: dict[str, str], code: int
) -> None:
    for method in ("GET", "POST"):
        answer = await ask(method, f"{SHOP}/pods/{await _pod(ask)}/exec?{query}", headers=headers)
        assert (answer.code, answer.json["kind"]) == (code, "Status")


# Reviews


@pytest.mark.parametrize(
    ("path", "body", "path_in_status", "value"),
    [
        ("authentication.k8s.io/v1/selfsubjectreviews", {}, "userInfo.username", "agent-1"),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {"x": 1}}, "allowed", True),
        ("authorization.k8s.io/v1/selfsubjectrulesreviews", {}, "incomplete", False),
        ("authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "admin"}}, "user.username", "gateway"),
        ("authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "none"}}, "authenticated", False),
    ],
)
async def test_reviews_are_answered_and_forgotten(
    ask: Asker, path: str, body: Any, path_in_status: str, value: object
) -> None:
    answer = await ask("POST", f"/apis/{path}", body, headers={"Impersonate-User": "agent-1"})
    assert answer.code == 201
    found: Any = answer.json["status"]
    for key in path_in_status.split("."):
        found = found[key]
    assert found == value
    assert answer.json["spec"] == body.get("spec", {})
    assert (await ask("POST", f"/apis/{path}/name", body)).code == 405


# Faults


async def test_a_fault_takes_the_place_of_the_answer_and_the_act_is_done(ask: Asker) -> None:
    ask.api.faults = lambda: [Fault("secret-in-error", match="^POST .*/configmaps")]
    answer = await ask("POST", f"{SHOP}/configmaps", {"metadata": {"name": "a"}})
    assert answer.code == 422
    assert (await ask("GET", f"{SHOP}/configmaps/a")).code == 200
    assert [received.code for received in ask.api.record.all()][-2:] == [201, 200]


# Whatever comes

_VALUES = st.sampled_from(
    [None, True, 0, -1, 3, "", "x", "***", [], {}, [1], ["x"], [{}], {"name": "x"}, [None], 1.5]
)
_FIELDS = (
    "metadata spec status data stringData replicas template containers env labels name ownerReferences finalizers "
    "selector matchLabels kind apiVersion annotations uid target deleteOptions dryRun preconditions token volumes op "
    "valueFrom secretKeyRef ports path value $patch expirationSeconds conditions containerStatuses namespace key "
    "creationTimestamp involvedObject resourceVersion generateName envFrom volumeMounts deletionTimestamp phase"
)
_BODIES = st.recursive(
    _VALUES,
    lambda inner: (
        st.dictionaries(st.sampled_from(_FIELDS.split()), inner, max_size=4) | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)
_QUERIES = st.lists(
    st.sampled_from(
        [
            "limit=2",
            "limit=x",
            "continue=x",
            "dryRun=All",
            "labelSelector=a=b",
            "labelSelector=((",
            "fieldSelector=metadata.name=x",
            "tailLines=-1",
            "limitBytes=5",
            "command=env",
            "resourceVersion=0",
            "resourceVersion=x",
            "includeObject=Object",
            "ports=80,99999",
            "timestamps=1",
            "watch=0",
        ]
    ),
    max_size=3,
)


@st.composite
def _requests(draw: st.DrawFn) -> tuple[str, str, Any, str, dict[str, str]]:
    row = draw(st.sampled_from(RESOURCES))
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    target = root + ("/namespaces/shop" if row.namespaced else "") + f"/{row.plural}"
    if draw(st.booleans()):
        target += "/" + draw(st.sampled_from(["x", "payments", "shop-web", "shop", "default", "demo-node-1"]))
        subresources = [sub.name for sub in row.subresources]
        target += draw(st.sampled_from(["", *(f"/{name}" for name in subresources)]))
    method = draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]))
    media_type = (
        draw(st.sampled_from([MERGE, JSON_PATCH, STRATEGIC, APPLY]))
        if method == "PATCH"
        else "application/json"
    )
    body = None if method == "GET" else draw(_BODIES)
    if isinstance(body, dict) and draw(st.booleans()):
        body = {**body, "metadata": {"name": target.rpartition("/")[2]}}
    accept = draw(st.sampled_from([{}, TABLE, PARTIAL, {"Accept": "application/yaml"}, CHANNELS]))
    return method, f"{target}?{'&'.join(draw(_QUERIES))}", body, media_type, accept


@settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(asked=st.lists(_requests(), min_size=1, max_size=4))
async def test_no_request_breaks_the_server(
    ask: Asker, asked: list[tuple[str, str, Any, str, dict[str, str]]]
) -> None:
    for method, target, body, media_type, headers in asked:
        reply = await ask.reply(method, target, body, media_type=media_type, headers=headers)
        if isinstance(reply, Answer) and isinstance(reply.body, bytes):
            assert reply.code < 500
            assert reply.body or reply.code == 200
    everything = await ask("GET", "/api/v1/pods", headers=TABLE)
    assert everything.code == 200
