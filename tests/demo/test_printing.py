"""Tables read like the real server's."""

from datetime import UTC, datetime
from typing import Any

import pytest

from interlock.demo.printing import age, at, partial, table
from interlock.demo.resources import Resource

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MADE = "2026-06-01T11:00:00Z"


def _cells(row: Resource, item: dict[str, Any]) -> list[Any]:
    meta = {"name": "n", "creationTimestamp": MADE}
    found = table(row, [{"metadata": meta, **item}], {}, "Metadata", NOW)
    cells: list[Any] = found["rows"][0]["cells"]
    return cells


@pytest.mark.parametrize(
    ("plural", "item", "cells"),
    [
        ("configmaps", {"data": {"a": "1", "b": "2"}}, ["n", 2, "60m"]),
        ("secrets", {"type": "Opaque", "data": {"a": "1"}}, ["n", "Opaque", 1, "60m"]),
        ("namespaces", {"status": {"phase": "Active"}}, ["n", "Active", "60m"]),
        ("serviceaccounts", {}, ["n", "60m"]),
        ("leases.coordination.k8s.io", {}, ["n", "60m"]),
        (
            "pods",
            {
                "spec": {"containers": [{}, {}], "nodeName": "node"},
                "status": {
                    "phase": "Running",
                    "podIP": "10.0.0.1",
                    "containerStatuses": [{"ready": True, "restartCount": 2}, {"ready": False}],
                },
            },
            ["n", "1/2", "Running", "2", "60m", "10.0.0.1", "node", "<none>", "<none>"],
        ),
        (
            "pods",
            {"status": {"phase": "Succeeded"}},
            ["n", "0/0", "Completed", "0", "60m", "<none>", "<none>", "<none>", "<none>"],
        ),
        (
            "deployments.apps",
            {
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
                },
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
            },
            ["n", "2/3", 3, 2, "60m", "c", "i", "a=b"],
        ),
        ("replicasets.apps", {"spec": {"replicas": 1}}, ["n", 1, 0, 0, "60m", "", "", "<none>"]),
        (
            "services",
            {
                "spec": {
                    "type": "NodePort",
                    "clusterIP": "10.9.0.1",
                    "ports": [{"port": 80}],
                    "selector": {"a": "b"},
                }
            },
            ["n", "NodePort", "10.9.0.1", "<none>", "80/TCP", "60m", "a=b"],
        ),
        ("services", {}, ["n", "ClusterIP", "<none>", "<none>", "<none>", "60m", "<none>"]),
        (
            "nodes",
            {
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"kubeletVersion": "v1"},
                }
            },
            ["n", "Ready", "<none>", "60m", "v1"],
        ),
        (
            "events",
            {
                "lastTimestamp": "2026-06-01T11:59:00Z",
                "type": "Normal",
                "involvedObject": {"kind": "Pod", "name": "p"},
            },
            ["60s", "Normal", "<none>", "pod/p", "", "", "", "n"],
        ),
        ("events", {}, ["60m", "<none>", "<none>", "/", "", "", "", "n"]),
        (
            "jobs.batch",
            {"status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}},
            ["n", "Complete", "1/1", "60m"],
        ),
        ("jobs.batch", {}, ["n", "Running", "0/1", "60m"]),
    ],
)
def test_each_kind_has_its_columns(
    rows: dict[str, Resource], plural: str, item: dict[str, Any], cells: list[Any]
) -> None:
    assert _cells(rows[plural], item) == cells


def test_a_cordoned_node_with_a_role_says_so(rows: dict[str, Resource]) -> None:
    meta = {
        "name": "n",
        "creationTimestamp": MADE,
        "labels": {"node-role.kubernetes.io/worker": "", "x": "y"},
    }
    assert _cells(rows["nodes"], {"metadata": meta, "spec": {"unschedulable": True}})[1:3] == [
        "NotReady,SchedulingDisabled",
        "worker",
    ]


def test_a_pod_on_its_way_out_is_terminating(rows: dict[str, Resource]) -> None:
    meta = {"name": "n", "creationTimestamp": MADE, "deletionTimestamp": MADE}
    assert _cells(rows["pods"], {"metadata": meta})[2] == "Terminating"


@pytest.mark.parametrize(
    ("include", "embedded"), [("None", None), ("Metadata", "PartialObjectMetadata"), ("Object", "Secret")]
)
def test_include_object_says_what_rows_carry(
    rows: dict[str, Resource], include: str, embedded: str | None
) -> None:
    item = {"kind": "Secret", "metadata": {"name": "n"}, "data": {"a": "b"}}
    made = table(rows["secrets"], [item], {"resourceVersion": "7"}, include, NOW)
    assert made["metadata"] == {"resourceVersion": "7"}
    assert made["rows"][0].get("object", {}).get("kind") == embedded
    assert [c["name"] for c in made["columnDefinitions"]] == ["Name", "Type", "Data", "Age"]
    assert made["columnDefinitions"][0]["format"] == "name"


def test_a_later_watch_event_has_no_definitions(rows: dict[str, Resource]) -> None:
    assert table(rows["pods"], [], {}, "None", NOW, headed=False)["columnDefinitions"] is None


def test_metadata_alone_keeps_annotations() -> None:
    item = {"kind": "Secret", "metadata": {"annotations": {"a": "b"}}, "data": {"a": "b"}}
    assert partial(item) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"annotations": {"a": "b"}},
    }


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        ("2026-06-01T11:59:30Z", "30s"),
        ("2026-06-01T11:58:01Z", "119s"),
        ("2026-06-01T11:57:00Z", "3m"),
        ("2026-06-01T08:00:00Z", "4h"),
        ("2026-05-20T12:00:00Z", "12d"),
        ("2026-06-01T12:00:09Z", "0s"),
        ("", "<unknown>"),
        (None, "<unknown>"),
    ],
)
def test_ages_are_short(stamp: Any, text: str) -> None:
    assert age(stamp, NOW) == text


def test_a_path_that_leads_nowhere_gives_the_default() -> None:
    assert at({"a": {"b": 0}}, "a.b") == 0
    assert at({"a": {"b": {}}}, "a.b") == "<none>"
    assert at({"a": 1}, "a.b", "x") == "x"
    assert at(None, "a", "x") == "x"
