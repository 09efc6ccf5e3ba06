"""Bodies whose fields have another type are refused as Go's decoder would."""

from typing import Any

import pytest

from interlock.demo import seed
from interlock.demo.shapes import check
from interlock.demo.store import Refused


@pytest.mark.parametrize(
    "item", [item for _, _, item in seed.objects()], ids=lambda item: item["metadata"]["name"]
)
def test_what_is_right_passes(item: dict[str, Any]) -> None:
    check(item)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": None, "spec": {"replicas": None, "containers": None}},
        {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"data": {"spec": "below a map a name has no meaning", "replicas": "3"}},
        {"spec": {"anything": [1, [2], {"else": 1.5}], "replicas": 1000}},
        {"rules": [{"resources": ["pods"], "verbs": ["*"]}]},
        {"spec": {"ports": [{"port": 80, "targetPort": "http"}]}},
        {"spec": {"expirationSeconds": 1 << 32}},
    ],
)
def test_what_may_be_passes(body: dict[str, Any]) -> None:
    check(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"metadata": []}, "array into Go struct field metadata of type object"),
        ({"metadata": {"name": 7}}, "number into Go struct field metadata.name of type string"),
        ({"metadata": {"labels": {"a": 1}}}, "number into Go struct field metadata.labels.a of type string"),
        ({"data": "x"}, "string into Go struct field data of type map[string]string"),
        ({"data": {"a": {}}}, "object into Go struct field data.a of type string"),
        (
            {"metadata": {"finalizers": [{}]}},
            "object into Go struct field metadata.finalizers of type []string",
        ),
        ({"spec": {"containers": {}}}, "object into Go struct field spec.containers of type []object"),
        ({"spec": {"containers": [None]}}, "null into Go struct field spec.containers of type []object"),
        (
            {"spec": {"containers": [{"env": 1.5}]}},
            "number into Go struct field spec.containers.env of type []object",
        ),
        ({"spec": {"replicas": True}}, "bool into Go struct field spec.replicas of type int32"),
        ({"spec": {"replicas": -1}}, "number into Go struct field spec.replicas of type int32"),
        ({"spec": {"replicas": 1001}}, "number into Go struct field spec.replicas of type int32"),
        (
            {"any": [{"thing": [[{"spec": 1}]]}, {"spec": 1}]},
            "number into Go struct field any.spec of type object",
        ),
        ({"status": []}, "array into Go struct field status of type object"),
    ],
)
def test_what_has_another_type_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        check(body)
    assert (refused.value.code, refused.value.message) == (400, f"json: cannot unmarshal {message}")
