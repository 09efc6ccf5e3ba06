import json

import pytest

from interlock.kube.status import REASONS, one_line, status


def test_is_the_status_that_clients_decode():
    answer = json.loads(
        status(
            403,
            "no",
            name="web",
            group="apps",
            kind="deployments",
            causes=[("FieldValueForbidden", "not this", "spec.x"), ("Other", "nor that", "")],
        )
    )
    assert answer == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "no",
        "reason": "Forbidden",
        "details": {
            "name": "web",
            "group": "apps",
            "kind": "deployments",
            "causes": [
                {"reason": "FieldValueForbidden", "message": "not this", "field": "spec.x"},
                {"reason": "Other", "message": "nor that"},
            ],
        },
        "code": 403,
    }


@pytest.mark.parametrize(("code", "reason"), REASONS.items())
def test_gives_each_code_the_reason_that_client_go_decides_by(code, reason):
    answer = json.loads(status(code, "m"))
    assert (answer["code"], answer["reason"]) == (code, reason)
    assert "details" not in answer


def test_a_code_without_a_reason_of_its_own_gets_its_classs():
    assert json.loads(status(418, "m"))["reason"] == "BadRequest"
    assert json.loads(status(599, "m"))["reason"] == "InternalError"


def test_a_reason_that_is_given_wins():
    assert json.loads(status(409, "m", reason="AlreadyExists"))["reason"] == "AlreadyExists"


@pytest.mark.parametrize("code", [0, 200, 302, 399, 600])
def test_what_is_no_failure_is_refused(code):
    with pytest.raises(ValueError, match=f"{code} is no failure"):
        status(code, "m")


def test_says_how_long_to_wait():
    assert json.loads(status(429, "m", retry_after=3))["details"] == {"retryAfterSeconds": 3}
    assert json.loads(status(429, "m", retry_after=0))["details"] == {"retryAfterSeconds": 0}


def test_an_invalid_object_is_told_as_a_cause_too_because_kubectl_prints_nothing_else():
    answer = json.loads(status(422, "data.x holds a mask", name="a", kind="secrets"))
    assert answer["details"]["causes"] == [{"reason": "FieldValueInvalid", "message": "data.x holds a mask"}]
    assert "details" not in json.loads(status(422, "no object named"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grüße 東京", "grüße 東京"),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("half \ud800 a pair", "half \\ud800 a pair"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_made_visible(text, shown):
    assert one_line(text) == shown


def test_every_word_of_a_status_is_on_one_line():
    raw = status(400, "a\nb", name="n\n", group="g\n", kind="k\n", causes=[("r\n", "m\n", "f\n")])
    assert b"\\n" not in raw.replace(b"\\\\n", b"")
    assert json.loads(raw)["message"] == "a\\nb"
