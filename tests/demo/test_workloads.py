"""A container sees what a kubelet would give it, and its log can be followed."""

import base64
from typing import Any

import pytest

from interlock.demo import workloads
from interlock.demo.resources import Object
from interlock.demo.workloads import Line, Logs, container_of, environment, files, values_of

SECRET = {"kind": "Secret", "data": {"p": base64.b64encode(b"hunter2").decode(), "empty": None}}
CONFIG = {"kind": "ConfigMap", "data": {"LEVEL": "info"}}
POD: Object = {
    "metadata": {"name": "p", "namespace": "shop"},
    "spec": {
        "containers": [{"name": "a"}, {"name": "b"}],
        "initContainers": [{"name": "i"}],
        "ephemeralContainers": [{"name": "e"}],
        "volumes": [
            {"name": "s", "secret": {"secretName": "secret"}},
            {"name": "c", "configMap": {"name": "config"}},
            {"name": "d", "emptyDir": {}},
        ],
    },
}


def lookup(kind: str, name: str) -> Object | None:
    return {("Secret", "secret"): SECRET, ("ConfigMap", "config"): CONFIG}.get((kind, name))


@pytest.mark.parametrize(("name", "found"), [("", "a"), ("b", "b"), ("i", "i"), ("e", "e")])
def test_a_container_is_found_by_name(name: str, found: str) -> None:
    container = container_of(POD, name)
    assert container is not None
    assert container["name"] == found


def test_a_container_that_is_not_there_is_not_found() -> None:
    assert container_of(POD, "z") is None
    assert container_of({"spec": {}}, "") is None


def test_values_of_secrets_are_decoded() -> None:
    assert values_of(SECRET) == {"p": b"hunter2", "empty": b""}
    assert values_of(CONFIG) == {"LEVEL": b"info"}
    assert values_of(None) == {}


def test_the_environment_is_resolved() -> None:
    container: dict[str, Any] = {
        "envFrom": [
            {"secretRef": {"name": "secret"}},
            {"configMapRef": {"name": "config"}},
            {"secretRef": {"name": "none"}},
        ],
        "env": [
            {"name": "PLAIN", "value": "1"},
            {"name": "NOTHING"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "p"}}},
            {"name": "CONFIGURED", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "LEVEL"}}},
            {"name": "MISSING", "valueFrom": {"secretKeyRef": {"name": "none", "key": "p"}}},
            {"name": "SELF", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
    }
    found = environment(POD, container, lookup)
    assert found["HOSTNAME"] == "p"
    assert {
        key: found[key]
        for key in ("p", "LEVEL", "PLAIN", "NOTHING", "PASSWORD", "CONFIGURED", "MISSING", "SELF")
    } == {
        "p": "hunter2",
        "LEVEL": "info",
        "PLAIN": "1",
        "NOTHING": "",
        "PASSWORD": "hunter2",
        "CONFIGURED": "info",
        "MISSING": "",
        "SELF": "shop",
    }


def test_volumes_and_the_account_token_are_files() -> None:
    mounts = [
        {"name": "s", "mountPath": "/etc/s/"},
        {"name": "c", "mountPath": "/etc/c"},
        {"name": "d", "mountPath": "/d"},
        {"name": "unknown", "mountPath": "/u"},
    ]
    found = files(POD, {"volumeMounts": mounts}, lookup, "the-token")
    assert found["/etc/s/p"] == b"hunter2"
    assert found["/etc/c/LEVEL"] == b"info"
    assert found["/var/run/secrets/kubernetes.io/serviceaccount/token"] == b"the-token"
    assert found["/etc/hostname"] == b"p\n"
    assert not [path for path in found if path.startswith(("/d/", "/u/"))]


STREAM = ("shop", "p", "a")


def test_a_log_is_kept_and_followed(logs: Logs) -> None:
    told: list[Line | None] = []
    logs.append(STREAM, "one")
    assert [line.text for line in logs.follow(STREAM, told.append)] == [b"one"]
    logs.append(STREAM, b"two")
    logs.append(("shop", "other", "a"), "not mine")
    assert [line.text for line in told if line] == [b"two"]
    assert told[0] == Line("2026-06-01T08:00:00Z", b"two")
    logs.unfollow(told.append)
    assert len(logs.lines(STREAM)) == 2


def test_an_unfollowed_log_tells_nothing(logs: Logs) -> None:
    told: list[Line | None] = []
    tell = told.append
    logs.follow(STREAM, tell)
    logs.unfollow(tell)
    logs.append(STREAM, "x")
    logs.end("shop", "p")
    assert told == []


def test_the_log_of_a_pod_that_has_gone_ends(logs: Logs) -> None:
    told: list[Line | None] = []
    logs.append(STREAM, "x")
    logs.follow(STREAM, told.append)
    logs.end("shop", "other")
    assert told == []
    logs.end("shop", "p")
    assert told == [None]
    assert logs.lines(STREAM) == []


def test_a_log_forgets_its_oldest_lines(logs: Logs) -> None:
    for number in range(workloads.LINES + 1):
        logs.append(STREAM, str(number))
    assert len(logs.lines(STREAM)) == workloads.LINES
    assert logs.lines(STREAM)[0].text == b"1"
