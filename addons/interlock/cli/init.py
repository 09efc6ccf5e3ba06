"""`interlock init`: from a kubeconfig of a real cluster to a gateway before it.

In: a kubeconfig and a context. Out: gateway.yaml, policy.yaml, the cluster's authority, the keys of its token
issuer, and the gateway's own authority, in one directory. The rules: what can be found out is not asked; no
credential is copied, only its place is written down; nothing is overwritten without --force, and the gateway's
authority never; what was written has been loaded as the gateway will load it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shlex
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from interlock.cli.errors import Failed
from interlock.cli.screen import visible

if TYPE_CHECKING:
    from interlock.cli.api_server import ApiServer
    from interlock.config import Authority, Server

AUDIENCE = "interlock"
AGENTS = (
    "interlock-agents"  # the namespace whose service accounts are agents, where the cluster is the issuer
)
GROUP = "agents"
PRIVATE_NAMES = (".svc", ".local", ".internal", ".cluster")
PORTS = {"proxy": 8080, "console": 8090, "reverse": 8443}


@dataclass(frozen=True, slots=True)
class Place:
    """A context of a kubeconfig, as far as a gateway needs it. authority: certificates, and nothing else."""

    kubeconfig: Path
    context: str
    server: Server
    authority: Authority


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who vouches for agents. jwks: its keys, where the gateway cannot ask for them; cluster: it is the cluster."""

    url: str
    audience: str
    jwks: bytes | None
    cluster: bool


def init(
    kubeconfig: Annotated[
        Path,
        typer.Option(
            envvar="KUBECONFIG", help="A kubeconfig with the cluster and the gateway's credential for it."
        ),
    ] = Path("~/.kube/config"),
    context: Annotated[
        str | None, typer.Option(help="Which context of it; the current one if absent.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write to.")] = Path(),
    name: Annotated[
        str | None, typer.Option(help="What to call the cluster; from the context if absent.")
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(help="The OpenID provider of the agents; the cluster's own token issuer if absent."),
    ] = None,
    audience: Annotated[
        str, typer.Option(help="What the agents' identity tokens are issued for.")
    ] = AUDIENCE,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what is there (never the authority).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a working gateway.yaml, policy and authority for a real cluster, and say what to do next."""
    from interlock import authority

    place = read_place(Path(os.path.abspath(kubeconfig.expanduser())), context)
    api = _reach(place)
    cluster = cluster_name(place.context if name is None else name)
    agents = find_issuer(api, issuer, audience)
    acts, why = _act_as(api, agents)
    files = render(place, cluster, agents, acts, {kind: _free(port) for kind, port in PORTS.items()})
    output.mkdir(parents=True, exist_ok=True)
    publish(output, files, force=force)
    ca = authority.ensure(output / "certs")
    written = [str(output / file) for file in files] + [str(ca)]
    steps = _next_steps(output, cluster, agents)
    if as_json:
        print(
            json.dumps(
                {"cluster": cluster, "actAs": acts, "why": why, "wrote": written, "next": steps}, indent=1
            )
        )
        return
    print("\n".join(f"wrote {file}" for file in written))
    print(f"actAs: {acts} ({why})")
    print("next:", *steps, sep="\n  ")


# ----------------------------------------------------------------------------------- what can be found out


def read_place(path: Path, context: str | None) -> Place:
    """The cluster of `context` (default: the current one). Raises DocumentError, CredentialError, Failed."""
    if not path.exists() and os.pathsep in str(path):
        raise Failed("KUBECONFIG names several files; name the one to use with --kubeconfig")
    from interlock.cli.api_server import parse_server
    from interlock.documents import read

    given = read(path)[0].data
    config = given if isinstance(given, dict) else {}
    wanted = context if context is not None else config.get("current-context")
    chosen = _named(config, "contexts", wanted).get("context")
    if not isinstance(wanted, str) or not isinstance(chosen, dict):
        names = ", ".join(_names(config, "contexts")) or "none"
        what = f"has no context {visible(str(wanted))}" if wanted else "has no current-context"
        raise Failed(f"{path}: {what}; name one with --context: {names}")
    entry = _named(config, "clusters", chosen.get("cluster")).get("cluster")
    if not isinstance(entry, dict):
        raise Failed(f"{path}: context {wanted} names a cluster that is not in the file; correct it")
    for key, remedy in (
        (
            "insecure-skip-tls-verify",
            "the gateway verifies every API server: give certificate-authority instead",
        ),
        ("tls-server-name", "the gateway verifies the name that it connects to: use that name in server"),
        ("proxy-url", "the gateway connects directly: remove it, and run the gateway where it can"),
    ):
        if entry.get(key):
            raise Failed(f"{path}: the cluster of context {visible(wanted)} has {key}; {remedy}")
    try:
        server = parse_server(entry.get("server"))
    except ValueError as error:
        raise Failed(f"{path}: the server of context {visible(wanted)}: {error}") from None
    return Place(path, wanted, server, _authority(entry, path, wanted))


def _named(config: Mapping[str, Any], kind: str, name: object) -> Mapping[str, Any]:
    return next((item for item in _items(config, kind) if item.get("name") == name), {})


def _names(config: Mapping[str, Any], kind: str) -> list[str]:
    return [visible(str(item.get("name"))) for item in _items(config, kind)]


def _items(config: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    found = config.get(kind)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, tuple) else []


def _authority(entry: Mapping[str, Any], path: Path, context: str) -> Authority:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from interlock.config import Authority

    data, file = entry.get("certificate-authority-data"), entry.get("certificate-authority")
    if isinstance(data, str) and data:
        source = f"{path}: certificate-authority-data of context {visible(context)}"
        try:
            pem = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise Failed(f"{source} is not base64; copy it again") from None
    elif isinstance(file, str) and file:
        source = str(path.parent / file)
        pem = (path.parent / file).read_bytes()
    else:
        raise Failed(
            f"{path}: the cluster of context {visible(context)} names no certificate-authority; add the one that "
            "its API server's certificate chains to (certificate-authority: FILE)"
        )
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise Failed(f"{source} holds no certificate in PEM (BEGIN CERTIFICATE)") from None
    # Written anew: what else stands in the file, a key for one, stays there.
    return Authority(source, b"".join(c.public_bytes(Encoding.PEM) for c in certificates), certificates)


def _reach(place: Place) -> ApiServer:
    """The API server, once it has answered and taken the credential. Raises CredentialError, DocumentError, Failed."""
    from interlock.cli.api_server import ApiServer
    from interlock.credential import from_kubeconfig

    api = ApiServer(place.server, place.authority, from_kubeconfig(place.kubeconfig, place.context))
    reply = api.get("/version")
    if reply.code == 401:
        raise Failed(
            f"{place.server} does not take the credential of context {visible(place.context)} (401); "
            "renew it, or name another context"
        )
    if reply.code != 200 or "gitVersion" not in reply.object:
        raise Failed(f"{place.server} answers {reply.code} to /version, not as a Kubernetes API server does")
    return api


def cluster_name(text: str) -> str:
    """What the gateway calls a cluster: `text` in the letters that a name may have."""
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower())[:63].strip("-.") or "cluster"
    return f"{name}-cluster" if name == "console" else name


def find_issuer(api: ApiServer, url: str | None, audience: str) -> Issuer:
    """Who vouches for the agents: `url`, else the cluster, whose service accounts have tokens. Raises Failed."""
    from interlock.identity.oidc import check_url, parse_keys

    if url is not None:
        try:
            check_url("--issuer", url)
        except ValueError as error:
            raise Failed(str(error)) from None
        if not _publishes_keys(url):
            print(f"interlock: {url} does not answer yet; sessions open only once it does", file=sys.stderr)
        return Issuer(url, audience, None, cluster=False)
    discovery, keys = api.get("/.well-known/openid-configuration"), api.get("/openid/v1/jwks")
    own = discovery.object.get("issuer")
    if discovery.code != 200 or keys.code != 200 or not isinstance(own, str):
        raise Failed(
            f"the cluster does not tell who issues its tokens ({discovery.code}, {keys.code}); "
            "name your OpenID provider with --issuer URL --audience NAME"
        )
    jwks = json.dumps(keys.object, indent=1).encode()
    try:
        check_url("the cluster's token issuer", own)
        parse_keys(jwks)
    except ValueError as error:
        raise Failed(f"{error}; name your OpenID provider with --issuer URL --audience NAME") from None
    return Issuer(own, audience, None if _publishes_keys(own) else jwks, cluster=True)


def _publishes_keys(url: str) -> bool:
    """Whether the gateway can ask the issuer itself. Names that resolve inside a cluster alone are not tried."""
    import asyncio

    from interlock.identity.fetching import fetch
    from interlock.identity.sessions import ProviderAway

    host = urlsplit(url).hostname or ""
    if host.endswith(PRIVATE_NAMES) or "." not in host:
        return False
    try:
        found = json.loads(asyncio.run(fetch(url.rstrip("/") + "/.well-known/openid-configuration", None)))
    except (ProviderAway, ValueError):
        return False
    return isinstance(found, dict) and found.get("issuer") == url


def _act_as(api: ApiServer, agents: Issuer) -> tuple[str, str]:
    """`impersonate` if the cluster already gives rights to agents and the gateway may act as them, else `none`."""
    from interlock.cli.api_server import ACCESS, SELF_ACCESS, access_review, allowed

    if agents.cluster:
        return "none", "the cluster's RBAC knows no agents yet; policy.yaml alone limits them"
    for resource in ("users", "groups"):
        if not allowed(api.post(SELF_ACCESS, access_review("impersonate", resource))):
            return "none", f"the gateway's credential may not impersonate {resource}"
    if not allowed(api.post(ACCESS, access_review("list", "pods", user="interlock", groups=[GROUP]))):
        return (
            "none",
            f"the cluster's RBAC gives group {GROUP} no rights yet; policy.yaml alone limits agents",
        )
    return "impersonate", f"the cluster's RBAC limits group {GROUP}, beside policy.yaml"


def _free(port: int) -> int:
    """The first port from `port` on that nobody listens on; `port` itself if there is none nearby."""
    for candidate in range(port, port + 10):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    return port


# --------------------------------------------------------------------------------------- what is written

GATEWAY = """\
# Interlock before cluster {cluster}. Paths are relative to this file. docs/configuration.md has every key.
apiVersion: interlock/v1
kind: Gateway

listen:
  proxy: 127.0.0.1:{proxy}      # agents: proxy-url in their kubeconfig, or HTTPS_PROXY
  console: 127.0.0.1:{console}    # token exchange and people; loopback only

clusters:
- name: {cluster}
  server: {server}
  certificateAuthority: {ca}
  reverse: 127.0.0.1:{reverse}    # for clients that cannot use a proxy
  # The gateway's own credential, which agents never see. Better one that may do only what agents shall.
  credential: {{kubeconfig: {kubeconfig}, context: {context}}}
  # impersonate: the cluster's RBAC and audit log see the agent. none: they see the gateway.
  actAs: {act_as}

identity:
  oidc:
{identity}
sessions: {{{sessions}}}
policies: [policy.yaml]
evidence: {{directory: evidence}}
state: sqlite:///state.db
authority: {{directory: certs}}
readyFile: ready.json
"""

CLUSTER_ISSUER = """\
  # Agents show service account tokens of this very cluster, made for the audience below: a projected volume,
  # or `kubectl create token NAME --audience {audience}`. The API server itself does not take such a token.
  - issuer: {issuer}
    audience: {audience}
    usernamePrefix: {prefix}    # names that begin with system: are Kubernetes' own
    agentClaim: kubernetes.io.serviceaccount.name
{keys}"""

OFFLINE_KEYS = """\
    # The issuer's keys, as this cluster has them now. When they change:
    #   kubectl get --raw /openid/v1/jwks > {jwks}
    jwks: {jwks}
"""

PROVIDER = """\
  - issuer: {issuer}
    audience: {audience}
    usernameClaim: sub      # or email
    groupsClaim: groups
"""

POLICY = """\
# What agents may do on cluster {cluster}: read, but no Secrets. What no rule allows is refused.
# docs/policy.md has every word; `interlock tail` shows what is refused, and by which rule.
apiVersion: interlock/v1
kind: Policy
metadata: {{name: agents}}
spec:
  subjects:
  {subject}
  rules:
  # kubectl asks what the API server serves before it asks for anything else.
  - name: discovery
    effect: allow
    match: {{nonResourceURLs: ["*"], verbs: [get, head]}}

  - name: read
    effect: allow
    match:
      namespaces: ["*"]
      apiGroups: ["", apps, batch, autoscaling, networking.k8s.io, events.k8s.io, metrics.k8s.io]
      resources:
      - namespaces
      - nodes
      - pods
      - pods/log
      - services
      - endpoints
      - configmaps
      - events
      - persistentvolumeclaims
      - replicationcontrollers
      - deployments
      - replicasets
      - statefulsets
      - daemonsets
      - jobs
      - cronjobs
      - horizontalpodautoscalers
      - ingresses
      verbs: [get, list, watch]

  # A deny wins over every allow.
  - name: no-secrets
    effect: deny
    match: {{resources: [secrets], verbs: ["*"]}}
"""


def render(
    place: Place, cluster: str, agents: Issuer, act_as: str, ports: Mapping[str, int]
) -> dict[str, bytes]:
    """The files, by name. Nothing of a credential is in them."""
    values = {
        "cluster": cluster,
        "server": str(place.server),
        "ca": f"{cluster}-ca.pem",
        "jwks": f"{cluster}-jwks.json",
        "kubeconfig": quoted(str(place.kubeconfig)),
        "context": quoted(place.context),
        "act_as": act_as,
        "issuer": quoted(agents.url),
        "audience": quoted(agents.audience),
        "prefix": quoted(f"{cluster}:"),
        **ports,
    }
    keys = OFFLINE_KEYS.format(**values) if agents.jwks is not None else ""
    identity = (CLUSTER_ISSUER if agents.cluster else PROVIDER).format(**values, keys=keys)
    # A projected token is rotated by the kubelet, so it can be the bearer itself; nobody has to exchange it.
    sessions = "ttl: 15m, idle: 10m, max: 8h" + (", acceptIdentityTokens: true" if agents.cluster else "")
    subject = (
        f"- {{claim: kubernetes.io.namespace, equals: {AGENTS}}}    # every service account of this namespace"
        if agents.cluster
        else f"- group: {GROUP}"
    )
    files = {
        "gateway.yaml": GATEWAY.format(**values, identity=identity, sessions=sessions),
        "policy.yaml": POLICY.format(cluster=cluster, subject=subject),
    }
    written = {file: content.encode() for file, content in files.items()}
    written[f"{cluster}-ca.pem"] = place.authority.pem
    if agents.jwks is not None:
        written[f"{cluster}-jwks.json"] = agents.jwks
    return written


def quoted(text: str) -> str:
    """`text` in YAML: a JSON string is one there too, but for escapes of half characters."""
    return json.dumps(text, ensure_ascii=False)


def publish(directory: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write `files` once they have been loaded as a gateway would. Raises Failed if one is there, and not `force`."""
    from interlock.config import load
    from interlock.policy.files import load_policies

    there = [str(directory / file) for file in files if (directory / file).exists()]
    if there and not force:
        raise Failed(f"{', '.join(there)}: there already; choose another --output, or overwrite with --force")
    with tempfile.TemporaryDirectory(dir=directory, prefix=".init-") as staging:
        for file, content in files.items():
            Path(staging, file).write_bytes(content)
        gateway = load(Path(staging, "gateway.yaml"))
        load_policies(gateway.policies, clusters=[cluster.name for cluster in gateway.clusters])
        for file in files:
            os.replace(Path(staging, file), directory / file)


def _next_steps(output: Path, cluster: str, agents: Issuer) -> list[str]:
    config = shlex.quote(str(output / "gateway.yaml"))
    steps = [f"interlock doctor --config {config}", f"interlock up --config {config}"]
    if agents.cluster:
        audience = shlex.quote(agents.audience)
        steps += [
            f"kubectl create namespace {AGENTS}",
            f"kubectl --namespace {AGENTS} create serviceaccount agent",
            f"kubectl --namespace {AGENTS} create token agent --audience {audience} > agent.token",
        ]
    steps += [
        f"interlock kubeconfig --config {config} --cluster {cluster} --token-file agent.token > agent.kubeconfig",
        "kubectl --kubeconfig agent.kubeconfig get pods --all-namespaces",
    ]
    return steps
