"""What the demo's API server says of itself: version, discovery (legacy and aggregated), OpenAPI v3.

In: the table of resources. Out: decoded documents. Sources: apidiscovery.k8s.io/v2 (KEP-3352), and of
OpenAPI v3 only what kubectl 1.32 to 1.37 asks it: whether a kind's PATCH takes `fieldValidation`
(kubectl validates on the server then, and `apply` needs no flag), and a schema for `explain`.
"""

from collections.abc import Iterable

from interlock.demo.resources import READ_WRITE, Object, Resource, Subresource

VERSION: Object = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2+interlock.demo",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2026-06-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def groups(resources: Iterable[Resource]) -> dict[tuple[str, str], list[Resource]]:
    """The resources by (group, version), in the order of the table."""
    found: dict[tuple[str, str], list[Resource]] = {}
    for resource in resources:
        found.setdefault((resource.group, resource.version), []).append(resource)
    return found


def api_versions() -> Object:
    """`GET /api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_group(group: str, version: str) -> Object:
    """`GET /apis/GROUP`, and the items of `GET /apis`."""
    served = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [served], "preferredVersion": served}


def api_groups(resources: Iterable[Resource]) -> Object:
    """`GET /apis`."""
    found = [api_group(group, version) for group, version in groups(resources) if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def api_resources(rows: list[Resource]) -> Object:
    """`GET /api/v1` or `/apis/GROUP/VERSION`: the rows of one group version."""
    listed: list[Object] = []
    for row in rows:
        listed.append(
            {
                "name": row.plural,
                "singularName": row.kind.lower(),
                "namespaced": row.namespaced,
                "kind": row.kind,
                "verbs": list(row.verbs),
                **({"shortNames": list(row.short)} if row.short else {}),
                **({"categories": list(row.categories)} if row.categories else {}),
            }
        )
        for sub in row.subresources:
            group, version = _group_version(row, sub)
            foreign = {"group": group, "version": version} if sub.group_version else {}
            listed.append(
                {
                    "name": f"{row.plural}/{sub.name}",
                    "singularName": "",
                    "namespaced": row.namespaced,
                    "kind": sub.kind or row.kind,
                    "verbs": list(sub.verbs),
                    **foreign,
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": rows[0].api_version,
        "resources": listed,
    }


def aggregated(resources: Iterable[Resource], *, core: bool) -> Object:
    """`GET /api` (core) or `/apis` asked for as `APIGroupDiscoveryList`, v2."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group, "creationTimestamp": None}
                if group
                else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "resources": [_discovered(row) for row in rows],
                        "freshness": "Current",
                    }
                ],
            }
            for (group, version), rows in groups(resources).items()
            if bool(group) != core
        ],
    }


def _discovered(row: Resource) -> Object:
    subresources = []
    for sub in row.subresources:
        group, version = _group_version(row, sub)
        kind = {"group": group, "version": version, "kind": sub.kind or row.kind}
        subresources.append({"subresource": sub.name, "responseKind": kind, "verbs": list(sub.verbs)})
    return {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.kind.lower(),
        "verbs": list(row.verbs),
        **({"shortNames": list(row.short)} if row.short else {}),
        **({"categories": list(row.categories)} if row.categories else {}),
        **({"subresources": subresources} if subresources else {}),
    }


def _group_version(row: Resource, sub: Subresource) -> tuple[str, str]:
    group, _, version = sub.group_version.rpartition("/")
    return (group, version) if version else (row.group, row.version)


def openapi_index(resources: Iterable[Resource]) -> Object:
    """`GET /openapi/v3`."""
    paths = [f"apis/{group}/{version}" if group else f"api/{version}" for group, version in groups(resources)]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def openapi(rows: list[Resource]) -> Object:
    """`GET /openapi/v3/…` for the rows of one group version."""
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {path: item for row in rows for path, item in _paths(row)},
        "components": {"schemas": {_schema_name(row): _schema(row) for row in rows}},
    }


def _paths(row: Resource) -> list[tuple[str, Object]]:
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    every = f"{root}/namespaces/{{namespace}}/{row.plural}" if row.namespaced else f"{root}/{row.plural}"
    paths = [(every, {"post": _operation(row, "post")})]
    if "patch" in row.verbs:
        one = {method: _operation(row, method) for method in ("get", "put", "patch", "delete")}
        paths.append((f"{every}/{{name}}", one))
        scalable = [sub for sub in row.subresources if sub.verbs == READ_WRITE and not sub.kind]
        paths += [(f"{every}/{{name}}/{sub.name}", {"patch": _operation(row, "patch")}) for sub in scalable]
    return paths


def _operation(row: Resource, method: str) -> Object:
    kind = {"group": row.group, "version": row.version, "kind": row.kind}
    names = () if method in ("get", "delete") else ("dryRun", "fieldManager", "fieldValidation")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    return {
        "x-kubernetes-group-version-kind": kind,
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
    }


def _schema_name(row: Resource) -> str:
    return f"io.interlock.demo.{row.group or 'core'}.{row.version}.{row.kind}"


def _schema(row: Resource) -> Object:
    text, anything = {"type": "string"}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "type": "object",
        "description": f"{row.kind} as the demo's API server keeps it: any field is taken.",
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": anything,
            "spec": anything,
            "status": anything,
            "data": anything,
        },
        "x-kubernetes-group-version-kind": [{"group": row.group, "version": row.version, "kind": row.kind}],
    }
