"""A real control plane for the tests of this folder: `control_plane`, started once for all of them.

In: scripts/control-plane, which builds it at its first run (some minutes, then seconds). Out: an object
that knows where it serves, its credentials and its audit log, and runs kubectl straight at it.
The rule: nothing here goes through the gateway. What it says is what the API server did.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "control-plane"
KUBECTL = Path(sys.executable).parent / "kubectl"


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane. Paths are absolute; tokens are bearer tokens."""

    directory: Path
    server: str  # https://127.0.0.1:PORT
    host_name: str  # also in the server's certificate; no resolver knows it
    ca: Path
    second_ca: Path  # signed nothing that serves here
    admin_kubeconfig: Path
    certificate_kubeconfig: Path  # admin, by client certificate
    gateway_kubeconfig: Path
    admin_token: str
    gateway_token_file: Path  # user interlock-gateway, cluster-admin by RBAC, may impersonate
    client_certificate: Path  # admin
    client_key: Path
    gateway_certificate: Path  # user interlock-gateway
    gateway_key: Path
    audit_log: Path
    pod_log: Path  # what every container logs: append lines in the CRI's format
    helm: Path
    pids: dict[str, int]
    ports: dict[str, int]

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end (60 s at most), as admin or with `kubeconfig`; `check` fails the test unless it exits 0."""
        done = subprocess.run(
            self.kubectl_command(*arguments, kubeconfig=kubeconfig),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done

    def kubectl_command(self, *arguments: str, kubeconfig: Path | None = None) -> list[str]:
        """The argv of such a kubectl, for a test that talks with it while it runs."""
        own = (
            "--kubeconfig",
            str(kubeconfig or self.admin_kubeconfig),
            "--cache-dir",
            str(self.directory / "home/kubectl"),
        )
        return [str(KUBECTL), *own, *arguments]

    def audit_events(self) -> list[dict[str, Any]]:
        """All audit events up to now, oldest first; complete ones, at level Metadata (audit.k8s.io/v1)."""
        text = self.audit_log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def run_script(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run scripts/control-plane to its end."""
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False, **options)


def describe(directory: Path) -> ControlPlane:
    """The control plane that runs in `directory`, as its status tells."""
    facts = json.loads(run_script("status", "--json", "--dir", str(directory)).stdout)
    assert facts["running"], facts["reason"]
    return ControlPlane(
        directory=directory,
        server=facts["server"],
        host_name=facts["host_name"],
        admin_kubeconfig=Path(facts["kubeconfig"]),
        admin_token=Path(facts["admin_token_file"]).read_text(),
        pids=facts["pids"],
        ports=facts["ports"],
        **{
            name: Path(facts[name])
            for name in (
                "ca",
                "second_ca",
                "certificate_kubeconfig",
                "gateway_kubeconfig",
                "gateway_token_file",
                "client_certificate",
                "client_key",
                "gateway_certificate",
                "gateway_key",
                "audit_log",
                "pod_log",
                "helm",
            )
        },
    )


def started(directory: Path) -> Iterator[ControlPlane]:
    """Up, and down at the end whatever happens."""
    try:
        up = run_script("up", "--dir", str(directory))
        if up.returncode:
            pytest.fail(f"the control plane did not start: {up.stderr}", pytrace=False)
        yield describe(directory)
    finally:
        run_script("down", "--dir", str(directory))


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for all tests: leave it as you found it, in namespaces of your own."""
    yield from started(tmp_path_factory.mktemp("control-plane") / "state")


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """One for this test alone, which may break it."""
    yield from started(tmp_path / "state")
