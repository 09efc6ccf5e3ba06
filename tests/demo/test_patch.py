"""The four patch types change what they say and nothing else."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.demo.patch import BadPatch, apply, json_patch, merge, strategic

POD: dict[str, Any] = {
    "metadata": {"name": "p", "finalizers": ["a"]},
    "spec": {
        "containers": [
            {"name": "web", "image": "w:1", "env": [{"name": "A", "value": "1"}]},
            {"name": "log", "image": "l:1"},
        ],
        "tolerations": [{"key": "x"}],
    },
}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/b", "value": 1}], {"a": [1, 2], "b": 1}),
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3]}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2]}),
        ([{"op": "remove", "path": "/a/1"}], {"a": [1]}),
        (
            [{"op": "replace", "path": "/a", "value": {"x": 1}}, {"op": "add", "path": "/a/y", "value": 2}],
            {"a": {"x": 1, "y": 2}},
        ),
        ([{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1, 2], "b": [1, 2]}),
        ([{"op": "move", "from": "/a/0", "path": "/b"}], {"a": [2], "b": 1}),
        ([{"op": "test", "path": "/a/0", "value": 1}], {"a": [1, 2]}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {"a": [1, 2], "x/y~z": 1}),
        ([{"op": "replace", "path": "", "value": {"new": 1}}], {"new": 1}),
    ],
)
def test_json_patch_follows_the_rfc(operations: Any, result: Any) -> None:
    assert json_patch({"a": [1, 2]}, operations) == result


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({"op": "add"}, 400),
        (["add"], 400),
        ([{"op": "add"}], 400),
        ([{"op": "sing", "path": "/a"}], 422),
        ([{"op": "add", "path": "/b"}], 422),
        ([{"op": "add", "path": "b", "value": 1}], 422),
        ([{"op": "add", "path": "/b/c", "value": 1}], 422),
        ([{"op": "add", "path": "/a/9/c", "value": 1}], 422),
        ([{"op": "add", "path": "/a/0/c", "value": 1}], 422),
        ([{"op": "add", "path": "/a/9", "value": 1}], 422),
        ([{"op": "add", "path": "/a/x", "value": 1}], 422),
        ([{"op": "remove", "path": "/a/7"}], 422),
        ([{"op": "remove", "path": "/none"}], 422),
        ([{"op": "test", "path": "/a/0", "value": 2}], 422),
        ([{"op": "replace", "path": "", "value": 1}], 422),
    ],
)
def test_a_json_patch_that_cannot_be_done_is_refused(operations: Any, code: int) -> None:
    with pytest.raises(BadPatch) as refused:
        json_patch({"a": [1, 2]}, operations)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("patch", "path", "result"),
    [
        (
            {"spec": {"containers": [{"name": "web", "image": "w:2"}]}},
            ("spec", "containers", 0, "image"),
            "w:2",
        ),
        ({"spec": {"containers": [{"name": "new"}]}}, ("spec", "containers", 2, "name"), "new"),
        (
            {"spec": {"containers": [{"name": "web", "env": [{"name": "B", "value": "2"}]}]}},
            ("spec", "containers", 0, "env"),
            [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        ),
        (
            {"spec": {"containers": [{"name": "web", "env": [{"name": "A", "$patch": "delete"}]}]}},
            ("spec", "containers", 0, "env"),
            [],
        ),
        (
            {"spec": {"containers": [{"$patch": "replace"}, {"name": "one"}]}},
            ("spec", "containers"),
            [{"name": "one"}],
        ),
        ({"spec": {"tolerations": [{"key": "y"}]}}, ("spec", "tolerations"), [{"key": "y"}]),
        ({"spec": {"tolerations": None}}, ("spec",), {"containers": POD["spec"]["containers"]}),
        ({"spec": {"$patch": "replace", "nodeName": "n"}}, ("spec",), {"nodeName": "n"}),
        ({"spec": {"$patch": "delete"}}, (), {"metadata": POD["metadata"]}),
        ({"spec": {"$retainKeys": ["nodeName"], "nodeName": "n"}}, ("spec",), {"nodeName": "n"}),
        ({"spec": {"$setElementOrder/containers": [{"name": "log"}]}}, (), POD),
        ({"metadata": {"finalizers": ["a", "b"]}}, ("metadata", "finalizers"), ["a", "b"]),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, ("metadata", "finalizers"), []),
        ({"spec": {"hostAliases": [{"ip": "1"}]}}, ("spec", "hostAliases"), [{"ip": "1"}]),
    ],
)
def test_a_strategic_merge_patch_merges_lists_by_key(patch: Any, path: tuple[Any, ...], result: Any) -> None:
    before = copy.deepcopy(POD)
    found: Any = strategic(POD, patch)
    for step in path:
        found = found[step]
    assert found == result
    assert before == POD, "the live object must not change"


def test_a_keyed_list_needs_the_key_in_every_element() -> None:
    with pytest.raises(BadPatch):
        strategic(POD, {"spec": {"containers": [{"name": "web"}, {"image": "x"}]}})


def test_apply_adds_and_changes_but_a_null_removes_nothing() -> None:
    applied = apply(
        POD, {"spec": {"nodeName": "n", "tolerations": None, "containers": [{"name": "log", "image": "l:2"}]}}
    )
    assert applied["spec"]["nodeName"] == "n"
    assert applied["spec"]["tolerations"] == [{"key": "x"}]
    assert [c["image"] for c in applied["spec"]["containers"]] == ["w:1", "l:2"]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(max_size=3), json, max_size=4)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(documents, documents)
def test_a_merge_patch_changes_no_input_and_is_idempotent(live: Any, patch: Any) -> None:
    before = copy.deepcopy((live, patch))
    once = merge(live, patch)
    assert merge(once, patch) == once
    assert (live, patch) == before


@settings(derandomize=True, max_examples=60, deadline=None)
@given(documents, documents)
def test_replacing_the_root_gives_exactly_the_value(live: Any, value: Any) -> None:
    assert json_patch(live, [{"op": "replace", "path": "", "value": value}]) == value
