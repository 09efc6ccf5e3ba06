import base64

import orjson
import pytest

from interlock.kube.target import parse_target
from interlock.masking.answers import guard, is_secret, kind_of, masked, parsed, written
from interlock.masking.fields import Walk
from interlock.masking.masked import Unmaskable
from interlock.masking.tokens import minter

MINT = minter(bytes(32))
SECRET = parse_target("GET", "/api/v1/namespaces/d/secrets/db").info
PODS = parse_target("GET", "/api/v1/namespaces/d/pods").info
OTHER = parse_target("GET", "/apis/x.example/v1/namespaces/d/secrets").info


def test_what_decides_when_an_object_does_not_say_what_it_is():
    assert [kind_of(info) for info in (SECRET, PODS, OTHER)] == ["Secret", "", ""]
    assert [is_secret(info) for info in (SECRET, PODS, OTHER)] == [True, False, False]
    raw = orjson.dumps({"data": {"x": base64.b64encode(b"hunter2").decode()}})
    assert masked(MINT, raw, SECRET).data != raw
    assert masked(MINT, raw, PODS).data is raw
    assert masked(MINT, raw, None).data is raw


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b"[]",
        b"null",
        b"true\n",
        '{"kind":"Pod","a":"ü東京","n":1.5,"e":{}}\n'.encode(),
        b'{"a":"\\u003ca href=x\\u003e \\u0026 \\u2028\\u2029","b":"\\u003c"}',
        b'{"a":"\\b\\f\\n\\r\\t\\u0000\\u001f\\"\\\\/"}',
        b'{\n  "kind": "Pod",\n  "metadata": {},\n  "x": [],\n  "y": [\n    1\n  ]\n}\n',
    ],
)
def test_a_document_without_a_finding_is_the_same_bytes(raw):
    assert masked(MINT, raw, PODS).data is raw


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b'{"kind":"Secret","data":{"x":"aHVudGVyMg=="},"data":{}}', b'{"kind":"Secret","data":{}}'),
        (b'{"a":"x","a":"y"}\n', b'{"a":"y"}\n'),
        (b'{"a" : 1}', b'{"a":1}'),
        (b' {"a":1}', b'{"a":1}'),
        (b'{"a":"\\u0061"}', b'{"a":"a"}'),
        (b'{"a":1e2}', b'{"a":100.0}'),
        (b'{\n"a":1}', b'{\n  "a": 1\n}'),
    ],
)
def test_what_is_delivered_is_what_was_read(raw, read):
    assert masked(MINT, raw, PODS).data == read


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"a":1}{}', b"NaN", b'{"a":"\\ud800"}', b'"x"', b"5", b"[" * 2000]
)
def test_what_is_no_document_is_withheld(raw):
    with pytest.raises(Unmaskable):
        masked(MINT, raw, PODS)


def test_what_changed_is_written_in_the_same_style():
    compact, pretty = b'{"password":"a1","n":[]}\n', b'{\n  "password": "a1",\n  "n": []\n}\n'
    token = MINT("a1").encode()
    assert masked(MINT, compact, PODS).data == compact.replace(b"a1", token)
    assert masked(MINT, pretty, PODS).data == pretty.replace(b"a1", token)
    walk = Walk(MINT)
    assert written(b'{"a":1}', parsed(b'{"a":2}'), walk).data == b'{"a":2}'


@pytest.mark.parametrize(
    ("info", "status", "shown"),
    [
        (SECRET, {"kind": "Status", "status": "Failure", "message": "hunter2"}, False),
        (PODS, {"kind": "Status", "status": "Failure", "message": "hunter2"}, True),
        (SECRET, {"kind": "Status", "status": "Success", "message": "hunter2"}, True),
        (SECRET, {"kind": "Other", "status": "Failure", "message": "hunter2"}, True),
        (SECRET, ["hunter2"], True),
    ],
)
def test_a_failure_about_a_secret_is_withheld(info, status, shown):
    guard(Walk(MINT), status, info)
    assert ("hunter2" in orjson.dumps(status).decode()) == shown
