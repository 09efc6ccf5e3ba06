"""What scripts/control-plane promises: pods that run and answer, credentials, an audit log, and no trace of it afterwards."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.conftest import SCRIPT, ControlPlane, describe, run_script

pytestmark = pytest.mark.cluster


def eventually(what: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true value of `what`, asked again and again; fails the test after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := what():
            return value
        time.sleep(0.1)
    return pytest.fail(f"not within {seconds} s: {what}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bears_mark(directory: Path) -> list[str]:
    """Processes, exec's children too, that carry the state directory in their environment."""
    mark = f"INTERLOCK_CONTROL_PLANE={directory}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes().split(b"\0"):
                found.append(environment.parent.name)
        except OSError:  # it ended, or is another user's
            continue
    return found


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"t-{zlib.crc32(request.node.name.encode()):08x}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.fixture
def pod(control_plane: ControlPlane, namespace: str) -> str:
    eventually(
        lambda: not control_plane.kubectl("-n", namespace, "get", "sa", "default", check=False).returncode
    )
    control_plane.kubectl("-n", namespace, "run", "one", "--image=none")
    control_plane.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/one", "--timeout=30s")
    return "one"


def test_a_deployment_runs(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "deployment", "web", "--image=none", "--replicas=3")
    control_plane.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    pods = json.loads(control_plane.kubectl("-n", namespace, "get", "pods", "-o", "json").stdout)["items"]
    assert [p["status"]["phase"] for p in pods] == ["Running"] * 3
    assert {p["spec"]["nodeName"] for p in pods} == {"node-0"}


def test_the_node_renews_its_lease_so_that_pods_stay_ready(control_plane: ControlPlane) -> None:
    def renewed() -> str:
        lease = ("-n", "kube-node-lease", "get", "lease", "node-0", "-o", "jsonpath={.spec.renewTime}")
        return control_plane.kubectl(*lease, check=False).stdout

    first = eventually(renewed)
    assert eventually(lambda: renewed() != first)


def test_a_job_completes(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "job", "once", "--image=none")
    control_plane.kubectl("-n", namespace, "wait", "--for=condition=Complete", "job/once", "--timeout=30s")


def test_logs(control_plane: ControlPlane, namespace: str, pod: str) -> None:
    lines = control_plane.kubectl("-n", namespace, "logs", pod).stdout.splitlines()
    assert lines[:3] == ["starting", "no cache configured, using memory", "listening on :8080"]
    assert control_plane.kubectl("-n", namespace, "logs", pod, "--tail=1").stdout.splitlines() == lines[-1:]


def test_logs_follow(control_plane: ControlPlane, namespace: str, pod: str) -> None:
    follow = control_plane.kubectl_command("-n", namespace, "logs", "-f", "--tail=1", pod)
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        following.stdout.readline()
        with control_plane.pod_log.open("a") as log:
            log.write("2026-01-01T00:00:03.000000000Z stdout F written while followed\n")
        assert following.stdout.readline() == "written while followed\n"
        following.terminate()


def test_exec_is_a_real_process_with_its_output_and_streams(
    control_plane: ControlPlane, namespace: str, pod: str
) -> None:
    command = ("sh", "-c", "read line; echo out $line; echo err >&2")
    done = control_plane.kubectl("-n", namespace, "exec", "-i", pod, "--", *command, stdin="given\n")
    assert (done.stdout, done.stderr) == ("out given\n", "err\n")


def test_the_first_exec_into_a_new_pod_works(control_plane: ControlPlane, namespace: str) -> None:
    eventually(
        lambda: not control_plane.kubectl("-n", namespace, "get", "sa", "default", check=False).returncode
    )
    for number in range(3):
        control_plane.kubectl("-n", namespace, "run", f"new-{number}", "--image=none")
        control_plane.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/new-{number}")
        assert (
            control_plane.kubectl("-n", namespace, "exec", f"new-{number}", "--", "echo", "in").stdout
            == "in\n"
        )


def test_exec_that_fails_fails_kubectl(control_plane: ControlPlane, namespace: str, pod: str) -> None:
    assert control_plane.kubectl("-n", namespace, "exec", pod, "--", "false", check=False).returncode != 0


def test_attach_follows_the_log(control_plane: ControlPlane, namespace: str, pod: str) -> None:
    attach = control_plane.kubectl_command("-n", namespace, "attach", pod)
    with subprocess.Popen(attach, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as attached:
        assert attached.stdout is not None

        def heard() -> bool:
            with control_plane.pod_log.open("a") as log:
                log.write("2026-01-01T00:00:04.000000000Z stdout F written while attached\n")
            readable = select.select([attached.stdout], [], [], 0.2)[0]
            return bool(readable) and attached.stdout.readline() == "written while attached\n"

        eventually(heard)
        attached.terminate()


def test_port_forward_echoes_on_port_7_and_serves_http_on_port_80(
    control_plane: ControlPlane, namespace: str, pod: str
) -> None:
    forward = control_plane.kubectl_command("-n", namespace, "port-forward", f"pod/{pod}", ":7", ":80")
    with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True) as forwarding:
        assert forwarding.stdout is not None
        local = {}
        while len(local) < 2:  # "Forwarding from 127.0.0.1:40001 -> 7"
            words = forwarding.stdout.readline().split()
            if words[2].startswith("127."):
                local[words[4]] = int(words[2].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", local["7"]), timeout=10) as echo:
            echo.sendall(b"there and back\n")
            assert echo.recv(100) == b"there and back\n"
        web = http.client.HTTPConnection("127.0.0.1", local["80"], timeout=10)
        web.request("GET", "/healthz")
        assert web.getresponse().status == 200
        web.close()
        forwarding.terminate()


def test_a_namespace_goes_with_all_that_is_in_it(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "deployment", "web", "--image=none")
    control_plane.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    control_plane.kubectl("delete", "namespace", namespace, "--timeout=50s")
    assert "NotFound" in control_plane.kubectl("get", "namespace", namespace, check=False).stderr


def test_drain_evicts(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "deployment", "web", "--image=none", "--replicas=2")
    control_plane.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")
    try:
        control_plane.kubectl("drain", "node-0", "--force", "--ignore-daemonsets", "--timeout=40s")
    finally:
        control_plane.kubectl("uncordon", "node-0")
    evictions = [
        e
        for e in control_plane.audit_events()
        if e.get("objectRef", {}).get("subresource") == "eviction"
        and e["objectRef"]["namespace"] == namespace
    ]
    assert [e["verb"] for e in evictions] == ["create", "create"]
    control_plane.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")


def test_who_is_who(control_plane: ControlPlane) -> None:
    def user(kubeconfig: Path, *arguments: str) -> tuple[str, list[str]]:
        said = control_plane.kubectl("auth", "whoami", "-o", "json", *arguments, kubeconfig=kubeconfig).stdout
        info = json.loads(said)["status"]["userInfo"]
        return info["username"], info["groups"]

    everyone = "system:authenticated"
    assert user(control_plane.admin_kubeconfig) == ("admin", ["system:masters", everyone])
    assert user(control_plane.certificate_kubeconfig) == ("admin", ["system:masters", everyone])
    assert user(control_plane.gateway_kubeconfig) == ("interlock-gateway", [everyone])
    as_agent = user(control_plane.gateway_kubeconfig, "--as=alice", "--as-group=agents")
    assert as_agent == ("alice", ["agents", everyone])


def ask(
    control_plane: ControlPlane,
    path: str,
    context: ssl.SSLContext,
    headers: dict[str, str],
    name: str = "127.0.0.1",
) -> tuple[int, Any]:
    """GET straight from the API server, with TLS verified for `name`: status and JSON."""
    connection = http.client.HTTPSConnection(name, context=context)
    raw = socket.create_connection(("127.0.0.1", control_plane.ports["apiserver"]), timeout=10)
    connection.sock = context.wrap_socket(raw, server_hostname=name)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "api.interlock.test", "kubernetes.default.svc"])
def test_the_server_certificate_stands_strict_checks_for(control_plane: ControlPlane, name: str) -> None:
    context = ssl.create_default_context(cafile=str(control_plane.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    bearer = {"Authorization": f"Bearer {control_plane.admin_token}"}
    assert ask(control_plane, "/api/v1/nodes/node-0", context, bearer, name)[0] == 200


def test_the_second_authority_has_signed_nothing_that_serves_here(control_plane: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=str(control_plane.second_ca))
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(control_plane, "/version", context, {})


def test_a_client_certificate_of_the_second_authority_is_no_identity(control_plane: ControlPlane) -> None:
    context = ssl.create_default_context(cafile=str(control_plane.ca))
    pki = control_plane.ca.parent
    context.load_cert_chain(pki / "second-admin.crt", pki / "second-admin.key")
    assert ask(control_plane, "/api/v1/nodes", context, {})[0] == 401


def test_the_audit_log_tells_of_every_request(control_plane: ControlPlane, namespace: str) -> None:
    context = ssl.create_default_context(cafile=str(control_plane.ca))
    headers = {
        "Authorization": f"Bearer {control_plane.gateway_token_file.read_text()}",
        "Impersonate-User": "alice",
        "Audit-ID": "2e5a0a02-0000-4000-8000-000000000001",
    }
    assert ask(control_plane, f"/api/v1/namespaces/{namespace}/secrets/none", context, headers)[0] == 403
    (event,) = (e for e in control_plane.audit_events() if e["auditID"] == headers["Audit-ID"])
    assert event["stage"] == "ResponseComplete"
    assert event["user"].get("username") == "interlock-gateway"
    assert event["impersonatedUser"]["username"] == "alice"
    assert event["verb"] == "get"
    assert event["objectRef"]["resource"] == "secrets"
    assert event["objectRef"]["namespace"] == namespace
    assert event["responseStatus"]["code"] == 403


def test_helm_is_built(control_plane: ControlPlane) -> None:
    said = subprocess.run(
        [control_plane.helm, "version", "--short"], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("v4.")


def test_kubectl_finds_a_version_that_it_knows(control_plane: ControlPlane) -> None:
    assert "Server Version: v1.36." in control_plane.kubectl("version").stdout


def test_up_again_changes_nothing(control_plane: ControlPlane) -> None:
    again = run_script("up", "--json", "--dir", str(control_plane.directory))
    assert again.returncode == 0
    assert json.loads(again.stdout)["pids"] == control_plane.pids


def test_kubeconfig_prints_its_path(control_plane: ControlPlane) -> None:
    said = run_script("kubeconfig", "--dir", str(control_plane.directory)).stdout
    assert said == f"{control_plane.admin_kubeconfig}\n"


def test_no_secret_can_be_read_by_others(control_plane: ControlPlane) -> None:
    assert control_plane.directory.stat().st_mode & 0o077 == 0


def test_down_leaves_no_process_and_no_port(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    plane.kubectl("run", "one", "--image=none")
    plane.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=30s")
    with subprocess.Popen(
        plane.kubectl_command("exec", "one", "--", "sleep", "600"), stderr=subprocess.DEVNULL
    ):
        eventually(lambda: len(bears_mark(plane.directory)) > len(plane.pids))  # exec's sleep runs too
        os.kill(plane.pids["kwok"], signal.SIGKILL)
        os.kill(plane.pids["kube-apiserver"], signal.SIGKILL)
        assert run_script("down", "--dir", str(plane.directory)).returncode == 0
    assert not bears_mark(plane.directory)
    assert not [port for port in plane.ports.values() if listens(port)]
    assert not plane.directory.exists()


def test_two_at_once_start_one_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b,ü"
    try:
        up = [str(SCRIPT), "up", "--json", "--dir", str(folder)]
        both = [
            subprocess.Popen(up, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        one, other = (json.loads(process.communicate()[0]) for process in both)
        assert one == other
        assert one["running"]
    finally:
        run_script("down", "--dir", str(folder))
    assert not bears_mark(folder)


def test_up_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with subprocess.Popen([str(SCRIPT), "up", "--dir", str(folder)], stderr=subprocess.PIPE) as starting:
        eventually(lambda: bears_mark(folder))
        starting.terminate()
        assert starting.wait(timeout=60) == 128 + signal.SIGTERM
    assert not bears_mark(folder)


def test_a_port_that_another_took_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = {"apiserver": port, "etcd": 30001, "etcd-peer": 30002, "kubelet": 30003}
        (folder / "control-plane.json").write_text(json.dumps({"ports": free}))
        up = run_script("up", "--dir", str(folder))
    assert up.returncode == 1
    assert f"another program listens on {port}" in one_line(up.stderr)
    assert not bears_mark(folder)


def test_down_needs_no_state_directory(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    shutil.rmtree(plane.directory, ignore_errors=True)
    assert run_script("down", "--dir", str(plane.directory)).returncode == 0
    assert not bears_mark(plane.directory)
    eventually(lambda: not [port for port in plane.ports.values() if listens(port)])


def test_up_recovers_what_was_killed_and_keeps_its_data_and_address(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    for part in ("etcd", "kube-controller-manager"):
        os.kill(plane.pids[part], signal.SIGKILL)
    assert run_script("status", "--dir", str(plane.directory)).returncode == 1
    again = run_script("up", "--dir", str(plane.directory))
    assert again.returncode == 0, again.stderr
    after = describe(plane.directory)
    assert after.server == plane.server
    assert plane.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"
    assert run_script("down", "--keep", "--dir", str(plane.directory)).returncode == 0
    assert not listens(plane.ports["apiserver"])
    assert run_script("up", "--dir", str(plane.directory)).returncode == 0
    assert plane.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"


# ---- where it cannot work: a Go of our own, an empty cache


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without a Go and with nothing built."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("python3", "sh", "env", "sleep", "chmod"):
        (tools / tool).symlink_to(
            subprocess.check_output(
                [
                    "python3",
                    "-c",
                    f"import shutil, sys; print(sys.executable if {tool!r} == 'python3' else shutil.which({tool!r}))",
                ],
                text=True,
            ).strip()
        )
    return {"PATH": str(tools), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def install_go(bare: dict[str, str], version: str, build: str) -> Path:
    """A `go` that says it is `version`, notes each build in a file, and builds by running `build` with $3 the target."""
    tools = Path(bare["PATH"])
    notes = tools / "builds"
    (tools / "go").write_text(
        f"""#!/bin/sh
case $1 in
env) echo {version};;
list) echo {tools}/module;;
build) echo "$3" >> {notes}; {build};;
esac
"""
    )
    (tools / "go").chmod(0o755)
    for stage in ("node/fast/node-a", "node/heartbeat-with-lease/node-b", "pod/fast/pod-c"):
        path = tools / "module/kustomize/stage" / f"{stage}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kind: Stage\n")
    return notes


def one_line(said: str) -> str:
    (line,) = said.splitlines()
    return line


def test_without_go_it_is_not_available_and_says_what_to_do(bare: dict[str, str]) -> None:
    answer = run_script("available", env=bare)
    assert answer.returncode == 1
    assert "Go was not found on PATH" in one_line(answer.stdout)
    assert "install Go 1.26" in answer.stdout
    up = run_script("up", env=bare)
    assert (up.returncode, up.stderr) == (1, f"control-plane: {answer.stdout}")


@pytest.mark.parametrize("version", ["go1.27", "go1.27.1", "go1.25.3", "go1.260", "devel"])
def test_another_go_is_refused(bare: dict[str, str], version: str) -> None:
    install_go(bare, version, "exit 1")
    answer = run_script("available", env=bare)
    assert answer.returncode == 1
    assert f"{version} cannot build this control plane, which needs go1.26.x" in one_line(answer.stdout)


def test_with_go_it_is_available_and_names_what_would_be_built(bare: dict[str, str]) -> None:
    install_go(bare, "go1.26.8", "exit 1")
    answer = run_script("available", env=bare)
    assert answer.returncode == 0
    assert "can be built with go1.26.8" in one_line(answer.stdout)


def test_a_build_that_fails_leaves_nothing_and_says_why(bare: dict[str, str]) -> None:
    install_go(bare, "go1.26.8", "echo no such host >&2; exit 1")
    up = run_script("up", env=bare)
    assert up.returncode == 1
    assert "failed: no such host" in up.stderr.splitlines()[-1]
    assert "Traceback" not in up.stderr
    assert [p.name for p in Path(bare["XDG_CACHE_HOME"], "interlock/control-plane").iterdir()] == ["locks"]


def test_a_build_that_is_stopped_leaves_nothing(bare: dict[str, str]) -> None:
    notes = install_go(bare, "go1.26.8", "exec sleep 600")
    with subprocess.Popen([str(SCRIPT), "build"], env=bare, stderr=subprocess.PIPE) as building:
        eventually(notes.exists)
        building.terminate()
        assert building.wait(timeout=10) == 128 + signal.SIGTERM
    assert [p.name for p in Path(bare["XDG_CACHE_HOME"], "interlock/control-plane").iterdir()] == ["locks"]
    assert run_script("available", env=bare).stdout.startswith("can be built")


def test_down_and_status_need_no_go(bare: dict[str, str]) -> None:
    assert run_script("down", env=bare).returncode == 0
    assert "start it with" in one_line(run_script("status", env=bare).stderr)


def test_two_at_once_build_each_part_once(bare: dict[str, str]) -> None:
    notes = install_go(bare, "go1.26.8", 'sleep 0.1; printf "#!/bin/sh\\nexit 1\\n" > "$3"; chmod +x "$3"')
    both = [
        subprocess.Popen([str(SCRIPT), "up"], env=bare, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert len(notes.read_text().splitlines()) == 7
    assert sum("waiting: another process builds the control plane" in text for text in said) == 1
    # The parts are fakes: it gets as far as running the first one.
    assert all("no certificates" in text for text in said)


def test_what_is_built_needs_no_go(bare: dict[str, str]) -> None:
    install_go(bare, "go1.26.8", 'printf "#!/bin/sh\\nexit 1\\n" > "$3"; chmod +x "$3"')
    assert run_script("build", env=bare).returncode == 0
    Path(bare["PATH"], "go").unlink()
    assert run_script("available", env=bare).stdout == "built\n"


def test_assets_that_lack_a_binary_are_named(bare: dict[str, str], tmp_path: Path) -> None:
    answer = run_script("available", env={**bare, "KUBEBUILDER_ASSETS": str(tmp_path)})
    assert answer.returncode == 1
    assert "has no executable kube-apiserver" in one_line(answer.stdout)


def test_assets_are_used_in_place_of_a_build(bare: dict[str, str], tmp_path: Path) -> None:
    notes = install_go(bare, "go1.26.8", 'printf "#!/bin/sh\\nexit 1\\n" > "$3"; chmod +x "$3"')
    for name in ("kube-apiserver", "etcd"):
        (tmp_path / name).touch(0o755)
    run_script("up", env={**bare, "KUBEBUILDER_ASSETS": str(tmp_path)})
    built = [Path(line).name for line in notes.read_text().splitlines()]
    assert built == ["certificates", "kube-controller-manager", "kube-scheduler", "kwok", "helm"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    up = run_script("up", "--dir", str(tmp_path))
    assert up.returncode == 1
    assert "is not empty and no control plane" in up.stderr.splitlines()[-1]
    assert run_script("down", "--dir", str(tmp_path)).returncode == 0
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("command", ["status", "kubeconfig"])
def test_where_nothing_is_it_says_how_to_start(tmp_path: Path, command: str) -> None:
    answer = run_script(command, "--dir", str(tmp_path / "none"))
    assert answer.returncode == 1
    assert "start it with" in one_line(answer.stderr)


# ---- what docs/testing.md says of it

DOCUMENT = (SCRIPT.parents[1] / "docs" / "testing.md").read_text()


def test_every_key_of_status_is_documented(control_plane: ControlPlane) -> None:
    facts = json.loads(run_script("status", "--json", "--dir", str(control_plane.directory)).stdout)
    assert not [key for key in facts if f"`{key}`" not in DOCUMENT]


def test_every_command_is_documented() -> None:
    helped = run_script("--help").stdout
    commands = re.findall(r"^    (\w+)", helped.partition("COMMAND\n")[2], re.MULTILINE)
    assert "up" in commands
    assert not [command for command in commands if f"scripts/control-plane {command}" not in DOCUMENT]


def test_every_pinned_version_is_documented() -> None:
    for folder, module in (
        ("kubernetes", "k8s.io/kubernetes"),
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kwok", "sigs.k8s.io/kwok"),
        ("helm", "helm.sh/helm/v4"),
    ):
        pins = (SCRIPT.parent / "control-plane.d" / folder / "go.mod").read_text()
        (version,) = re.findall(rf"^\s(?:require )?{re.escape(module)} (v\S+)", pins, re.MULTILINE)
        assert f"`{module}` {version} |" in DOCUMENT
