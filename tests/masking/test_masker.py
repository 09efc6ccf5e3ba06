import base64
import json
import pathlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.frames import WATCH_LINE_LIMIT
from interlock.kube.target import parse_target
from interlock.masking.masker import Masked, Masker, Unmaskable
from interlock.masking.tokens import TOKEN, minter
from interlock.masking.write_back import HoldsMask, check

KEY = bytes(32)
MASKER = Masker(KEY)
MINT = minter(KEY)
S = "hunter2correct"
T = MINT(S)


def b64(value):
    return base64.b64encode(value.encode()).decode()


def info(target, method="GET"):
    return parse_target(method, target).info


SECRETS = info("/api/v1/namespaces/d/secrets")
SECRET = info("/api/v1/namespaces/d/secrets/db")
PATCH = info("/api/v1/namespaces/d/secrets/db", "PATCH")
PODS = info("/api/v1/namespaces/d/pods")
LOG = info("/api/v1/namespaces/d/pods/web/log")
EXEC = info("/api/v1/namespaces/d/pods/web/exec?command=sh")
HEALTH = info("/readyz")
DISCOVERY = info("/apis")

# Answers of a real API server (1.36) about a Secret and a Pod whose values are these.
ANSWERS = {
    answer["name"]: answer
    for answer in map(
        json.loads, (pathlib.Path(__file__).parent / "data" / "answers.jsonl").read_text().splitlines()
    )
}
VALUES = ("hunter2correct", "hunter3other", "value-x9", "zz-new-9", "postgres")


def leaks(raw):
    return [v for v in VALUES if v.encode() in raw or b64(v).encode() in raw]


def body(answer):
    return MASKER.body(
        info(answer["target"], answer["method"]),
        answer["code"],
        answer["contentType"],
        answer["body"].encode(),
    )


# Real answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ANSWERS if not name.startswith("watch")])
def test_a_real_answer_shows_no_value(name):
    answer = ANSWERS[name]
    masked = body(answer)
    assert leaks(masked.data) == []
    if leaks(answer["body"].encode()):
        assert masked.findings
        assert masked.data != answer["body"].encode()
    if answer["contentType"] == "application/json":
        before, after = json.loads(answer["body"]), json.loads(masked.data)
        assert after.keys() == before.keys()
        assert after["kind"] == before["kind"]
        assert after.get("metadata", {}).get("resourceVersion") == before.get("metadata", {}).get(
            "resourceVersion"
        )


UNCHANGED = ["bad-apply", "test-fails", "post-exists", "put-conflict", "missing", "notfound", "405", "406", "415", "healthz",
             "post-bad2", "unknown-field"]  # fmt: skip


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_real_answer_without_a_value_is_the_same_bytes(name):
    masked = body(ANSWERS[name])
    assert masked.data == ANSWERS[name]["body"].encode()
    assert masked.findings == ()


@pytest.mark.parametrize("name", [name for name in ANSWERS if name.startswith("watch")])
def test_a_real_watch_shows_no_value_however_it_is_cut(name):
    raw = ANSWERS[name]["body"].encode()
    watch = MASKER.watch(SECRETS)
    out = b"".join(watch.feed(raw[i : i + 7]).data for i in range(0, len(raw), 7)) + watch.end().data
    assert leaks(raw)
    assert leaks(out) == []
    assert out == MASKER.watch(SECRETS).feed(raw).data
    assert [json.loads(line)["type"] for line in out.splitlines()] == [
        json.loads(line)["type"] for line in raw.splitlines()
    ]


def test_the_same_real_value_has_one_token_in_all_answers():
    get, applied = body(ANSWERS["get"]).data, body(ANSWERS["metadata"]).data
    token = MINT("hunter2correct")
    assert b64(token).encode() in get
    assert token.encode() in get
    assert token.encode() in applied


def test_what_was_masked_cannot_be_written_back():
    with pytest.raises(HoldsMask):
        check(json.loads(body(ANSWERS["get"]).data), ())
    check(json.loads(ANSWERS["get"]["body"]), ())


def test_a_failed_patch_tells_why_and_not_what():
    status = json.loads(body(ANSWERS["bad-merge"]).data)
    assert status["reason"] == "Invalid"
    assert status["details"]["causes"][0]["field"] == "patch"
    pod = json.loads(body(ANSWERS["bad-pod"]).data)
    assert "cannot unmarshal number into Go struct field" in pod["message"]
    assert "pod updates may not change fields" in json.loads(body(ANSWERS["pod-diff"]).data)["message"]


def test_a_pretty_answer_stays_pretty():
    masked = body(ANSWERS["pretty"])
    assert masked.data.startswith(b'{\n  "kind": "Secret",\n')
    clean = b'{\n  "kind": "Pod",\n  "metadata": {},\n  "x": []\n}\n'
    assert MASKER.body(PODS, 200, "application/json", clean).data is clean


# Bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"true\n",
        '{"kind":"Pod","a":"ü東京","n":1.5,"e":{}}\n'.encode(),
        b'{"a":"\\u003ca href=x\\u003e \\u0026 \\u2028\\u2029","b":"<"}'.replace(b'"<"', b'"\\u003c"'),
        b'{"a":"\\b\\f\\n\\r\\t\\u0000\\u001f\\"\\\\/"}',
    ],
)
def test_a_body_without_a_finding_is_the_same_bytes(raw):
    masked = MASKER.body(PODS, 200, "application/json", raw)
    assert masked.data is raw
    assert masked.findings == ()


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b'{"kind":"Secret","data":{"x":"aHVudGVyMg=="},"data":{}}', b'{"kind":"Secret","data":{}}'),
        (b'{"a":"x","a":"y"}\n', b'{"a":"y"}\n'),
        (b'{"a" : 1}', b'{"a":1}'),
        (b' {"a":1}', b'{"a":1}'),
        (b'{"a":"\\u0061"}', b'{"a":"a"}'),
        (b'{"a":1e2}', b'{"a":100.0}'),
    ],
)
def test_what_is_delivered_is_what_was_read(raw, read):
    """Nothing hides in a duplicate key, or in any difference between two parsers."""
    assert MASKER.body(PODS, 200, "application/json", raw).data == read


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"hunter2",
        b'{"a":1}{"b":2}',
        b'{"a":NaN}',
        b'\xff\xfe{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"[" * 2000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'"text"',
        b"5",
        b"k8s\0protobuf",
        b"--- a: 1",
    ],
)
def test_what_does_not_parse_is_withheld(raw):
    with pytest.raises(Unmaskable) as raised:
        MASKER.body(PODS, 200, "application/json", raw)
    assert "hunter2" not in raised.value.reason


@pytest.mark.parametrize(
    ("where", "code", "media"),
    [
        (PODS, 200, None),
        (PODS, 200, ""),
        (PODS, 200, "application/vnd.kubernetes.protobuf"),
        (PODS, 200, "application/cbor"),
        (PODS, 200, "application/yaml"),
        (PODS, 200, "text/html"),
        (PODS, 200, "text/plain"),
        (SECRET, 200, "text/plain"),
        (LOG, 200, "text/html"),
        (LOG, 200, "application/octet-stream"),
        (HEALTH, 200, "text/html"),
        (DISCOVERY, 200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
        (PODS, 200, "application/json; charset=utf-16"),
        (SECRET, 400, "text/plain"),
    ],
)
def test_a_form_that_is_not_known_is_withheld(where, code, media):
    with pytest.raises(Unmaskable):
        MASKER.body(where, code, media, b'{"password":"hunter2"}')


@pytest.mark.parametrize(
    "media", ["application/json", "Application/JSON; charset=UTF-8", "application/json;as=Table;v=v1"]
)
def test_json_is_read_whatever_its_parameters(media):
    assert (
        MASKER.body(PODS, 200, media, f'{{"password":"{S}"}}'.encode()).data
        == f'{{"password":"{T}"}}'.encode()
    )


@pytest.mark.parametrize(
    ("where", "code"),
    [(LOG, 200), (HEALTH, 200), (HEALTH, 500), (PODS, 404), (EXEC, 500), (info("/metrics"), 200)],
)
def test_text_is_masked_line_by_line(where, code):
    masked = MASKER.body(where, code, "text/plain; charset=utf-8", f"ok\nx password={S}".encode())
    assert masked.data == f"ok\nx password={T}".encode()
    assert [finding.path for finding in masked.findings] == ["body"]


def test_an_error_about_a_secret_in_known_words_is_shown():
    raw = b"404 page not found\n"
    assert MASKER.body(SECRET, 404, "text/plain", raw).data == raw


def test_what_describes_the_api_is_not_walked():
    raw = f'{{"paths":{{"password":"{S}"}}}}'.encode()
    for path in ("/api", "/apis", "/apis/apps", "/openapi/v3/api/v1", "/openapi/v2", "/version"):
        assert MASKER.body(info(path), 200, "application/json", raw).data is raw
    for where, code in ((HEALTH, 200), (info("/openapi/v2"), 500), (PODS, 200)):
        assert MASKER.body(where, code, "application/json", raw).data != raw


def test_an_item_that_does_not_say_what_it_is_is_what_was_asked_for():
    masked = MASKER.body(SECRET, 200, "application/json", f'{{"data":{{"x":"{b64(S)}"}}}}'.encode())
    assert json.loads(masked.data) == {"data": {"x": b64(T)}}


def test_headers_are_masked():
    assert MASKER.header(f'299 - "bad password={S}"') == f'299 - "bad password={T}"'
    assert MASKER.header('299 - "old"') == '299 - "old"'


def test_sessions_do_not_share_tokens():
    raw = f'{{"password":"{S}"}}'.encode()
    other = Masker(bytes(range(32))).body(PODS, 200, "application/json", raw)
    assert TOKEN.search(other.data.decode())
    assert other.data != MASKER.body(PODS, 200, "application/json", raw).data


def test_a_port_forward_is_passed_on_and_not_recorded():
    masked = MASKER.unread(b"\x00bytes")
    assert (masked.frames, masked.data, masked.findings) == ((b"\x00bytes",), b"", ())


# Streams --------------------------------------------------------------------------------------------------


def event(kind, thing):
    return orjson.dumps({"type": kind, "object": thing}) + b"\n"


def test_watch_events_are_masked_one_by_one():
    watch = MASKER.watch(SECRETS)
    line = event("ADDED", {"kind": "Secret", "data": {"x": b64(S)}})
    assert watch.feed(line[:-1]).data == b""
    masked = watch.feed(b"\n" + line + line[:5])
    assert masked.data.count(b"\n") == 2
    assert [finding.path for finding in masked.findings] == ["object.data.x"] * 2
    bookmark = event(
        "BOOKMARK",
        {
            "kind": "Secret",
            "metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}},
        },
    )
    assert watch.feed(line[5:] + bookmark).data.endswith(bookmark)
    assert watch.feed(b"\n").data == b"\n"
    assert watch.end().data == b""


def test_a_last_event_without_its_newline_is_delivered_and_half_of_one_is_not():
    watch = MASKER.watch(PODS)
    line = event("DELETED", {"kind": "Pod"})[:-1]
    watch.feed(line)
    assert watch.end().data == line
    watch.feed(line[:-1])
    with pytest.raises(Unmaskable):
        watch.end()


def test_an_error_event_about_a_secret_quotes_nothing():
    status = {"kind": "Status", "status": "Failure", "message": "hunter2", "code": 410}
    assert b"hunter2" not in MASKER.watch(SECRETS).feed(event("ERROR", status)).data
    assert b"hunter2" in MASKER.watch(PODS).feed(event("ERROR", status)).data


def test_a_tables_columns_are_remembered():
    watch = MASKER.watch(info("/apis/x.example/v1/things"))
    first = {"kind": "Table", "columnDefinitions": [{"name": "Password"}], "rows": [{"cells": [S]}]}
    later = {"kind": "Table", "columnDefinitions": None, "rows": [{"cells": [S]}]}
    for table in (first, later, later):
        assert json.loads(watch.feed(event("MODIFIED", table)).data)["object"]["rows"][0]["cells"] == [T]


@pytest.mark.parametrize(
    "line",
    [
        b"text\n",
        b"[]\n",
        b"{}\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"OTHER","object":{}}\n',
        b'{"type":["ADDED"],"object":{}}\n',
        b'{"type":"ADDED","object":{},"more":"hunter2"}\n',
        b'{"type":"ADDED","object":{"a":\n',
    ],
)
def test_a_line_that_is_no_event_ends_the_watch(line):
    with pytest.raises(Unmaskable):
        MASKER.watch(PODS).feed(line)


def test_an_event_that_is_too_large_ends_the_watch():
    watch = MASKER.watch(PODS)
    watch.feed(b"x" * WATCH_LINE_LIMIT)
    with pytest.raises(Unmaskable, match="a watch event: a line is longer"):
        watch.feed(b"x")


def test_a_large_list_is_masked_item_by_item():
    listing = MASKER.listing(SECRETS)
    first = listing.feed(f'{{"kind":"SecretList","items":[{{"data":{{"x":"{b64(S)}"}}}},'.encode())
    assert first.data == f'{{"kind":"SecretList","items":[{{"data":{{"x":"{b64(T)}"}}}}'.encode()
    assert listing.feed(b"{}]}").data + listing.end().data == b",{}]}"


def test_logs_are_lines():
    log = MASKER.log()
    assert log.feed(f"a\nx token={S}".encode()).data == b"a\n"
    assert log.end().data == f"x token={T}".encode()


events = st.sampled_from(
    [
        event("ADDED", {"kind": "Secret", "data": {"x": b64(S)}}),
        event("MODIFIED", {"kind": "Pod", "env": [{"name": "TOKEN", "value": S}]}),
        event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "1"}}),
        event("ADDED", {"kind": "Pod", "a": "x" * 500}),
    ]
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(events, max_size=6), st.lists(st.integers(1, 400), max_size=30))
def test_a_watch_does_not_depend_on_where_it_was_cut(lines, cuts):
    raw, at, watch, out = b"".join(lines), 0, MASKER.watch(PODS), b""
    for cut in (*cuts, len(raw)):
        out += watch.feed(raw[at : at + cut]).data
        at += cut
    assert out + watch.end().data == MASKER.watch(PODS).feed(raw).data
    assert S.encode() not in out
    assert b64(S).encode() not in out


# Channels -------------------------------------------------------------------------------------------------

EXIT = b'{"metadata":{},"status":"Success"}'


def test_output_is_masked_by_channel_and_line():
    channels = MASKER.channels()
    assert channels.frame(b"\x01one\npassw", False).frames == (b"\x01one\n",)
    assert channels.frame(b"\x02err", False).frames == ()
    masked = channels.frame(f"\x01ord={S} x\n".encode(), False)
    assert masked.frames == (f"\x01password={MINT(S + ' x')}\n".encode(),)
    assert masked.data == masked.frames[0][1:]
    assert [finding.path for finding in masked.findings] == ["stdout"]
    end = channels.frame(b"\x03" + EXIT, False)
    assert end.frames == (b"\x02err", b"\x03" + EXIT)
    assert end.data == b"err" + EXIT


def test_what_opens_and_closes_passes():
    channels = MASKER.channels()
    for message in (b"\x01", b"\x02", b"\x03", b"\x00", b"\x04", b"\xff\x01"):
        masked = channels.frame(message, False)
        assert (masked.frames, masked.data) == ((message,), b"")
    for message in (b"\xff\x00", b'\x04{"Width":80,"Height":24}'):
        masked = channels.frame(message, True)
        assert (masked.frames, masked.data) == ((message,), b"")


def test_an_exit_status_that_quotes_is_masked():
    status = {"kind": "Status", "status": "Failure", "message": f"x password={S} y"}
    masked = MASKER.channels().frame(b"\x03" + orjson.dumps(status), False)
    assert json.loads(masked.frames[0][1:])["message"] == f"x password={T} y"


def test_input_is_delivered_as_it_is_and_recorded_masked():
    channels = MASKER.channels()
    first, second = b"\x00export TOKEN=", f"\x00{S}\r\nls\n".encode()
    assert channels.frame(first, True).frames == (first,)
    masked = channels.frame(second, True)
    assert masked.frames == (second,)
    assert masked.data == f"export TOKEN={T}\r\nls\n".encode()
    assert channels.frame(b"\x00", True).frames == (b"\x00",)


def test_what_was_held_at_the_end_is_handed_out():
    channels = MASKER.channels()
    channels.frame(b"\x01out", False)
    channels.frame(b"\x02err", False)
    channels.frame(b"\x00token=abc", True)
    end = channels.end()
    assert end.frames == (b"\x01out", b"\x02err")
    assert end.data == f"outerrtoken={MINT('abc')}".encode()
    assert channels.end().frames == ()


@pytest.mark.parametrize(
    ("message", "from_client"),
    [
        (b"", True),
        (b"", False),
        (b"\x00hunter2", False),
        (b"\x04{}", False),
        (b"\x05x", False),
        (b"\xff", False),
        (b"\xff\x01hunter2", False),
        (b"\x03not a Status", False),
        (b'\x03"text"', False),
        (b"\x01x", True),
        (b"\x02x", True),
        (b"\x03{}", True),
        (b"\x05", True),
        (b"\xff", True),
        (b"\xff\x00more", True),
        (b"\x04", True),
        (b"\x04[80]", True),
        (b'\x04{"Width":"hunter2"}', True),
        (b'\x04{"Width":true}', True),
    ],
)
def test_a_message_without_a_meaning_ends_the_connection(message, from_client):
    with pytest.raises(Unmaskable) as raised:
        MASKER.channels().frame(message, from_client)
    assert "hunter2" not in raised.value.reason


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 60)), max_size=30))
def test_channels_do_not_depend_on_where_they_were_cut(cuts):
    text = f'a\nx password={S} y\nplain\n{{"token":"{S}"}}\nno end token={S}'.encode()
    at, out, channels = {1: 0, 2: 0}, {1: b"", 2: b""}, MASKER.channels()
    frames = []
    for channel, size in [*cuts, (1, len(text)), (2, len(text))]:
        piece = text[at[channel] : at[channel] + size]
        at[channel] += size
        if piece:
            frames += channels.frame(bytes((channel,)) + piece, False).frames
    frames += channels.end().frames
    for frame in frames:
        out[frame[0]] += frame[1:]
    assert out[1] == out[2] == MASKER.body(LOG, 200, "text/plain", text).data
    assert S.encode() not in out[1]


# The record -----------------------------------------------------------------------------------------------


def recorded(where, thing):
    before = orjson.dumps(thing)
    masked = MASKER.record_body(where, thing)
    assert isinstance(masked, Masked)
    assert orjson.dumps(thing) == before, "the body that is forwarded was changed"
    return json.loads(masked.data)


def test_a_body_is_recorded_masked():
    assert recorded(SECRETS, {"kind": "Secret", "stringData": {"x": S}}) == {
        "kind": "Secret",
        "stringData": {"x": T},
    }
    assert recorded(PATCH, {"data": {"x": b64(S)}}) == {"data": {"x": b64(T)}}
    assert recorded(PODS, {"spec": {"env": [{"name": "TOKEN", "value": S}]}}) == {
        "spec": {"env": [{"name": "TOKEN", "value": T}]}
    }
    assert recorded(
        info("/api/v1/namespaces/d/serviceaccounts/a/token", "POST"), {"status": {"token": S}}
    ) == {"status": {"token": T}}
    assert recorded(PODS, f"x password={S}") == f"x password={T}"
    assert recorded(PODS, ["--token", S]) == ["--token", T]
    assert recorded(PODS, None) is None


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ({"op": "add", "path": "/data/x", "value": b64(S)}, MINT(b64(S))),
        ({"op": "replace", "path": "/stringData/x", "value": S}, T),
        ({"op": "test", "path": "/data", "value": {"x": S, "y": None}}, {"x": T, "y": None}),
        ({"op": "replace", "path": "", "value": {"data": {"x": b64(S)}}}, {"data": {"x": b64(T)}}),
        ({"op": "add", "path": "/metadata/annotations/note", "value": f"x token={S}"}, f"x token={T}"),
        (
            {
                "op": "add",
                "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
                "value": json.dumps({"kind": "Secret", "stringData": {"x": S}}),
            },
            json.dumps({"kind": "Secret", "stringData": {"x": T}}, separators=(",", ":")),
        ),
        ({"op": "remove", "path": "/data/x"}, None),
        ({"op": "add", "path": 5, "value": f"x token={S}"}, f"x token={T}"),
    ],
)
def test_a_json_patch_of_a_secret_is_recorded_masked(operation, value):
    (out,) = recorded(PATCH, [operation])
    assert out.get("value") == value
    assert {k: v for k, v in out.items() if k != "value"} == {
        k: v for k, v in operation.items() if k != "value"
    }


@pytest.mark.parametrize(
    ("path", "value", "masked"),
    [
        ("/spec/template/spec/containers/0/env/1/value", S, T),
        (
            "/spec/template/spec/containers/0/env",
            [{"name": "TOKEN", "value": S}],
            [{"name": "TOKEN", "value": T}],
        ),
        ("/spec/password", S, T),
        ("/data/db~1password", S, T),
        ("/spec/replicas", 3, 3),
        ("/spec/image", "nginx", "nginx"),
        ("/spec/args", ["--token", S], ["--token", T]),
    ],
)
def test_a_json_patch_is_masked_by_its_paths(path, value, masked):
    where = info("/apis/apps/v1/namespaces/d/deployments/web", "PATCH")
    assert recorded(where, [{"op": "replace", "path": path, "value": value}]) == [
        {"op": "replace", "path": path, "value": masked}
    ]


def test_a_json_patch_that_is_none_is_walked():
    assert recorded(PATCH, ["x", {"a": 1}, [{"password": S}]]) == ["x", {"a": 1}, [{"password": T}]]


def test_argv_is_recorded_masked():
    assert MASKER.record_command(["mysql", "--password", S, f"--token={S}", "-u", "bob"]) == (
        "mysql", "--password", T, f"--token={T}", "-u", "bob",
    )  # fmt: skip
    assert MASKER.record_command(["sh", "-c", f"x --token {S}"]) == ("sh", "-c", f"x --token {T}")
    assert MASKER.record_command(()) == ()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/api/v1/pods?limit=500", "/api/v1/pods?limit=500"),
        ("/api/v1/pods", "/api/v1/pods"),
        (
            f"/api/v1/namespaces/d/pods/w/exec?command=x&command=--password&command={S}&stdin=true",
            f"/api/v1/namespaces/d/pods/w/exec?command=x&command=--password&command={T}&stdin=true",
        ),
        (
            f"/api/v1/namespaces/d/pods/w/exec?command=sh&command=-c&command=a%20--token%20{S}%26",
            f"/api/v1/namespaces/d/pods/w/exec?command=sh&command=-c&command=a%20--token%20{MINT(S + '&')}",
        ),
        (f"/api/v1/pods?labelSelector=token%3D{S}", f"/api/v1/pods?labelSelector=token%3D{T}"),
        (f"/api/v1/pods?token={S}", f"/api/v1/pods?token={T}"),
        (
            f"/api/v1/namespaces/d/services/w/proxy/a/token={S}",
            f"/api/v1/namespaces/d/services/w/proxy/a/token%3D{T}",
        ),
        ("/api/v1/pods?watch", "/api/v1/pods?watch="),
    ],
)
def test_a_target_is_recorded_masked(uri, shown):
    assert MASKER.record_uri(uri) == shown
