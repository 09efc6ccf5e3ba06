"""Real gateways for tests: either way of running one, in front of any clusters, with identities to use.

with Running(tmp_path, [Upstream("dev", server, ca, token_file)], mode="up") as gateway:
    token = gateway.session("dev", "ada@example.com", ["agents"])
    gateway.kubectl("dev", token, "get", "pods")
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb
import httpx

from identity.provider import Provider

ROOT = Path(__file__).resolve().parent.parent
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
START = 120.0  # seconds; a loaded machine takes its time

Mode = Literal["up", "mitmdump"]
MODES: tuple[Mode, ...] = ("up", "mitmdump")
Way = Literal["proxy", "reverse"]
WAYS: tuple[Way, ...] = ("proxy", "reverse")

ALLOW_ALL = """
apiVersion: interlock/v1
kind: Policy
metadata: {name: all}
spec:
  subjects: [{group: agents}]
  rules:
  - name: plain
    effect: allow
    match: {namespaces: ["*"], apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
  - name: dangerous
    effect: allow
    match:
      namespaces: ["*"]
      apiGroups: ["*"]
      resources: ["*"]
      verbs: ["*"]
      classes: [connect, escalation, destructive, secret-read]
  - name: forward
    effect: allow
    unmasked: true
    match: {namespaces: ["*"], apiGroups: [""], resources: [pods/portforward], verbs: ["*"], classes: [connect]}
  - name: paths
    effect: allow
    match: {nonResourceURLs: ["*"], verbs: ["*"]}
"""


def caching(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which compiled modules are kept: dozens of processes start in these tests."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Upstream:
    """A cluster behind the gateway. credential: YAML of `credential:`."""

    name: str
    server: str
    ca: Path
    credential: str
    act_as: str = "none"


@dataclass
class Running:
    """A gateway that runs, from `with` to its end."""

    directory: Path
    upstreams: Sequence[Upstream]
    mode: Mode = "up"
    policy: str = ALLOW_ALL
    extra: str = ""  # further lines of gateway.yaml
    arguments: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    process: Any = None
    provider: Any = None

    def __enter__(self) -> Running:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.provider is None:
            self.provider = Provider()
            self.provider.__enter__()
        self.write()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def write(self) -> None:
        """The configuration, on free ports."""
        clusters = "".join(
            f"- name: {u.name}\n  server: {u.server}\n  certificateAuthority: {u.ca}\n"
            f"  reverse: 127.0.0.1:0\n  credential: {u.credential}\n  actAs: {u.act_as}\n"
            for u in self.upstreams
        )
        (self.directory / "policy.yaml").write_text(self.policy)
        (self.directory / "gateway.yaml").write_text(
            "apiVersion: interlock/v1\nkind: Gateway\n"
            "listen: {proxy: 127.0.0.1:0, console: 127.0.0.1:0}\n"
            f"clusters:\n{clusters}"
            "identity:\n  oidc: [{issuer: "
            + self.provider.issuer
            + ", audience: interlock, usernameClaim: email, groupsClaim: groups}]\n"
            "policies: [policy.yaml]\nevidence: {directory: evidence}\nauthority: {directory: certs}\n"
            "readyFile: ready.json\n" + self.extra
        )

    def command(self) -> list[str]:
        config = str(self.directory / "gateway.yaml")
        if self.mode == "up":
            return [sys.executable, "-m", "interlock.cli", "up", "--config", config, *self.arguments]
        mitmdump = str(Path(sys.prefix) / "bin" / "mitmdump")
        script = str(ROOT / "addons" / "gateway.py")
        return [mitmdump, "-q", "-s", script, "--set", f"interlock_config={config}", *self.arguments]

    def start(self) -> None:
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        with (self.directory / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                env={**caching(os.environ), "HOME": str(self.directory), **self.environment},
            )
        end = time.monotonic() + START
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                status = self.process.poll()
                how = f"status {status}" if status is not None else f"not within {START:g} s"
                raise AssertionError(f"the gateway did not start ({how}):\n{self.log()}")
            time.sleep(0.05)
        self.ready = json.loads(ready.read_text())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and every process of it; returns its exit status."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"the gateway did not end:\n{self.log()}") from None
            if self.provider is not None and number == signal.SIGTERM:
                self.provider.stop()
        return int(process.returncode)

    def log(self) -> str:
        path = self.directory / "gateway.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Identities

    def session(
        self, cluster: str, user: str = "ada@example.com", groups: Sequence[str] = ("agents",), **claims: Any
    ) -> str:
        """A session token, by token exchange."""
        answer = self.exchange(self.provider.token(user, list(groups), **claims), cluster)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def exchange(self, identity_token: str, audience: str, kind: str = "id_token") -> httpx.Response:
        return httpx.post(
            self.ready["console"] + "/oauth2/token",
            data={
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": identity_token,
                "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind}",
                "audience": audience,
            },
            timeout=30,
        )

    # Clients

    def upstream(self, cluster: str) -> Upstream:
        return next(u for u in self.upstreams if u.name == cluster)

    def kubeconfig(self, cluster: str, token: str, way: Way = "proxy") -> Path:
        """A kubeconfig for an agent, as `interlock kubeconfig` would make it."""
        path = self.directory / f"agent-{cluster}-{way}-{token[-6:]}.kubeconfig"
        server = self.upstream(cluster).server if way == "proxy" else self.ready["reverse"][cluster]
        entry = {"server": server, "certificate-authority": self.ready["ca"]}
        if way == "proxy":
            entry["proxy-url"] = self.ready["proxy"]
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": entry}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return path

    def environment_for(self, cluster: str, token: str, way: Way = "proxy") -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        return {**clean, "KUBECONFIG": str(self.kubeconfig(cluster, token, way)), "HOME": str(self.directory)}

    def kubectl(
        self,
        cluster: str,
        token: str,
        *arguments: str,
        way: Way = "proxy",
        timeout: float = 60,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """kubectl as the agent; its cache is its own."""
        return subprocess.run(
            [str(KUBECTL), f"--cache-dir={self.directory}/cache-{way}", *arguments],
            env=self.environment_for(cluster, token, way),
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            check=False,
        )

    def client(self, cluster: str, token: str | None, way: Way = "proxy", **options: Any) -> httpx.Client:
        """An HTTP client as the agent's."""
        trust = ssl.create_default_context(cafile=self.ready["ca"])
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if way == "proxy":
            return httpx.Client(
                base_url=self.upstream(cluster).server,
                proxy=self.ready["proxy"],
                verify=trust,
                headers=headers,
                timeout=30,
                trust_env=False,
                **options,
            )
        return httpx.Client(
            base_url=self.ready["reverse"][cluster],
            verify=trust,
            headers=headers,
            timeout=30,
            trust_env=False,
            **options,
        )

    # Evidence

    def evidence(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with duckdb.connect(
            str(Path(self.ready["evidence"]) / "evidence.duckdb"), read_only=True
        ) as connection:
            return connection.execute(sql, list(parameters)).fetchall()
