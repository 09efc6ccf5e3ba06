import json

import pytest

from interlock.masking.failures import DUMP, PLAIN, withhold

TOKEN = "masked-secret-aaaaaaaaaaaaaaaa"


def shown(message, *causes, secret, reason="Invalid", code=422):
    withheld = []

    def token(words, where):
        withheld.append((words, where))
        return TOKEN

    def walk(thing):
        if isinstance(thing, dict) and "password" in thing:
            thing["password"] = TOKEN
            return True
        return False

    node = {"kind": "Status", "message": message, "reason": reason, "code": code}
    if causes:
        node["details"] = {"causes": list(causes)}
    withhold(node, token, walk, secret=secret)
    return node, withheld


NAMES_ONLY = [
    'secrets "db" not found',
    'secrets "db" already exists',
    'deployments.apps "web" not found',
    'secrets is forbidden: User "dev" cannot list resource "secrets" in API group "" in the namespace "default"',
    'secrets is forbidden: User "dev" cannot list resource "secrets" in API group "" at the cluster scope',
    'secrets "db" is forbidden: User "system:serviceaccount:a:b" cannot get resource "secrets" in API group "" in the '
    'namespace "default"',
    'secrets "db" is forbidden: unable to create new content in namespace old because it is being terminated',
    'Operation cannot be fulfilled on secrets "db": the object has been modified; please apply your changes to the '
    "latest version and try again",
    'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .data.password',
    'Apply failed with 2 conflicts: conflicts with "kubectl" using v1:\n- .data.other\n- .data.password',
    'conflict with "kubectl" using v1',
    'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0',
    'Secret in version "v1" cannot be handled as a Secret: strict decoding error: unknown field "dat", unknown field "x"',
    "the server could not find the requested resource",
    "404 page not found",
    "Unauthorized",
    "too old resource version: 1 (2)",
    "the server rejected our request due to an error in our request",
]


@pytest.mark.parametrize("message", NAMES_ONLY)
@pytest.mark.parametrize("secret", [True, False])
def test_words_that_quote_names_alone_are_shown(message, secret):
    node, withheld = shown(message, secret=secret)
    assert node["message"] == message
    assert withheld == []


@pytest.mark.parametrize(
    "message",
    [
        'secrets "db" not found: {"password":"hunter2"}',
        'secrets "a\\"b{}" not found',
        'secrets "db" not found\nhunter2',
        'secrets "db" is forbidden: hunter2',
        'admission webhook "x.example" denied the request: password hunter2 is weak',
        'Secret "db" is invalid: data[x]: Invalid value: "hunter2"',
        "hunter2",
        'Secret in version "v1" cannot be handled as a Secret: json: cannot unmarshal "hunter2"',
    ],
)
def test_of_an_answer_about_a_secret_other_words_are_withheld(message):
    node, withheld = shown(message, secret=True)
    assert "hunter2" not in json.dumps(node)
    assert node["message"] == (
        f"the API server refused this as Invalid: its words are withheld, they can quote the secret [{TOKEN}]"
    )
    assert withheld == [(message, "message")]


def test_without_a_reason_the_code_is_told():
    node, _ = shown("hunter2", secret=True, reason="", code=400)
    assert node["message"].startswith("the API server refused this as 400: ")


def test_the_causes_of_a_secret_keep_their_fields():
    node, withheld = shown(
        "long words",
        {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "X_y": a lowercase name',
            "field": "metadata.name",
        },
        {"reason": "FieldValueInvalid", "message": 'Invalid value: "hunter2"', "field": "data[a]"},
        {"reason": "FieldValueInvalid", "message": "Invalid value: {hunter2}", "field": "type"},
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl" using v1',
            "field": ".data.other",
        },
        {"reason": "Odd", "message": None, "field": "hunter2 is no field"},
        {"reason": "Odd", "message": "hunter2", "field": 5},
        secret=True,
    )
    told = f"withheld, it can quote the secret [{TOKEN}]"
    assert node["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "X_y": a lowercase name',
            "field": "metadata.name",
        },
        {"reason": "FieldValueInvalid", "message": told, "field": "data[a]"},
        {"reason": "FieldValueInvalid", "message": told, "field": "type"},
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl" using v1',
            "field": ".data.other",
        },
        {"reason": "Odd", "message": None},
        {"reason": "Odd", "message": told},
    ]
    assert node["message"] == (
        'the API server refused this as Invalid: metadata.name: Invalid value: "X_y": a lowercase name; '
        f'data[a]: {told}; type: {told}; .data.other: conflict with "kubectl" using v1; None; {told}'
    )
    assert [where for _, where in withheld] == [
        "details.causes[1].message",
        "details.causes[2].message",
        "details.causes[5].message",
    ]


OBJECT = '{"kind":"Pod","password":"hunter2","n":{"a":[1]}}'
CLEAN = '{"a":"c"}'


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no object here", "no object here"),
        (
            f"labels: Invalid value: {CLEAN}: `selector` does not match template `labels`, image: Required value",
            f"labels: Invalid value: {CLEAN}: `selector` does not match template `labels`, image: Required value",
        ),
        (
            f"patch: Invalid value: {OBJECT}: cannot unmarshal number",
            f'patch: Invalid value: {{"kind": "Pod", "password": "{TOKEN}", "n": {{"a": [1]}}}}: cannot unmarshal number',
        ),
        (
            f"patch: Invalid value: {json.dumps(OBJECT)}: cannot unmarshal {CLEAN} or {json.dumps(CLEAN)}.",
            f'patch: Invalid value: {{"kind": "Pod", "password": "{TOKEN}", "n": {{"a": [1]}}}}: cannot unmarshal {CLEAN} '
            f"or {json.dumps(CLEAN)}.",
        ),
    ],
)
def test_of_other_answers_the_objects_are_masked_where_they_stand(message, expected):
    node, withheld = shown(message, secret=False)
    assert node["message"] == expected
    assert withheld == []


@pytest.mark.parametrize(
    "dump",
    [
        OBJECT[:-5],
        json.dumps(OBJECT)[:-9],
        '{"a": hunter2}',
        '"{\\"a\\": hunter2}"',
        "map[data:map[other:hunter2]]",
        "core.PodSpec{Volumes:hunter2",
        "&v1.Secret{Data: hunter2}",
        "{Name:hunter2 X:1}",
        "error found in #10 byte of ...|hunter2|...",
        "@@ -101,7 +101,7 @@\n    hunter2",
        '-     "Value": "hunter2"',
        '"Value": "hunter2"',
        "{ ... hunter2",
        '{"' + "[" * 100_000,
    ],
)
def test_from_a_dump_that_cannot_be_read_nothing_is_shown(dump):
    message = f"it is wrong:\n{dump} and hunter2 after it"
    assert DUMP.search(message)
    node, withheld = shown(message, {"message": message, "reason": "R", "field": "spec"}, secret=False)
    assert node["message"].startswith("it is wrong:\n")
    assert node["message"].endswith(f"[{TOKEN} in place of words that can quote the object]")
    assert "hunter2" not in json.dumps(node)
    assert node["details"]["causes"][0]["field"] == "spec"
    assert [where for _, where in withheld] == ["message", "details.causes[0].message"]


@pytest.mark.parametrize(
    "details", [None, "x", {"causes": None}, {"causes": ["x"]}, {"causes": [{"message": 5}]}]
)
@pytest.mark.parametrize("secret", [True, False])
def test_an_odd_status_is_left_to_the_walk(details, secret):
    node = {"kind": "Status", "message": None, "details": details}
    withhold(node, lambda words, where: TOKEN, lambda thing: False, secret=secret)
    assert node == {"kind": "Status", "message": None, "details": details}


def test_no_message_of_ours_looks_like_a_dump():
    for message in NAMES_ONLY:
        assert PLAIN.fullmatch(message)
