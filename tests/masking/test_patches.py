"""JSON patches that could take a mask off a value, and those that cannot."""

import pytest

from interlock.kube.target import parse_target
from interlock.masking.patches import Uncovers, check, check_merge

POD = "/spec/template/spec/containers/0"
OWN = "/apis/apps/v1/namespaces/n/deployments/d"
CUSTOM = "/apis/shop.example/v1/namespaces/n/orders/o"


def uncovers(target, *operations):
    try:
        check(parse_target("PATCH", target).info, list(operations))
    except Uncovers as error:
        return "\n" not in error.reason
    return False


def op(name, path, value="x", **more):
    return {"op": name, "path": path, **({} if name == "remove" else {"value": value}), **more}


@pytest.mark.parametrize("name", ["move", "copy"])
@pytest.mark.parametrize("target", [OWN, CUSTOM, "/api/v1/namespaces/n/configmaps/c"])
def test_nothing_is_moved_or_copied(name, target):
    assert uncovers(target, {"op": name, "from": "/data/password", "path": "/data/note"})


@pytest.mark.parametrize(
    "operation",
    [
        op("replace", f"{POD}/env/1/name", "NOTE"),
        op("add", f"{POD}/env/1/name", "NOTE"),
        op("add", f"{POD}/env/-1/name", "NOTE"),
        op("add", f"{POD}/env/+1/key", "NOTE"),
        op("remove", f"{POD}/env/01/name"),
        op("replace", f"{POD}/args/0", "--note"),
        op("add", f"{POD}/args/1", "--note"),
        op("add", f"{POD}/args/-1", "--note"),
        op("remove", f"{POD}/args/0"),
        op("remove", f"{POD}/command/1"),
    ],
)
def test_what_a_value_is_known_by_does_not_change(operation):
    assert uncovers(OWN, operation)
    assert uncovers(CUSTOM, operation)


@pytest.mark.parametrize(
    "operation",
    [
        op("replace", "/spec/header/name", "NOTE"),
        op("remove", "/spec/header/key"),
        op("replace", "/spec/template/kind", "Note"),
        op("replace", "/spec/words/0", "--note"),
        op("remove", "/spec/words/0"),
    ],
)
def test_of_custom_resources_less_is_known(operation):
    assert uncovers(CUSTOM, operation)
    assert not uncovers(OWN, operation)


@pytest.mark.parametrize(
    "operation",
    [
        op("replace", "/spec/replicas", 3),
        op("replace", f"{POD}/env/1/value", "new"),
        op("replace", f"{POD}/env/1", {"name": "A", "value": "b"}),
        op("remove", f"{POD}/env/1"),
        op("add", f"{POD}/args/-", "--kubelet-insecure-tls"),
        op("add", f"{POD}/args/0", "--first"),
        op("add", f"{POD}/args", ["--note"]),
        op("replace", "/spec/scaleTargetRef/name", "other"),
        op("replace", "/subjects/0/kind", "Group"),
        op("remove", "/metadata/finalizers/0"),
        op("replace", "/metadata/ownerReferences/0/name", "x"),
        op("test", f"{POD}/env/1/name", "DB_PASSWORD"),
        op("replace", "", {"kind": "Deployment"}),
        op("replace", "/kind", "Deployment"),
    ],
)
def test_what_takes_nothing_from_a_value_passes(operation):
    assert not uncovers(OWN, operation)


def test_a_test_right_before_it_shows_that_nothing_hangs_on_it():
    name, word = f"{POD}/env/0/name", f"{POD}/args/2"
    assert not uncovers(OWN, op("test", name, "LOG_LEVEL"), op("replace", name, "LEVEL"))
    assert not uncovers(OWN, op("test", word, "--level=info"), op("replace", word, "--level=debug"))
    assert not uncovers(OWN, op("test", word, "--level=info"), op("remove", word))
    assert not uncovers(CUSTOM, op("test", "/spec/l/0", {"a": 1}), op("remove", "/spec/l/0"))
    assert uncovers(OWN, op("test", name, "DB_PASSWORD"), op("replace", name, "NOTE"))
    assert uncovers(OWN, op("test", word, "--password"), op("remove", word))
    assert uncovers(CUSTOM, op("test", "/spec/a/kind", "Secret"), op("replace", "/spec/a/kind", "Note"))
    assert uncovers(OWN, op("test", f"{POD}/args/1", "a"), op("add", f"{POD}/args/1", "b"))


def test_a_test_of_another_place_or_further_before_shows_nothing():
    name = f"{POD}/env/0/name"
    assert uncovers(OWN, op("test", f"{POD}/env/1/name", "A"), op("replace", name, "B"))
    assert uncovers(OWN, op("test", name, "A"), op("remove", f"{POD}/env/0"), op("replace", name, "B"))


@pytest.mark.parametrize(
    ("directive", "value", "passes"),
    [
        ("$deleteFromPrimitiveList/args", ["--password"], False),
        ("$deleteFromPrimitiveList/command", ["--password"], False),
        ("$setElementOrder/args", ["--level=info", "--password"], False),
        ("$setElementOrder/args", "--password", False),
        ("$deleteFromPrimitiveList/finalizers", ["a/b"], True),
        ("$setElementOrder/finalizers", ["a/b"], True),
        ("$setElementOrder/env", [{"name": "A"}, {"name": "B"}], True),
        ("args", ["--all", "of", "them"], True),
    ],
)
def test_a_strategic_merge_parts_no_words(directive, value, passes):
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", directive: value}]}}}}
    if passes:
        check_merge(patch)
    else:
        with pytest.raises(Uncovers, match="send the whole list"):
            check_merge(patch)
