"""Real gateway processes, of both kinds, in front of the demo's API server."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateways import MODES, ROOT, WAYS, Mode, Running, Upstream, Way
from interlock.demo import seed
from interlock.demo.kubernetes import Kubernetes, Options

pytestmark = pytest.mark.processes

SECRETS = [seed.PASSWORD, seed.API_KEY]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with Kubernetes.start(Options(directory=tmp_path_factory.mktemp("cluster"))) as running:
        yield running


def upstream(cluster: Kubernetes, name: str = "demo") -> Upstream:
    return Upstream(name, cluster.server, cluster.ca, f"{{tokenFile: {cluster.options.directory}/token}}")


@pytest.fixture(scope="module", params=MODES)
def gateway(
    request: pytest.FixtureRequest, cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp(request.param), [upstream(cluster)], mode=request.param) as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
def test_kubectl_works_through_it_and_sees_no_secret(gateway: Running, way: Way) -> None:
    token = gateway.session("demo")
    pods = gateway.kubectl("demo", token, "-n", "shop", "get", "pods", way=way)
    assert pods.returncode == 0, pods.stderr
    assert "shop-web" in pods.stdout
    secret = gateway.kubectl("demo", token, "-n", "shop", "get", "secret", "payments", "-o", "yaml", way=way)
    assert secret.returncode == 0, secret.stderr
    assert "bWFza2Vk" in secret.stdout  # base64 of "masked"
    logs = gateway.kubectl("demo", token, "-n", "shop", "logs", "deployment/shop-web", way=way)
    assert "masked-secret-" in logs.stdout
    run = gateway.kubectl("demo", token, "-n", "shop", "exec", "deployment/shop-web", "--", "env", way=way)
    assert "DB_PASSWORD=masked-secret-" in run.stdout, run.stderr
    for text in SECRETS:
        assert text not in pods.stdout + secret.stdout + logs.stdout + run.stdout


def test_a_watch_delivers_before_it_ends(gateway: Running) -> None:
    token = gateway.session("demo")
    watch = gateway.kubectl(
        "demo", token, "-n", "shop", "get", "pods", "-w", "--request-timeout=3s", "--no-headers"
    )
    assert "shop-web" in watch.stdout


def test_the_evidence_has_every_request_that_the_cluster_saw(gateway: Running, cluster: Kubernetes) -> None:
    token = gateway.session("demo")
    gateway.kubectl("demo", token, "-n", "shop", "get", "pods,services,configmaps")
    time.sleep(1)
    seen = {r.audit_id for r in cluster.requests}
    known = {str(row[0]) for row in gateway.evidence("SELECT id FROM live.requests")}
    ours = {r.audit_id for r in cluster.requests if ("authorization", "…") in r.headers}
    assert known & seen
    assert gateway.evidence("SELECT * FROM live.incomplete") == []
    assert gateway.evidence("SELECT * FROM live.promise_3_violations") == []
    assert ours >= known & seen


def test_nothing_on_the_gateways_disk_holds_a_secret_or_a_token(
    gateway: Running, cluster: Kubernetes
) -> None:
    token = gateway.session("demo")
    gateway.kubectl("demo", token, "-n", "shop", "get", "secret", "payments", "-o", "json")
    gateway.kubectl(
        "demo", token, "-n", "shop", "create", "secret", "generic", "made", "--from-literal=k=S3cr3tLiteral"
    )
    upstream_token = (cluster.options.directory / "token").read_text().strip()
    needles = [text.encode() for text in [*SECRETS, token, upstream_token, "S3cr3tLiteral"]]
    for path in gateway.directory.rglob("*"):
        if path.is_file() and not path.name.endswith(".kubeconfig") and "cache" not in str(path):
            content = path.read_bytes()
            for needle in needles:
                assert needle not in content, path


# What may not be reached --------------------------------------------------------------------------------


def proxy_address(gateway: Running) -> tuple[str, int]:
    host, port = gateway.ready["proxy"].removeprefix("http://").rsplit(":", 1)
    return host, int(port)


def say(gateway: Running, data: bytes, *, wait: float = 5.0) -> bytes:
    """Send bytes to the proxy port and read until it closes."""
    with socket.create_connection(proxy_address(gateway), timeout=wait) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        heard = b""
        try:
            while part := connection.recv(65536):
                heard += part
        except (TimeoutError, ConnectionResetError):
            pass
        return heard


def sink() -> socket.socket:
    """A server that must not be reached."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.5)
    return listening


def reached(listening: socket.socket) -> bool:
    try:
        connection, _ = listening.accept()
    except TimeoutError:
        return False
    connection.close()
    return True


@pytest.mark.parametrize(
    "form",
    [
        "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\nGET / HTTP/1.1\r\nHost: {address}\r\n\r\n",
        "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n",
        "GET https://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {address}\r\n\r\n",
        "POST http://{address}/ HTTP/1.1\r\nHost: {address}\r\nContent-Length: 2\r\n\r\nhi",
        "GET http://mitm.it/ HTTP/1.1\r\nHost: mitm.it\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\x05\x01\x00",
    ],
)
def test_the_proxy_leads_nowhere_else(gateway: Running, form: str) -> None:
    with sink() as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        heard = say(gateway, form.replace("{address}", address).encode("latin-1"))
        assert not reached(listening)
        assert b" 200 " not in heard.split(b"\r\n")[0]
        assert b"mitmproxy" not in heard.lower()


def tunnel(gateway: Running, cluster: Kubernetes) -> socket.socket:
    connection = socket.create_connection(proxy_address(gateway), timeout=5)
    address = cluster.server.removeprefix("https://")
    connection.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return connection


@pytest.mark.parametrize(
    "data",
    [
        b"GET /api/v1/namespaces/shop/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x00" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_tunnel_carries_tls_alone(gateway: Running, cluster: Kubernetes, data: bytes) -> None:
    before = len(cluster.requests)
    with tunnel(gateway, cluster) as connection:
        connection.sendall(data)
        heard = b""
        try:
            while part := connection.recv(4096):
                heard += part
        except (TimeoutError, ConnectionResetError):
            pass
    assert b" 200 " not in heard
    assert len(cluster.requests) == before


def within(gateway: Running, cluster: Kubernetes, data: bytes, *, sni: str | None = None) -> bytes:
    """Send bytes in TLS in a tunnel, and read the answer."""
    trust = ssl.create_default_context(cafile=gateway.ready["ca"])
    trust.check_hostname = False
    with tunnel(gateway, cluster) as plain, trust.wrap_socket(plain, server_hostname=sni) as secure:
        secure.sendall(data)
        heard = b""
        try:
            while part := secure.recv(65536):
                heard += part
                if b"\r\n\r\n" in heard and heard.endswith((b"}", b"}\n", b"0\r\n\r\n")):
                    break
        except (TimeoutError, ConnectionResetError, ssl.SSLError):
            pass
        return heard


@pytest.mark.parametrize(
    "head",
    [
        "GET /api/v1/namespaces/shop/secrets HTTP/1.1\r\nHost: elsewhere.example\r\nAuthorization: Bearer {token}\r\n\r\n",
        "GET https://elsewhere.example/api/v1/pods HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n",
        "GET /api/v1/pods HTTP/1.1\r\nHost: {address}\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n",
        "GET /api/v1/pods HTTP/1.1\r\nHost: {address}\r\n\r\n",
        "POST /api/v1/namespaces/shop/configmaps HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /api/v1/pods HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nUpgrade: h2c\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
    ],
)
def test_what_a_request_says_of_its_server_must_agree(
    gateway: Running, cluster: Kubernetes, head: str
) -> None:
    token = gateway.session("demo")
    address = cluster.server.removeprefix("https://")
    before = len(cluster.requests)
    heard = within(gateway, cluster, head.replace("{token}", token).replace("{address}", address).encode())
    assert heard.startswith(b"HTTP/1.1 4"), heard[:200]
    assert b'"kind":"Status"' in heard
    assert len(cluster.requests) == before


def test_another_tls_name_than_connect_named_is_refused(gateway: Running, cluster: Kubernetes) -> None:
    token = gateway.session("demo")
    address = cluster.server.removeprefix("https://")
    head = f"GET /api/v1/pods HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
    before = len(cluster.requests)
    assert within(gateway, cluster, head.encode(), sni="elsewhere.example").startswith(b"HTTP/1.1 421 ")
    assert len(cluster.requests) == before


def test_nothing_listens_on_udp(gateway: Running) -> None:
    ports = {
        int(url.rsplit(":", 1)[1]) for url in (gateway.ready["proxy"], *gateway.ready["reverse"].values())
    }
    udp = {
        int(line.split()[1].split(":")[1], 16)
        for name in ("/proc/net/udp", "/proc/net/udp6")
        for line in Path(name).read_text().splitlines()[1:]
    }
    assert not ports & udp


# Clusters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_certificate_of_another_authority_is_502(tmp_path: Path, cluster: Kubernetes, mode: Mode) -> None:
    with Kubernetes.start(Options(directory=tmp_path / "other")) as other:
        swapped = Upstream("swapped", other.server, cluster.ca, f"{{tokenFile: {tmp_path}/other/token}}")
        right = upstream(cluster)
        with Running(tmp_path / "gateway", [right, swapped], mode=mode) as gateway:
            for name, code in (("demo", 200), ("swapped", 502)):
                token = gateway.session(name)
                with gateway.client(name, token) as client:
                    answer = client.get("/api/v1/namespaces/shop/pods")
                assert answer.status_code == code, answer.text
                assert answer.json()["kind"] == ("PodList" if code == 200 else "Status")
            assert other.requests == []


def test_a_token_of_one_cluster_opens_no_other(tmp_path: Path, cluster: Kubernetes) -> None:
    with Kubernetes.start(Options(directory=tmp_path / "second")) as second:
        both = [upstream(cluster, "first"), upstream(second, "second")]
        with Running(tmp_path / "gateway", both) as gateway:
            token = gateway.session("first")
            with gateway.client("second", token) as client:
                assert client.get("/api/v1/namespaces/shop/pods").status_code == 401
            assert second.requests == []


def test_a_client_certificate_is_the_gateways_credential(tmp_path: Path, cluster: Kubernetes) -> None:
    certificate, key = cluster.client_certificate
    way = f"{{clientCertificate: {certificate}, clientKey: {key}}}"
    with Running(tmp_path, [Upstream("demo", cluster.server, cluster.ca, way)]) as gateway:
        with gateway.client("demo", gateway.session("demo")) as client:
            assert client.get("/api/v1/namespaces/shop/pods").status_code == 200
        assert cluster.requests[-1].user == "interlock-gateway"


def test_a_rotated_token_file_is_read_again(tmp_path: Path, cluster: Kubernetes) -> None:
    good = (cluster.options.directory / "token").read_text()
    token_file = tmp_path / "token"
    token_file.write_text("stale")
    with (
        Running(
            tmp_path / "g", [Upstream("demo", cluster.server, cluster.ca, f"{{tokenFile: {token_file}}}")]
        ) as gateway,
        gateway.client("demo", gateway.session("demo")) as client,
    ):
        assert client.get("/api/v1/namespaces/shop/pods").status_code == 401
        token_file.write_text(good)
        assert client.get("/api/v1/namespaces/shop/pods").status_code == 200


# mitmdump's ways to weaken it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        "ssl_insecure=true",
        "allow_hosts=api.example",
        "ignore_hosts=.*",
        "tcp_hosts=.*",
        "stream_large_bodies=1",
        "mode=socks5",
        "modify_body=/~s/x/y",
        "map_remote=|http://a|http://b",
        "connect_addr=127.0.0.1",
        "save_stream_file=/dev/null",
        "keep_host_header=false",
    ],
)
def test_an_option_that_weakens_it_stops_the_start(tmp_path: Path, cluster: Kubernetes, option: str) -> None:
    running = Running(tmp_path, [upstream(cluster)], mode="mitmdump", arguments=["--set", option])
    if option in ("connect_addr=127.0.0.1", "keep_host_header=false"):
        with running as gateway, gateway.client("demo", gateway.session("demo")) as client:
            assert client.get("/version").status_code == 200
        return
    with pytest.raises(AssertionError, match="did not start"):
        running.__enter__()
    assert "interlock:" in running.log()
    assert "Traceback" not in running.log()


def test_breaking_or_deleting_the_script_changes_nothing(tmp_path: Path, cluster: Kubernetes) -> None:
    script = tmp_path / "gateway.py"
    script.write_text((ROOT / "addons" / "gateway.py").read_text())

    class Copied(Running):
        def command(self) -> list[str]:
            return [str(script) if part.endswith("addons/gateway.py") else part for part in super().command()]

    policy = (
        "apiVersion: interlock/v1\nkind: Policy\nmetadata: {name: none}\n"
        "spec: {subjects: [{group: nobody}], rules: [{name: x, effect: allow, match: {nonResourceURLs: [/version], verbs: [get]}}]}\n"
    )
    with Copied(tmp_path / "g", [upstream(cluster)], mode="mitmdump", policy=policy) as gateway:
        token = gateway.session("demo")
        before = len(cluster.requests)
        for step in (lambda: script.write_text("def broken(:\n"), script.unlink, lambda: None):
            step()
            time.sleep(2.5)
            with gateway.client("demo", token) as client:
                assert client.get("/api/v1/namespaces/shop/secrets/payments").status_code == 403
        assert len(cluster.requests) == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("apiVersion: interlock/v1\nkind: Gateway\nclustres: []\n", "did you mean clusters"),
        ("not: [closed", "gateway.yaml:"),
        (None, "gateway.yaml"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_bad_configuration_does_not_start(
    tmp_path: Path, cluster: Kubernetes, mode: Mode, content: str | None, says: str
) -> None:
    class Bad(Running):
        def write(self) -> None:
            if content is not None:
                (self.directory / "gateway.yaml").write_text(content)

    running = Bad(tmp_path / "g", [upstream(cluster)], mode=mode)
    with pytest.raises(AssertionError, match="did not start"):
        running.__enter__()
    assert says in running.log()
    assert "Traceback" not in running.log()


# Starting, stopping, failing ----------------------------------------------------------------------------


def processes_of(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(directory) in command:
                found.append(command)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_ends_all_its_processes(tmp_path: Path, cluster: Kubernetes, mode: Mode) -> None:
    gateway = Running(tmp_path, [upstream(cluster)], mode=mode)
    gateway.__enter__()
    token = gateway.session("demo")
    config = gateway.kubeconfig("demo", token)
    watch = subprocess.Popen(
        ["kubectl", "--kubeconfig", str(config), "-n", "shop", "get", "pods", "-w"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(2)
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 10
    watch.kill()
    watch.wait()
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "ready.json").exists()
    rows = gateway.evidence("SELECT ended FROM main.responses WHERE ended = 'gateway_stopped'")
    assert rows, "the open watch was not closed in the record"
    reasons = {row[0] for row in gateway.evidence("SELECT reason FROM main.incomplete")}
    assert reasons == {"ended early: gateway_stopped: the gateway was stopped"}


def test_several_workers_share_the_ports_and_the_evidence(tmp_path: Path, cluster: Kubernetes) -> None:
    class Fixed(Running):
        def write(self) -> None:
            super().write()
            file = self.directory / "gateway.yaml"
            text = file.read_text().replace("  reverse: 127.0.0.1:0\n", "")
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            file.write_text(text.replace("proxy: 127.0.0.1:0", f"proxy: 127.0.0.1:{port}"))

    with Fixed(tmp_path, [upstream(cluster)], arguments=["--workers", "2"]) as gateway:
        token = gateway.session("demo")
        for _ in range(16):
            with gateway.client("demo", token) as client:
                assert client.get("/version").status_code == 200
        assert gateway.evidence("SELECT count(*) FROM live.requests WHERE uri = '/version'") == [(16,)]
        rows = gateway.evidence("SELECT DISTINCT gateway_id FROM live.requests WHERE uri = '/version'")
        assert len(rows) == 2
    assert processes_of(tmp_path) == []


def test_killed_it_leaves_no_process_and_says_what_is_incomplete(tmp_path: Path, cluster: Kubernetes) -> None:
    gateway = Running(tmp_path, [upstream(cluster)])
    gateway.__enter__()
    with gateway.client("demo", gateway.session("demo")) as client:
        assert client.get("/version").status_code == 200
    gateway.stop(signal.SIGKILL)
    end = time.monotonic() + 20
    while processes_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes_of(tmp_path) == []
    gateway.start()
    assert gateway.evidence("SELECT count(*) FROM live.requests WHERE uri = '/version'") == [(1,)]
    gateway.stop()


def test_a_policy_is_reloaded_whole_or_not_at_all(tmp_path: Path, cluster: Kubernetes) -> None:
    with Running(tmp_path, [upstream(cluster)]) as gateway:
        token = gateway.session("demo")

        def code() -> int:
            with gateway.client("demo", token) as client:
                return client.get("/api/v1/namespaces/shop/pods").status_code

        assert code() == 200
        policy = tmp_path / "policy.yaml"
        whole = policy.read_text()
        for broken in (
            "",
            "kind: Policy\nspec: {rulse: []}\n",
            whole.replace("effect: allow", "effect: requireApproval"),
        ):
            policy.write_text(broken)
            time.sleep(2.5)
            assert code() == 200, "a broken policy was taken"
        policy.write_text(whole.replace("group: agents", "group: others"))
        end = time.monotonic() + 15
        while code() != 403 and time.monotonic() < end:
            time.sleep(0.2)
        assert code() == 403
        outcomes = {row[0] for row in gateway.evidence("SELECT outcome FROM live.policies")}
        assert outcomes == {"loaded", "refused"}


def test_a_policy_file_that_vanishes_from_a_folder_stays_in_force(
    tmp_path: Path, cluster: Kubernetes
) -> None:
    deny = (
        "apiVersion: interlock/v1\nkind: Policy\nmetadata: {name: deny}\n"
        "spec: {subjects: [{group: agents}], rules: [{name: no-secrets, effect: deny, match: {resources: [secrets]}}]}\n"
    )

    class Folder(Running):
        def write(self) -> None:
            super().write()
            (self.directory / "policies").mkdir()
            (self.directory / "policies" / "allow.yaml").write_text(self.policy)
            (self.directory / "policies" / "deny.yaml").write_text(deny)
            file = self.directory / "gateway.yaml"
            file.write_text(file.read_text().replace("policies: [policy.yaml]", "policies: [policies]"))

    with (
        Folder(tmp_path, [upstream(cluster)]) as gateway,
        gateway.client("demo", gateway.session("demo")) as client,
    ):
        assert client.get("/api/v1/namespaces/shop/secrets").status_code == 403
        (tmp_path / "policies" / "deny.yaml").unlink()
        time.sleep(2.5)
        assert client.get("/api/v1/namespaces/shop/secrets").status_code == 403
        assert "deny.yaml: gone" in gateway.log()


def test_a_journal_that_cannot_be_written_refuses_and_recovers(tmp_path: Path, cluster: Kubernetes) -> None:
    with Running(tmp_path, [upstream(cluster)]) as gateway:
        token = gateway.session("demo")
        journal = Path(gateway.ready["evidence"]) / "journal"
        with gateway.client("demo", token) as client:
            assert client.get("/version").status_code == 200
            aside = journal.with_name("journal-aside")
            journal.rename(aside)
            journal.write_text("in the way")
            before = len(cluster.requests)
            answer = client.get("/version")
            assert answer.status_code == 503
            assert json.loads(answer.text)["kind"] == "Status"
            assert "retry-after" not in answer.headers
            assert len(cluster.requests) == before
            journal.unlink()
            aside.rename(journal)
            end = time.monotonic() + 20
            while client.get("/version").status_code != 200 and time.monotonic() < end:
                time.sleep(0.2)
            assert client.get("/version").status_code == 200


def test_the_state_database_away_refuses(tmp_path: Path, cluster: Kubernetes) -> None:
    with Running(tmp_path, [upstream(cluster)]) as gateway:
        token = gateway.session("demo")
        with gateway.client("demo", token) as client:
            assert client.get("/version").status_code == 200
            for name in ("state.db", "state.db-wal", "state.db-shm"):
                (tmp_path / name).rename(tmp_path / (name + ".away"))
            time.sleep(1.2)
            before = len(cluster.requests)
            assert client.get("/version").status_code == 503
            assert len(cluster.requests) == before


def exchanged(answer: Any) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    return body


def test_a_token_of_a_wrong_issuer_opens_nothing(gateway: Running) -> None:
    from identity.provider import Provider

    with Provider() as stranger:
        answer = gateway.exchange(stranger.token("ada@example.com", ["agents"]), "demo")
    assert answer.status_code == 400
    assert exchanged(answer)["error"] == "invalid_grant"
