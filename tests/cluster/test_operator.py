"""From a kubeconfig of a real cluster to an agent that works through the gateway, by the commands alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.conftest import KUBECTL, ControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.processes]


def interlock(directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "interlock.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, cwd=directory, env={**clean, "COLUMNS": "100"},
    )  # fmt: skip


def agent(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KUBECTL), "--kubeconfig", "agent.kubeconfig", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=directory,
        env={"HOME": str(directory), "PATH": os.environ["PATH"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def agents(control_plane: ControlPlane):
    """The namespace that `init` tells of, with a service account."""
    control_plane.kubectl("create", "namespace", "interlock-agents")
    control_plane.kubectl("create", "serviceaccount", "agent", "-n", "interlock-agents")
    yield
    control_plane.kubectl("delete", "namespace", "interlock-agents", "--wait=false")


@pytest.mark.parametrize("credential", ["gateway_kubeconfig", "certificate_kubeconfig"])
def test_the_steps_that_init_prints_lead_to_an_agent_that_works(
    control_plane: ControlPlane, tmp_path: Path, agents: None, credential: str
) -> None:
    said = interlock(tmp_path, "init", "--kubeconfig", getattr(control_plane, credential), "--name", "real")
    assert said.returncode == 0, said.stderr
    assert (
        "kubectl --namespace interlock-agents create token agent --audience interlock > agent.token"
        in said.stdout
    )
    before = interlock(tmp_path, "doctor", "--config", "gateway.yaml")
    assert before.returncode == 0, before.stdout
    assert "warn gateway: does not run" in before.stdout
    with (tmp_path / "log").open("wb") as log:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "up", "--config", "gateway.yaml"],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "ready.json").exists():
            assert gateway.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        token = control_plane.kubectl(
            "create", "token", "agent", "-n", "interlock-agents", "--audience", "interlock"
        ).stdout
        (tmp_path / "agent.token").write_text(token)
        printed = interlock(tmp_path, "kubeconfig", "--config", "gateway.yaml", "--token-file", "agent.token")
        (tmp_path / "agent.kubeconfig").write_text(printed.stdout)
        assert "interlock-agents" in agent(tmp_path, "get", "namespaces").stdout
        assert agent(tmp_path, "get", "pods", "--all-namespaces").returncode == 0
        refused = agent(tmp_path, "get", "secrets", "--all-namespaces")
        assert "rule no-secrets of policy agents denies it" in refused.stderr
        (record,) = [
            json.loads(line)
            for line in interlock(
                tmp_path, "tail", "--config", "gateway.yaml", "--no-follow", "--denied", "--json"
            ).stdout.splitlines()
        ]
        assert record["user_name"] == "real:system:serviceaccount:interlock-agents:agent"
        assert (record["agent"], record["rule"], record["code"]) == ("agent", "no-secrets", 403)
        after = interlock(tmp_path, "doctor", "--config", "gateway.yaml")
        assert (after.returncode, "ok   gateway: runs" in after.stdout) == (0, True), after.stdout
        asked = {event["auditID"] for event in control_plane.audit_events()}
        recorded = json.loads(
            interlock(
                tmp_path,
                "query",
                "SELECT id FROM requests WHERE origin = 'gateway'",
                "-e",
                "evidence",
                "--json",
            ).stdout
        )
        assert recorded
        assert {row["id"] for row in recorded} <= asked
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(30)
