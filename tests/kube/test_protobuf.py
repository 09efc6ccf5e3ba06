"""Protobuf bodies as a whole: Go's own pairs of bytes and JSON, for every type that clients can send.

samples.jsonl.gz is what Go's encoder and decoder gave (scripts/protobuf-oracle --golden): an empty, a half and a
sparse object of each type. tests/cluster/test_bodies.py asks Go again, with fresh objects of every kind.
"""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from interlock.kube import protobuf
from interlock.kube.protobuf.table import load

SAMPLES = [
    json.loads(line)
    for line in gzip.decompress((Path(__file__).parent / "protobuf/samples.jsonl.gz").read_bytes()).split(
        b"\n"
    )[:-1]
]


def test_every_object_is_what_gos_json_encoder_gives() -> None:
    different = [
        sample["json"]["kind"]
        for sample in SAMPLES
        if protobuf.decode(base64.b64decode(sample["proto"])) != sample["json"]
    ]
    assert different == []


def test_every_type_of_the_table_is_among_the_samples() -> None:
    table = load()
    sampled = {table.kinds[s["json"]["apiVersion"]][s["json"]["kind"]] for s in SAMPLES}
    assert sampled == {message for of_version in table.kinds.values() for message in of_version.values()}
    assert len(SAMPLES) == 3 * len(sampled) > 1000


def types(value: Any) -> Any:
    """The value with every scalar replaced by its JSON type, as an API server tells whole numbers from others."""
    if isinstance(value, dict):
        return {key: types(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [types(inner) for inner in value]
    return (
        "number"
        if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
        else type(value)
    )


def test_every_scalar_has_the_json_type_that_go_gives_it() -> None:
    for sample in SAMPLES:
        assert types(protobuf.decode(base64.b64decode(sample["proto"]))) == types(sample["json"])


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "Pod"),
        ("v1", "Secret"),
        ("v1", "Binding"),
        ("v1", "Status"),
        ("v1", "DeleteOptions"),
        ("apps/v1", "DeleteOptions"),
        ("meta.k8s.io/v1", "DeleteOptions"),
        ("apps/v1", "Deployment"),
        ("autoscaling/v1", "Scale"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("policy/v1", "Eviction"),
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("authentication.k8s.io/v1", "SelfSubjectReview"),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("coordination.k8s.io/v1", "Lease"),
        ("events.k8s.io/v1", "Event"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIService"),
    ],
)
def test_what_clients_send_in_protobuf_is_known(version: str, kind: str) -> None:
    assert kind in protobuf.preload().kinds[version]


def test_the_table_is_loaded_once() -> None:
    assert protobuf.preload() is load()
