import base64
import gzip
import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.masking.fields import DEPTH, NESTING, SWEEP_LIMIT, Walk, columns, decoded, encoded, render
from interlock.masking.masked import Unmaskable
from interlock.masking.tokens import TOKEN, minter

MINT = minter(bytes(32))
S = "hunter2/x9+Zq"
T = MINT(S)


def b64(value):
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def walked(node, kind=""):
    walk = Walk(MINT)
    walk.document(node, None, kind)
    return node, [finding.path for finding in walk.findings]


def only(node, kind=""):
    return walked(node, kind)[0]


def applied(node):
    return {
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(node) + "\n"}
        }
    }


def release(**fields):
    return base64.b64encode(gzip.compress(orjson.dumps({"name": "web", **fields}), mtime=0)).decode()


def opened(value):
    return orjson.loads(gzip.decompress(base64.b64decode(base64.b64decode(value))))


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}}
MANIFEST = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\nstringData:\n  x: {S}\n"

# The same value in every representation: each holds S, and must hold its token instead.
REPRESENTATIONS = {
    "Secret data": {**SECRET, "data": {"x": b64(S)}},
    "Secret data, with the newline of a file": {**SECRET, "data": {"x": b64(S + "\n")}},
    "Secret stringData": {**SECRET, "stringData": {"x": S}},
    "a Secret of another group": {**SECRET, "apiVersion": "x.example/v1", "data": {"x": b64(S)}},
    "a list of Secrets that do not say so": {"kind": "SecretList", "items": [{"data": {"x": b64(S)}}]},
    "a List of Secrets": {"kind": "List", "items": [{**SECRET, "data": {"x": b64(S)}}]},
    "a list inside an object": {"kind": "X", "spec": {"t": {"kind": "SecretList", "items": [{"data": {"x": b64(S)}}]}}},
    "a Secret inside an object": {"kind": "X", "spec": {"templates": [[{**SECRET, "data": {"x": b64(S)}}]]}},
    "a Table's object": {"kind": "Table", "rows": [{"cells": [], "object": {**SECRET, "data": {"x": b64(S)}}}]},
    "a Table's cell that shows its object's value": {
        "kind": "Table",
        "rows": [{"cells": ["db", S], "object": {**SECRET, "data": {"password": b64(S)}}}],
    },
    "a Table's column of passwords": {
        "kind": "Table",
        "columnDefinitions": [{"name": "Name"}, {"name": "Password"}],
        "rows": [{"cells": ["db", S], "object": {"kind": "PartialObjectMetadata"}}],
    },
    "a Table's annotations": {"kind": "Table", "rows": [{"object": applied({**SECRET, "data": {"x": b64(S)}})}]},
    "last-applied, data": applied({**SECRET, "data": {"x": b64(S)}}),
    "last-applied, stringData": applied({**SECRET, "stringData": {"x": S}}),
    "last-applied of a Deployment": applied({"spec": {"env": [{"name": "DB_PASSWORD", "value": S}]}}),
    "last-applied of partial metadata": {
        "kind": "PartialObjectMetadataList",
        "items": [applied({**SECRET, "data": {"x": b64(S)}})],
    },
    "environment": {"spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": S}]}]}},
    "a header of a probe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": S}]}},
    "a header with a scheme": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": f"Bearer {S}"}]}},
    "a parameter by key": {"params": [{"key": "api-token", "value": S}]},
    "a parameter's default": {"params": [{"name": "api-token", "default": S}]},
    "flags": {"args": ["--password", S, "--user", "bob"]},
    "a flag with its value": {"args": [f"--password={S}"]},
    "a shell's script": {"command": ["sh", "-c", f"run --api-key '{S}' && done"]},
    "a URI": {"env": [{"name": "DATABASE_URL", "value": f"postgres://u:{S}@db/app"}]},
    "ConfigMap data by key": {"kind": "ConfigMap", "data": {"DB_PASSWORD": S}},
    "ConfigMap data, properties": {"kind": "ConfigMap", "data": {"a.properties": f"db.user=bob\ndb.password={S}\n"}},
    "ConfigMap data, JSON": {"kind": "ConfigMap", "data": {"a.json": json.dumps({"db": {"password": S}}, indent=1)}},
    "ConfigMap data, YAML": {"kind": "ConfigMap", "data": {"a.yaml": f"db:\n  password: {S}\n"}},
    "ConfigMap data, a manifest": {"kind": "ConfigMap", "data": {"a.yaml": "---\n" + MANIFEST}},
    "ConfigMap data, a manifest with data": {
        "kind": "ConfigMap",
        "data": {"a.yaml": f"kind: Secret\ndata:\n  x: {b64(S)}\n"},
    },
    "ConfigMap binaryData by key": {"kind": "ConfigMap", "binaryData": {"password": b64(S)}},
    "ConfigMap binaryData, text": {"kind": "ConfigMap", "binaryData": {"a.txt": b64(f"x password={S}")}},
    "a field of a custom resource": {"kind": "X", "spec": {"auth": {"password": S}}},
    "a value under a field of a custom resource": {"kind": "X", "spec": {"password": {"value": S}}},
    "a list under a field": {"kind": "X", "spec": {"tokens": [S]}},
    "values under a field": {"kind": "X", "spec": {"tokens": {"values": [S]}}},
    "a pair whose value is a list": {"kind": "X", "params": [{"name": "tokens", "value": [S]}]},
    "TokenRequest": {"kind": "TokenRequest", "status": {"token": S}},
    "a manifest in an annotation": {"metadata": {"annotations": {"x": MANIFEST}}},
    "JSON in JSON in JSON": {"a": json.dumps({"b": json.dumps({"password": S})})},
    "Helm, values": {**SECRET, "type": "helm.sh/release.v1", "data": {"release": b64(release(config={"password": S}))}},
    "Helm, manifest": {
        **SECRET,
        "type": "helm.sh/release.v1",
        "data": {"release": b64(release(manifest="---\n# Source: a\n" + MANIFEST))},
    },
    "Helm, a value that only its manifest calls a secret": {
        **SECRET,
        "type": "helm.sh/release.v1",
        "data": {"release": b64(release(config={"innocent": S}, manifest=MANIFEST))},
    },
    "Helm, a hook": {
        **SECRET,
        "type": "helm.sh/release.v1",
        "data": {"release": b64(release(hooks=[{"manifest": MANIFEST}]))},
    },
    "Helm, a file of the chart": {
        **SECRET,
        "type": "helm.sh/release.v1",
        "data": {"release": b64(release(chart={"files": [{"name": "a", "data": b64(f"x password={S}")}]}))},
    },
    "Helm in a ConfigMap": {"kind": "ConfigMap", "data": {"release": release(config={"password": S})}},
    "managedFields, a set": {
        "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:tokens": {f'v:"{S}"': {}}}}}]}
    },
    "managedFields, a key": {
        "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {f'k:{{"password":"{S}"}}': {".": {}}}}}]}
    },
    "an annotation that repeats it": {
        **SECRET,
        "metadata": {"annotations": {"note": f"it is {S}!"}},
        "data": {"password": b64(S)},
    },
    "a Status": {"kind": "Status", "status": "Failure", "message": f'Invalid value: {{"password":"{S}"}}: no'},
    "a Status's cause": {
        "kind": "Status",
        "status": "Failure",
        "message": "no",
        "details": {"causes": [{"message": f'Invalid value: {json.dumps(json.dumps({"password": S}))}'}]},
    },
}  # fmt: skip


def everything(node):
    """All text of a document, with what is packed in it unpacked."""
    out = []

    def add(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                add(key)
                add(inner)
        elif isinstance(value, list):
            for inner in value:
                add(inner)
        elif isinstance(value, str):
            out.append(value)
            raw = decoded(value) if len(value) > 8 else None
            if raw is not None:
                if raw.startswith(b"\x1f\x8b"):
                    add(orjson.loads(gzip.decompress(raw)))
                else:
                    add(raw.decode("latin-1"))

    add(node)
    return "\n".join(out)


@pytest.mark.parametrize("what", REPRESENTATIONS)
def test_one_value_has_one_token_in_every_representation(what):
    node = orjson.loads(orjson.dumps(REPRESENTATIONS[what]))
    assert S in everything(node) or b64(S) in everything(node)
    masked, paths = walked(node)
    text = everything(masked)
    assert S not in text
    assert b64(S) not in orjson.dumps(masked).decode()
    assert set(TOKEN.findall(text)) <= {T}
    assert T in text or b64(T) in text
    assert paths
    assert not any(S in path for path in paths)


@pytest.mark.parametrize("what", REPRESENTATIONS)
def test_masking_twice_is_masking_once(what):
    once = only(orjson.loads(orjson.dumps(REPRESENTATIONS[what])))
    twice, paths = walked(orjson.loads(orjson.dumps(once)))
    assert twice == once
    assert paths == []


# What must come out as it went in.
UNTOUCHED = {
    "a Secret's metadata": {**SECRET, "type": "Opaque", "immutable": True, "data": None},
    "an empty Secret": {**SECRET, "data": {"x": ""}, "stringData": {"y": "", "z": None}},
    "references": {
        "env": [
            {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            {"name": "TOKEN", "value": ""},
            {"name": "TOKEN", "value": "$(OTHER)"},
        ],
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [{"secret": {"secretName": "db", "items": [{"key": "password", "path": "pw"}]}}],
        "serviceAccountToken": {"path": "token", "expirationSeconds": 3607},
        "automountServiceAccountToken": False,
    },
    "identity": {
        "metadata": {
            "name": "token-abc",
            "namespace": "password-manager",
            "generateName": "token-",
            "uid": "0-0",
            "resourceVersion": "password=1",
            "continue": "eyJrIjoicGFzc3dvcmQ9eCJ9=token=x",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "token-service"},
            "ownerReferences": [{"kind": "Secret", "name": "db"}],
            "finalizers": ["x/y"],
        }
    },
    "managedFields": {
        "metadata": {
            "managedFields": [
                {"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:data": {".": {}, "f:password": {}},
                    "f:metadata": {"f:finalizers": {".": {}, 'v:"x/y"': {}}},
                    "f:env": {'k:{"name":"DB_PASSWORD"}': {".": {}, "f:value": {}}},
                }},
                None,
            ]
        }
    },
    "images": {"image": "registry.example/vault-token:1.2", "imageID": "x@sha256:0", "containerID": "containerd://a"},
    "numbers of something": {"tokens_per_second": 5, "maxTokens": 4096, "secretCount": 2},
    "a Table of Secrets": {
        "kind": "Table",
        "columnDefinitions": [{"name": "Name"}, {"name": "Type"}, {"name": "Data"}, {"name": "Secrets"}],
        "rows": [{"cells": ["db", "Opaque", 2, 3], "object": {"kind": "PartialObjectMetadata", "metadata": {}}}],
    },
    "RBAC": {"rules": [{"apiGroups": [""], "resources": ["secrets", "serviceaccounts/token"], "verbs": ["get"]}]},
    "an event": {"kind": "Event", "reason": "FailedMount", "message": 'secret "db" not found'},
    "a schema": {"openAPIV3Schema": {"properties": {"password": {"type": "string", "description": "the password"}}}},
    "JSON in a string": {"a": '{"user": "bob", "key": 1}', "b": "[not json", "c": "{token"},
    "a Helm release without secrets": {
        **SECRET, "type": "helm.sh/release.v1", "data": {"release": b64(release(manifest="kind: Service\n"))}
    },
    "a success": {"kind": "Status", "status": "Success", "details": {"kind": "secrets", "name": "db"}},
    "a failure that names alone": {
        "kind": "Status", "status": "Failure",
        "message": 'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0',
    },
    "a pair of something else": {"tolerations": [{"key": "token", "operator": "Exists", "value": {"a": "b"}}]},
    "a bare list": ["a", ["b"], 1, None],
}  # fmt: skip


@pytest.mark.parametrize("what", UNTOUCHED)
def test_what_is_no_secret_stays(what):
    before = orjson.dumps(UNTOUCHED[what])
    after, paths = walked(orjson.loads(before))
    assert orjson.dumps(after) == before
    assert paths == []


def test_findings_name_the_place():
    node = {"items": [{"data": {"x": b64("a-1")}, "metadata": {"name": "n"}}], "kind": "SecretList"}
    assert walked(node)[1] == ["items[0].data.x"]
    node = {"spec": {"containers": [{"env": [{"name": "A"}, {"name": "TOKEN", "value": "a-1"}]}]}}
    assert walked(node)[1] == ["spec.containers[0].env[1].value"]
    assert walked([["x"], {"password": "p"}])[1] == ["[1].password"]
    assert render(None) == ""


def test_what_should_be_base64_and_is_not_is_masked_as_it_is():
    node = only(
        {**SECRET, "data": {"a": "not base64!", "b": 5, "c": {"d": "e"}, "f": ["g"], "h": True, "i": T}}
    )
    assert node["data"] == {
        "a": b64(MINT("not base64!")),
        "b": MINT("5"),
        "c": {"d": MINT("e")},
        "f": [MINT("g")],
        "h": True,
        "i": T,
    }


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_a_secret_of_another_shape_is_masked_whole(field):
    assert only({**SECRET, field: "hunter2"})[field] == MINT("hunter2")
    assert only({**SECRET, field: ["a", {"b": "c"}]})[field] == [MINT("a"), {"b": MINT("c")}]
    assert only({**SECRET, "stringData": {"a": {"b": 1.5}}})["stringData"] == {"a": {"b": MINT("1.5")}}


def test_a_patch_of_a_secret_is_one_although_it_does_not_say_so():
    assert only({"data": {"x": b64(S), "gone": None}}, "Secret") == {"data": {"x": b64(T), "gone": None}}


def test_last_applied_that_does_not_parse_is_masked_whole():
    key = "kubectl.kubernetes.io/last-applied-configuration"
    for text in ('{"data": hunter2', '["hunter2"]', '"hunter2"', "hunter2"):
        node = only({"metadata": {"annotations": {key: text}}})
        assert node["metadata"]["annotations"][key] == MINT(text)
    for text in ("", T):
        assert only({"metadata": {"annotations": {key: text}}})["metadata"]["annotations"][key] == text


def test_numbers_under_a_sensitive_name_are_masked():
    node = only(
        {"password": 1234, "token": 1.5, "secret": True, "credentials": None, "pins": {"passcodes": [1, 2]}}
    )
    assert node == {
        "password": MINT("1234"),
        "token": MINT("1.5"),
        "secret": True,
        "credentials": None,
        "pins": {"passcodes": [MINT("1"), MINT("2")]},
    }


def test_odd_binary_data():
    node = only({"binaryData": {"a": "not base64!", "b": b64(b"\xff\xfe"), "c": 5, "token": b64(b"\xff")}})
    assert node["binaryData"] == {
        "a": MINT("not base64!"),
        "b": b64(b"\xff\xfe"),
        "c": MINT("5"),
        "token": b64(MINT(b"\xff")),
    }
    assert only({"binaryData": {"token": b64(T)}}) == {"binaryData": {"token": b64(T)}}


def test_managed_fields_of_many_objects():
    entry = {"metadata": {"managedFields": [{"fieldsV1": {"f:env": {'k:{"name":"A"}': {".": {}}}}}]}}
    node = {"kind": "PodList", "items": [orjson.loads(orjson.dumps(entry)) for _ in range(3)]}
    assert only(node)["items"] == [entry] * 3


def test_odd_managed_fields():
    assert only({"metadata": {"managedFields": "x"}}) == {"metadata": {"managedFields": MINT("x")}}
    for entry in (
        {"fieldsV1": None},
        {"fieldsV1": "x"},
        None,
        {"fieldsV1": {"f:a": {'v:"b"': {}, "i:0": {}}}},
    ):
        assert only({"metadata": {"managedFields": [entry]}}) == {"metadata": {"managedFields": [entry]}}
    fields = {"f:a": {"password": "x", 'k:{"name":"a"}': {"f:b": ["y"]}}}
    assert only({"metadata": {"managedFields": [{"fieldsV1": fields}]}})["metadata"]["managedFields"] == [
        {"fieldsV1": {"f:a": {"password": MINT("x"), 'k:{"name":"a"}': {"f:b": [MINT("y")]}}}}
    ]


def test_metadata_of_another_shape_is_walked():
    node = only({"metadata": {"name": {"password": S}, "annotations": {"password": S}}})
    assert node == {"metadata": {"name": {"password": T}, "annotations": {"password": T}}}
    assert only({"metadata": {"annotations": ["--token", S]}}) == {
        "metadata": {"annotations": ["--token", T]}
    }


def test_tables_of_a_watch_take_their_columns_from_the_first():
    walk = Walk(MINT)
    walk.columns = ["Name", "Token"]
    node = {"kind": "Table", "columnDefinitions": None, "rows": [{"cells": ["a", S, "c"]}]}
    walk.document(node)
    assert node["rows"][0]["cells"] == ["a", T, "c"]


def test_cells_of_every_shape():
    node = {
        "kind": "Table",
        "columnDefinitions": [{"name": "Token"}, {"name": "Token"}, {"name": "x"}, "odd"],
        "rows": [
            {"cells": [None, ["a"], {"x": "y"}, f"password={S}"], "conditions": [{"message": f"x token={S}"}]}
        ],
        "metadata": {"continue": "abc"},
    }
    masked = only(node)
    assert masked["rows"][0]["cells"] == [None, [MINT("a")], {"x": "y"}, f"password={T}"]
    assert masked["rows"][0]["conditions"] == [{"message": f"x token={T}"}]
    assert columns(None) == []
    assert columns([{"name": "A"}, "odd", {}]) == ["A", "", ""]


@pytest.mark.parametrize("row", ["x", None, {"cells": "x"}, {"cells": None}])
def test_what_is_no_row_is_refused(row):
    with pytest.raises(Unmaskable, match="no row of a Table"):
        walked({"kind": "Table", "rows": [row]})


def test_lists_and_tables_without_their_part_are_objects():
    assert only({"kind": "SecretList", "items": "x", "password": S}) == {
        "kind": "SecretList",
        "items": "x",
        "password": T,
    }
    assert only({"kind": "Table", "password": S}) == {"kind": "Table", "password": T}
    assert only({"kind": "Table", "rows": "x", "kind2": "y"}) == {"kind": "Table", "rows": "x", "kind2": "y"}


@pytest.mark.parametrize("node", ["text", 5, None, True])
def test_a_bare_value_has_no_fields(node):
    assert walked(node) == (node, [])


@pytest.mark.parametrize(
    ("open_", "leaf"),
    [(lambda n: {"a": n}, {"password": S}), (lambda n: [n], ["x"]), (lambda n: {"a": [n]}, {"password": S})],
)
def test_what_is_too_deep_is_refused(open_, leaf):
    node = leaf
    for _ in range(DEPTH + 2):
        node = open_(node)
    with pytest.raises(Unmaskable, match="inside each other"):
        walked(node)


def test_documents_in_documents_end():
    text = json.dumps({"password": S})
    for _ in range(NESTING - 1):
        text = json.dumps({"a": text})
    masked = only({"a": text})
    assert S not in orjson.dumps(masked).decode()
    with pytest.raises(Unmaskable, match="documents inside each other"):
        walked({"a": json.dumps({"a": text})})


@pytest.mark.parametrize("value", [b64("nothing"), b64(b64(b"\x1f\x8b broken")), b64(b64(b"[]"))])
def test_a_release_that_does_not_open_is_masked_whole(value):
    node = {**SECRET, "type": "helm.sh/release.v1", "data": {"release": value, "other": b64(S)}}
    data = only(node)["data"]
    assert data == {"release": b64(MINT(base64.b64decode(value))), "other": b64(T)}
    assert only({**SECRET, "type": "helm.sh/release.v1", "data": dict(data)})["data"] == data


def test_a_release_keeps_what_is_no_secret():
    manifest = "---\n# Source: a.yaml\nkind: Service\nspec: {ports: [1]}\n---\n" + MANIFEST
    chart = {
        "metadata": {"name": "c"},
        "values": {"image": "x"},
        "templates": [
            {"name": "t", "data": b64("a: {{ .Values.a }}")},
            {"name": "u", "data": "password: not base64"},
        ],
    }
    value = b64(release(info={"status": "deployed"}, version=3, manifest=manifest, chart=chart))
    out = opened(
        only({**SECRET, "type": "helm.sh/release.v1", "data": {"release": value}})["data"]["release"]
    )
    assert out["info"] == {"status": "deployed"}
    assert out["version"] == 3
    assert out["manifest"] == manifest.replace(S, T)
    assert out["chart"]["templates"][0] == chart["templates"][0]
    assert (
        base64.b64decode(out["chart"]["templates"][1]["data"]).decode() == f"password: {MINT('not base64')}"
    )
    assert out["chart"]["values"] == {"image": "x"}


def test_a_value_is_found_again_in_the_same_object_only():
    node = {
        "kind": "PodList",
        "items": [
            {"env": [{"name": "DB_PASSWORD", "value": "sesame"}], "note": "open sesame", "image": "sesame"},
            {"note": "open sesame"},
        ],
    }
    masked = only(node)
    assert masked["items"][0]["note"] == f"open {MINT('sesame')}"
    assert masked["items"][0]["image"] == "sesame"
    assert masked["items"][1]["note"] == "open sesame"


def test_plain_words_and_short_values_are_not_looked_for():
    node = {**SECRET, "data": {"username": b64("postgres"), "password": b64("abc"), "key": b64("x9-Zq-1")}}
    node["metadata"] = {"annotations": {"a": "postgres abc x9-Zq-1"}, "name": "x9-Zq-1"}
    node["more"] = [["x9-Zq-1", {"a": "x9-Zq-1"}], 5]
    masked = only(node)
    assert masked["metadata"] == {"annotations": {"a": f"postgres abc {MINT('x9-Zq-1')}"}, "name": "x9-Zq-1"}
    assert masked["more"] == [[MINT("x9-Zq-1"), {"a": MINT("x9-Zq-1")}], 5]


def test_of_very_many_values_the_equal_ones_are_found():
    data = {f"k{i}": b64(f"value-{i}-x9") for i in range(SWEEP_LIMIT + 1)}
    node = only({**SECRET, "data": data, "a": "value-7-x9", "b": "a value-7-x9"})
    assert (node["a"], node["b"]) == (MINT("value-7-x9"), "a value-7-x9")


def test_a_string_is_looked_at_once():
    walk = Walk(MINT)
    node = {"a": "a key of it", "b": "a key of it", "c": "abc"}
    walk.document(node)
    assert node == {"a": "a key of it", "b": "a key of it", "c": "abc"}
    assert walk.changes({"password": S})
    assert not walk.changes({"a": "b"})


def test_base64_is_read_strictly():
    assert decoded("aHVudGVyMg==") == b"hunter2"
    for value in ("aHVudGVyMg", "aHVu dGVyMg==", "aHVudGVyMg==\n", "ü", "a"):
        assert decoded(value) is None
    assert encoded("\udcff") == "/w=="


names = st.sampled_from(
    ["a", "spec", "data", "password", "items", "env", "metadata", "annotations", "rows", "value"]
)
leaves = st.sampled_from([S, b64(S), f"x password={S} y", json.dumps({"token": S}), "text", 5, None, True])
kinds = st.sampled_from(
    [{}, {}, {"kind": "Secret"}, {"kind": "SecretList"}, {"kind": "Status", "status": "Failure"}]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(lambda fields, kind: fields | kind, st.dictionaries(names, inner, max_size=4), kinds)
    ),
    max_leaves=20,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(trees)
def test_whatever_stands_around_it_no_value_of_a_secret_shows(node):
    tree = {"kind": "Secret", "data": {"x": b64(S)}, "stringData": {"y": S}, "rest": node}
    masked, _ = walked(orjson.loads(orjson.dumps(tree)))
    assert masked["data"] == {"x": b64(T)}
    assert masked["stringData"] == {"y": T}
    assert S not in orjson.dumps(masked).decode()
