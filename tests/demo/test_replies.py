"""Answers are worded, and requests read, as kube-apiserver does it."""

import base64
import json
from typing import Any

import pytest

from interlock.demo import replies
from interlock.demo.attributes import attributes
from interlock.demo.resources import Resource
from interlock.demo.store import Event, Refused
from interlock.demo.wire import Answer, Request


def _request(headers: dict[str, str] | None = None, body: bytes = b"") -> Request:
    return Request("GET", "/", tuple((headers or {}).items()), body, {})


def test_a_refusal_becomes_a_status() -> None:
    refused = Refused(422, "Invalid", "no", details={"name": "n"}, causes=(("R", "m", "f"),))
    assert replies.status(refused) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "no",
        "reason": "Invalid",
        "details": {"name": "n", "causes": [{"reason": "R", "message": "m", "field": "f"}]},
        "code": 422,
    }
    assert replies.status(replies.unknown())["code"] == 404
    assert replies.status(replies.method_not_allowed())["details"] == {}


def test_answers_have_their_types() -> None:
    assert replies.json_answer(201, {"a": 1}) == Answer(
        201, (("Content-Type", "application/json"),), b'{"a":1}'
    )
    assert replies.text(200, "é").body == "é".encode()
    assert replies.encoded(200, b"x", "application/yaml").headers == (("Content-Type", "application/yaml"),)


def test_a_bookmark_ends_the_initial_events(rows: dict[str, Resource]) -> None:
    made = replies.bookmark(rows["pods"], 7)
    assert (made["kind"], made["metadata"]["resourceVersion"]) == ("Pod", "7")
    assert made["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_tagged_document_is_sent_once() -> None:
    first = replies.tagged(_request(), {"a": 1})
    tag = dict(first.headers)["ETag"]
    again = replies.tagged(_request({"if-none-match": tag}), {"a": 1})
    assert (first.code, first.body) == (200, b'{"a":1}')
    assert (again.code, again.body) == (304, b"")
    assert replies.tagged(_request({"if-none-match": tag}), {"a": 2}).code == 200


@pytest.mark.parametrize("items", [[], [b"{}"], [b'{"x":"%s"}' % (b"y" * 40_000)] * 5])
async def test_a_streamed_list_is_whole(items: list[bytes]) -> None:
    pieces = [piece async for piece in replies.streamed_list(b'{"items":[', items)]
    assert json.loads(b"".join(pieces)) == {"items": [json.loads(item) for item in items]}
    assert len(pieces) == {0: 1, 1: 1, 5: 3}[len(items)]


@pytest.mark.parametrize(
    ("accept", "shape"),
    [
        (None, ""),
        ("*/*", ""),
        ("application/json", ""),
        ("application/yaml", ""),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "Table"),
        ("application/json, application/json;as=Table", ""),
        ("application/vnd.kubernetes.protobuf;as=Table,application/json;as=Table", "Table"),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "PartialObjectMetadataList"),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "PartialObjectMetadata"),
        ("application/json;as=Surprise", ""),
        ("application/*", ""),
    ],
)
def test_the_first_shape_that_is_spoken_is_taken(accept: str | None, shape: str) -> None:
    assert replies.shape(_request({"accept": accept} if accept else {})) == shape


def test_nothing_that_is_spoken_is_406() -> None:
    with pytest.raises(Refused) as refused:
        replies.shape(_request({"accept": "application/cbor, text/html"}))
    assert refused.value.code == 406


@pytest.mark.parametrize(
    ("accept", "yaml"), [("application/yaml", True), ("application/json", False), (None, False)]
)
def test_yaml_is_given_to_who_asks_for_it_first(accept: str | None, yaml: bool) -> None:
    assert replies.wants_yaml(_request({"accept": accept} if accept else {})) is yaml


def test_a_selection_is_name_labels_and_fields() -> None:
    wanted = replies.selection(attributes("GET", "/api/v1/watch/namespaces/s/pods/a?labelSelector=x%3D1"))
    assert wanted({"metadata": {"name": "a", "labels": {"x": "1"}}})
    assert not wanted({"metadata": {"name": "a", "labels": {"x": "2"}}})
    assert not wanted({"metadata": {"name": "b", "labels": {"x": "1"}}})
    wanted = replies.selection(attributes("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da"))
    assert wanted({"metadata": {"name": "a"}})
    assert not wanted({"metadata": {"name": "b"}})


@pytest.mark.parametrize(
    ("kind", "before", "after", "seen"),
    [
        ("ADDED", None, True, ["ADDED"]),
        ("ADDED", None, False, []),
        ("MODIFIED", True, True, ["MODIFIED"]),
        ("MODIFIED", False, True, ["ADDED"]),
        ("MODIFIED", True, False, ["DELETED"]),
        ("MODIFIED", False, False, []),
        ("DELETED", True, True, ["DELETED"]),
        ("DELETED", False, False, []),
    ],
)
def test_a_watcher_sees_what_enters_and_leaves_its_selection(
    rows: dict[str, Resource], kind: str, before: bool | None, after: bool, seen: list[str]
) -> None:
    def item(wanted: bool) -> dict[str, Any]:
        return {"metadata": {"namespace": "s", "wanted": wanted}}

    event = Event(kind, rows["pods"], item(after), None if before is None else item(before))

    def wanted(found: dict[str, Any]) -> bool:
        return bool(found["metadata"]["wanted"])

    assert [kind for kind, _ in replies.seen_through(event, rows["pods"], "s", wanted)] == seen
    assert list(replies.seen_through(event, rows["secrets"], "s", wanted)) == []
    assert list(replies.seen_through(event, rows["pods"], "other", wanted)) == []


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (None, b'{"a": 1}'),
        ("application/json; charset=utf-8", b'{"a": 1}'),
        ("application/yaml", b"a: 1\n---\nb: 2\n"),
        ("application/json", b"a: 1\n"),
    ],
)
def test_json_and_yaml_bodies_are_read(media_type: str | None, body: bytes) -> None:
    assert replies.body_of(_request({"content-type": media_type} if media_type else {}, body)) == {"a": 1}


@pytest.mark.parametrize(
    ("media_type", "body", "code"),
    [
        ("application/vnd.kubernetes.protobuf", b"k8s\x00", 415),
        ("application/cbor", b"", 415),
        ("application/json", b"[]", 400),
        ("application/json", b'{"metadata": []}', 400),
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
    ],
)
def test_other_bodies_are_refused(media_type: str, body: bytes, code: int) -> None:
    with pytest.raises(Refused) as refused:
        replies.body_of(_request({"content-type": media_type}, body))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("query", "dry"), [("", False), ("dryRun=All", True), ("dryRun=All;x", False), ("dryrun=All", False)]
)
def test_a_dry_run_is_what_the_server_takes_for_one(query: str, dry: bool) -> None:
    assert replies.dry_run(attributes("POST", f"/api/v1/pods?{query}")) is dry


def test_an_unknown_dry_run_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        replies.dry_run(attributes("POST", "/api/v1/pods?dryRun=Some"))
    assert refused.value.code == 422


def test_a_page_continues_where_the_last_one_ended() -> None:
    assert replies.continued(replies.continuation(1000, 17)) == 17
    assert replies.continued("") == 0


@pytest.mark.parametrize(
    "token", ["x", "!", base64.urlsafe_b64encode(b"[]").decode(), base64.urlsafe_b64encode(b"{}").decode()]
)
def test_a_page_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(Refused) as refused:
        replies.continued(token)
    assert refused.value.code == 400


def test_a_version_is_a_number() -> None:
    assert replies.version("17") == 17
    with pytest.raises(Refused):
        replies.version("x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("17", 17), ("", None), ("-1", None), ("²", None), ("1e3", None), ("9" * 19, None)],
)
def test_numbers_are_plain(text: str, value: int | None) -> None:
    assert replies.number(text) == value


def test_base64url_without_padding() -> None:
    assert replies.unpadded("aHVudGVyMg") == "hunter2"
    assert replies.unpadded("a") == ""
    assert replies.unpadded("é") == ""


def test_subprotocols_are_listed_over_all_headers() -> None:
    request = Request(
        "GET", "/", (("sec-websocket-protocol", "a, b"), ("x", "y"), ("sec-websocket-protocol", "c")), b"", {}
    )
    assert replies.protocols(request) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("made", "bad"),
    [
        ({"kind": "Pod", "data": {"a": "***"}}, False),
        ({"kind": "Secret"}, False),
        ({"kind": "Secret", "data": {"a": "YQ==", "b": None}}, False),
        ({"kind": "Secret", "data": {"a": "***"}}, True),
        ({"kind": "Secret", "data": {"a": 7}}, True),
    ],
)
def test_a_secret_that_is_not_base64_is_found(made: dict[str, Any], bad: bool) -> None:
    assert bool(replies.not_base64(made)) is bad


def test_go_prints_documents_its_own_way() -> None:
    assert replies.go_text({"b": [1, True, None], "a": "x"}) == "map[a:x b:[1 true <nil>]]"


async def test_an_upgraded_list_is_sent_in_frames() -> None:
    class Frames:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        async def send(self, payload: bytes, *, text: bool = False) -> None:
            assert text
            self.sent.append(payload)

    async def pieces() -> Any:
        for piece in (b"", b"a", b"b"):
            yield piece

    whole, streamed = Frames(), Frames()
    await replies.framed(Answer(200, (), b"all")).run(whole)  # type: ignore[arg-type]
    await replies.framed(Answer(200, (), pieces())).run(streamed)  # type: ignore[arg-type]
    assert whole.sent == [b"all"]
    assert streamed.sent == [b"a", b"b"]
