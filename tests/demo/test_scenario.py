"""The demo's story is set up as it says, and it happens as it says through the real gateway."""

import base64
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
import pytest

from interlock import config
from interlock.demo import scenario, seed
from interlock.demo.kubernetes import Kubernetes
from interlock.demo.scenario import ACTS, Act, Issuer, lay_out
from interlock.policy import load_policies

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def laid(cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway.yaml for the shared cluster."""
    directory = tmp_path_factory.mktemp("gateway") / "new"
    token = cluster.options.directory / "token"
    return lay_out(directory, Issuer(), server=cluster.server, ca=cluster.ca, token=token)


# What is laid out


def test_the_configuration_is_valid_and_complete(laid: Path, cluster: Kubernetes) -> None:
    gateway = config.load(laid)
    assert [str(found.server) for found in gateway.clusters] == [cluster.server]
    assert gateway.identity.oidc[0].jwks is not None, "no network is asked for keys"
    policies = load_policies(gateway.policies, clusters=[scenario.CLUSTER])
    assert re.fullmatch("[0-9a-f]{64}", policies.digest.removeprefix("sha256:"))


def test_the_agents_side_holds_no_cluster_credential(laid: Path, cluster: Kubernetes) -> None:
    for path in laid.parent.iterdir():
        assert cluster.token not in path.read_text()


def test_a_path_with_anything_in_it_is_written_safely(tmp_path: Path, cluster: Kubernetes) -> None:
    odd = tmp_path / 'a "quoted": $dir #x'
    odd.mkdir()
    for name in ("ca.pem", "token"):
        (odd / name).write_bytes((cluster.options.directory / name).read_bytes())
    written = lay_out(tmp_path / "g", Issuer(), server=cluster.server, ca=odd / "ca.pem", token=odd / "token")
    assert config.load(written).clusters[0].credential.token_file == odd / "token"


def test_a_token_verifies_with_the_key_set_and_no_other() -> None:
    issuer = Issuer()
    token = issuer.token(NOW)
    key = jwt.PyJWKSet.from_json(issuer.jwks().decode())["demo"]
    claims = jwt.decode(token, key, ["ES256"], audience="interlock", issuer=scenario.ISSUER)
    assert (claims["email"], claims["groups"]) == (scenario.OWNER, ["agents"])
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(Issuer().token(NOW), key, ["ES256"], audience="interlock")
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(issuer.token(NOW - timedelta(hours=2)), key, ["ES256"], audience="interlock")


def test_the_private_key_stays_inside() -> None:
    issuer = Issuer()
    assert '"d"' not in issuer.jwks().decode()
    assert "key" not in repr(issuer)


# The table of acts


def test_every_act_has_its_own_key_and_feeds_on_an_earlier_one() -> None:
    keys = [act.key for act in ACTS]
    assert len(set(keys)) == len(keys)
    for number, act in enumerate(ACTS):
        assert act.feeds == "" or act.feeds in keys[:number]
        assert (act.code < 300) == (act.outcome != "refused")
    assert set(keys) >= scenario.REACHING


def test_the_story_has_every_outcome() -> None:
    assert {act.outcome for act in ACTS} == {"allowed", "masked", "refused"}


def test_what_is_hidden_is_hidden_in_both_forms() -> None:
    assert seed.PASSWORD in scenario.HIDDEN
    assert base64.b64encode(seed.API_KEY.encode()).decode() in scenario.HIDDEN


@pytest.mark.parametrize(
    ("output", "succeeded", "wrong"),
    [
        ("masked-secret-x shown", True, []),
        ("masked-secret-x", True, ["the output lacks 'shown'"]),
        (f"shown {seed.PASSWORD} {seed.API_KEY}", True, ["the output holds a secret"]),
        ("shown", False, ["it was refused"]),
    ],
)
def test_an_outcome_is_judged(output: str, succeeded: bool, wrong: list[str]) -> None:
    act = replace(ACTS[0], shows=("shown",), outcome="masked")
    assert act.judge(output, succeeded) == wrong


def test_a_refused_act_that_succeeds_is_wrong() -> None:
    act = replace(ACTS[0], shows=(), outcome="refused")
    assert act.judge("", True) == ["it was carried out"]
    assert act.judge("", False) == []


# The story, through the real gateway


@dataclass
class Seat:
    """The agent's: the proxy, the gateway's CA, and a session token."""

    cluster: Kubernetes
    proxy: str
    ca: str
    token: str
    directory: Path

    @property
    def pod(self) -> str:
        pods = next(row for row in self.cluster.api.resources if row.qualified == "pods")
        name: str = self.cluster.api.store.objects(pods, "shop")[1][0]["metadata"]["name"]
        return name

    def kubectl(self, act: Act, stdin: str) -> tuple[str, bool, str]:
        kubeconfig = self.directory / "kubeconfig"
        cluster = {"server": self.cluster.server, "proxy-url": self.proxy, "certificate-authority": self.ca}
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "demo", "cluster": cluster}],
                    "users": [{"name": "agent", "user": {"token": self.token}}],
                    "contexts": [
                        {"name": "demo", "context": {"cluster": "demo", "user": "agent", "namespace": "shop"}}
                    ],
                    "current-context": "demo",
                }
            )
        )
        done = subprocess.run(
            [
                str(Path(sys.prefix) / "bin" / "kubectl"),
                f"--kubeconfig={kubeconfig}",
                f"--cache-dir={self.directory}/cache",
                *(argument.replace("{pod}", self.pod) for argument in act.argv),
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={"HOME": str(self.directory), "PATH": os.environ["PATH"]},
        )
        return done.stdout + done.stderr, done.returncode == 0, done.stdout

    def http(self, act: Act, body: str) -> tuple[str, bool, str]:
        call = act.call
        content = json.dumps(call.body) if call.body is not None else body
        headers = [*call.headers, ("Authorization", f"Bearer {self.token}")]
        if content:
            headers.append(("Content-Type", call.media_type))
        context = ssl.create_default_context(cafile=self.ca)
        with httpx.Client(proxy=self.proxy, verify=context, trust_env=False, timeout=60) as client:
            target = self.cluster.server + call.target.replace("{pod}", self.pod)
            answer = client.request(call.method, target, content=content or None, headers=headers)
        assert answer.status_code == act.code, answer.text
        return answer.text, answer.status_code < 300, answer.text


@pytest.fixture(scope="module")
def seat(laid: Path, cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    issuer = Issuer()
    (laid.parent / "jwks.json").write_bytes(issuer.jwks())
    ready = laid.parent / "ready.json"
    log = laid.parent / "gateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "up", "--config", str(laid)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=laid.parent,
        )
    try:
        deadline = time.monotonic() + 120
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        said = json.loads(ready.read_text())
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": issuer.token(datetime.now(UTC)),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "audience": scenario.CLUSTER,
        }
        answer = httpx.post(f"{said['console']}/oauth2/token", data=form, trust_env=False, timeout=60)
        token = answer.json()["access_token"]
        yield Seat(cluster, said["proxy"], said["ca"], token, tmp_path_factory.mktemp("agent"))
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.processes
@pytest.mark.parametrize("way", ["kubectl", "http"])
def test_the_story_happens_as_told(seat: Seat, way: str) -> None:
    outputs: dict[str, str] = {}
    for act in ACTS:
        before = len(seat.cluster.requests)
        perform = seat.kubectl if way == "kubectl" else seat.http
        shown, succeeded, outputs[act.key] = perform(act, outputs.get(act.feeds, ""))
        assert act.judge(shown, succeeded) == [], (act.key, shown)
        wanted = (act.call.method, act.call.target.replace("{pod}", seat.pod).partition("?")[0])
        reached = wanted in [(r.method, r.target.partition("?")[0]) for r in seat.cluster.requests[before:]]
        assert reached == (act.outcome != "refused" or act.key in scenario.REACHING), act.key
    assert {received.user for received in seat.cluster.requests if received.impersonated_user} == {
        "interlock-gateway"
    }
    assert {received.impersonated_user for received in seat.cluster.requests[1:]} >= {scenario.OWNER}
