"""Bodies against those who read them in earnest: Go's own readers, and a real API server.

First what Go makes of bytes (scripts/protobuf-oracle, built at the first run): every kind in protobuf, damaged
protobuf, YAML of all sorts, and our JSON read as YAML. Then the same objects sent to the API server as a client
sends them and as the gateway forwards them: the answers must be the same.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import random
import ssl
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml as pyyaml

from cluster.conftest import ControlPlane
from interlock.kube import json as strict
from interlock.kube import yaml
from interlock.kube.body import (
    APPLY_PATCH,
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    PROTOBUF,
    STRATEGIC_PATCH,
    YAML,
    parse_body,
)
from interlock.kube.protobuf import BadProtobuf, decode
from interlock.kube.target import parse_target

pytestmark = pytest.mark.cluster
ORACLE = Path(__file__).resolve().parents[2] / "scripts" / "protobuf-oracle"
SEED = 36


def oracle(*arguments: str, lines: list[bytes] | None = None) -> list[dict[str, Any]]:
    """What Go says: of samples that it makes, or of each of the given byte strings."""
    sent = "".join(base64.b64encode(line).decode() + "\n" for line in lines or [])
    done = subprocess.run(
        [str(ORACLE), *arguments], input=sent, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


@pytest.fixture(scope="module")
def samples() -> list[tuple[bytes, Any]]:
    """Bytes and JSON of four objects of every kind."""
    return [(base64.b64decode(row["proto"]), row["json"]) for row in oracle("samples", str(SEED), "4")]


# ---- Go's readers ----------------------------------------------------------------------------------------


def test_protobuf_of_every_kind_becomes_what_go_makes_of_it(samples: list[tuple[bytes, Any]]) -> None:
    assert len({(want["apiVersion"], want["kind"]) for _, want in samples}) > 700
    assert [want["kind"] for raw, want in samples if decode(raw) != want] == []


def test_damaged_protobuf_is_refused_or_means_what_go_reads_in_it(samples: list[tuple[bytes, Any]]) -> None:
    choice = random.Random(SEED)
    small = [raw for raw, _ in samples if 40 < len(raw) < 3000]
    damaged = []
    for _ in range(30_000):
        raw = bytearray(choice.choice(small))
        for _ in range(choice.choice([1, 1, 1, 2, 3])):
            at = choice.randrange(4, len(raw))
            match choice.randrange(4):
                case 0:
                    raw[at] = choice.randrange(256)
                case 1:
                    raw[at] ^= 1 << choice.randrange(8)
                case 2:
                    del raw[at]
                case _:
                    raw.insert(at, choice.randrange(256))
        damaged.append(bytes(raw))
    outcomes: Counter[str] = Counter()
    for raw, go in zip(damaged, oracle("protobuf", lines=damaged), strict=True):
        try:
            ours = decode(raw)
        except BadProtobuf:
            outcomes["refused"] += 1
        else:
            outcomes["same" if ours == go.get("json") else "different"] += 1
    assert outcomes["different"] == 0
    assert outcomes["same"] > 1000
    assert outcomes["refused"] > 2000


def disagreements(documents: list[bytes]) -> tuple[list[bytes], int]:
    """The documents that we accept and Go reads differently, and how many we accept."""
    wrong, accepted = [], 0
    for raw, go in zip(documents, oracle("yaml", lines=documents), strict=True):
        try:
            ours = yaml.parse(raw)
        except yaml.BadYaml:
            continue
        accepted += 1
        # Text, not values: 1 is not 1.0 to the API server's typed readers.
        if "json" not in go or json.dumps(go["json"], sort_keys=True) != json.dumps(ours, sort_keys=True):
            wrong.append(raw)
    return wrong, accepted


def test_plain_yaml_scalars_are_refused_or_what_go_reads() -> None:
    choice = random.Random(SEED)
    letters = "01 79+-._:eExXobBfpinN~ytT,"
    words = ["".join(word) for size in (1, 2, 3) for word in itertools.product(letters, repeat=size)]
    words += ["".join(choice.choices(letters, k=choice.randint(4, 9))) for _ in range(20_000)]
    wrong, accepted = disagreements([f"a: {word}\n".encode() for word in words])
    assert wrong == []
    assert accepted > 10_000


FRAGMENTS = [
    "a: ", "b:\n", "  ", "    ", "- ", "\n", "\n  ", "\n    ", "'q'", '"d\\n"', '"\\u0041"', "|\n", "|-\n", "|+\n", ">\n",
    ">-\n", ">2\n", "|2\n", "text", "two words", "# c", "\t", "{", "}", "[", "]", ", ", ",", ":", ": ", "? ", "'it''s'",
    '"x\n y"', '"x\\\n y"', "é", "\u2028", "\x85", "\ufeff", "---", "...", "--- ", "&a ", "*a", "!!str ", "!t ", "!!int ",
    "<<: ", "1", "1.0", "true", "null", "~", "-", "key", "k1: v1\n", "k2: v2\n", "  k3: v3\n", "%YAML 1.1\n", "@", "`", "|",
    "\x07", "\U0001f600", "x: 'multi\n\n line'\n", "\\", "\r\n", "\r", "'a\tb'", '"\\x41\\e\\N\\_\\L\\P"',
    '"\\ud83d\\ude00"', "- - ", "- a: ", "http://x:80/y", "a#b", "a #b", "key with space: ", '"q": ', "'r': ", '"q":1',
    '{"a":1}', "{a: 1, b: [c]}", "\xa0",
]  # fmt: skip


def test_yaml_of_all_sorts_is_refused_or_what_go_reads() -> None:
    choice = random.Random(SEED)
    documents = []
    for _ in range(30_000):
        text = "".join(choice.choices(FRAGMENTS, k=choice.randint(1, 14)))
        documents.append(("a: " + text if choice.random() < 0.5 else text).encode())
    wrong, accepted = disagreements(documents)
    assert wrong == []
    assert accepted > 2000


TRAPS = [
    "<<", "~", "null", "", "\x85", "\u2028", "\u2029", "\ufeff", "\x7f", "\x80", "\x9f", "\xa0", "\ufffe", "\uffff", "😀",
    "\U0010fffe", "\n", "\t", "\r", "\x00", "\x1b", '"', "\\", "'", ": ", "# ", " #", "- ", "---", "%", "&a", "*a", "!!int",
    "1", "1.0", "true", "yes", "{", "}", "[", "]", ",", "  ", " a", "\n\n x",
]  # fmt: skip


def test_our_json_read_as_yaml_is_the_same_value() -> None:
    choice = random.Random(SEED)

    def text() -> str:
        return "".join(
            choice.choice(TRAPS)
            if choice.random() < 0.6
            else chr(choice.choice([choice.randrange(0x20, 0xD800), choice.randrange(0xE000, 0x110000)]))
            for _ in range(choice.randrange(8))
        )

    def value(depth: int) -> Any:
        match choice.randrange(6 if depth < 5 else 4):
            case 0:
                return choice.choice([0, -1, 2**63 - 1, -(2**63), choice.getrandbits(40), True, False, None])
            case 1:
                return choice.choice(
                    [0.5, -0.25, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, choice.random()]
                )
            case 2 | 3:
                return text()
            case 4:
                return [value(depth + 1) for _ in range(choice.randrange(4))]
            case _:
                return {text(): value(depth + 1) for _ in range(choice.randrange(4))}

    values = [{text(): value(0)} for _ in range(10_000)]
    answers = oracle("yaml", lines=[strict.emit(v) for v in values])
    assert [v for v, go in zip(values, answers, strict=True) if go.get("json") != v] == []


# ---- the API server --------------------------------------------------------------------------------------


class Server:
    """Plain HTTP/1.1 to the API server, with the bytes and headers of one client."""

    def __init__(self, plane: ControlPlane) -> None:
        self._address, self._token = urlsplit(plane.server), plane.admin_token
        self._tls = ssl.create_default_context(cafile=str(plane.ca))

    def send(self, method: str, target: str, media_type: str | None, raw: bytes) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(
            self._address.hostname or "", self._address.port, context=self._tls, timeout=60
        )
        headers = {"Authorization": f"Bearer {self._token}", "Accept": JSON}
        if media_type is not None:
            headers["Content-Type"] = media_type
        connection.request(method, target, raw, headers)
        response = connection.getresponse()
        status, answer = response.status, json.loads(response.read())
        connection.close()
        return status, answer

    def forward(self, method: str, target: str, media_type: str | None, raw: bytes) -> tuple[int, Any]:
        """As the gateway sends it."""
        parsed = parse_target(method, target)
        body = parse_body(parsed.info, method, media_type, None, raw)
        assert body is not None
        return self.send(method, parsed.canonical, body.media_type, body.canonical)


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane) -> Server:
    control_plane.kubectl("create", "namespace", NAMESPACE, check=False)
    control_plane.kubectl("-n", NAMESPACE, "create", "configmap", "stored", "--from-literal=a=b", check=False)
    control_plane.kubectl("-n", NAMESPACE, "create", "serviceaccount", "robot", check=False)
    return Server(control_plane)


NAMESPACE = "bodies"
CHANGES = frozenset(
    {
        "uid",
        "creationTimestamp",
        "time",
        "resourceVersion",
        "clusterIP",
        "clusterIPs",
        "token",
        "expirationTimestamp",
        "nodePort",
    }
)


def stable(value: Any) -> Any:
    """The answer without what differs from one request to the next."""
    if isinstance(value, dict):
        return {name: stable(inner) for name, inner in value.items() if name not in CHANGES}
    return [stable(inner) for inner in value] if isinstance(value, list) else value


TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "nginx:1.27",
                "command": ["sh", "-c", "echo é \u2028 $(X)"],
                "ports": [{"containerPort": 80, "name": "http"}],
                "env": [
                    {"name": "X", "value": ""},
                    {
                        "name": "Z",
                        "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}},
                    },
                ],
                "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": "0.5"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
                "livenessProbe": {"tcpSocket": {"port": 80}},
                "securityContext": {"privileged": False, "runAsUser": 0, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ],
        "volumes": [
            {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}},
            {"name": "c", "configMap": {"name": "c", "items": []}},
        ],
        "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 0, "effect": "NoExecute"}],
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,  # its volume would have a name by chance
    },
}
IN_NAMESPACE = f"/namespaces/{NAMESPACE}"
OBJECTS = [
    ("/api/v1", "pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": TEMPLATE["spec"]}),
    ("/api/v1", "secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "/wA=", "b": ""}, "stringData": {"c": "x"}}),
    ("/api/v1", "configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "annotations": {"a": "\x85\x7f"}}, "data": {"yes": "no", "1": "1"}, "binaryData": {"b": "AAE="}, "immutable": False}),
    ("/api/v1", "services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": 8080}]}}),
    ("/api/v1", "persistentvolumeclaims", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "s"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1.5Gi"}}}}),
    ("/api/v1", "events", {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": NAMESPACE}, "involvedObject": {"namespace": NAMESPACE}, "eventTime": "2024-01-01T00:00:00.000001Z", "action": "a", "type": "Normal", "reason": "r", "reportingComponent": "c/d", "reportingInstance": "i"}),
    ("/api/v1", "serviceaccounts/robot/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"], "expirationSeconds": 700}}),
    ("/apis/apps/v1", "deployments", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}),
    ("/apis/apps/v1", "controllerrevisions", {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 3, "data": {"a": [1, 2.5, None]}}),
    ("/apis/batch/v1", "cronjobs", {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {"schedule": "* * * * *", "suspend": True, "jobTemplate": {"spec": {"template": {"metadata": {}, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}}}}),
    ("/apis/autoscaling/v2", "horizontalpodautoscalers", {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 1, "maxReplicas": 3, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
    ("/apis/rbac.authorization.k8s.io/v1", "roles", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
    ("/apis/policy/v1", "poddisruptionbudgets", {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": {"minAvailable": "50%", "selector": {}}}),
    ("/apis/coordination.k8s.io/v1", "leases", {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "", "renewTime": "2024-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}}),
    ("/apis/networking.k8s.io/v1", "networkpolicies", {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "net"}, "spec": {"podSelector": {}, "ingress": [{}], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": "dns", "protocol": "TCP"}]}]}}),
    ("/apis/authorization.k8s.io/v1", "localsubjectaccessreviews", {"apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview", "metadata": {"namespace": NAMESPACE}, "spec": {"user": "u", "extra": {"scopes": ["a", "b"], "none": []}, "resourceAttributes": {"namespace": NAMESPACE, "verb": "get", "resource": "pods"}}}),
]  # fmt: skip
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"plural": "widgets", "kind": "Widget"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "additionalProperties": {
                                    "type": "number",
                                    "maximum": 2.5,
                                    "minimum": 0,
                                    "multipleOf": 0.5,
                                },
                                "default": {"a": 1.5},
                            },
                            "any": {"x-kubernetes-preserve-unknown-fields": True, "type": "object"},
                            "list": {
                                "type": "array",
                                "items": {"type": "string", "enum": ["a", "b"], "maxLength": 0},
                            },
                        },
                    }
                },
            }
        ],
    },
}
WHOLE = [(f"{prefix}{IN_NAMESPACE}/{resource}?dryRun=All", value) for prefix, resource, value in OBJECTS] + [
    ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All", CRD),
    ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"nonResourceAttributes": {"path": "/x", "verb": "get"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("target", "value"), WHOLE, ids=[value["kind"] for _, value in WHOLE])
def test_the_api_server_answers_what_is_forwarded_as_what_was_sent(
    server: Server, target: str, value: dict[str, Any]
) -> None:
    (encoded,) = oracle("encode", lines=[json.dumps(value).encode()])
    sent = [
        (None, json.dumps(value).encode()),
        (JSON, json.dumps(value, indent=1, ensure_ascii=False).encode()),
        (YAML, pyyaml.safe_dump(value, allow_unicode=False).encode()),
        (PROTOBUF, base64.b64decode(encoded["json"])),
    ]
    for media_type, raw in sent:
        status, direct = server.send("POST", target, media_type, raw)
        assert status in (200, 201), direct["message"]
        forwarded, answer = server.forward("POST", target, media_type, raw)
        assert (forwarded, stable(answer)) == (status, stable(direct))


STORED = f"/api/v1{IN_NAMESPACE}/configmaps/stored"
PATCHES = [
    (MERGE_PATCH, b'{"data": {"a": null, "x": "\xe2\x80\xa8"}}'),
    (f"{MERGE_PATCH}; charset=utf-8", b'{"data": {"x": "y"}}'),
    (STRATEGIC_PATCH, b'{"metadata": {"labels": {"a": "b"}}, "data": {"$patch": "replace", "z": "1"}}'),
    (JSON_PATCH, b'[{"op": "test", "path": "/data/a", "value": "b"}, {"op": "copy", "from": "/data/a", "path": "/data/c"}]'),
    (APPLY_PATCH, b'{"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "\\u2028\\u0085", "n": "1"}}'),
    (APPLY_PATCH, b"apiVersion: v1\nkind: ConfigMap\ndata:\n  x: |\n    one\n    two\n  w: 'yes'\n  z: \"\\u2028\"\n"),
]  # fmt: skip


@pytest.mark.parametrize(("media_type", "raw"), PATCHES)
def test_the_api_server_answers_patches_alike(server: Server, media_type: str, raw: bytes) -> None:
    target = f"{STORED}?dryRun=All&fieldManager=bodies"
    status, direct = server.send("PATCH", target, media_type, raw)
    assert status == 200, direct["message"]
    forwarded, answer = server.forward("PATCH", target, media_type, raw)
    assert (forwarded, stable(answer)) == (status, stable(direct))


def test_a_dry_run_of_a_token_request_gives_a_token(server: Server) -> None:
    """Why `dry_run` says no to it."""
    target = f"/api/v1{IN_NAMESPACE}/serviceaccounts/robot/token?dryRun=All"
    status, answer = server.send("POST", target, JSON, b'{"spec": {"audiences": ["a"]}}')
    assert (status, answer["status"]["token"].count(".")) == (201, 2)


def test_a_delete_with_a_body_ignores_the_dry_run_of_its_query(server: Server) -> None:
    """Why `dry_run` looks at the body."""
    made, deleted = f"/api/v1{IN_NAMESPACE}/configmaps", f"/api/v1{IN_NAMESPACE}/configmaps/doomed"
    assert server.send("POST", made, JSON, b'{"metadata": {"name": "doomed"}}')[0] == 201
    assert server.send("DELETE", f"{deleted}?dryRun=All", JSON, b"")[0] == 200
    assert server.send("DELETE", deleted, JSON, b'{"dryRun": ["All"]}')[0] == 200
    assert server.send("GET", deleted, None, b"")[0] == 200
    assert server.send("DELETE", f"{deleted}?dryRun=All", JSON, b"{}")[0] == 200
    assert server.send("GET", deleted, None, b"")[0] == 404


@pytest.mark.parametrize("name", ["KIND", "\u212aind"])
def test_the_api_server_finds_a_kind_that_is_not_written_so(server: Server, name: str) -> None:
    """Why such a name is refused: it says what the object is, and only one of the server's readers sees it."""
    raw = json.dumps(
        {"kind": "ConfigMap", "apiVersion": "v1", name: "Secret", "metadata": {"name": "x"}}
    ).encode()
    status, answer = server.send("POST", f"/api/v1{IN_NAMESPACE}/configmaps?dryRun=All", JSON, raw)
    assert (status, "Secret" in answer["message"]) == (400, True)
