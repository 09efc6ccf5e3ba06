"""The gateway's configuration: what DESIGN promises to operators, and everything that cannot be meant."""

from __future__ import annotations

import base64
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.config import (
    Address,
    Cluster,
    Credential,
    Directory,
    Gateway,
    Identity,
    Listen,
    OpenIdProvider,
    Server,
    Sessions,
    _address,
    _server,
    duration,
    load,
)
from interlock.documents import DocumentError
from interlock.identity.oidc import Issuer
from test_credential import CERTIFICATE, KEY, kubeconfig

ROOT = Path(__file__).parent.parent
SECRET = "hunter2"

# The public key of RFC 7515, appendix A.3
KEYS = json.dumps(
    {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "kid": "k",
                "use": "sig",
                "alg": "ES256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }
        ]
    }
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with every file that `minimal` names."""
    (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
    (tmp_path / "c.pem").write_bytes(CERTIFICATE)
    (tmp_path / "k.pem").write_bytes(KEY)
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "policy.yaml").write_text("kind: Policy\n")
    kubeconfig(tmp_path, {"token": SECRET})
    return tmp_path


def minimal(**changes: Any) -> dict[str, Any]:
    """The smallest configuration, with top-level keys replaced, or left out where the change is None."""
    config: dict[str, Any] = {
        "apiVersion": "interlock/v1",
        "kind": "Gateway",
        "clusters": [cluster()],
        "identity": {"oidc": [provider()]},
        "policies": ["policy.yaml"],
    }
    return {k: v for k, v in {**config, **changes}.items() if v is not None}


def cluster(**changes: Any) -> dict[str, Any]:
    config = {
        "name": "dev",
        "server": "https://api.dev.example:6443",
        "certificateAuthority": "ca.pem",
        "credential": {"tokenFile": "token"},
    }
    return {k: v for k, v in {**config, **changes}.items() if v is not None}


def provider(**changes: Any) -> dict[str, Any]:
    return {"issuer": "https://idp.example/realms/main", "audience": "interlock", **changes}


def loaded(directory: Path, config: dict[str, Any]) -> Gateway:
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    return load(path)


def problems(directory: Path, config: dict[str, Any]) -> list[str]:
    """The problems of `config`, without file and place."""
    with pytest.raises(DocumentError) as error:
        loaded(directory, config)
    assert SECRET not in str(error.value)
    lines = str(error.value).splitlines()
    assert len(lines) == len(error.value.problems)
    assert all(p.file == str(directory / "gateway.yaml") and p.line for p in error.value.problems)
    return [f"{problem.key}: {problem.message}" for problem in error.value.problems]


def test_the_smallest_file_has_defaults_beside_it(directory: Path) -> None:
    gateway = loaded(directory, minimal())
    assert gateway.path == directory / "gateway.yaml"
    assert gateway.listen == Listen()
    assert gateway.listen.proxy == Address("127.0.0.1", 8080)
    assert gateway.listen.console == Address("127.0.0.1", 8090)
    assert gateway.evidence.directory == directory / "evidence"
    assert gateway.authority.directory == directory / "certs"
    assert gateway.state == f"sqlite:///{directory}/state.db"
    assert gateway.policies == (directory / "policy.yaml",)
    assert gateway.ready_file is None
    assert gateway.sessions == Sessions()
    assert gateway.sessions.model_dump() == {
        "ttl": timedelta(minutes=15),
        "idle": timedelta(minutes=10),
        "max": timedelta(hours=8),
        "client_address": "any",
        "accept_identity_tokens": False,
    }
    (dev,) = gateway.clusters
    assert dev.act_as == "impersonate"
    assert dev.reverse is None
    assert dev.address == ("api.dev.example", 6443)
    assert dev.host_header == "api.dev.example:6443"
    assert dev.credential.bearer() == SECRET
    assert dev.tls_material().client is None
    (idp,) = gateway.identity.oidc
    assert idp.accepted == Issuer("https://idp.example/realms/main", "interlock")
    assert SECRET not in repr(gateway)


def test_every_key(directory: Path) -> None:
    (directory / "jwks.json").write_text(KEYS)
    (directory / "policies").mkdir()
    gateway = loaded(
        directory,
        minimal(
            listen={"proxy": "0.0.0.0:0", "console": "[::1]:0"},
            clusters=[
                cluster(
                    name="prod.eu-1",
                    server="https://[2001:DB8::1]/",
                    certificateAuthority=None,
                    certificateAuthorityData=base64.b64encode(CERTIFICATE + CERTIFICATE).decode(),
                    reverse="localhost:8443",
                    credential={"clientCertificate": "c.pem", "clientKey": "k.pem"},
                    actAs="none",
                ),
                cluster(credential={"kubeconfig": "admin.kubeconfig", "context": "dev"}),
            ],
            identity={
                "oidc": [
                    provider(
                        usernameClaim="email",
                        groupsClaim="realm_access.roles",
                        usernamePrefix="main:",
                        groupsPrefix="main:",
                        agentClaim="azp",
                        ownerClaim="act.sub",
                        authorizedParties=["cli"],
                        requiredClaims={"repo": "shop", "verified": True, "level": 3},
                        certificateAuthority="ca.pem",
                        jwks="jwks.json",
                    )
                ]
            },
            sessions={
                "ttl": "1h",
                "idle": "1h30m",
                "max": "90m",
                "clientAddress": ["10.0.0.0/8", "::1"],
                "acceptIdentityTokens": True,
            },
            policies=["policies", str(directory / "policy.yaml")],
            evidence={"directory": "../evidence"},
            state="sqlite:///db/../state.db",
            authority={"directory": "ca"},
            readyFile="ready.json",
        ),
    )
    prod, dev = gateway.clusters
    assert gateway.listen.console == Address("::1", 0)
    assert str(gateway.listen.console) == "[::1]:0"
    assert str(gateway.listen.proxy) == "0.0.0.0:0"
    assert not gateway.listen.proxy.is_loopback
    assert prod.reverse == Address("localhost", 8443)
    assert prod.address == ("2001:db8::1", 443)
    assert prod.host_header == "[2001:db8::1]"
    assert str(prod.server) == "https://[2001:db8::1]"
    assert len(prod.authority.certificates) == 2
    material = prod.tls_material()
    assert material.client is not None
    assert material.client[0] == prod.credential.upstream.certificate().chain  # type: ignore[union-attr]
    assert prod.credential.bearer() is None
    assert material.fingerprint != dev.tls_material().fingerprint
    assert dev.credential.bearer() == SECRET
    assert gateway.identity.oidc[0].accepted == Issuer(
        issuer="https://idp.example/realms/main",
        audience="interlock",
        username_claim="email",
        groups_claim="realm_access.roles",
        username_prefix="main:",
        groups_prefix="main:",
        agent_claim="azp",
        owner_claim="act.sub",
        authorized_parties=("cli",),
        required_claims={"repo": "shop", "verified": True, "level": 3},
        certificate_authority=CERTIFICATE,
        jwks=KEYS.encode(),
    )
    assert gateway.sessions.client_address == ("10.0.0.0/8", "::1/128")
    assert gateway.sessions.accept_identity_tokens
    assert gateway.policies == (directory / "policies", directory / "policy.yaml")
    assert gateway.evidence.directory == directory.parent / "evidence"
    assert gateway.state == f"sqlite:///{directory}/state.db"
    assert gateway.authority.directory == directory / "ca"
    assert gateway.ready_file == directory / "ready.json"


def test_relative_paths_hold_wherever_the_gateway_is_started(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(directory, minimal())
    monkeypatch.chdir(directory.parent)
    gateway = load(f"{directory.name}/gateway.yaml")
    assert gateway.evidence.directory == directory / "evidence"
    monkeypatch.setenv("HOME", str(directory))
    home = loaded(directory, minimal(evidence={"directory": "~/e"}))
    assert home.evidence.directory == directory / "e"


def test_postgres_is_passed_on_and_never_shown(directory: Path) -> None:
    url = f"postgresql+psycopg://interlock:{SECRET}@db.example/interlock"
    gateway = loaded(directory, minimal(state=url))
    assert gateway.state == url
    assert SECRET not in repr(gateway)


ADDRESS = "expected an address with a port, such as 127.0.0.1:8080"
SERVER = "expected an https URL without user, path or query, such as https://api.example:6443"
DURATION = "expected a duration such as 15m, 8h or 1h30m (units: h, m, s, ms)"
NOT_BUILT = "is not built yet; this version cannot do it, so it refuses it: remove the key"
ONE_CREDENTIAL = "expected one of: kubeconfig, tokenFile, or clientCertificate with clientKey"
STATE = "expected sqlite:///FILE or postgresql+psycopg://HOST/DATABASE"
NETWORKS = "expected any, same, or a list of networks such as [10.0.0.0/8]"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (minimal(kind="Policy"), "kind: expected one of: Gateway"),
        (minimal(apiVersion="interlock/v2"), "apiVersion: did you mean interlock/v1?"),
        (minimal(clusters=[]), "clusters: must not be empty; leave the key out, or name at least one"),
        (minimal(clusters=None), "clusters: missing; it must be given"),
        (minimal(policies=[]), "policies: must not be empty; leave the key out, or name at least one"),
        (minimal(policies=None), "policies: missing; it must be given"),
        (minimal(identity={"oidc": []}), "identity.oidc: must not be empty; leave the key out, or name at least one"),
        (minimal(sesions={}), "sesions: unknown key; did you mean sessions?"),
        (minimal(masking="masking.yaml"), f"masking: {NOT_BUILT}"),
        (minimal(identity={"oidc": [provider()], "saml": []}), f"identity.saml: {NOT_BUILT}"),
        (minimal(listen={"proxy": "8080"}), f"listen.proxy: {ADDRESS}"),
        (minimal(listen={"proxy": 8080}), f"listen.proxy: {ADDRESS}"),
        (minimal(listen={"proxy": ":8080"}), f"listen.proxy: {ADDRESS}"),
        (minimal(listen={"proxy": "127.0.0.1:65536"}), f"listen.proxy: {ADDRESS}"),
        (minimal(listen={"proxy": "127.0.0.1:08080"}), f"listen.proxy: {ADDRESS}"),
        (minimal(listen={"proxy": "127.0.0.1:x"}), f"listen.proxy: {ADDRESS}"),
        (minimal(listen={"proxy": "::1:8080"}), "listen.proxy: not a host name or IP address (write an IPv6 address in brackets)"),
        (minimal(listen={"proxy": "[::x]:8080"}), "listen.proxy: not an IPv6 address, without zone, between the brackets"),
        (minimal(listen={"proxy": "[fe80::1%eth0]:80"}), "listen.proxy: not an IPv6 address, without zone, between the brackets"),
        (minimal(listen={"proxy": "127.1:8080"}), "listen.proxy: a host whose last part is a number must be an IPv4 address"),
        (minimal(listen={"proxy": "0x7f000001:80"}), "listen.proxy: a host whose last part is a number must be an IPv4 address"),
        (minimal(listen={"proxy": "a b:80"}), "listen.proxy: not a host name or IP address (write an IPv6 address in brackets)"),
        (
            minimal(listen={"console": "0.0.0.0:8090"}),
            "listen.console: TLS on the console is not built yet, and tokens pass here; "
            "use a loopback address such as 127.0.0.1:8090",
        ),
        (
            minimal(listen={"proxy": "127.0.0.1:8090"}),
            "listen.console: the same address as listen.proxy; give each its own port",
        ),
        (
            minimal(clusters=[cluster(reverse="0.0.0.0:8080")]),
            "clusters[0].reverse: the same address as listen.proxy; give each its own port",
        ),
        (
            minimal(clusters=[cluster(reverse="localhost:8080")]),
            "clusters[0].reverse: the same address as listen.proxy; give each its own port",
        ),
        (minimal(clusters=[cluster(name="Dev")]), "clusters[0].name: expected a name in lower-case letters, digits, - and ., at most 63 characters"),
        (minimal(clusters=[cluster(name="console")]), "clusters[0].name: 'console' is the audience of console tokens; choose another name"),
        (minimal(clusters=[cluster(name=7)]), "clusters[0].name: expected a name in lower-case letters, digits, - and ."),
        (minimal(clusters=[cluster(server="http://api.example")]), "clusters[0].server: must be https: the API server is reached over TLS only"),
        *[
            (minimal(clusters=[cluster(server=server)]), f"clusters[0].server: {SERVER}")
            for server in (
                "", f"https://user:{SECRET}@api.example", "https://api.example/k8s", "https://api.example/?",
                "https://api.example#x", "https://api.example:0", "https://api.example:99999", "https://api.example:",
                "https://[::1", "https://api.example\\x", "https://api.example\n",
            )
        ],
        (minimal(clusters=[cluster(server="https://")]), "clusters[0].server: not a host name or IP address (write an IPv6 address in brackets)"),
        (minimal(clusters=[cluster(server="https://api.example:006443")]), "clusters[0].server: not a host name or IP address (write an IPv6 address in brackets)"),
        (minimal(clusters=[cluster(certificateAuthority=None)]), "clusters[0].certificateAuthority: expected one of: certificateAuthority, certificateAuthorityData"),
        (
            minimal(clusters=[cluster(certificateAuthorityData=base64.b64encode(CERTIFICATE).decode())]),
            "clusters[0].certificateAuthority: expected one of: certificateAuthority, certificateAuthorityData",
        ),
        (
            minimal(clusters=[cluster(certificateAuthority=None, certificateAuthorityData="%%%")]),
            "clusters[0].certificateAuthorityData: expected base64 of PEM, as in a kubeconfig",
        ),
        (
            minimal(clusters=[cluster(certificateAuthority=None, certificateAuthorityData="eHh4")]),
            "clusters[0].certificateAuthorityData: the decoded data holds no certificate in PEM (BEGIN CERTIFICATE)",
        ),
        (minimal(clusters=[cluster(actAs="serviceAccount")]), "clusters[0].actAs: serviceAccount is not built yet; use impersonate or none"),
        (minimal(clusters=[cluster(actAs="impersonat")]), "clusters[0].actAs: did you mean impersonate?"),
        (minimal(clusters=[cluster(credential=None)]), "clusters[0].credential: missing; it must be given"),
        (minimal(clusters=[cluster(credential={})]), f"clusters[0].credential: {ONE_CREDENTIAL}"),
        (minimal(clusters=[cluster(credential={"token": SECRET})]), "clusters[0].credential.token: unknown key; did you mean tokenFile?"),
        (
            minimal(clusters=[cluster(credential={"tokenFile": "token", "kubeconfig": "admin.kubeconfig"})]),
            f"clusters[0].credential: {ONE_CREDENTIAL}",
        ),
        (
            minimal(clusters=[cluster(credential={"tokenFile": "token", "clientKey": "k.pem"})]),
            f"clusters[0].credential: {ONE_CREDENTIAL}",
        ),
        (
            minimal(clusters=[cluster(credential={"tokenFile": "token", "context": "dev"})]),
            "clusters[0].credential.context: belongs to kubeconfig; remove it",
        ),
        (
            minimal(clusters=[cluster(credential={"clientKey": "k.pem"})]),
            "clusters[0].credential: clientCertificate and clientKey go together; give both",
        ),
        (
            minimal(clusters=[cluster(server="https://localhost:8080")]),
            "clusters[0].server: leads to the gateway's own listener (listen.proxy); name the API server",
        ),
        (
            minimal(clusters=[cluster(server="https://127.0.0.1:8443", reverse="0.0.0.0:8443")]),
            "clusters[0].server: leads to the gateway's own listener (clusters[0].reverse); name the API server",
        ),
        (minimal(identity={"oidc": [provider(issuer="http://idp.example")]}), "identity.oidc[0].issuer: issuer must be https; http is accepted on loopback only"),
        (minimal(identity={"oidc": [provider(audience="")]}), "identity.oidc[0].audience: expected text, not empty"),
        (
            minimal(identity={"oidc": [provider(requiredClaims={"a": [1]})]}),
            "identity.oidc[0].requiredClaims.a: expected text, a whole number, or true or false",
        ),
        (minimal(identity={"oidc": [provider(groupClaim="x")]}), "identity.oidc[0].groupClaim: unknown key; did you mean groupsClaim?"),
        *[(minimal(sessions={"ttl": ttl}), f"sessions.ttl: {DURATION}") for ttl in (15, "15", "15 m", "1d", "-1m", "1m ", "", "1.m")],
        *[(minimal(sessions={"ttl": ttl}), "sessions.ttl: a duration must be more than 0 and at most a year") for ttl in ("0s", "9000h")],
        (minimal(sessions={"ttl": "9h"}), "sessions.ttl: must not be longer than sessions.max (8:00:00)"),
        (minimal(sessions={"idle": "1h", "max": "30m"}), "sessions.idle: must not be longer than sessions.max (0:30:00)"),
        (minimal(sessions={"clientAddress": "10.0.0.0/8"}), f"sessions.clientAddress: {NETWORKS}"),
        (minimal(sessions={"clientAddress": []}), f"sessions.clientAddress: {NETWORKS}"),
        (minimal(sessions={"clientAddress": ["10.0.0.1/8"]}), f"sessions.clientAddress: {NETWORKS}, each without bits below its prefix"),
        (minimal(sessions={"acceptIdentityTokens": "yes"}), "sessions.acceptIdentityTokens: expected true or false, found text"),
        (minimal(state=f"mysql://a:{SECRET}@b"), f"state: {STATE}"),
        (minimal(state=f"postgresql+psycopg://:{SECRET}@/x"), f"state: {STATE}"),
        (minimal(state="sqlite:///"), "state: sqlite needs a file and nothing else, such as sqlite:///state.db"),
        (minimal(state="sqlite:///:memory:"), "state: sqlite needs a file and nothing else, such as sqlite:///state.db"),
        (minimal(state="sqlite:///a?mode=ro"), "state: sqlite needs a file and nothing else, such as sqlite:///state.db"),
        (minimal(evidence={"directory": 7}), "evidence.directory: expected a path, relative to this file"),
        (minimal(evidence="evidence"), "evidence: expected a mapping of keys to values, found text"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(directory: Path, config: dict[str, Any], expected: str) -> None:
    assert problems(directory, config) == [expected]


def test_paths_that_lead_nowhere(directory: Path) -> None:
    (directory / "empty.pem").write_text("nothing")
    found = problems(
        directory,
        minimal(
            clusters=[
                cluster(certificateAuthority="none.pem", credential={"tokenFile": "none"}),
                cluster(name="b", server="https://b", certificateAuthority="empty.pem"),
            ],
            identity={"oidc": [provider(jwks="none.json")]},
            policies=["policy.yaml", "none.yaml"],
            evidence={"directory": "token"},
            readyFile="none/ready.json",
        ),
    )
    absent = "cannot be read: no such file or directory"
    assert sorted(found) == sorted(
        [
            f"clusters[0].certificateAuthority: {directory}/none.pem {absent}; check the path and its permissions",
            f"clusters[0].credential: {directory}/none: {absent}; the gateway needs it for every request",
            f"clusters[1].certificateAuthority: {directory}/empty.pem holds no certificate in PEM (BEGIN CERTIFICATE)",
            f"identity.oidc[0].jwks: {directory}/none.json {absent}; check the path and its permissions",
            f"policies[1]: {directory}/none.yaml does not exist; create it, or correct the path "
            "(it is relative to this file)",
            f"evidence.directory: {directory}/token is not a directory",
            f"readyFile: {directory}/none is not a directory; create it first",
        ]
    )


def test_a_broken_kubeconfig_is_shown_with_its_own_lines(directory: Path) -> None:
    (directory / "bad").write_text(f"users:\n- name: a\n  user: {{token: [{SECRET}]}}\n")
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(minimal(clusters=[cluster(credential={"kubeconfig": "bad"})])))
    with pytest.raises(DocumentError) as error:
        load(path)
    assert str(error.value) == f"{directory}/bad:3:17: users[0].user.token: expected text, found a list"


def test_names_servers_and_issuers_are_each_their_own(directory: Path) -> None:
    found = problems(
        directory,
        minimal(
            clusters=[
                cluster(),
                cluster(server="https://API.dev.example:6443/"),
                cluster(name="c", server="x"),
            ],
            identity={"oidc": [provider(), provider(audience="other")]},
        ),
    )
    assert [line.split(" as on")[0] for line in found] == [
        "clusters[1].name: the same name",
        "clusters[2].server: must be https: the API server is reached over TLS only",
        "identity.oidc[1].issuer: the same issuer",
    ]
    (line,) = problems(directory, minimal(clusters=[cluster(), cluster(name="b")]))
    assert line == "clusters[1].server: the same server as cluster dev; each has its own"


def test_all_problems_at_once(directory: Path) -> None:
    config = minimal(
        listen={"proxy": "x"}, clusters=[cluster(name="X", server="y")], kindd=1, sessions={"ttl": "x"}
    )
    assert len(problems(directory, config)) == 5


def test_one_document_in_the_file(directory: Path) -> None:
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(minimal()) + "---\nkind: Gateway\n")
    with pytest.raises(DocumentError, match=r":\d+:1: a second document; a gateway's file has one$"):
        load(path)


def test_the_example_in_rules_loads(directory: Path) -> None:
    rules = directory / "rules"
    shutil.copytree(ROOT / "rules", rules)
    shutil.copy(directory / "ca.pem", rules / "cluster-ca.pem")
    kubeconfig(rules, {"token": SECRET})
    gateway = load(rules / "gateway.yaml")
    assert gateway.authority.directory == directory / "certs"
    assert gateway.policies == (rules / "policy.yaml",)


def test_every_key_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for model in (Gateway, Listen, Cluster, Credential, Identity, OpenIdProvider, Sessions, Directory):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in text, f"{model.__name__}.{field.alias or name}"


def test_the_example_in_the_documentation_loads(directory: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    example = text.split("```yaml\n", 1)[1].split("```", 1)[0]
    (directory / "cluster-ca.pem").write_bytes(CERTIFICATE)
    (directory / "idp-ca.pem").write_bytes(CERTIFICATE)
    (directory / "gateway.yaml").write_text(example)
    assert load(directory / "gateway.yaml").clusters[0].name == "dev"


@given(st.integers(0, 999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_durations_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    if expected:
        assert duration(f"{hours}h{minutes}m{seconds}s{milliseconds}ms") == expected
    assert duration(f"{hours + 0.5}h") == timedelta(hours=hours, minutes=30)


@given(st.text("abz019.-:[]/@%é", max_size=24))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_an_address_is_written_back_as_it_was_meant(text: str) -> None:
    try:
        address = _address(text)
    except ValueError:
        address = None
    if address is not None:
        assert _address(str(address)) == address
    try:
        server: Server | None = _server(f"https://{text}")
    except ValueError:
        server = None
    if server is not None:
        assert _server(str(server)) == server
        assert (
            _server(f"https://{server.host if ':' not in server.host else f'[{server.host}]'}:{server.port}")
            == server
        )


def test_a_key_set_that_cannot_be_used_is_told_with_its_file(directory: Path) -> None:
    (directory / "jwks.json").write_text("{")
    told = problems(directory, minimal(identity={"oidc": [provider(jwks="jwks.json")]}))
    assert any("jwks.json: the key set is not JSON" in problem for problem in told)
