"""`interlock kubeconfig`: all that an agent's kubectl needs, and no secret."""

from __future__ import annotations

import base64
import json
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.double import TOKEN, ApiDouble
from cli.setups import write
from interlock import authority
from interlock.cli.errors import Failed
from interlock.cli.kubeconfig import Way, _reachable, choose, exchange_command, from_server, render
from interlock.documents import DocumentError

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DEV = {
    "name": "dev",
    "server": "https://api.dev.example:6443",
    "proxy": "http://127.0.0.1:8080",
    "reverse": "https://127.0.0.1:8443",
    "certificateAuthority": PEM,
}
WAY = Way("dev", DEV["server"], DEV["proxy"], DEV["reverse"], PEM, "http://127.0.0.1:8090")


class Console:
    """A console's double: `answer` is what /api/v1/clusters gives."""

    def __init__(self) -> None:
        self.answer: tuple[int, Any] = (200, {"items": [DEV]})
        console = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = console.answer if self.path == "/api/v1/clusters" else (404, {})
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.stop()


def test_a_running_gateway_tells_all_without_a_login(run, console: Console, tmp_path: Path) -> None:
    ran = run(
        "kubeconfig", "--server", console.url, "--cluster", "dev", "--token-file", tmp_path / "agent.token"
    )
    assert ran.code == 0
    assert yaml.safe_load(ran.out) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "dev",
                "cluster": {
                    "server": DEV["server"],
                    "proxy-url": DEV["proxy"],
                    "certificate-authority-data": base64.b64encode(PEM.encode()).decode(),
                },
            }
        ],
        "users": [{"name": "agent", "user": {"tokenFile": str(tmp_path / "agent.token")}}],
        "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "agent"}}],
        "current-context": "dev",
    }
    assert "the Python client ignores proxy-url: set HTTPS_PROXY" in ran.err
    assert f"export HTTPS_PROXY={DEV['proxy']}" in ran.err
    assert "agent.token does not exist yet" in ran.err


def test_the_reverse_listener_is_the_server(run, console: Console) -> None:
    ran = run("kubeconfig", "--server", console.url, "--reverse", "--namespace", "shop")
    config = yaml.safe_load(ran.out)
    assert config["clusters"][0]["cluster"]["server"] == DEV["reverse"]
    assert "proxy-url" not in config["clusters"][0]["cluster"]
    assert config["contexts"][0]["context"]["namespace"] == "shop"
    assert config["users"] == [{"name": "agent", "user": {}}]
    assert "Unset HTTPS_PROXY" in ran.err


def test_without_a_token_file_it_says_how_to_get_a_token(run, console: Console, tmp_path: Path) -> None:
    ran = run("kubeconfig", "--server", console.url)
    assert yaml.safe_load(ran.out)["users"] == [{"name": "agent", "user": {}}]
    assert f"#   curl -sS {console.url}/oauth2/token" in ran.out
    assert "the user entry has no token yet" in ran.err
    (tmp_path / "there").touch()
    assert "exist" not in run("kubeconfig", "--server", console.url, "--token-file", tmp_path / "there").err


def test_a_relative_token_file_is_found_from_wherever_kubectl_runs(
    run, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("kubeconfig", "--server", console.url, "--token-file", "a.token")
    assert yaml.safe_load(ran.out)["users"][0]["user"] == {"tokenFile": str(tmp_path / "a.token")}


def test_the_configuration_is_enough_once_the_authority_is_made(run, tmp_path: Path, api: ApiDouble) -> None:
    config = write(tmp_path, api, proxy="127.0.0.1:18080", reverse="127.0.0.1:18443")
    ran = run("kubeconfig", "--config", config)
    assert isinstance(ran.error, Failed)
    assert "ca.pem: the gateway's certificate cannot be read; start the gateway once" in ran.message
    ca = authority.ensure(tmp_path / "certs")
    cluster = yaml.safe_load(run("kubeconfig", "--config", config).out)["clusters"][0]["cluster"]
    assert cluster["server"] == api.server
    assert cluster["proxy-url"] == "http://127.0.0.1:18080"
    assert base64.b64decode(cluster["certificate-authority-data"]) == ca.read_bytes()
    reverse = yaml.safe_load(run("kubeconfig", "--config", config, "--reverse").out)
    assert reverse["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:18443"


def test_nothing_of_the_clusters_credential_or_of_a_key_is_printed(
    run, tmp_path: Path, api: ApiDouble
) -> None:
    authority.ensure(tmp_path / "certs")
    ran = run("kubeconfig", "--config", write(tmp_path, api, proxy="127.0.0.1:18080"))
    assert ran.code == 0
    said = (
        ran.out
        + ran.err
        + base64.b64decode(
            yaml.safe_load(ran.out)["clusters"][0]["cluster"]["certificate-authority-data"]
        ).decode()
    )
    assert TOKEN not in said
    assert "PRIVATE KEY" not in said


def test_a_port_that_the_system_chose_is_in_the_ready_file_alone(run, tmp_path: Path, api: ApiDouble) -> None:
    authority.ensure(tmp_path / "certs")
    config = write(tmp_path, api, readyFile="ready.json", reverse="127.0.0.1:0")
    for content in (None, "not json", "[]"):
        if content is not None:
            (tmp_path / "ready.json").write_text(content)
        ran = run("kubeconfig", "--config", config)
        assert "the proxy has port 0 and its gateway does not run" in ran.message
    assert (
        "has no reverse listener, or it does not run"
        in run("kubeconfig", "--config", config, "--reverse").message
    )
    ready = {
        "proxy": "http://127.0.0.1:5",
        "reverse": {"dev": "https://127.0.0.1:6"},
        "console": "http://127.0.0.1:7",
    }
    (tmp_path / "ready.json").write_text(json.dumps(ready))
    ran = run("kubeconfig", "--config", config)
    assert yaml.safe_load(ran.out)["clusters"][0]["cluster"]["proxy-url"] == "http://127.0.0.1:5"
    assert "http://127.0.0.1:7/oauth2/token" in ran.out


def test_a_configuration_with_problems_is_told_line_by_line(run, tmp_path: Path, api: ApiDouble) -> None:
    ran = run("kubeconfig", "--config", write(tmp_path, api, clustres=[], stat="x"))
    assert isinstance(ran.error, DocumentError)
    first, second = ran.message.splitlines()
    assert first.endswith("clustres: unknown key; did you mean clusters?")
    assert second.endswith("stat: unknown key; did you mean state?")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "cannot be reached: .*is the gateway up"),
        ("http://gateway.example:8090", "--server must be https; http is accepted on loopback only"),
        ("ftp://127.0.0.1", "--server must be https"),
        ("http://ada:hunter2@127.0.0.1:1", "without user, query or fragment"),
        ("127.0.0.1:8090", "give the console's URL, such as"),
        ("http://[::1", "--server is not a URL"),
    ],
)
def test_what_is_no_console_is_one_line(url: str, said: str) -> None:
    with pytest.raises(Failed, match=said) as caught:
        from_server(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}),
        (200, []),
        (200, {}),
        (200, {"items": 5}),
        (200, b"<html>"),
        (200, b"\xff"),
        (500, {"items": []}),
    ],
)
def test_what_does_not_answer_as_a_console_is_one_line(console: Console, answer: tuple[int, Any]) -> None:
    console.answer = answer
    with pytest.raises(Failed, match="does not answer as a gateway's console"):
        from_server(console.url)


@pytest.mark.parametrize(
    "item",
    [5, {}, {**DEV, "server": 5}, {**DEV, "proxy": 5}, {**DEV, "certificateAuthority": None}],
)
def test_an_answer_of_another_version_is_one_line(console: Console, item: Any) -> None:
    console.answer = (200, {"items": [item]})
    with pytest.raises(Failed, match="in a form that this version does not know"):
        from_server(console.url)


def test_a_private_key_is_never_passed_on(console: Console) -> None:
    console.answer = (200, {"items": [{**DEV, "certificateAuthority": "-----BEGIN PRIVATE KEY-----"}]})
    with pytest.raises(Failed, match="shows a private key"):
        from_server(console.url)


def test_one_of_several_clusters_must_be_named() -> None:
    prod = Way("prod", "https://api.prod.example", None, None, PEM, "")
    assert choose([WAY], None) is WAY
    assert choose([WAY, prod], "prod") is prod
    with pytest.raises(Failed, match="has several clusters; name one with --cluster: dev, prod"):
        choose([WAY, prod], None)
    with pytest.raises(Failed, match=r"no cluster test\\x1b; its clusters: dev, prod"):
        choose([WAY, prod], "test\x1b")
    with pytest.raises(Failed, match="no cluster dev; its clusters: none"):
        choose([], "dev")


@pytest.mark.parametrize(
    ("url", "host", "found"),
    [
        ("http://127.0.0.1:8080", None, "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "gateway.example", "http://127.0.0.1:8080"),
        ("http://0.0.0.0:8080", "gateway.example", "http://gateway.example:8080"),
        ("https://[::]:8443", "2001:db8::1", "https://[2001:db8::1]:8443"),
        ("http://0.0.0.0:8080", "Gateway", "http://gateway:8080"),
    ],
)
def test_an_address_that_means_all_addresses_needs_a_name(url: str, host: str | None, found: str) -> None:
    assert _reachable(url, host) == found


@pytest.mark.parametrize("host", ["a/b", "a@b", "a b", "a:1:x", "", "a\nb", "ä", "127.1", "a]", "[::1]"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(Failed, match="--host: expected a host name or an IP address"):
        _reachable("http://0.0.0.0:8080", host)


def test_all_addresses_without_a_name_are_refused() -> None:
    with pytest.raises(Failed, match="listens on all addresses; give the name"):
        _reachable("http://0.0.0.0:8080", None)


def test_a_hostile_answer_stays_a_string() -> None:
    way = Way("d\nev: {", 'https://x"\nkind: y', None, None, PEM, "http://127.0.0.1:1/$(reboot)\n- x")
    text = render(way, 'http://"\n', reverse=False, token_file=None, namespace='n"\nx: y')
    config = yaml.safe_load(text)
    assert set(config) == {"apiVersion", "kind", "clusters", "users", "contexts", "current-context"}
    assert config["clusters"][0]["cluster"]["server"] == way.server
    assert config["contexts"][0]["context"]["namespace"] == 'n"\nx: y'
    first = "\n".join(line.removesuffix("\\") for line in exchange_command(way)[:1])
    assert shlex.split(first) == ["curl", "-sS", "http://127.0.0.1:1/$(reboot)\n- x/oauth2/token"]
