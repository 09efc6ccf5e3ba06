"""`interlock init`: from a kubeconfig to files that a gateway starts with, and no credential in them."""

from __future__ import annotations

import base64
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.double import ISSUER, REVIEWS, RSA, TOKEN, ApiDouble
from identity.provider import Provider
from interlock import config
from interlock.cli import init as command
from interlock.cli.errors import Failed
from interlock.cli.init import cluster_name, read_place
from interlock.credential import CredentialError
from interlock.documents import DocumentError
from interlock.policy.files import load_policies


def started(run, api: ApiDouble, tmp_path: Path, *options: object, **kubeconfig: Any):
    path = api.kubeconfig(tmp_path, **kubeconfig)
    return run("init", "--kubeconfig", path, "-o", tmp_path / "gateway", *options)


def test_what_it_writes_is_what_a_gateway_loads(run, api: ApiDouble, tmp_path: Path) -> None:
    ran = started(run, api, tmp_path)
    assert (ran.code, ran.error) == (0, None)
    gateway = config.load(tmp_path / "gateway" / "gateway.yaml")
    (cluster,) = gateway.clusters
    assert (cluster.name, str(cluster.server), cluster.act_as) == ("dev", api.server, "none")
    assert cluster.credential.bearer() == TOKEN
    (provider,) = gateway.identity.oidc
    assert (provider.issuer, provider.audience, provider.username_prefix) == (ISSUER, "interlock", "dev:")
    assert json.loads(provider.jwks) == {"keys": [RSA]}
    assert gateway.sessions.accept_identity_tokens
    policies = load_policies(gateway.policies, clusters=["dev"])
    assert [policy.metadata.name for policy in policies.policies] == ["agents"]
    assert gateway.authority.directory == tmp_path / "gateway" / "certs"
    assert (tmp_path / "gateway" / "certs" / "ca.pem").exists()
    assert (tmp_path / "gateway" / "certs" / "mitmproxy-ca.pem").stat().st_mode & 0o777 == 0o600


def test_no_credential_is_copied(run, api: ApiDouble, tmp_path: Path) -> None:
    ran = started(run, api, tmp_path)
    written = [p.read_bytes() for p in (tmp_path / "gateway").rglob("*") if p.is_file()]
    assert len(written) == 6
    for content in (*written, ran.out.encode(), ran.err.encode()):
        assert TOKEN.encode() not in content
        assert base64.b64encode(TOKEN.encode()) not in content


def test_a_key_beside_the_clusters_certificate_stays_where_it_is(run, api: ApiDouble, tmp_path: Path) -> None:
    both = base64.b64encode(api.authority.key + api.authority.certificate).decode()
    started(run, api, tmp_path, cluster={"certificate-authority-data": both})
    assert (tmp_path / "gateway" / "dev-ca.pem").read_bytes() == api.authority.certificate


def test_it_says_what_was_written_and_what_to_do_next(run, api: ApiDouble, tmp_path: Path) -> None:
    out = started(run, api, tmp_path).out
    for name in ("gateway.yaml", "policy.yaml", "dev-ca.pem", "dev-jwks.json", "certs/ca.pem"):
        assert f"wrote {tmp_path}/gateway/{name}\n" in out
    assert "actAs: none (the cluster's RBAC knows no agents yet" in out
    steps = out[out.index("next:") :].splitlines()[1:]
    assert steps[0] == f"  interlock doctor --config {tmp_path}/gateway/gateway.yaml"
    assert any("create token agent --audience interlock > agent.token" in step for step in steps)


def test_json_has_the_same(run, api: ApiDouble, tmp_path: Path) -> None:
    told = json.loads(started(run, api, tmp_path, "--json").out)
    assert (told["cluster"], told["actAs"]) == ("dev", "none")
    assert told["wrote"][0] == f"{tmp_path}/gateway/gateway.yaml"
    assert told["next"][1] == f"interlock up --config {tmp_path}/gateway/gateway.yaml"


def test_nothing_is_overwritten_unless_it_is_forced(run, api: ApiDouble, tmp_path: Path) -> None:
    started(run, api, tmp_path)
    policy, ca = tmp_path / "gateway" / "policy.yaml", tmp_path / "gateway" / "certs" / "ca.pem"
    policy.write_text("mine")
    authority = ca.read_bytes()
    ran = started(run, api, tmp_path)
    assert isinstance(ran.error, Failed)
    assert "policy.yaml, " in ran.message
    assert "there already; choose another --output, or overwrite with --force" in ran.message
    assert policy.read_text() == "mine"
    assert started(run, api, tmp_path, "--force").code == 0
    assert "kind: Policy" in policy.read_text()
    assert ca.read_bytes() == authority


def test_what_does_not_load_is_not_left_behind(
    run, api: ApiDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "POLICY", "apiVersion: interlock/v1\nkind: Police\n")
    ran = started(run, api, tmp_path)
    assert isinstance(ran.error, DocumentError)
    assert list((tmp_path / "gateway").iterdir()) == []


def test_a_provider_of_ones_own(run, api: ApiDouble, tmp_path: Path) -> None:
    with Provider() as provider:
        ran = started(run, api, tmp_path, "--issuer", provider.issuer, "--audience", "agents-of-dev")
        assert ran.code == 0
    gateway = config.load(tmp_path / "gateway" / "gateway.yaml")
    assert gateway.identity.oidc[0].issuer == provider.issuer
    assert gateway.identity.oidc[0].audience == "agents-of-dev"
    assert gateway.identity.oidc[0].jwks is None
    assert not gateway.sessions.accept_identity_tokens
    assert "create serviceaccount" not in ran.out
    assert "/openid/v1/jwks" not in [asked.path for asked in api.asked]
    assert yaml.safe_load((tmp_path / "gateway" / "policy.yaml").read_text())["spec"]["subjects"] == [
        {"group": "agents"}
    ]


def test_a_provider_that_does_not_answer_yet_is_told(run, api: ApiDouble, tmp_path: Path) -> None:
    ran = started(run, api, tmp_path, "--issuer", "http://127.0.0.1:1")
    assert ran.code == 0
    assert ran.err == "interlock: http://127.0.0.1:1 does not answer yet; sessions open only once it does\n"


def test_an_issuer_that_is_no_url_is_refused(run, api: ApiDouble, tmp_path: Path) -> None:
    ran = started(run, api, tmp_path, "--issuer", "http://idp.example")
    assert ran.message == "--issuer must be https; http is accepted on loopback only"


def test_a_cluster_whose_issuer_can_be_asked_needs_no_copy_of_its_keys(
    run, api: ApiDouble, tmp_path: Path
) -> None:
    with Provider() as provider:
        api.answers["GET", "/.well-known/openid-configuration"] = (200, {"issuer": provider.issuer})
        assert started(run, api, tmp_path).code == 0
    assert not (tmp_path / "gateway" / "dev-jwks.json").exists()
    assert config.load(tmp_path / "gateway" / "gateway.yaml").identity.oidc[0].issuer == provider.issuer


def test_an_issuer_that_answers_as_another_is_not_asked_again(run, api: ApiDouble, tmp_path: Path) -> None:
    with Provider() as provider:
        api.answers["GET", "/.well-known/openid-configuration"] = (200, {"issuer": provider.issuer + "/"})
        assert started(run, api, tmp_path).code == 0
        assert (tmp_path / "gateway" / "dev-jwks.json").exists()
        provider.answers["/.well-known/openid-configuration"] = (200, {}, b"<html>")
        assert started(run, api, tmp_path, "--force").code == 0


@pytest.mark.parametrize(
    ("discovery", "keys", "said"),
    [
        ((403, {}), (200, {"keys": [RSA]}), r"does not tell who issues its tokens \(403, 200\); name your OpenID"),
        ((200, {"issuer": ISSUER}), (404, {}), r"\(200, 404\)"),
        ((200, {}), (200, {"keys": [RSA]}), r"\(200, 200\)"),
        ((200, {"issuer": "kubernetes/serviceaccount"}), (200, {"keys": [RSA]}), "must be a plain https URL|not a URL"),
        ((200, {"issuer": ISSUER}), (200, {"keys": []}), "no key that could verify a signature; name your OpenID"),
    ],
)  # fmt: skip
def test_a_cluster_that_cannot_vouch_for_agents_needs_a_provider(
    run, api: ApiDouble, tmp_path: Path, discovery: tuple[int, Any], keys: tuple[int, Any], said: str
) -> None:
    api.answers["GET", "/.well-known/openid-configuration"] = discovery
    api.answers["GET", "/openid/v1/jwks"] = keys
    ran = started(run, api, tmp_path)
    assert isinstance(ran.error, Failed)
    assert re.search(said, ran.message), ran.message
    assert "--issuer URL --audience NAME" in ran.message
    assert not (tmp_path / "gateway").exists()


@pytest.mark.parametrize(
    ("refused", "acts", "why"),
    [
        ("nothing", "impersonate", "the cluster's RBAC limits group agents"),
        ("users", "none", "the gateway's credential may not impersonate users"),
        ("groups", "none", "the gateway's credential may not impersonate groups"),
        ("pods", "none", "the cluster's RBAC gives group agents no rights yet"),
    ],
)
def test_it_impersonates_where_the_cluster_knows_the_agents(
    run, api: ApiDouble, tmp_path: Path, refused: str, acts: str, why: str
) -> None:
    api.may = lambda attributes: attributes["resource"] != refused
    with Provider() as provider:
        ran = started(run, api, tmp_path, "--issuer", provider.issuer)
    assert config.load(tmp_path / "gateway" / "gateway.yaml").clusters[0].act_as == acts
    assert f"actAs: {acts} ({why}" in ran.out
    assert {asked.path for asked in api.asked if asked.method == "POST"} <= {
        f"{REVIEWS}/selfsubjectaccessreviews",
        f"{REVIEWS}/subjectaccessreviews",
    }


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"insecure-skip-tls-verify": True}, "has insecure-skip-tls-verify; the gateway verifies every API server"),
        ({"tls-server-name": "x"}, "has tls-server-name; "),
        ({"proxy-url": "http://x"}, "has proxy-url; the gateway connects directly"),
        ({"server": "http://127.0.0.1:1"}, "the server of context dev: must be https"),
        ({"server": "https://rancher.example/k8s/clusters/c"}, "the server of context dev: expected an https URL"),
        ({"server": None}, "the server of context dev: expected an https URL"),
        ({"certificate-authority-data": None}, "names no certificate-authority; add the one"),
        ({"certificate-authority-data": "%%"}, "certificate-authority-data of context dev is not base64"),
        ({"certificate-authority-data": "aGk="}, "holds no certificate in PEM"),
    ],
)  # fmt: skip
def test_a_cluster_that_no_gateway_can_serve_is_told(
    run, api: ApiDouble, tmp_path: Path, cluster: dict[str, Any], said: str
) -> None:
    ran = started(run, api, tmp_path, cluster=cluster)
    assert isinstance(ran.error, Failed)
    assert said in ran.message
    assert "\n" not in ran.message
    assert TOKEN not in ran.message
    assert api.asked == []


def test_the_authority_may_be_a_file_beside_the_kubeconfig(run, api: ApiDouble, tmp_path: Path) -> None:
    changes = {"certificate-authority-data": None, "certificate-authority": "ca.pem"}
    ran = started(run, api, tmp_path, cluster=changes)
    assert isinstance(ran.error, FileNotFoundError)
    (tmp_path / "ca.pem").write_bytes(api.authority.certificate)
    assert started(run, api, tmp_path, cluster=changes).code == 0


def test_a_credential_that_a_gateway_cannot_use_is_told(run, api: ApiDouble, tmp_path: Path) -> None:
    ran = started(run, api, tmp_path, user={"exec": {"command": "aws"}})
    assert isinstance(ran.error, CredentialError)
    assert "the gateway runs no programs for credentials" in ran.message


@pytest.mark.parametrize(
    ("code", "answer", "said"),
    [
        (401, {}, "does not take the credential of context dev (401); renew it"),
        (200, {}, "answers 200 to /version, not as a Kubernetes API server does"),
        (404, {}, "answers 404 to /version"),
    ],
)
def test_what_does_not_answer_as_an_api_server_is_told(
    run, api: ApiDouble, tmp_path: Path, code: int, answer: Any, said: str
) -> None:
    api.answers["GET", "/version"] = (code, answer)
    ran = started(run, api, tmp_path)
    assert isinstance(ran.error, Failed)
    assert said in ran.message
    assert not (tmp_path / "gateway").exists()


def test_an_api_server_that_is_away_is_told(run, api: ApiDouble, tmp_path: Path) -> None:
    ran = started(run, api, tmp_path, cluster={"server": "https://127.0.0.1:1"})
    assert "https://127.0.0.1:1 refuses the connection" in ran.message


@pytest.mark.parametrize(
    ("content", "context", "said"),
    [
        ("[]", None, "has no current-context; name one with --context: none"),
        ("contexts: 5", "dev", "has no context dev; name one with --context: none"),
        ("contexts: [5, {name: prod}]", "dev", "has no context dev; name one with --context: prod"),
        ("contexts: [{name: dev, context: {}}]", "dev", "names a cluster that is not in the file"),
        ("current-context: [a]\ncontexts: [{name: dev}]", None, "has no context"),
    ],
)
def test_a_kubeconfig_without_the_context_is_told(
    tmp_path: Path, content: str, context: str | None, said: str
) -> None:
    (tmp_path / "kubeconfig").write_text(content)
    with pytest.raises(Failed, match=said):
        read_place(tmp_path / "kubeconfig", context)


def test_a_kubeconfig_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file or directory"):
        read_place(tmp_path / "nope", None)
    with pytest.raises(Failed, match="KUBECONFIG names several files; name the one to use"):
        read_place(Path("/a:/b"), None)


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ("kubernetes-admin@kubernetes", "kubernetes-admin-kubernetes"),
        ("arn:aws:eks:eu-1:123:cluster/Prod", "arn-aws-eks-eu-1-123-cluster-prod"),
        ("console", "console-cluster"),
        ("...", "cluster"),
        ("a" * 62 + "--b", "a" * 62),
        ("v1.2", "v1.2"),
    ],
)
def test_a_cluster_is_called_after_its_context(context: str, name: str) -> None:
    assert cluster_name(context) == name
    assert config._cluster_name(name) == name


def test_a_name_may_be_given(run, api: ApiDouble, tmp_path: Path) -> None:
    started(run, api, tmp_path, "--name", "Shop Prod")
    assert config.load(tmp_path / "gateway" / "gateway.yaml").clusters[0].name == "shop-prod"


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert command._free(port) in range(port + 1, port + 10)
    monkeypatch.setattr("builtins.range", lambda *_: ())
    assert command._free(8080) == 8080


def test_paths_and_names_that_yaml_would_misread_are_quoted(run, api: ApiDouble, tmp_path: Path) -> None:
    odd = tmp_path / "it's: {a} #b 😀"
    odd.mkdir()
    path = api.kubeconfig(odd)
    assert run("init", "--kubeconfig", path, "-o", odd / "out").code == 0
    assert config.load(odd / "out" / "gateway.yaml").clusters[0].credential.bearer() == TOKEN
