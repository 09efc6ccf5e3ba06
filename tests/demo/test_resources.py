"""The table of resources is consistent with itself."""

from interlock.demo.resources import RESOURCES, Resource


def test_no_two_rows_are_the_same_resource() -> None:
    assert len({row.qualified for row in RESOURCES}) == len(RESOURCES)
    assert len({row.kind for row in RESOURCES}) == len(RESOURCES)


def test_no_two_resources_share_a_short_name() -> None:
    short = [name for row in RESOURCES for name in row.short]
    assert len(set(short)) == len(short)


def test_a_row_knows_how_it_is_written() -> None:
    assert Resource("", "v1", "pods", "Pod").api_version == "v1"
    assert Resource("", "v1", "pods", "Pod").qualified == "pods"
    assert Resource("apps", "v1", "deployments", "Deployment").api_version == "apps/v1"
    assert Resource("apps", "v1", "deployments", "Deployment").qualified == "deployments.apps"


def test_reviews_are_not_stored_and_everything_else_is() -> None:
    assert {row.kind for row in RESOURCES if not row.stored} == {
        "SelfSubjectReview",
        "TokenReview",
        "SelfSubjectAccessReview",
        "SelfSubjectRulesReview",
    }


def test_a_subresource_is_found_by_its_name() -> None:
    pods = next(row for row in RESOURCES if row.kind == "Pod")
    log = pods.subresource("log")
    assert log is not None
    assert log.verbs == ("get",)
    assert pods.subresource("nothing") is None
