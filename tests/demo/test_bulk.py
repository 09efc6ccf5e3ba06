"""Many pods, made when asked for."""

import orjson
import pytest

from interlock.demo.bulk import Bulk
from interlock.demo.resources import Resource


def test_every_pod_is_its_own_and_always_the_same() -> None:
    bulk = Bulk(10)
    one, two = bulk.object(1), bulk.object(2)
    assert one["metadata"]["name"] == "bulk-0000001"
    assert one["metadata"]["uid"] != two["metadata"]["uid"]
    assert one["spec"]["containers"][0]["env"][0]["value"] == "bulk-secret-0000001"
    assert orjson.loads(bulk.encoded(1)) == one == Bulk(10).object(1)


@pytest.mark.parametrize("size", [3000, 100_000])
def test_a_pod_is_as_big_as_asked(size: int) -> None:
    assert len(Bulk(1, size).encoded(0)) == size


def test_a_pod_is_never_smaller_than_a_pod() -> None:
    assert 800 < len(Bulk(1, 0).encoded(0)) < 1500


def test_only_pods_of_its_namespace_are_in_bulk(rows: dict[str, Resource]) -> None:
    bulk = Bulk(5)
    assert bulk.holds(rows["pods"], "bulk")
    assert bulk.holds(rows["pods"], "")
    assert not bulk.holds(rows["pods"], "shop")
    assert not bulk.holds(rows["secrets"], "bulk")


@pytest.mark.parametrize(
    ("plural", "namespace", "name", "number"),
    [
        ("pods", "bulk", "bulk-0000004", 4),
        ("pods", "bulk", "bulk-0000005", None),
        ("pods", "bulk", "bulk-4", None),
        ("pods", "shop", "bulk-0000004", None),
        ("secrets", "bulk", "bulk-0000004", None),
    ],
)
def test_a_name_gives_its_number(
    rows: dict[str, Resource], plural: str, namespace: str, name: str, number: int | None
) -> None:
    assert Bulk(5).number(rows[plural], namespace, name) == number
