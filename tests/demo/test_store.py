"""The store keeps objects, versions and events as a Kubernetes API does."""

import base64
import threading
from typing import Any

import pytest

from interlock.demo import store as store_module
from interlock.demo.resources import Resource
from interlock.demo.store import Event, Refused, Store, check_secret, field_selector, invalid, label_selector

type Rows = dict[str, Resource]


def _named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


def test_a_created_object_has_what_the_server_sets(store: Store, rows: Rows) -> None:
    made = store.create(rows["pods"], "shop", _named("a", spec={"x": 1}))
    assert made["kind"] == "Pod"
    assert made["apiVersion"] == "v1"
    assert made["metadata"] == {
        "name": "a",
        "namespace": "shop",
        "uid": "00001000-0000-4000-8000-000000000000",
        "creationTimestamp": "2026-06-01T08:00:00Z",
        "generation": 1,
        "resourceVersion": "1001",
    }
    assert store.get(rows["pods"], "shop", "a") == made


def test_what_was_handed_in_stays_the_callers(store: Store, rows: Rows) -> None:
    body = _named("a", data={"k": "v"})
    store.create(rows["configmaps"], "shop", body)
    body["data"]["k"] = "changed"
    assert store.get(rows["configmaps"], "shop", "a")["data"] == {"k": "v"}


def test_a_generated_name_has_its_prefix(store: Store, rows: Rows) -> None:
    made = store.create(rows["pods"], "shop", {"metadata": {"generateName": "web-"}})
    assert made["metadata"]["name"].startswith("web-")
    assert len(made["metadata"]["name"]) == 9


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"metadata": {}}, 422),
        ({"metadata": None}, 422),
        ({}, 422),
        ({"metadata": {"name": "Upper"}}, 422),
        ({"metadata": {"name": 7}}, 422),
        ({"metadata": {"name": "a/b"}}, 422),
        ({"kind": "Secret", "metadata": {"name": "a"}}, 400),
        ({"apiVersion": "v2", "metadata": {"name": "a"}}, 400),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400),
    ],
)
def test_a_body_that_does_not_fit_its_place_is_refused(
    store: Store, rows: Rows, body: Any, code: int
) -> None:
    with pytest.raises(Refused) as refused:
        store.create(rows["pods"], "shop", body)
    assert refused.value.code == code
    assert store.objects(rows["pods"]) == (1000, [])


def test_the_same_name_twice_is_a_conflict(store: Store, rows: Rows) -> None:
    store.create(rows["pods"], "shop", _named("a"))
    store.create(rows["pods"], "other", _named("a"))
    with pytest.raises(Refused) as refused:
        store.create(rows["pods"], "shop", _named("a"))
    assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")
    assert refused.value.message == 'pods "a" already exists'


def test_a_dry_run_changes_nothing(store: Store, rows: Rows) -> None:
    heard: list[Event] = []
    store.subscribe(heard.append)
    made = store.create(rows["pods"], "shop", _named("a"), dry_run=True)
    assert made["metadata"]["uid"]
    live = store.create(rows["pods"], "shop", _named("b"))
    store.update(rows["pods"], live, {**live, "spec": {"n": 1}}, dry_run=True)
    store.delete(rows["pods"], live, dry_run=True)
    assert [event.type for event in heard] == ["ADDED"]
    assert store.objects(rows["pods"])[1] == [live]


def test_a_cluster_scoped_object_has_no_namespace(store: Store, rows: Rows) -> None:
    made = store.create(rows["nodes"], "", _named("n"))
    assert "namespace" not in made["metadata"]
    assert store.get(rows["nodes"], "", "n") == made


def test_nothing_changes_while_it_is_still(store: Store, rows: Rows) -> None:
    other = threading.Thread(target=lambda: store.create(rows["pods"], "shop", _named("a")))
    with store.still():
        other.start()
        other.join(0.05)
        assert other.is_alive()
        assert store.objects(rows["pods"])[1] == []
    other.join()
    assert len(store.objects(rows["pods"])[1]) == 1


def test_lists_are_in_order_and_of_one_namespace(store: Store, rows: Rows) -> None:
    for namespace, name in (("b", "x"), ("a", "y"), ("a", "x")):
        store.create(rows["pods"], namespace, _named(name))
    assert [i["metadata"]["name"] for i in store.objects(rows["pods"], "a")[1]] == ["x", "y"]
    version, every = store.objects(rows["pods"])
    assert [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in every] == [
        ("a", "x"),
        ("a", "y"),
        ("b", "x"),
    ]
    assert version == 1003


def test_an_update_keeps_identity_and_counts_generations(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", _named("a", spec={"n": 1}))
    body = {"metadata": {"name": "a", "uid": live["metadata"]["uid"], "labels": {"x": "y"}}, "spec": {"n": 2}}
    made = store.update(rows["pods"], live, body)
    assert made["metadata"]["uid"] == live["metadata"]["uid"]
    assert made["metadata"]["generation"] == 2
    assert made["metadata"]["labels"] == {"x": "y"}
    assert made["metadata"]["resourceVersion"] == "1002"
    relabelled = store.update(rows["pods"], made, {**made, "metadata": {"name": "a"}})
    assert relabelled["metadata"]["generation"] == 2


def test_an_update_without_a_change_makes_no_version(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", _named("a", spec={"n": 1}))
    assert store.update(rows["pods"], live, live) is live
    assert store.version == 1001


def test_an_update_cannot_rename(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", _named("a"))
    with pytest.raises(Refused) as refused:
        store.update(rows["pods"], live, _named("b"))
    assert refused.value.code == 400


@pytest.mark.parametrize("stale", [{"resourceVersion": "1"}, {"uid": "another"}])
def test_an_update_of_another_state_is_a_conflict(store: Store, rows: Rows, stale: dict[str, str]) -> None:
    live = store.create(rows["pods"], "shop", _named("a"))
    with pytest.raises(Refused) as refused:
        store.update(rows["pods"], live, {"metadata": {"name": "a", **stale}})
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")


def test_status_and_the_rest_are_written_apart(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", _named("a", spec={"n": 1}))
    live = store.set_status(rows["pods"], live, {"phase": "Running"})
    assert live["spec"] == {"n": 1}
    both = {"metadata": {"name": "a"}, "spec": {"n": 2}, "status": {"phase": "Failed"}}
    changed = store.update(rows["pods"], live, both)
    assert (changed["spec"], changed["status"]) == ({"n": 2}, {"phase": "Running"})
    changed = store.update(rows["pods"], changed, {**both, "spec": {"n": 3}}, status=True)
    assert (changed["spec"], changed["status"]) == ({"n": 2}, {"phase": "Failed"})


def test_a_deleted_object_is_gone(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", _named("a"))
    assert store.delete(rows["pods"], live)["metadata"]["resourceVersion"] == "1002"
    with pytest.raises(Refused) as refused:
        store.get(rows["pods"], "shop", "a")
    assert refused.value.message == 'pods "a" not found'
    with pytest.raises(Refused) as refused:
        store.delete(rows["pods"], live)
    assert refused.value.code == 404


def test_finalizers_hold_an_object_until_they_are_gone(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", {"metadata": {"name": "a", "finalizers": ["x"]}})
    marked = store.delete(rows["pods"], live)
    assert marked["metadata"]["deletionTimestamp"]
    assert store.delete(rows["pods"], marked) is marked
    store.update(rows["pods"], marked, {"metadata": {"name": "a", "finalizers": []}})
    assert store.objects(rows["pods"])[1] == []


def test_every_change_is_told_in_order_even_when_a_listener_writes(store: Store, rows: Rows) -> None:
    heard: list[tuple[str, str]] = []

    def react(event: Event) -> None:
        if event.type == "ADDED":
            store.set_status(rows["pods"], event.object, {"phase": "Running"})

    store.subscribe(react)
    store.subscribe(lambda event: heard.append((event.type, event.object["metadata"]["resourceVersion"])))
    made = store.create(rows["pods"], "shop", _named("a"))
    assert heard == [("ADDED", "1001"), ("MODIFIED", "1002")]
    assert made["status"] == {"phase": "Running"}


def test_a_listener_that_fails_does_not_silence_the_others(store: Store, rows: Rows) -> None:
    heard: list[str] = []

    def failing(event: Event) -> None:
        if event.object["metadata"]["name"] == "bad":
            raise RuntimeError("a listener's own fault")

    store.subscribe(failing)
    store.subscribe(lambda event: heard.append(event.object["metadata"]["name"]))
    with pytest.raises(RuntimeError):
        store.create(rows["pods"], "shop", _named("bad"))
    store.create(rows["pods"], "shop", _named("good"))
    assert heard == ["good"]


def test_a_watch_resumes_where_it_stopped(store: Store, rows: Rows) -> None:
    store.create(rows["pods"], "shop", _named("a"))
    seen = store.version
    store.create(rows["pods"], "shop", _named("b"))
    heard: list[Event] = []
    version, missed = store.subscribe(heard.append, seen)
    assert [event.object["metadata"]["name"] for event in missed] == ["b"]
    assert [event.version for event in missed] == [version]
    store.unsubscribe(heard.append)
    store.create(rows["pods"], "shop", _named("c"))
    assert heard == []


def test_a_watch_from_a_forgotten_version_is_told_so(store: Store, rows: Rows) -> None:
    live = store.create(rows["pods"], "shop", _named("a"))
    for number in range(store_module.HISTORY + 1):
        live = store.set_status(rows["pods"], live, {"n": number})
    with pytest.raises(Refused) as refused:
        store.subscribe(lambda event: None, 1000)
    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    store.subscribe(lambda event: None, store.version - 1)


def test_a_secret_takes_text_and_keeps_base64(store: Store, rows: Rows) -> None:
    body = _named("s", stringData={"p": "hunter2"}, data={"q": "YQ==", "empty": None})
    made = store.create(rows["secrets"], "shop", body)
    assert base64.b64decode(made["data"]["p"]) == b"hunter2"
    assert "stringData" not in made
    assert made["type"] == "Opaque"


@pytest.mark.parametrize("value", ["***", 7, "abc"])
def test_a_secret_that_is_not_base64_is_refused_without_quoting_it(value: Any) -> None:
    with pytest.raises(Refused) as refused:
        check_secret({"kind": "Secret", "data": {"p": value}})
    assert refused.value.code == 400
    assert str(value) not in refused.value.message.replace("base64", "")


def test_an_invalid_field_has_its_cause(rows: Rows) -> None:
    problem = invalid(rows["deployments.apps"], "d", "spec", "Required value")
    assert problem.message == 'Deployment "d" is invalid: spec: Required value'
    assert problem.causes == (("FieldValueInvalid", "Required value", "spec"),)
    assert problem.details == {"name": "d", "group": "apps", "kind": "deployments"}


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1,b!=2", {"a": "1"}, True),
        ("a=1", {"a": "2"}, False),
        ("a!=1", {"a": "1"}, False),
        ("a in (1, 2),b notin (3)", {"a": "2", "b": "4"}, True),
        ("a in (1,2)", {"a": "3"}, False),
        ("a notin (1)", {"a": "1"}, False),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "1"}, False),
        ("a=", {"a": ""}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], matches: bool) -> None:
    assert label_selector(selector)({"metadata": {"labels": labels}}) is matches


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==a,status.phase!=Failed", True),
        ("metadata.name=b", False),
        ("spec.nodeName=", True),
        ("status.phase=Running", True),
    ],
)
def test_field_selectors(selector: str, matches: bool) -> None:
    item = {"metadata": {"name": "a"}, "spec": None, "status": {"phase": "Running"}}
    assert field_selector(selector)(item) is matches


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (label_selector, "a b"),
        (label_selector, "a in 1"),
        (field_selector, "metadata.name"),
        (field_selector, "data.password=x"),
    ],
)
def test_a_selector_that_is_not_understood_is_refused(make: Any, text: str) -> None:
    with pytest.raises(Refused) as refused:
        make(text)
    assert refused.value.code == 400
