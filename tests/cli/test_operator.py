"""An operator's day, with real processes: the gateway, its console and recorder, kubectl, and the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateways import KUBECTL, Running, Upstream
from identity.provider import Provider
from interlock.demo.kubernetes import Kubernetes, Options

pytestmark = pytest.mark.processes

POLICY = """
apiVersion: interlock/v1
kind: Policy
metadata: {name: agents}
spec:
  subjects: [{group: agents}]
  rules:
  - {name: discovery, effect: allow, match: {nonResourceURLs: ["*"], verbs: [get, head]}}
  - {name: read, effect: allow, match: {namespaces: [shop], resources: [pods, secrets], verbs: [get, list]}}
"""


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    directory = tmp_path_factory.mktemp("operator")
    with Kubernetes.start(Options(directory / "cluster")) as cluster:
        upstreams = [
            Upstream("demo", cluster.server, cluster.ca, f"{{tokenFile: {directory}/cluster/token}}"),
            Upstream("away", "https://127.0.0.1:1", cluster.ca, f"{{tokenFile: {directory}/cluster/token}}"),
        ]
        with Running(directory / "gateway", upstreams, policy=POLICY) as gateway:
            yield SimpleNamespace(gateway=gateway, cluster=cluster, directory=directory)


def interlock(
    day: SimpleNamespace, *arguments: object, columns: int = 100
) -> subprocess.CompletedProcess[str]:
    """A command, with no secret in what it says."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    environment = {
        **clean,
        "INTERLOCK_CONFIG": str(day.gateway.directory / "gateway.yaml"),
        "COLUMNS": str(columns),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "interlock.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=day.directory,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr
    assert day.cluster.token not in ran.stdout + ran.stderr
    return ran


@pytest.mark.parametrize("way", [(), ("--reverse",)])
def test_the_kubeconfig_that_is_printed_works_with_kubectl(
    day: SimpleNamespace, way: tuple[str, ...]
) -> None:
    token = day.gateway.session("demo")
    (day.directory / "agent.token").write_text(f"{token}\n")
    source = ("--server", day.gateway.ready["console"])
    ran = interlock(day, "kubeconfig", *source, "--cluster", "demo", "--token-file", "agent.token", *way)
    assert ran.returncode == 0, ran.stderr
    assert token not in ran.stdout
    kubeconfig = day.directory / "agent.kubeconfig"
    kubeconfig.write_text(ran.stdout)
    found = subprocess.run(
        [str(KUBECTL), "--kubeconfig", str(kubeconfig), "get", "pods", "-n", "shop"],
        capture_output=True, text=True, timeout=60, check=False,
        env={"HOME": str(day.directory), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert "shop-web" in found.stdout, found.stderr


def test_what_was_decided_is_seen_at_once(day: SimpleNamespace) -> None:
    token = day.gateway.session("demo")
    assert (
        day.gateway.kubectl("demo", token, "get", "secret", "payments", "-n", "shop", "-o", "json").returncode
        == 0
    )
    assert day.gateway.kubectl("demo", token, "delete", "pod", "x", "-n", "shop").returncode == 1
    records = [
        json.loads(line)
        for line in interlock(day, "tail", "--no-follow", "--json", "-n", 5).stdout.splitlines()
    ]
    secret = next(record for record in records if record.get("resource") == "secrets")
    assert (secret["effect"], secret["rule"], secret["code"], secret["masked"] > 0) == (
        "allow",
        "read",
        200,
        True,
    )
    refused = interlock(day, "tail", "--no-follow", "--denied", "-n", 1).stdout
    assert "delete pods shop/x" in refused
    assert "no rule allows it" in refused
    (count,) = json.loads(
        interlock(day, "query", "SELECT count(*) AS n FROM denied WHERE verb = 'delete'", "--json").stdout
    )
    assert count["n"] >= 1


def test_a_token_of_the_wrong_issuer_is_refused_and_told_to_the_operator_alone(day: SimpleNamespace) -> None:
    with Provider() as stranger:
        token = stranger.token("ada@example.com", ["agents"])
        answer = day.gateway.exchange(token, "demo")
    assert answer.status_code == 400
    id = answer.json()["error_id"]
    assert "\n" not in answer.json()["error_description"]
    ran = interlock(day, "doctor", "--id", id)
    assert f"token from issuer '{stranger.issuer}', which is not configured" in ran.stdout
    for text in (answer.text, ran.stdout, day.gateway.log()):
        assert token.split(".")[2] not in text
    assert f"id {id}" in interlock(day, "tail", "--no-follow", "--denied", columns=120).stdout


def test_a_cluster_that_is_away_is_told_to_agent_and_operator(day: SimpleNamespace) -> None:
    with day.gateway.client("away", day.gateway.session("away")) as agent:
        answer = agent.get("/api/v1/namespaces/shop/pods")
    assert answer.status_code == 502
    assert answer.json()["message"].startswith("interlock: the cluster could not be reached")
    ran = interlock(day, "doctor")
    assert ran.returncode == 1
    assert "fail cluster away: https://127.0.0.1:1 refuses the connection" in ran.stdout
    assert "ok   cluster demo: " in ran.stdout
    assert "ok   gateway: runs; console " in ran.stdout
    assert "ok   state: can be read and written" in ran.stdout


def test_a_reader_that_goes_away_ends_a_command_in_silence(day: SimpleNamespace) -> None:
    command = [
        sys.executable,
        "-m",
        "interlock.cli",
        "tail",
        "--evidence",
        day.gateway.ready["evidence"],
        "-n",
        "1000",
    ]
    ran = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1', "-", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.count("\n") == 1
    assert ran.stderr == ""


def test_the_log_of_the_whole_day_holds_no_secret_and_no_traceback(day: SimpleNamespace) -> None:
    log: str = day.gateway.log()
    assert "Traceback" not in log
    assert day.cluster.token not in log
    assert Path(day.gateway.ready["evidence"]).is_dir()
