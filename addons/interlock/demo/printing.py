"""Tables and metadata-only objects: how `kubectl get` is answered (KEP-27, server-side printing).

In: objects and the time. Out: decoded `Table` or `PartialObjectMetadata`. To change what is printed
for a kind, change its row in COLUMNS. Headings and order are those of Kubernetes
pkg/printers/internalversion/printers.go.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from interlock.demo.resources import Object, Resource

type Cell = Callable[[Object, datetime], object]


@dataclass(frozen=True, slots=True)
class Column:
    """`wide` columns are printed by `-o wide` only (priority 1)."""

    name: str
    cell: Cell
    type: str = "string"
    wide: bool = False
    format: str = ""


def at(item: Any, path: str, default: Any = "<none>") -> Any:
    """The value at a dotted path of nested objects, or `default` where it is absent or empty."""
    for key in path.split("."):
        item = item.get(key) if isinstance(item, dict) else None
    return default if item in (None, "", [], {}) else item


def age(stamp: str, now: datetime) -> str:
    """A duration as kubectl prints it (k8s.io/apimachinery/pkg/util/duration.HumanDuration, shortened)."""
    try:
        seconds = int((now - datetime.fromisoformat(stamp).astimezone(UTC)).total_seconds())
    except (ValueError, TypeError):
        return "<unknown>"
    for unit, size, limit in (("s", 1, 120), ("m", 60, 180 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) // size}{unit}"
    return f"{seconds // 86400}d"


def _field(path: str, default: object = "<none>") -> Cell:
    return lambda item, _: str(at(item, path, default))


def _number(path: str) -> Cell:
    return lambda item, _: at(item, path, 0)


def _count(path: str) -> Cell:
    return lambda item, _: len(at(item, path, ()))


def _age(item: Object, now: datetime) -> object:
    return age(at(item, "metadata.creationTimestamp", ""), now)


def _last_seen(item: Object, now: datetime) -> object:
    return age(at(item, "lastTimestamp", at(item, "metadata.creationTimestamp", "")), now)


def _ready(item: Object, _: datetime) -> object:
    return f"{at(item, 'status.readyReplicas', 0)}/{at(item, 'spec.replicas', 0)}"


def _pod_ready(item: Object, _: datetime) -> object:
    statuses = at(item, "status.containerStatuses", ())
    return f"{sum(bool(one.get('ready')) for one in statuses)}/{len(at(item, 'spec.containers', ()))}"


def _pod_status(item: Object, _: datetime) -> object:
    if at(item, "metadata.deletionTimestamp", ""):
        return "Terminating"
    return {"Succeeded": "Completed"}.get(phase := at(item, "status.phase", "Unknown"), phase)


def _restarts(item: Object, _: datetime) -> object:
    return str(sum(one.get("restartCount", 0) for one in at(item, "status.containerStatuses", ())))


def _ports(item: Object, _: datetime) -> object:
    return (
        ",".join(f"{p.get('port')}/{p.get('protocol', 'TCP')}" for p in at(item, "spec.ports", ()))
        or "<none>"
    )


def _pairs(path: str) -> Cell:
    def cell(item: Object, _: datetime) -> object:
        return ",".join(f"{key}={value}" for key, value in at(item, path, {}).items()) or "<none>"

    return cell


def _of_containers(key: str) -> Cell:
    def cell(item: Object, _: datetime) -> object:
        containers = at(item, "spec.template.spec.containers", at(item, "spec.containers", ()))
        return ",".join(str(container.get(key, "")) for container in containers)

    return cell


def _node_status(item: Object, _: datetime) -> object:
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in at(item, "status.conditions", ())
    )
    words = ["Ready" if ready else "NotReady"]
    return ",".join([*words, "SchedulingDisabled"] if at(item, "spec.unschedulable", False) else words)


def _roles(item: Object, _: datetime) -> object:
    prefix = "node-role.kubernetes.io/"
    found = [key.removeprefix(prefix) for key in at(item, "metadata.labels", {}) if key.startswith(prefix)]
    return ",".join(found) or "<none>"


def _involved(item: Object, _: datetime) -> object:
    return f"{at(item, 'involvedObject.kind', '').lower()}/{at(item, 'involvedObject.name', '')}"


def _job_status(item: Object, _: datetime) -> object:
    return next(
        (c["type"] for c in at(item, "status.conditions", ()) if c.get("status") == "True"), "Running"
    )


def _completions(item: Object, _: datetime) -> object:
    return f"{at(item, 'status.succeeded', 0)}/{at(item, 'spec.completions', 1)}"


NAME = Column("Name", _field("metadata.name"), format="name")
AGE = Column("Age", _age)
_CONTAINERS = Column("Containers", _of_containers("name"), wide=True)
_IMAGES = Column("Images", _of_containers("image"), wide=True)
_SELECTOR = Column("Selector", _pairs("spec.selector.matchLabels"), wide=True)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "configmaps": (NAME, Column("Data", _count("data"), "integer"), AGE),
    "deployments.apps": (
        NAME,
        Column("Ready", _ready),
        Column("Up-to-date", _number("status.updatedReplicas"), "integer"),
        Column("Available", _number("status.availableReplicas"), "integer"),
        AGE,
        _CONTAINERS,
        _IMAGES,
        _SELECTOR,
    ),
    "events": (
        Column("Last Seen", _last_seen),
        Column("Type", _field("type")),
        Column("Reason", _field("reason")),
        Column("Object", _involved),
        Column("Subobject", _field("involvedObject.fieldPath", ""), wide=True),
        Column("Source", _field("source.component", ""), wide=True),
        Column("Message", _field("message", "")),
        Column("Name", _field("metadata.name"), wide=True, format="name"),
    ),
    "jobs.batch": (NAME, Column("Status", _job_status), Column("Completions", _completions), AGE),
    "namespaces": (NAME, Column("Status", _field("status.phase")), AGE),
    "nodes": (
        NAME,
        Column("Status", _node_status),
        Column("Roles", _roles),
        AGE,
        Column("Version", _field("status.nodeInfo.kubeletVersion")),
    ),
    "pods": (
        NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        AGE,
        Column("IP", _field("status.podIP"), wide=True),
        Column("Node", _field("spec.nodeName"), wide=True),
        Column("Nominated Node", _field("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", _field("spec.readinessGates"), wide=True),
    ),
    "replicasets.apps": (
        NAME,
        Column("Desired", _number("spec.replicas"), "integer"),
        Column("Current", _number("status.replicas"), "integer"),
        Column("Ready", _number("status.readyReplicas"), "integer"),
        AGE,
        _CONTAINERS,
        _IMAGES,
        _SELECTOR,
    ),
    "secrets": (NAME, Column("Type", _field("type")), Column("Data", _count("data"), "integer"), AGE),
    "serviceaccounts": (NAME, AGE),
    "services": (
        NAME,
        Column("Type", _field("spec.type", "ClusterIP")),
        Column("Cluster-IP", _field("spec.clusterIP")),
        Column("External-IP", _field("spec.externalIPs")),
        Column("Port(s)", _ports),
        AGE,
        Column("Selector", _pairs("spec.selector"), wide=True),
    ),
}
DEFAULT = (NAME, AGE)


def table(
    resource: Resource,
    objects: Iterable[Object],
    metadata: Object,
    include: str,
    now: datetime,
    *,
    headed: bool = True,
) -> Object:
    """A meta.k8s.io/v1 Table. `include` is None, Metadata or Object (the includeObject parameter).

    `headed` is false for every watch event but the first, as the server leaves the definitions out.
    """
    columns = COLUMNS.get(resource.qualified, DEFAULT)
    definitions = [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": f"{column.name} of the {resource.kind}",
            "priority": int(column.wide),
        }
        for column in columns
    ]
    rows = [
        {"cells": [column.cell(item, now) for column in columns], "object": _embedded(item, include)}
        for item in objects
    ]
    if include == "None":
        for row in rows:
            del row["object"]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if headed else None,
        "rows": rows,
    }


def _embedded(item: Object, include: str) -> Object:
    return item if include == "Object" else partial(item)


def partial(item: Object) -> Object:
    """The object's metadata alone, annotations and all."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
