"""The server as a whole: over TLS, in a thread, as a program, and with real kubectl."""

import json
import runpy
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.demo import kubernetes, seed
from interlock.demo.faults import Fault
from interlock.demo.kubernetes import Kubernetes, Options, main

KUBECTL = [str(Path(sys.prefix) / "bin" / "kubectl")]

type Kubectl = Callable[..., subprocess.CompletedProcess[str]]
needs_kubectl = pytest.mark.processes


def _client(cluster: Kubernetes, token: bool = True, **how: Any) -> httpx.Client:
    headers = {"Authorization": f"Bearer {cluster.token}"} if token else {}
    context = ssl.create_default_context(cafile=cluster.ca)
    if "cert" in how:
        context.load_cert_chain(*how["cert"])
    return httpx.Client(base_url=cluster.server, verify=context, headers=headers, trust_env=False)


def _threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("demo-kubernetes")


# Over TLS


def test_it_serves_who_has_the_token(cluster: Kubernetes) -> None:
    with _client(cluster) as client:
        assert client.get("/api/v1/namespaces/shop/secrets").json()["kind"] == "SecretList"
    assert cluster.requests[-1].user == "interlock-gateway"
    with _client(cluster, token=False) as client:
        assert client.get("/api/v1/namespaces/shop/secrets").status_code == 401


def test_it_serves_who_has_the_certificate(cluster: Kubernetes) -> None:
    with _client(cluster, token=False, cert=cluster.client_certificate) as client:
        answer = client.get("/api", headers={"Impersonate-User": "agent-1"})
    assert answer.status_code == 200
    assert cluster.requests[-1].impersonated_user == "agent-1"


def test_a_certificate_of_somebody_else_is_not_taken(cluster: Kubernetes, tmp_path: Path) -> None:
    with (
        Kubernetes.start(Options(tmp_path)) as other,
        _client(cluster, token=False, cert=other.client_certificate) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get("/api")


def test_every_name_is_in_the_certificate(cluster: Kubernetes) -> None:
    for name in ("127.0.0.1", "localhost", "api.interlock.test", "kubernetes.default.svc"):
        with socket.create_connection(("127.0.0.1", cluster.port), 5) as raw:
            context = ssl.create_default_context(cafile=cluster.ca)
            context.set_alpn_protocols(["h2", "http/1.1"])
            with context.wrap_socket(raw, server_hostname=name) as wrapped:
                assert wrapped.selected_alpn_protocol() == "http/1.1"


def test_secrets_on_disk_are_private(cluster: Kubernetes) -> None:
    for name in ("token", "client.key", "server.pem", "kubeconfig"):
        assert stat.S_IMODE((cluster.options.directory / name).stat().st_mode) == 0o600
    assert cluster.token not in json.dumps(cluster.description())


def test_an_impostor_is_not_trusted(tmp_path: Path) -> None:
    with Kubernetes.start(Options(tmp_path, impostor=True)) as running:
        with _client(running) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get("/api")
        assert running.requests == []


def test_two_run_side_by_side_and_both_stop(tmp_path: Path) -> None:
    before = _threads()
    with Kubernetes.start(Options(tmp_path / "a")) as one, Kubernetes.start(Options(tmp_path / "b")) as two:
        assert one.port != two.port
        with _client(one) as client:
            assert client.get("/version").status_code == 200
        one.stop()
        with _client(one) as client, pytest.raises(httpx.ConnectError):
            client.get("/version")
        with _client(two) as client:
            assert client.get("/version").status_code == 200
    assert _threads() == before


def test_stopping_ends_open_streams(tmp_path: Path) -> None:
    running = Kubernetes.start(Options(tmp_path, heartbeat=30))
    with (
        _client(running) as client,
        client.stream("GET", "/api/v1/namespaces/shop/secrets?watch=1") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        running.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            next(lines)
    assert [received.ended for received in running.requests] == [True]


def test_a_heartbeat_is_logged_in_every_running_pod(tmp_path: Path) -> None:
    with Kubernetes.start(Options(tmp_path, heartbeat=0.05)) as running, _client(running) as client:
        client.post(
            "/apis/batch/v1/namespaces/shop/jobs",
            json={"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}},
        )
        pods = client.get("/api/v1/namespaces/shop/pods").json()["items"]
        for pod in pods:
            if pod["status"]["phase"] == "Running":
                target = f"/api/v1/namespaces/shop/pods/{pod['metadata']['name']}/log?follow=1&tailLines=0"
                with client.stream("GET", target) as stream:
                    assert next(stream.iter_lines()).startswith("heartbeat ")


def test_more_pods_are_listed_without_being_held(tmp_path: Path) -> None:
    with Kubernetes.start(Options(tmp_path, pods=2000, pod_size=2000)) as running, _client(running) as client:
        answer = client.get("/api/v1/namespaces/bulk/pods")
    assert len(answer.content) > 4_000_000
    assert len(answer.json()["items"]) == 2000


def test_faults_are_set_here_or_in_the_file(cluster: Kubernetes) -> None:
    path = cluster.options.directory / "faults.json"
    with _client(cluster) as client:
        cluster.faults.append(Fault("set-cookie", match="/version"))
        assert "set-cookie" in client.get("/version").headers
        cluster.faults.clear()
        assert "set-cookie" not in client.get("/version").headers
        path.write_text('[{"mode": "redirect", "match": "/version", "times": 1}]')
        assert client.get("/version").status_code == 302
        assert client.get("/version").status_code == 200
        path.write_text('[{"mode": "html", "match": "/version"}]')
        assert client.get("/version").headers["content-type"] == "text/html"
        path.unlink()
        assert client.get("/version").headers["content-type"] == "application/json"


# As a program


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "interlock.demo.kubernetes",
                "--directory",
                str(tmp_path / "d"),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_says_where_it_is_and_ends_when_told(program: Any, number: int) -> None:
    process, said = program("--pods", "10", "--fault", "set-cookie")
    token = Path(said["tokenFile"]).read_text()
    context = ssl.create_default_context(cafile=said["ca"])
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(verify=context, headers=headers, trust_env=False) as client:
        answer = client.get(f"{said['server']}/api/v1/namespaces/bulk/pods")
    assert len(answer.json()["items"]) == 10
    assert "set-cookie" in answer.headers
    arrived = json.loads(Path(said["requests"]).read_text().splitlines()[0])
    assert arrived["target"] == "/api/v1/namespaces/bulk/pods"
    process.send_signal(number)
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


def test_the_program_runs_in_this_process_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`main` on the main thread, told to stop by a signal once it has listened."""

    def stop() -> None:
        deadline = time.monotonic() + 20
        while not (tmp_path / "kubeconfig").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        signal.pthread_kill(main_thread, signal.SIGTERM)

    main_thread = threading.get_ident()
    stopper = threading.Thread(target=stop)
    stopper.start()
    assert main(["--directory", str(tmp_path)]) == 0
    stopper.join()
    assert json.loads(capsys.readouterr().out)["server"].startswith("https://127.0.0.1:")


def test_an_address_that_is_taken_is_said_in_one_line(
    cluster: Kubernetes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--directory", str(tmp_path), "--port", str(cluster.port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"interlock.demo.kubernetes: cannot listen on 127.0.0.1:{cluster.port}: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["--directory", "d", "--fault", "none"], ["--directory", "d", "--port", "x"]]
)
def test_bad_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_thread_that_cannot_listen_leaves_nothing(cluster: Kubernetes, tmp_path: Path) -> None:
    before = _threads()
    with pytest.raises(OSError, match=r"address already in use|attempting to bind"):
        Kubernetes.start(Options(tmp_path, port=cluster.port))
    assert _threads() == before


# With real kubectl


@needs_kubectl
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["version"], "Server Version: v1.36.2+interlock.demo"),
        (["api-resources"], "deployments                deploy       apps/v1"),
        (["get", "pods"], "NAME                        READY   STATUS    RESTARTS   AGE"),
        (["get", "pods", "-o", "wide"], "NOMINATED NODE"),
        (["get", "all"], "deployment.apps/shop-web"),
        (["get", "secrets", "-o", "yaml"], "kind: List"),
        (["get", "secret", "payments", "-o", "json"], '"kind": "Secret"'),
        (["get", "events"], "Started container"),
        (["get", "nodes"], "demo-node-1   Ready    worker"),
        (["get", "--raw", "/readyz"], "ok"),
        (["describe", "pod", "-l", "app=shop-db"], "DB_PASSWORD:       correct-horse"),
        (["describe", "secret", "payments"], "password:  31 bytes"),
        (["describe", "deployment", "shop-web"], "StrategyType"),
        (["logs", "-l", "app=shop-db"], "starting shop 3.1.4"),
        (["logs", "-l", "app=shop-db", "--tail=1", "--timestamps"], "GET /orders/18"),
        (["exec", "deploy/shop-web", "--", "cat", "/etc/payments/password"], seed.PASSWORD),
        (["explain", "pods"], "KIND:       Pod"),
        (["rollout", "status", "deploy/shop-web"], "successfully rolled out"),
        (["wait", "--for=condition=Ready", "pod", "-l", "app=shop-web", "--timeout=10s"], "condition met"),
        (["events"], "Started container"),
    ],
)
def test_kubectl_reads(kubectl: Kubectl, arguments: list[str], shown: str) -> None:
    done = kubectl(*arguments)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert done.stderr == ""


MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: applied}
data: {a: "VALUE"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: applied}
spec:
  replicas: 1
  selector: {matchLabels: {app: applied}}
  template:
    metadata: {labels: {app: applied}}
    spec: {containers: [{name: c, image: "x:VALUE", env: [{name: A, value: b}]}]}
"""


@needs_kubectl
@pytest.mark.parametrize("side", ["client", "server"])
def test_kubectl_applies(kubectl: Kubectl, side: str) -> None:
    flags = ["--server-side"] if side == "server" else []
    for value in ("1", "2"):
        done = kubectl("apply", *flags, "-f", "-", stdin=MANIFEST.replace("VALUE", value))
        assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(kubectl("get", "configmap", "applied", "-o", "json").stdout)
    assert found["data"] == {"a": "2"}
    annotations = found["metadata"].get("annotations", {})
    assert ("kubectl.kubernetes.io/last-applied-configuration" in annotations) is (side == "client")
    assert kubectl("diff", "-f", "-", stdin=MANIFEST.replace("VALUE", "2")).returncode == (
        0 if side == "client" else 1
    )
    assert kubectl("rollout", "status", "deploy/applied").returncode == 0
    done = kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert 'deployment.apps "applied" deleted' in done.stdout
    assert kubectl("get", "pods", "-l", "app=applied").stderr == "No resources found in shop namespace.\n"


@needs_kubectl
def test_kubectl_changes_and_deletes(kubectl: Kubectl) -> None:
    manifest = MANIFEST.replace("VALUE", "1").replace("name: applied", "name: other")
    for arguments in (
        ["create", "-f", "-"],
        ["label", "deploy/other", "x=y"],
        ["annotate", "deploy/other", "x=y"],
        ["scale", "deploy/other", "--replicas=3"],
        ["set", "env", "deploy/other", "NEW=1"],
        ["rollout", "restart", "deploy/other"],
        ["rollout", "undo", "deploy/other"],
        [
            "patch",
            "deploy",
            "other",
            "--type=json",
            '-p=[{"op":"replace","path":"/spec/replicas","value":1}]',
        ],
        ["replace", "--force", "-f", "-"],
        ["run", "once", "--image=x"],
        ["delete", "pod", "once"],
        ["expose", "deploy", "other", "--port=80"],
        ["cordon", "demo-node-1"],
        ["uncordon", "demo-node-1"],
        ["delete", "service,deployment,configmap", "other"],
    ):
        done = kubectl(*arguments, stdin=manifest if "-" in arguments else None)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


@needs_kubectl
def test_kubectl_drains(kubectl: Kubectl) -> None:
    done = kubectl("drain", "demo-node-1", "--force", "--delete-emptydir-data", "--ignore-daemonsets")
    assert "node/demo-node-1 drained" in done.stdout
    assert kubectl("uncordon", "demo-node-1").returncode == 0
    assert kubectl("rollout", "status", "deploy/shop-web").returncode == 0


@needs_kubectl
def test_kubectl_exec_has_channels_and_codes(kubectl: Kubectl) -> None:
    done = kubectl("exec", "deploy/shop-web", "--", "sh", "-c", "echo out; nothing; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert done.stderr == "sh: nothing: not found\ncommand terminated with exit code 3\n"
    assert kubectl("exec", "-i", "deploy/shop-web", "--", "cat", stdin="typed").stdout == "typed"


@needs_kubectl
def test_kubectl_errors_read_as_they_do_on_a_cluster(kubectl: Kubectl) -> None:
    assert kubectl("get", "pod", "none").stderr == 'Error from server (NotFound): pods "none" not found\n'
    assert kubectl("get", "nothings").stderr == 'error: the server doesn\'t have a resource type "nothings"\n'
    done = kubectl("patch", "secret", "payments", "--type=merge", '-p={"data":{"other":"***"}}')
    assert "illegal base64 data" in done.stderr
    assert kubectl("attach", "none").returncode == 1


@needs_kubectl
@pytest.mark.parametrize("what", ["log", "watch"])
def test_kubectl_follows_and_watches(cluster: Kubernetes, tmp_path: Path, what: str) -> None:
    with _client(cluster) as client:
        pod = client.get("/api/v1/namespaces/shop/pods").json()["items"][0]["metadata"]["name"]
        arguments = ["logs", "-f", pod] if what == "log" else ["get", "configmaps", "-w"]
        flag = "follow=true" if what == "log" else "watch=true"
        before = len(cluster.requests)
        with subprocess.Popen(
            [*KUBECTL, f"--kubeconfig={cluster.kubeconfig}", f"--cache-dir={tmp_path}", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            patience = threading.Timer(30, process.kill)
            patience.start()
            while not any(flag in received.target for received in cluster.requests[before:]):
                assert process.poll() is None, "kubectl ended before it opened a stream"
                time.sleep(0.02)
            if what == "log":
                cluster.api.logs.append(("shop", pod, "shop-db"), "seen here")
            else:
                client.post("/api/v1/namespaces/shop/configmaps", json={"metadata": {"name": "seen"}})
            assert process.stdout
            line = next((line for line in process.stdout if line.startswith("seen ")), None)
            patience.cancel()
            process.kill()
    assert line


def test_the_module_is_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["kubernetes", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(kubernetes.__file__), run_name="__main__")
    assert ended.value.code == 0
    assert "--heartbeat SECONDS" in capsys.readouterr().out
