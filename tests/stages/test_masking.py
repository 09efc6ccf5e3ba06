"""The masking stage: which form an answer is read in, what is refused, what the record may show."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.exchange import Refusal, Reply
from interlock.masking.masker import Channels, Masked
from interlock.stages.masking import OFF_LOOP, SESSIONS, Masking
from stages.parts import admitted, arrival, session

SECRET = "hunter2-the-secret"


@pytest.fixture
def stage() -> Masking:
    return Masking()


def allowed(*given: Any, unmasked: bool = False, **more: Any) -> Any:
    x = admitted(*given, **more)
    x.decision = SimpleNamespace(effect="allow", unmasked=unmasked)  # type: ignore[assignment]
    return x


def answered(
    x: Any, code: int = 200, media: str = "application/json", body: bytes = b"", **headers: str
) -> Any:
    more = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    x.reply = Reply(code, ((b"Content-Type", media.encode()), *more), body)
    return x


def secret(value: str = SECRET) -> bytes:
    data = {"password": base64.b64encode(value.encode()).decode()}
    thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data}
    return json.dumps(thing).encode()


async def test_the_record_of_a_request_is_masked(stage: Masking) -> None:
    shown = await stage.request(allowed("POST", "/api/v1/namespaces/shop/secrets", secret()))
    assert base64.b64encode(SECRET.encode()) not in shown.body
    assert shown.findings
    run = await stage.request(
        allowed(target=f"/api/v1/namespaces/shop/pods/p/exec?command=login&command=--password%3D{SECRET}")
    )
    assert SECRET not in run.uri
    assert SECRET not in " ".join(run.command)


async def test_a_mask_is_not_written_back(stage: Masking) -> None:
    x = answered(allowed(target="/api/v1/namespaces/shop/secrets/s"), body=secret())
    masked = await stage.response(x)
    with pytest.raises(Refusal) as caught:
        await stage.request(allowed("PUT", "/api/v1/namespaces/shop/secrets/s", masked.data))
    assert caught.value.code == 422
    assert "data.password" in caught.value.message


async def test_a_port_forward_needs_a_rule_that_says_unmasked(stage: Masking) -> None:
    target = "/api/v1/namespaces/shop/pods/p/portforward"
    with pytest.raises(Refusal):
        await stage.request(allowed(target=target))
    assert (await stage.request(allowed(target=target, unmasked=True))).uri == target


async def test_an_upgrade_that_cannot_be_masked_is_refused(stage: Masking) -> None:
    with pytest.raises(Refusal) as caught:
        await stage.request(
            allowed(target="/api/v1/namespaces/shop/pods/p/exec?command=id", unreadable="no SPDY")
        )
    assert (caught.value.code, caught.value.message) == (403, "no SPDY")


def test_a_refused_request_is_shown_without_its_body(stage: Masking) -> None:
    x = admitted("POST", "/api/v1/namespaces/shop/secrets", secret())
    shown = stage.refused(x)
    assert (shown.uri, shown.body) == ("/api/v1/namespaces/shop/secrets", b"")
    x.shown = shown
    assert stage.refused(x) is shown


def test_what_was_not_parsed_is_shown_by_its_path_alone(stage: Masking) -> None:
    x = admitted()
    x.admission = x.session = None
    x.arrival = arrival(target=f"/api/%zz/pods?token={SECRET}")
    shown = stage.refused(x)
    assert SECRET not in shown.uri
    assert shown.uri.startswith("/api/")


def test_each_form_of_answer_is_read_in_its_own_way(stage: Masking) -> None:
    pods = "/api/v1/namespaces/shop/pods"
    assert stage.responseheaders(answered(allowed(target=pods))).form == "body"
    assert stage.responseheaders(answered(allowed(target=f"{pods}?watch=true"))).form == "watch"
    assert stage.responseheaders(answered(allowed(target=f"{pods}?watch=true"), 403)).form == "body"
    assert stage.responseheaders(answered(allowed(target=f"{pods}/p/log"), media="text/plain")).form == "log"
    run = answered(
        allowed(target=f"{pods}/p/exec?command=id", protocols=("v5.channel.k8s.io",)),
        101,
        upgrade="websocket",
        sec_websocket_protocol="v5.channel.k8s.io",
    )
    reading = stage.responseheaders(run)
    assert reading.form == "frames"
    assert isinstance(reading.stream, Channels)
    forward = answered(
        allowed(target=f"{pods}/p/portforward", protocols=("SPDY/3.1+portforward.k8s.io",), unmasked=True),
        101,
        upgrade="websocket",
        sec_websocket_protocol="SPDY/3.1+portforward.k8s.io",
    )
    assert stage.responseheaders(forward).form == "opaque"


@pytest.mark.parametrize(
    ("target", "code", "headers"),
    [
        ("/api/v1/pods", 200, {"content_encoding": "gzip"}),
        ("/api/v1/pods", 302, {"location": "https://elsewhere"}),
        ("/api/v1/pods", 101, {"upgrade": "websocket"}),
        ("/api/v1/pods?watch=true", 200, {"media": "application/vnd.kubernetes.protobuf"}),
    ],
)
def test_an_answer_in_no_known_form_is_withheld(
    stage: Masking, target: str, code: int, headers: dict[str, str]
) -> None:
    media = headers.pop("media", "application/json")
    with pytest.raises(Refusal) as caught:
        stage.responseheaders(answered(allowed(target=target), code, media, **headers))
    assert caught.value.code == 502


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        (200, {}),
        (101, {"upgrade": "websocket", "sec_websocket_protocol": "v1.other"}),
        (101, {"upgrade": "SPDY/3.1", "sec_websocket_protocol": "v5.channel.k8s.io"}),
        (
            101,
            {
                "upgrade": "websocket",
                "sec_websocket_protocol": "v5.channel.k8s.io",
                "sec_websocket_extensions": "x",
            },
        ),
    ],
)
def test_a_connection_that_is_not_the_one_asked_for_is_refused(
    stage: Masking, code: int, headers: dict[str, str]
) -> None:
    x = allowed(target="/api/v1/namespaces/shop/pods/p/exec?command=id", protocols=("v5.channel.k8s.io",))
    with pytest.raises(Refusal):
        stage.responseheaders(answered(x, code, **headers))


async def test_large_bodies_are_masked_alike_off_the_loop(stage: Masking) -> None:
    x = allowed(target="/api/v1/namespaces/shop/secrets/s")
    small = await stage.response(answered(x, body=secret()))
    padded = secret() + b" " * OFF_LOOP
    large = await stage.response(answered(x, body=padded))
    assert json.loads(small.data) == json.loads(large.data)
    assert SECRET.encode() not in base64.b64decode(json.loads(large.data)["data"]["password"])


async def test_what_cannot_be_masked_is_withheld(stage: Masking) -> None:
    x = allowed(target="/api/v1/namespaces/shop/secrets/s")
    with pytest.raises(Refusal) as caught:
        await stage.response(answered(x, body=SECRET.encode() + b"{"))
    assert SECRET not in caught.value.message
    assert SECRET not in caught.value.reason


def test_streams_and_messages_are_masked_piece_by_piece(stage: Masking) -> None:
    x = answered(allowed(target="/api/v1/namespaces/shop/pods/p/log"), media="text/plain")
    x.reading = stage.responseheaders(x)
    held = stage.stream(x, b"password=" + SECRET.encode()[:4])
    assert (type(held), held.data) == (Masked, b"")
    assert SECRET.encode() not in stage.stream(x, SECRET.encode()[4:] + b"\n").data
    assert stage.stream(x, b"").data == b""
    run = answered(
        allowed(target="/api/v1/namespaces/shop/pods/p/exec?command=id", protocols=("v5.channel.k8s.io",)),
        101,
        upgrade="websocket",
        sec_websocket_protocol="v5.channel.k8s.io",
    )
    run.reading = stage.responseheaders(run)
    (frame,) = stage.websocket_message(run, b"\x01PASSWORD=" + SECRET.encode() + b"\n", False).frames
    assert SECRET.encode() not in frame


async def test_each_session_has_its_own_masks(stage: Masking) -> None:
    x = answered(allowed(target="/api/v1/namespaces/shop/secrets/s"), body=secret())
    first = await stage.response(x)
    object.__setattr__(x.session, "id", "another")
    object.__setattr__(x.session, "mask_key", b"z" * 32)
    assert (await stage.response(x)).data != first.data
    for n in range(SESSIONS + 5):
        x.session = session()
        object.__setattr__(x.session, "id", str(n))
        stage.refused(x)
    assert len(stage._maskers) == SESSIONS


# A JSON patch can take a value away from its name, a byte limit can cut one off its line


@pytest.mark.parametrize(
    ("operations", "passes"),
    [
        ([{"op": "replace", "path": "/data/level", "value": "debug"}], True),
        ([{"op": "move", "from": "/data/password", "path": "/data/note"}], False),
    ],
)
async def test_a_patch_that_would_take_a_value_from_its_name_is_refused(
    stage: Masking, operations: list[dict[str, str]], passes: bool
) -> None:
    x = allowed(
        "PATCH",
        "/api/v1/namespaces/shop/configmaps/c",
        json.dumps(operations).encode(),
        media="application/json-patch+json",
    )
    if passes:
        assert (await stage.request(x)).body
        return
    with pytest.raises(Refusal) as caught:
        await stage.request(x)
    assert caught.value.code == 422


async def test_a_large_request_is_masked_off_the_loop(stage: Masking) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "stringData": {"a": SECRET, "b": "x" * (OFF_LOOP + 1)}}
    shown = await stage.request(allowed("POST", "/api/v1/namespaces/shop/secrets", json.dumps(body).encode()))
    assert SECRET.encode() not in shown.body
    assert len(shown.body) < OFF_LOOP


@pytest.mark.parametrize(("query", "last"), [("", b"password=" + b"masked"), ("?limitBytes=30", b"")])
def test_the_last_line_of_a_log_with_a_byte_limit_is_not_released(
    stage: Masking, query: str, last: bytes
) -> None:
    x = answered(allowed(target=f"/api/v1/namespaces/shop/pods/p/log{query}"), media="text/plain")
    x.reading = stage.responseheaders(x)
    data = stage.stream(x, f"starting\npassword={SECRET[:5]}".encode()).data + stage.stream(x, b"").data
    assert data.startswith(b"starting\n" + last)
    assert len(data) == len(b"starting\n") or last


@pytest.mark.parametrize(
    ("target", "code", "media"),
    [
        ("/api/v1/namespaces/shop/pods/p", 200, "application/json"),
        ("/api/v1/namespaces/shop/pods", 500, "application/json"),
        ("/api/v1/namespaces/shop/pods", 200, "text/plain"),
    ],
)
def test_only_a_list_can_outgrow_memory(stage: Masking, target: str, code: int, media: str) -> None:
    assert stage.responseheaders(answered(allowed(target=target), code, media)).stream is None


def test_a_list_that_outgrows_memory_is_masked_item_by_item(stage: Masking) -> None:
    x = answered(allowed(target="/api/v1/secrets"), media="application/json;charset=utf-8")
    x.reading = stage.responseheaders(x)
    assert x.reading.form == "body"
    raw = b'{"kind":"SecretList","apiVersion":"v1","metadata":{},"items":[' + secret() + b"]}"
    out = b"".join(
        stage.stream(x, piece).data for piece in (*(raw[i : i + 7] for i in range(0, len(raw), 7)), b"")
    )
    assert json.loads(out)["items"][0]["metadata"] == {"name": "s"}
    assert base64.b64encode(SECRET.encode()) not in out


def test_a_warning_of_the_clusters_is_masked_and_other_headers_need_a_name(stage: Masking) -> None:
    x = answered(allowed(), warning=f'299 - "password={SECRET} is weak"', set_cookie="a=b")
    headers = dict(stage.responseheaders(x).headers)
    assert SECRET.encode() not in headers[b"warning"]
    assert b"is weak" in headers[b"warning"]
    assert b"set-cookie" not in headers
