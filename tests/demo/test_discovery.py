"""Discovery names every resource in both forms, and OpenAPI says what kubectl asks of it."""

from typing import Any

from interlock.demo import discovery
from interlock.demo.resources import RESOURCES


def test_both_forms_of_discovery_name_the_same_resources() -> None:
    legacy = {
        (found["groupVersion"], resource["name"].partition("/")[0])
        for rows in discovery.groups(RESOURCES).values()
        for found in [discovery.api_resources(rows)]
        for resource in found["resources"]
    }
    aggregated = {
        (f"{group['metadata'].get('name', '')}/{version['version']}".lstrip("/"), resource["resource"])
        for core in (True, False)
        for group in discovery.aggregated(RESOURCES, core=core)["items"]
        for version in group["versions"]
        for resource in version["resources"]
    }
    assert legacy == aggregated == {(row.api_version, row.plural) for row in RESOURCES}


def test_only_the_core_group_is_under_api() -> None:
    assert discovery.api_versions()["versions"] == ["v1"]
    assert [item["metadata"] for item in discovery.aggregated(RESOURCES, core=True)["items"]] == [
        {"creationTimestamp": None}
    ]
    names = [group["name"] for group in discovery.api_groups(RESOURCES)["groups"]]
    assert "apps" in names
    assert "" not in names
    assert discovery.api_group("apps", "v1")["preferredVersion"] == {
        "groupVersion": "apps/v1",
        "version": "v1",
    }


def test_a_subresource_names_the_kind_of_its_body() -> None:
    rows = discovery.groups(RESOURCES)[("apps", "v1")]
    listed = {entry["name"]: entry for entry in discovery.api_resources(rows)["resources"]}
    assert (listed["deployments/scale"]["group"], listed["deployments/scale"]["version"]) == (
        "autoscaling",
        "v1",
    )
    assert listed["deployments/scale"]["kind"] == "Scale"
    assert listed["deployments/status"]["kind"] == "Deployment"
    assert "group" not in listed["deployments/status"]
    assert listed["deployments"]["shortNames"] == ["deploy"]
    core = discovery.aggregated(RESOURCES, core=True)["items"][0]["versions"][0]["resources"]
    pods = next(entry for entry in core if entry["resource"] == "pods")
    assert {
        "subresource": "log",
        "responseKind": {"group": "", "version": "v1", "kind": "Pod"},
        "verbs": ["get"],
    } in pods["subresources"]
    secrets = next(entry for entry in core if entry["resource"] == "secrets")
    assert "subresources" not in secrets
    assert "shortNames" not in secrets


def test_every_kind_that_can_be_patched_is_validated_on_the_server() -> None:
    """kubectl looks for `fieldValidation` on the PATCH of the kind (QueryParamVerifierV3)."""
    for rows in discovery.groups(RESOURCES).values():
        patched: set[str] = set()
        paths: dict[str, Any] = discovery.openapi(rows)["paths"]
        for item in paths.values():
            if "patch" in item and any(p["name"] == "fieldValidation" for p in item["patch"]["parameters"]):
                patched.add(item["patch"]["x-kubernetes-group-version-kind"]["kind"])
        assert patched == {row.kind for row in rows if "patch" in row.verbs}


def test_every_document_in_the_index_has_its_schemas() -> None:
    paths = discovery.openapi_index(RESOURCES)["paths"]
    assert paths["api/v1"] == {"serverRelativeURL": "/openapi/v3/api/v1"}
    assert "apis/apps/v1" in paths
    for rows in discovery.groups(RESOURCES).values():
        kinds = {
            schema["x-kubernetes-group-version-kind"][0]["kind"]
            for schema in discovery.openapi(rows)["components"]["schemas"].values()
        }
        assert kinds == {row.kind for row in rows}
