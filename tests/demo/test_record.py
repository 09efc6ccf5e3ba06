"""The record holds every request from its arrival on, and no credential."""

import json
from pathlib import Path

import pytest

from interlock.demo import record as record_module
from interlock.demo.record import Record
from interlock.demo.wire import Request

HEADERS = (
    ("authorization", "Bearer hidden-1"),
    ("cookie", "hidden-2"),
    ("proxy-authorization", "Basic hidden-3"),
    ("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.hidden-4"),
    ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ("impersonate-user", "agent-1"),
)


def test_a_request_is_there_before_it_is_answered() -> None:
    record = Record()
    received = record.arrive(Request("GET", "/api?x=1", HEADERS, b"body", {}), "now", "audit-1")
    assert record.all() == [received]
    assert (received.number, received.method, received.target, received.body) == (
        1,
        "GET",
        "/api?x=1",
        b"body",
    )
    assert not received.ended
    record.end(received, 200, 17)
    assert (received.code, received.sent, received.ended) == (200, 17, True)


def test_no_credential_is_kept(tmp_path: Path) -> None:
    record = Record(tmp_path / "requests.jsonl")
    received = record.arrive(Request("GET", "/", HEADERS, b"", {}), "now", "a")
    record.close()
    assert "hidden" not in repr(received)
    assert "hidden" not in (tmp_path / "requests.jsonl").read_text()
    assert ("sec-websocket-protocol", "v5.channel.k8s.io") in received.headers
    assert ("impersonate-user", "agent-1") in received.headers


def test_the_file_has_a_line_for_arrival_and_end(tmp_path: Path) -> None:
    record = Record(tmp_path / "requests.jsonl")
    received = record.arrive(Request("POST", "/x", (), b"\xff{}", {}), "now", "a")
    received.user, received.impersonated_user, received.impersonated_groups = "gateway", "agent-1", ("dev",)
    record.end(received, 201, 5)
    record.close()
    record.close()
    record.end(received, 500, 0)
    arrived, ended = (json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines())
    assert arrived == {
        "event": "arrived",
        "number": 1,
        "at": "now",
        "method": "POST",
        "target": "/x",
        "headers": [],
        "body": "\\xff{}",
        "auditID": "a",
    }
    assert ended["impersonatedUser"] == "agent-1"
    assert ended["impersonatedGroups"] == ["dev"]
    assert (ended["number"], ended["code"], ended["sent"], ended["user"]) == (1, 201, 5, "gateway")


def test_what_is_cleared_is_forgotten_but_counted() -> None:
    record = Record()
    record.arrive(Request("GET", "/", (), b"", {}), "now", "a")
    record.clear()
    assert record.all() == []
    assert record.arrive(Request("GET", "/", (), b"", {}), "now", "b").number == 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "KEPT", 3)
    record = Record()
    for number in range(5):
        record.arrive(Request("GET", f"/{number}", (), b"", {}), "now", "a")
    assert [received.target for received in record.all()] == ["/2", "/3", "/4"]
