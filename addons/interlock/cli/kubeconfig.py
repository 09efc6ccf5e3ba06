"""`interlock kubeconfig`: what an agent's kubectl needs to go through the gateway.

In: a running gateway's public endpoint (no login), or its configuration file. Out: a kubeconfig. The rules: no
secret stands in it, neither the cluster's credential nor the agent's token (the file that holds that is named);
the gateway's authority is the only one that the agent trusts.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from interlock.cli.errors import Failed
from interlock.cli.init import quoted
from interlock.cli.screen import visible
from interlock.cli.up import CONFIG

if TYPE_CHECKING:
    from interlock.config import Address, Gateway

SECONDS = 5.0
LARGEST = 1 << 20
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

# What clients make of a kubeconfig that names a proxy; printed to stderr, for the person who hands it out.
CAVEATS_PROXY = (
    "kubectl, helm, k9s and client-go take the proxy from the kubeconfig.",
    "the Python client ignores proxy-url: set HTTPS_PROXY for it (below), or use --reverse.",
    "whatever reads HTTPS_PROXY must not have the cluster in NO_PROXY.",
)
CAVEATS_REVERSE = (
    "no client needs a proxy setting for this: the gateway is the server. Unset HTTPS_PROXY, or add the host to NO_PROXY.",
)


@dataclass(frozen=True, slots=True)
class Way:
    """How an agent gets to one cluster. proxy, reverse: URLs, None if there is no such way; ca: PEM."""

    cluster: str
    server: str
    proxy: str | None
    reverse: str | None
    ca: str
    console: str


def kubeconfig(
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Which of the gateway's clusters; needed if it has several."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Where the agent's session token will be; kubectl reads it again as it changes."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            envvar="INTERLOCK_SERVER", help="The running gateway's console, such as http://127.0.0.1:8090."
        ),
    ] = None,
    config: Annotated[Path, CONFIG] = Path("rules/gateway.yaml"),
    reverse: Annotated[
        bool, typer.Option("--reverse", help="Through the cluster's reverse listener, not the forward proxy.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            help="The gateway's name as agents reach it, where it listens on all addresses (0.0.0.0)."
        ),
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="The namespace that kubectl starts in.")] = None,
) -> None:
    """Print a kubeconfig for the agent; no secret is in it."""
    ways = from_server(server) if server else from_config(config)
    way = choose(ways, cluster)
    address = _reachable(_entrance(way, reverse), host)
    token = Path(os.path.abspath(token_file.expanduser())) if token_file is not None else None
    print(render(way, address, reverse=reverse, token_file=token, namespace=namespace), end="")
    for line in _advice(way, address, reverse, token):
        print(f"# {line}", file=sys.stderr)


def from_server(server: str) -> list[Way]:
    """The ways of a running gateway, from its console at `server`. Raises Failed."""
    import httpx

    from interlock.identity.oidc import check_url

    url = server.rstrip("/")
    try:
        # Whoever could change the answer on its way would choose whom the agent trusts.
        check_url("--server", url)
    except ValueError as error:
        raise Failed(f"{error}; give the console's URL, such as http://127.0.0.1:8090") from None
    try:
        answer = httpx.get(f"{url}/api/v1/clusters", timeout=SECONDS, trust_env=False)
        items = answer.json()["items"] if answer.status_code == 200 else None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        words = visible(" ".join(str(error).split()))[:120] or type(error).__name__
        raise Failed(
            f"{url} cannot be reached: {words}; is the gateway up, and is this its console?"
        ) from None
    except (ValueError, KeyError, TypeError):
        items = None
    if not isinstance(items, list):
        raise Failed(f"{url} does not answer as a gateway's console; give the console's URL, not the proxy's")
    return [_way(item, url) for item in items]


def _way(item: Any, console: str) -> Way:
    try:
        found = Way(
            item["name"],
            item["server"],
            item["proxy"],
            item["reverse"],
            item["certificateAuthority"],
            console,
        )
    except (KeyError, TypeError):
        found = None
    wanted = [found.cluster, found.server, found.ca] if found is not None else [None]
    maybe = [found.proxy, found.reverse] if found is not None else []
    if found is None or not all(isinstance(v, str) for v in wanted + [v for v in maybe if v is not None]):
        raise Failed(f"{console} answers in a form that this version does not know; use the same version")
    if "PRIVATE KEY" in found.ca:
        raise Failed(f"{console} shows a private key where its certificate should be; nothing was printed")
    return found


def from_config(path: Path) -> list[Way]:
    """The ways of the gateway that is configured in `path`. Raises DocumentError, Failed."""
    from interlock.config import load

    gateway = load(path)
    certificate = gateway.authority.directory / "ca.pem"
    try:
        ca = certificate.read_text("ascii")
    except (OSError, ValueError):
        raise Failed(
            f"{certificate}: the gateway's certificate cannot be read; start the gateway once (`interlock up`), "
            "or name a running one with --server"
        ) from None
    ready = ready_file(gateway)
    reverses = ready.get("reverse", {})
    return [
        Way(
            cluster.name,
            str(cluster.server),
            _listener(gateway.listen.proxy, "http", ready.get("proxy")),
            _listener(cluster.reverse, "https", reverses.get(cluster.name)) if cluster.reverse else None,
            ca,
            _listener(gateway.listen.console, "http", ready.get("console")) or "http://127.0.0.1:8090",
        )
        for cluster in gateway.clusters
    ]


def ready_file(gateway: Gateway) -> dict[str, Any]:
    """What the running gateway wrote of itself; {} if it does not run, or writes no such file."""
    if gateway.ready_file is None:
        return {}
    try:
        found = json.loads(gateway.ready_file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _listener(address: Address, scheme: str, running: str | None) -> str | None:
    """A listener's URL; one on port 0 has it from the ready file alone."""
    return f"{scheme}://{address}" if address.port else running


def choose(ways: list[Way], cluster: str | None) -> Way:
    """The way to `cluster`, or to the only one. Raises Failed."""
    names = ", ".join(visible(way.cluster) for way in ways) or "none"
    if cluster is None and len(ways) == 1:
        return ways[0]
    for way in ways:
        if way.cluster == cluster:
            return way
    if cluster is None:
        raise Failed(f"the gateway has several clusters; name one with --cluster: {names}")
    raise Failed(f"the gateway has no cluster {visible(cluster)}; its clusters: {names}")


def _entrance(way: Way, reverse: bool) -> str:
    if reverse and way.reverse is None:
        raise Failed(
            f"cluster {way.cluster} has no reverse listener, or it does not run; set clusters[].reverse "
            "in the gateway's file, or leave out --reverse"
        )
    address = way.reverse if reverse else way.proxy
    if address is None:
        raise Failed("the proxy has port 0 and its gateway does not run; start it, or name it with --server")
    return address


def _reachable(url: str, host: str | None) -> str:
    """The URL as the agent will use it. An address that means all addresses leads nowhere."""
    from interlock.cli.api_server import parse_server

    parts = urlsplit(url)
    if parts.hostname not in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        return url
    if host is None:
        raise Failed(
            "the gateway listens on all addresses; give the name by which agents reach it: --host NAME"
        )
    try:
        name = parse_server(f"https://[{host}]" if ":" in host else f"https://{host}").host
    except ValueError as error:
        raise Failed(f"--host: expected a host name or an IP address; {error}") from None
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{parts.port}"


def render(way: Way, address: str, *, reverse: bool, token_file: Path | None, namespace: str | None) -> str:
    """The kubeconfig, in YAML. `address` is the proxy's URL, or with `reverse` the listener's."""
    entry = [f"server: {quoted(address if reverse else way.server)}"]
    if not reverse:
        entry.append(f"proxy-url: {quoted(address)}")
    entry.append(f"certificate-authority-data: {base64.b64encode(way.ca.encode()).decode()}")
    context = [f"cluster: {quoted(way.cluster)}", "user: agent"]
    if namespace is not None:
        context.append(f"namespace: {quoted(namespace)}")
    if token_file is not None:
        user = [f"    tokenFile: {quoted(str(token_file))}"]
    else:
        user = [
            "    # No credential stands here. Exchange an identity token (in the file ID_TOKEN) for a session token:",
            *(f"    #   {visible(line)}" for line in exchange_command(way)),
            "    # and name the file that it is in: tokenFile: /path/of/the/session-token",
            "    {}",
        ]
    return "\n".join(
        [
            f"# For agents on cluster {visible(way.cluster)}, through Interlock. It holds no secret.",
            "apiVersion: v1",
            "kind: Config",
            "clusters:",
            f"- name: {quoted(way.cluster)}",
            "  cluster:",
            *(f"    {line}" for line in entry),
            "users:",
            "- name: agent",
            "  user:",
            *user,
            "contexts:",
            f"- name: {quoted(way.cluster)}",
            "  context:",
            *(f"    {line}" for line in context),
            f"current-context: {quoted(way.cluster)}",
            "",
        ]
    )


def exchange_command(way: Way) -> list[str]:
    """The lines of a shell command that exchanges an identity token for a session token (RFC 8693)."""
    return [
        f"curl -sS {shlex.quote(way.console)}/oauth2/token \\",
        f"  -d grant_type={EXCHANGE} \\",
        "  -d subject_token_type=urn:ietf:params:oauth:token-type:jwt \\",
        f"  --data-urlencode subject_token@ID_TOKEN -d audience={shlex.quote(way.cluster)} |",
        """  python3 -c 'import json, sys; a = json.load(sys.stdin); print(a.get("access_token") or sys.exit(str(a)))'""",
    ]


def _advice(way: Way, address: str, reverse: bool, token_file: Path | None) -> list[str]:
    lines = list(CAVEATS_REVERSE if reverse else CAVEATS_PROXY)
    if not reverse:
        lines.append(f"export HTTPS_PROXY={address} NO_PROXY=")
    if token_file is None:
        lines.append("the user entry has no token yet; its comment says how to get one.")
    elif not token_file.exists():
        lines.append(
            f"{token_file} does not exist yet: put the session token there, readable by the agent only."
        )
    return lines
