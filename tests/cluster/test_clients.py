"""Other clients than kubectl, clusters side by side, and who the cluster says an agent is.

helm and the Python client go through both gateways and both ways in, to a real API server; and the API server's audit
log says who did what. The forward proxy is reached as agents do it, by HTTPS_PROXY and the cluster's host name, which
no resolver of the agent's knows.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.conftest import ControlPlane, started
from cluster.passage import GATEWAY_USER, Passage, gateways
from gateways import KUBECTL, MODES, WAYS, Mode, Running, Upstream, Way
from interlock.masking.tokens import is_token

pytestmark = [pytest.mark.cluster, pytest.mark.processes]

NS = "clients"
PLANTED = "Cl9-planted-2bQx7"
SEATS = [(mode, way) for mode in MODES for way in WAYS]
AGENT = "ada@example.com"


@pytest.fixture(scope="module")
def passages(
    tmp_path_factory: pytest.TempPathFactory, control_plane: ControlPlane
) -> Iterator[dict[Mode, Passage]]:
    plane = control_plane
    plane.kubectl("create", "namespace", NS)
    plane.kubectl("-n", NS, "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    plane.kubectl("-n", NS, "create", "secret", "generic", "keys", f"--from-literal=password={PLANTED}")
    plane.kubectl("-n", NS, "run", "one", "--image=none")
    plane.kubectl("-n", NS, "wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
    # What the cluster itself lets the agents' group do: look at pods here, and nothing else.
    plane.kubectl("-n", NS, "create", "role", "look", "--verb=get,list,watch", "--resource=pods")
    plane.kubectl("-n", NS, "create", "rolebinding", "look", "--role=look", "--group=agents")
    with gateways(tmp_path_factory.mktemp("clients"), plane) as running:
        yield running
    plane.kubectl("delete", "namespace", NS, "--wait=false")


def environment(passage: Passage, cluster: str, way: Way) -> dict[str, str]:
    """An agent's: its kubeconfig, and for the forward proxy HTTPS_PROXY in place of `proxy-url`."""
    token = passage.token(cluster)
    gateway = passage.gateway
    variables = gateway.environment_for(cluster, token, way)
    if way == "proxy" and cluster == "named":
        config = json.loads(Path(variables["KUBECONFIG"]).read_text())
        del config["clusters"][0]["cluster"]["proxy-url"]
        path = gateway.directory / f"by-environment-{uuid.uuid4().hex[:6]}.kubeconfig"
        path.write_text(json.dumps(config))
        variables |= {"KUBECONFIG": str(path), "HTTPS_PROXY": gateway.ready["proxy"]}
    return variables


# helm -----------------------------------------------------------------------------------------------------

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\nappVersion: '1'\n",
    "values.yaml": "replicas: 1\n",
    "templates/settings.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-settings"}
data: {replicas: "{{ .Values.replicas }}"}
""",
    "templates/web.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-web"}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {containers: [{name: web, image: none}]}
""",
    "templates/keys.yaml": """
{{ if .Values.password }}
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-keys"}
stringData: {password: "{{ .Values.password }}"}
{{ end }}
""",
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chart") / "shop"
    for name, text in CHART.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def helm(plane: ControlPlane, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(plane.helm), "--namespace", NS, *arguments],
        env={**variables, "HELM_NO_PLUGINS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("mode", "way"), SEATS)
def test_helm_installs_lists_and_uninstalls(
    control_plane: ControlPlane, passages: dict[Mode, Passage], chart: Path, mode: Mode, way: Way
) -> None:
    agent = environment(passages[mode], "dev", way)
    direct = {**agent, "KUBECONFIG": str(control_plane.admin_kubeconfig)}
    release = f"{mode}-{way}"
    installed = helm(control_plane, agent, "install", release, str(chart), "--wait", "--timeout=60s")
    assert installed.returncode == 0, installed.stderr
    listed = json.loads(helm(control_plane, agent, "list", "-o", "json").stdout)
    assert (release, "deployed") in [(r["name"], r["status"]) for r in listed]

    # Stored as helm made it: one who comes past the gateway reads all of it.
    seen = json.loads(helm(control_plane, direct, "list", "-o", "json").stdout)
    assert (release, "deployed") in [(r["name"], r["status"]) for r in seen]
    ours = helm(control_plane, agent, "get", "manifest", release)
    theirs = helm(control_plane, direct, "get", "manifest", release)
    assert (ours.returncode, theirs.returncode) == (0, 0)
    assert ours.stdout == theirs.stdout

    gone = helm(control_plane, agent, "uninstall", release, "--timeout=60s")
    assert gone.returncode == 0, gone.stderr
    assert release not in helm(control_plane, direct, "list", "-o", "json").stdout


def test_a_release_with_a_secret_is_stored_whole_and_shown_masked(
    control_plane: ControlPlane, passages: dict[Mode, Passage], chart: Path
) -> None:
    agent = environment(passages["up"], "dev", "proxy")
    direct = {**agent, "KUBECONFIG": str(control_plane.admin_kubeconfig)}
    installed = helm(control_plane, agent, "install", "secretive", str(chart), "--set", f"password={PLANTED}")
    assert installed.returncode == 0, installed.stderr
    ours = helm(control_plane, agent, "get", "all", "secretive")
    theirs = helm(control_plane, direct, "get", "all", "secretive")
    assert PLANTED in theirs.stdout
    assert ours.returncode == 0, ours.stderr
    assert PLANTED not in ours.stdout
    assert "masked-secret-" in ours.stdout
    # What helm would put back is the masked release: refused, so the stored one stays whole.
    spoiled = helm(control_plane, agent, "uninstall", "secretive", "--keep-history", "--timeout=20s")
    assert "masked" in spoiled.stderr
    assert PLANTED in helm(control_plane, direct, "get", "all", "secretive").stdout
    helm(control_plane, direct, "uninstall", "secretive")


# The Python client ----------------------------------------------------------------------------------------

PYTHON = """
import json, os, sys
from kubernetes import client, config, watch
from kubernetes.stream import stream

namespace, proxy = sys.argv[1:]
settings = client.Configuration()
config.load_kube_config(client_configuration=settings)
if proxy:
    settings.proxy = proxy
core = client.CoreV1Api(client.ApiClient(settings))
out = {"pods": [p.metadata.name for p in core.list_namespaced_pod(namespace, field_selector="metadata.name=one").items]}
out["secret"] = core.read_namespaced_secret("keys", namespace).data["password"]
for event in watch.Watch().stream(core.list_namespaced_secret, namespace, field_selector="metadata.name=keys", timeout_seconds=20):
    out["event"] = [event["type"], event["object"].data["password"]]
    break
out["exec"] = stream(core.connect_get_namespaced_pod_exec, "one", namespace, command=["sh", "-c", "echo ran; echo DB_PASSWORD=PLANTED"],
                     stdout=True, stderr=True, stdin=False, tty=False)
out["log"] = core.read_namespaced_pod_log("one", namespace, limit_bytes=9, _preload_content=False).data.decode()
made = core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="py-"), data={"a": "b"}))
out["made"] = made.data
core.delete_namespaced_config_map(made.metadata.name, namespace)
print(json.dumps(out))
""".replace("PLANTED", PLANTED)  # fmt: skip


@pytest.mark.parametrize("by", ["attribute", "environment", "reverse"])
@pytest.mark.parametrize("mode", MODES)
def test_the_python_client(passages: dict[Mode, Passage], tmp_path: Path, mode: Mode, by: str) -> None:
    passage = passages[mode]
    if by == "environment":  # by HTTPS_PROXY, to a host name; acting as itself, which needs rights of its own
        grant = ("-n", NS, "create", "rolebinding", "py", "--clusterrole=admin", f"--user={AGENT}")
        exec_too = (*("-n", NS, "create", "role", "py", "--verb=create,get", "--resource=pods/exec"),)
        passage.plane.kubectl(*grant, check=False)
        passage.plane.kubectl(*exec_too, check=False)
        passage.plane.kubectl(
            "-n", NS, "create", "rolebinding", "py2", "--role=py", f"--user={AGENT}", check=False
        )
    cluster, way = (
        ("named", "proxy") if by == "environment" else ("dev", "proxy" if by == "attribute" else "reverse")
    )
    variables = environment(passage, cluster, way)  # type: ignore[arg-type]
    program = tmp_path / "agent.py"
    program.write_text(textwrap.dedent(PYTHON))
    proxy = passage.gateway.ready["proxy"] if by == "attribute" else ""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), NS, proxy],
        env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if by == "environment":
        for name in ("py", "py2"):
            passage.plane.kubectl("-n", NS, "delete", "rolebinding", name)
    assert done.returncode == 0, done.stderr[-3000:]
    out = json.loads(done.stdout)
    assert out["pods"] == ["one"]
    value = base64.b64decode(out["secret"]).decode()
    assert is_token(value)
    assert out["event"] == ["ADDED", out["secret"]]
    assert out["exec"] == f"ran\nDB_PASSWORD={value}\n"
    assert out["log"] == "starting\n"
    assert out["made"] == {"a": "b"}


# Who the cluster sees -------------------------------------------------------------------------------------


def kubectl(variables: dict[str, str], cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KUBECTL), f"--cache-dir={cache}", "-n", NS, *arguments],
        env=variables, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "way"), SEATS)
def test_impersonating_the_cluster_names_the_agent_and_its_rbac_decides_too(
    passages: dict[Mode, Passage], tmp_path: Path, mode: Mode, way: Way
) -> None:
    passage = passages[mode]
    variables = environment(passage, "named", way)
    seen = kubectl(variables, tmp_path, "get", "pods", "one", "-o", "name")
    assert (seen.returncode, seen.stdout) == (0, "pod/one\n"), seen.stderr
    refused = kubectl(variables, tmp_path, "get", "configmaps")
    assert refused.returncode == 1
    assert f'User "{AGENT}" cannot list resource "configmaps"' in refused.stderr  # the cluster's own words
    whoami = json.loads(kubectl(variables, tmp_path, "auth", "whoami", "-o", "json").stdout)
    assert whoami["status"]["userInfo"]["username"] == AGENT
    assert "agents" in whoami["status"]["userInfo"]["groups"]

    asked = passage.recorded(
        "SELECT q.id, r.code FROM live.requests q JOIN live.responses r ON r.request_id = q.id "
        "WHERE q.cluster = 'named' AND q.resource = 'configmaps' AND q.verb = 'list' AND q.listener = ?",
        [way],
    )
    events = {e["auditID"]: e for e in passage.audited()}
    assert asked
    for id, code in asked:
        event = events[str(id)]
        assert code == event["responseStatus"]["code"] == 403
        assert event["user"].get("username") == GATEWAY_USER
        assert event["impersonatedUser"]["username"] == AGENT
        assert "agents" in event["impersonatedUser"]["groups"]
        assert event["impersonatedUser"]["extra"]["interlock-session"]


@pytest.mark.parametrize("mode", MODES)
def test_acting_as_none_the_cluster_sees_the_gateway(
    passages: dict[Mode, Passage], tmp_path: Path, mode: Mode
) -> None:
    passage = passages[mode]
    answer = passage.door("proxy").send("GET", f"/api/v1/namespaces/{NS}/configmaps")
    assert answer.code == 200
    (event,) = [e for e in passage.audited() if e["auditID"] == answer.headers["audit-id"]]
    assert event["user"].get("username") == GATEWAY_USER
    assert "impersonatedUser" not in event


# Several clusters -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with authorities, credentials and objects of its own."""
    yield from started(tmp_path_factory.mktemp("second") / "state")


@pytest.mark.parametrize("mode", MODES)
def test_two_clusters_at_once(
    tmp_path: Path, control_plane: ControlPlane, second_plane: ControlPlane, mode: Mode
) -> None:
    planes = {"one": control_plane, "two": second_plane}
    begun = {name: plane.audit_log.stat().st_size for name, plane in planes.items()}
    clusters = [
        Upstream("one", control_plane.server, control_plane.ca, f"{{tokenFile: {control_plane.gateway_token_file}}}"),
        Upstream(
            "two", second_plane.server, second_plane.ca,
            f"{{clientCertificate: {second_plane.gateway_certificate}, clientKey: {second_plane.gateway_key}}}",
        ),
    ]  # fmt: skip
    for name, plane in planes.items():
        plane.kubectl("create", "namespace", f"only-{name}", check=False)
    with Running(tmp_path, clusters, mode) as gateway:
        tokens = {name: gateway.session(name) for name in planes}
        for way in WAYS:
            for name in planes:
                with gateway.client(name, tokens[name], way) as client:
                    answer = client.get("/api/v1/namespaces")
                    assert answer.status_code == 200, answer.text
                    names = [item["metadata"]["name"] for item in answer.json()["items"]]
                    other = next(n for n in planes if n != name)
                    assert f"only-{name}" in names
                    assert f"only-{other}" not in names
                with gateway.client(name, tokens[other], way) as client:
                    assert client.get("/api/v1/namespaces").status_code == 401
        recorded: dict[str, set[str]] = {}
        for name in planes:
            rows = gateway.evidence(
                "SELECT q.id FROM live.requests q JOIN live.decisions d ON d.request_id = q.id "
                "WHERE q.cluster = ? AND d.effect = 'allow'",
                [name],
            )
            recorded[name] = {str(id) for (id,) in rows}
    # Each cluster got its own requests, with its own credential, and none of the other's.
    for name, plane in planes.items():
        with plane.audit_log.open("rb") as log:
            log.seek(begun[name])
            events: list[Any] = [json.loads(line) for line in log.read().split(b"\n")[:-1]]
        reached = {e["auditID"] for e in events if e["user"].get("username") == GATEWAY_USER}
        assert len(reached) == 2
        assert recorded[name] == reached


@pytest.mark.parametrize("mode", MODES)
def test_a_cluster_with_the_certificate_of_anothers_authority_is_502(
    tmp_path: Path, control_plane: ControlPlane, mode: Mode
) -> None:
    credential = f"{{tokenFile: {control_plane.gateway_token_file}}}"
    size = control_plane.audit_log.stat().st_size
    wrong = Upstream("wrong", control_plane.server, control_plane.second_ca, credential)
    with Running(tmp_path, [wrong], mode) as gateway:
        token = gateway.session("wrong")
        for way in WAYS:
            with gateway.client("wrong", token, way) as client:
                answer = client.get("/api/v1/namespaces")
                assert answer.status_code == 502
                assert answer.json()["kind"] == "Status"
    with control_plane.audit_log.open("rb") as log:
        log.seek(size)
        assert GATEWAY_USER.encode() not in log.read()


@pytest.mark.parametrize("mode", MODES)
def test_all_that_the_evidence_says_was_let_through_reached_the_cluster(
    passages: dict[Mode, Passage], mode: Mode
) -> None:
    """Also those for which it acted as somebody else."""
    passage = passages[mode]
    assert passage.door("reverse").send("GET", "/version").code == 200
    mine: set[str] = set()
    reached: set[str] = set()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        known = {
            m: {
                str(id)
                for (id,) in p.recorded(
                    "SELECT q.id FROM live.requests q JOIN live.decisions d ON d.request_id = q.id "
                    "WHERE d.effect = 'allow'"
                )
            }
            for m, p in passages.items()
        }
        mine = known[mode]
        begun = max(p.begun for p in passages.values())
        with passage.plane.audit_log.open("rb") as log:
            log.seek(begun)
            events = [json.loads(line) for line in log.read().split(b"\n")[:-1]]
        agents = [e for e in events if e["user"].get("username") == GATEWAY_USER]
        reached = {e["auditID"] for e in agents}
        if mine <= reached:
            break
        time.sleep(0.5)
    assert mine
    assert mine - reached == set()
