"""`interlock doctor`: what would keep the gateway from doing its work, and what to do about each.

In: the configuration file. Out: one finding a check: ok, warn or fail, with a remedy; exit 1 if one failed. Or,
with an id that an agent was given, the whole reason of that refusal. The rules: it changes nothing but a test
file and its own records; what it asks a cluster, with the gateway's credential, is in the evidence before it is
sent; no finding holds a secret.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from interlock.cli.errors import Failed, lines
from interlock.cli.listeners import taken
from interlock.cli.screen import below, screen, visible
from interlock.cli.up import CONFIG

if TYPE_CHECKING:
    from interlock.cli.api_server import ApiServer, Reply
    from interlock.config import Cluster, Gateway, OpenIdProvider
    from interlock.evidence.journal import Journal

Level = Literal["ok", "warn", "fail"]
STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}

SYNCS = 16
SLOW_SYNC = 0.020  # seconds: every request waits for one
LITTLE_SPACE, NO_SPACE = 2 << 30, 200 << 20  # bytes
OFF, TOO_FAR_OFF = 5.0, 30.0  # seconds between clocks; identity.oidc.LEEWAY is 30
EXPIRES_SOON = timedelta(days=30)

# Rights that the gateway has no use for: what an agent could do if policy let it. Verb, API group, resource.
BREADTH: Final = (
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("bind", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("create", "", "serviceaccounts", "token"),
    ("create", "", "nodes", "proxy"),
    ("approve", "certificates.k8s.io", "signers", ""),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in one line, and what to do, in another."""

    level: Level
    check: str
    text: str
    remedy: str = ""


def doctor(
    config: Annotated[Path, CONFIG] = Path("rules/gateway.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Tell why this was refused: the id in the answer, or an Audit-ID."),
    ] = None,
) -> None:
    """Check configuration, policies, authority, evidence, state, identity providers, clusters, clock."""
    if id is not None:
        _explain(config, id, as_json)
        return
    failed = False
    found: list[Finding] = []
    show = _Shown()
    for finding in examine(config):
        failed = failed or finding.level == "fail"
        found.append(finding)
        if not as_json:
            show(finding)
    if as_json:
        print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in found]}, indent=1))
    if failed:
        raise typer.Exit(1)


class _Shown:
    """Findings on a person's screen, one below the other."""

    def __init__(self) -> None:
        self._out = screen()

    def __call__(self, finding: Finding) -> None:
        from rich.text import Text

        head = (f"{finding.level:<4} ", STYLES[finding.level]), (f"{visible(finding.check)}: ", "bold")
        self._out.print(Text.assemble(*head, visible(finding.text)), overflow="fold")
        if finding.remedy:
            print(below(f"→ {finding.remedy}", 5, self._out.width))


def examine(path: Path) -> Iterator[Finding]:
    """All findings, in an order in which the first to fail is the first to mend."""
    from interlock import config
    from interlock.documents import DocumentError

    try:
        gateway = config.load(path)
    except DocumentError as error:
        for problem in error.problems:
            yield Finding("fail", "configuration", str(problem))
        return
    clusters = ", ".join(cluster.name for cluster in gateway.clusters)
    yield Finding("ok", "configuration", f"{path}: clusters {clusters}")
    yield from _policies(gateway)
    yield from _authority(gateway)
    yield from _state(gateway)
    for provider in gateway.identity.oidc:
        yield _provider(provider)
    running = _running(gateway)
    yield from _evidence(gateway, running)
    with contextlib.ExitStack() as stack:
        journal, finding = _journal(gateway)
        yield finding
        if journal is None:
            for cluster in gateway.clusters:
                yield Finding(
                    "fail",
                    f"cluster {cluster.name}",
                    "not asked: what the gateway asks must be in the evidence first",
                    "mend the journal",
                )
        else:
            stack.callback(_close, journal)
            _announce(journal)
            for cluster in gateway.clusters:
                yield from _cluster(cluster, gateway, journal)
    yield from _listeners(gateway, running)


# ------------------------------------------------------------------------------------------- this machine


def _policies(gateway: Gateway) -> Iterator[Finding]:
    from interlock.documents import DocumentError
    from interlock.policy.files import load_policies

    try:
        policies = load_policies(gateway.policies, clusters=[cluster.name for cluster in gateway.clusters])
    except DocumentError as error:
        for problem in error.problems:
            yield Finding("fail", "policies", str(problem))
        return
    rules = sum(len(policy.spec.rules) for policy in policies.policies)
    yield Finding("ok", "policies", f"{_count(rules, 'rule')}, version {policies.digest[:12]}")


def _authority(gateway: Gateway) -> Iterator[Finding]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    bundle = gateway.authority.directory / "mitmproxy-ca.pem"
    try:
        pem = bundle.read_bytes()
        mode = bundle.stat().st_mode
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, password=None)
    except FileNotFoundError:
        yield Finding(
            "warn", "authority", f"{bundle} is not there yet", "the first start of the gateway makes it"
        )
        return
    except OSError as error:
        yield Finding("fail", "authority", lines(error)[0], "let the gateway's user read it")
        return
    except (ValueError, TypeError):
        yield Finding(
            "fail",
            "authority",
            f"{bundle} holds no certificate and key that can be read",
            "restore it, or move it away: a new authority is made, and every agent's kubeconfig with it",
        )
        return
    if key.public_key() != certificate.public_key():
        yield Finding("fail", "authority", f"{bundle}: the key is not the certificate's", "restore the pair")
    if mode & 0o077:
        yield Finding(
            "fail",
            "authority",
            f"others can read the key in {bundle}",
            f"chmod 600 {bundle}; if it was read, replace it",
        )
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    until = f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
    if left <= EXPIRES_SOON:
        over = left <= timedelta()
        yield Finding(
            "fail" if over else "warn",
            "authority",
            f"{bundle}: {'no longer ' if over else ''}{until}",
            "move it away, start the gateway, and hand out new kubeconfigs",
        )
    else:
        yield Finding("ok", "authority", until)


def _state(gateway: Gateway) -> Iterator[Finding]:
    from interlock.identity.sessions import StateAway
    from interlock.state import State

    url = gateway.state
    if url.startswith("sqlite:///") and not (file := Path(url.removeprefix("sqlite:///"))).exists():
        if file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK):
            yield Finding("ok", "state", f"{file} is made at the first start")
        else:
            yield Finding(
                "fail", "state", f"{file} cannot be made", f"make {file.parent} a writable directory"
            )
        return
    try:
        state = State(url)
        state.ping()
        state.close()
    except (StateAway, ValueError) as error:
        yield Finding("fail", "state", str(error), "bearers are refused with 503 until it can be read")
        return
    yield Finding("ok", "state", "can be read and written")


def _provider(provider: OpenIdProvider) -> Finding:
    import asyncio

    from interlock.identity.fetching import fetch
    from interlock.identity.oidc import Keys
    from interlock.identity.sessions import ProviderAway

    check = f"issuer {provider.issuer}"
    try:
        keys = Keys(provider.accepted, fetch, time.monotonic)
        asyncio.run(keys.candidates("RS256", None))
    except ProviderAway as away:
        return Finding(
            "fail", check, away.reason, "no session can be opened until it answers; check URL and network"
        )
    except ValueError as error:
        return Finding("fail", check, f"jwks: {error}", "write the provider's key set (JWKS) there")
    if provider.jwks is not None:
        return Finding("ok", check, "its keys are in a file")
    return Finding("ok", check, "publishes its keys")


@dataclass(frozen=True, slots=True)
class _Running:
    """The gateway's console, if it answers: code of /readyz and what is wrong with it."""

    url: str
    code: int
    reason: str


def _running(gateway: Gateway) -> _Running | None:
    import httpx

    from interlock.cli.kubeconfig import ready_file

    address = gateway.listen.console
    url = f"http://{address}" if address.port else ready_file(gateway).get("console")
    if not isinstance(url, str):
        return None
    try:
        with httpx.Client(timeout=2, trust_env=False) as client:
            if client.get(f"{url}/healthz").json() != {"status": "ok"}:
                return None
            ready = client.get(f"{url}/readyz")
            return _Running(url, ready.status_code, str(ready.json().get("error_description", "")))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        return None


def _listeners(gateway: Gateway, running: _Running | None) -> Iterator[Finding]:
    if running is not None and running.code == 200:
        yield Finding("ok", "gateway", f"runs; console {running.url}")
        return
    if running is not None:
        yield Finding(
            "fail", "gateway", f"runs, and opens no session: {running.reason}", "see the findings above"
        )
        return
    in_the_way = taken(gateway)
    for reason in in_the_way:
        yield Finding("fail", "gateway", reason)
    if not in_the_way:
        yield Finding("warn", "gateway", "does not run", f"interlock up --config {gateway.path}")


# ------------------------------------------------------------------------------------------- the evidence


def _evidence(gateway: Gateway, running: _Running | None) -> Iterator[Finding]:
    from interlock.evidence import locks, reading

    directory = gateway.evidence.directory
    if not (directory / "evidence.duckdb").exists():
        if running is None:
            yield Finding("ok", "evidence", f"{directory} begins with the first start")
        else:
            yield Finding(
                "fail", "evidence", f"{directory} has no evidence.duckdb", _recorder_said(directory)
            )
        return
    try:
        with reading.open_evidence(directory) as connection:
            rows = reading.query(connection, "SELECT count(*) FROM requests").rows
        yield Finding("ok", "evidence", f"{directory}: {_count(int(rows[0][0]), 'request')}")
    except reading.EvidenceUnreadable as error:
        yield Finding(
            "fail", "evidence", str(error), "read it as the gateway's user; the journal is not lost"
        )
    if running is not None and not locks.is_held(directory / locks.RECORDER):
        yield Finding("fail", "recorder", "does not run, so nothing is sealed", _recorder_said(directory))


def _recorder_said(directory: Path) -> str:
    log = directory / "private" / "recorder.log"
    try:
        said = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
    except OSError:
        said = []
    return f"{log} says: {said[0][:200]}" if said else f"start the gateway again; see {log}"


def _journal(gateway: Gateway) -> tuple[Journal | None, Finding]:
    """The doctor's own journal beside the gateway's, if this user may write there; and how fast the disk is."""
    from interlock.evidence.journal import Journal, JournalUnwritable

    directory = gateway.evidence.directory
    there = next(parent for parent in (directory, *directory.parents) if parent.exists())
    owner, own = there.stat().st_uid, os.geteuid()
    if owner != own and (there == directory or own == 0):
        # Files of ours there would be files that the gateway's recorder cannot read.
        return None, Finding(
            "fail",
            "journal",
            f"{there} belongs to another user (uid {owner})",
            "run as that user",
        )
    try:
        journal = Journal(directory, "doctor")
        seconds = _sync_seconds(directory / "journal")
    except JournalUnwritable as error:
        return None, Finding(
            "fail", "journal", str(error), "make the directory writable for the gateway's user"
        )
    except OSError as error:
        journal.close()
        return None, Finding("fail", "journal", lines(error)[0], "make room, and the directory writable")
    free = shutil.disk_usage(directory).free
    text = f"{directory}: a sync takes {seconds * 1000:.1f} ms, {free / (1 << 30):.1f} GiB are free"
    if free < NO_SPACE:
        return journal, Finding(
            "fail", "journal", text, "make room: a journal that cannot be written stops all requests"
        )
    if free < LITTLE_SPACE:
        return journal, Finding("warn", "journal", text, "make room before requests are refused")
    if seconds > SLOW_SYNC:
        return journal, Finding("warn", "journal", text, "every request waits for one; use a faster disk")
    return journal, Finding("ok", "journal", text)


def _sync_seconds(directory: Path) -> float:
    """What one fdatasync of 1 KiB takes there: the median of SYNCS."""
    taken = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(SYNCS):
            file.write(bytes(1024))
            began = time.perf_counter()
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


RULE: Final = "doctor"
DIGEST: Final = hashlib.sha256(f"doctor: version, reviews of itself, {BREADTH}".encode()).hexdigest()
"""What stands in the evidence for the doctor's own, built-in right to ask: it is no policy file."""


def _announce(journal: Journal) -> None:
    from interlock.evidence import events

    journal.commit(
        events.PolicyLoaded(ts=_now(), digest=DIGEST, rules=1, reason="built-in: what doctor asks")
    )


def _close(journal: Journal) -> None:
    from interlock.evidence import events
    from interlock.evidence.journal import JournalUnwritable

    with contextlib.suppress(JournalUnwritable):
        journal.commit(events.GatewayStopped(ts=_now(), detail="doctor"))
    journal.close()


def _now() -> int:
    return time.time_ns() // 1000


# ------------------------------------------------------------------------------------------- the clusters


class _Asked:
    """An API server, asked as the gateway: every question is in the evidence before it is sent.

    Raises Failed, JournalUnwritable.
    """

    def __init__(self, api: ApiServer, cluster: str, journal: Journal) -> None:
        self._api = api
        self._cluster = cluster
        self._journal = journal

    def get(self, path: str) -> Reply:
        return self._recorded("GET", path, lambda id: self._api.get(path, audit_id=id))

    def post(self, path: str, body: object) -> Reply:
        return self._recorded("POST", path, lambda id: self._api.post(path, body, audit_id=id))

    def _recorded(self, method: str, path: str, ask: Callable[[str], Reply]) -> Reply:
        from interlock.evidence import events
        from interlock.kube.target import parse_target

        id, info = str(uuid.uuid4()), parse_target(method, path).info
        decision = events.Decision(
            effect="allow", stage=RULE, rule=RULE, policy="built-in", policy_digest=DIGEST
        )
        self._journal.commit(
            events.Request(
                id=id,
                ts=_now(),
                decision=decision,
                origin="gateway",
                cluster=self._cluster,
                method=method,
                uri=path,
                verb=info.verb,
                is_resource=info.is_resource,
                api_group=info.api_group,
                version=info.api_version,
                resource=info.resource,
                user_name=f"operator:{getpass.getuser()}",
            )
        )
        end: dict[str, Any] = {"origin": "gateway", "ended": "upstream_gone"}
        try:
            reply = ask(id)
            end = {"origin": "upstream", "code": reply.code, "upstream_code": reply.code}
            return reply
        except Failed as error:
            end["reason"] = str(error)
            raise
        finally:
            self._journal.commit(events.Response(request_id=id, ts=_now(), **end))


def _cluster(cluster: Cluster, gateway: Gateway, journal: Journal) -> Iterator[Finding]:
    from interlock.cli.api_server import ApiServer
    from interlock.credential import CredentialError
    from interlock.evidence.journal import JournalUnwritable

    check = f"cluster {cluster.name}"
    try:
        api = _Asked(
            ApiServer(cluster.server, cluster.authority, cluster.credential.upstream), cluster.name, journal
        )
        began = time.time()
        version = api.get("/version")
        clock = _clock(check, version.date, (began + time.time()) / 2)
        yield from _reached(check, cluster, version)
        if version.code == 200:
            yield clock
            yield from _rights(check, cluster, gateway, api)
    except Failed as error:
        yield Finding("fail", check, str(error))
    except CredentialError as error:
        yield Finding("fail", f"{check} credential", str(error))
    except JournalUnwritable as error:
        yield Finding("fail", check, str(error), "mend the journal")


def _reached(check: str, cluster: Cluster, version: Reply) -> Iterator[Finding]:
    if version.code == 401:
        yield Finding(
            "fail",
            f"{check} credential",
            f"{cluster.server} does not take it (401)",
            "renew it where the file names it",
        )
    elif version.code != 200 or "gitVersion" not in version.object:
        yield Finding(
            "fail",
            check,
            f"{cluster.server} answers {version.code} to /version: {version.message}",
            "is it an API server?",
        )
    else:
        yield Finding(
            "ok", check, f"{cluster.server} runs Kubernetes {str(version.object['gitVersion'])[:40]}"
        )


def _clock(check: str, theirs: datetime | None, ours: float) -> Finding:
    if theirs is None:
        return Finding(
            "warn", f"{check} clock", "the API server does not tell its time", "compare it by hand"
        )
    # The header has whole seconds: on average it is half a second behind.
    off = ours - theirs.timestamp() - 0.5
    text = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the API server's"
    if abs(off) > TOO_FAR_OFF:
        return Finding("fail", f"{check} clock", text, "tokens are refused: synchronize the clocks (NTP)")
    if abs(off) > OFF:
        return Finding("warn", f"{check} clock", text, "synchronize the clocks (NTP)")
    return Finding("ok", f"{check} clock", "agrees with the API server's")


def _rights(check: str, cluster: Cluster, gateway: Gateway, api: _Asked) -> Iterator[Finding]:
    from interlock.cli.api_server import SELF_ACCESS, WHO_AM_I, access_review, allowed

    who = api.post(WHO_AM_I, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    name = _user(who)
    if name:
        yield Finding("ok", f"{check} credential", f"is taken; it is {name}'s")
    else:
        said = f"the API server does not tell whose it is ({who.code})"
        yield Finding("warn", f"{check} credential", said, "see what its RBAC gives it")
        name = "the gateway"
    yield from _readable_by_others(check, cluster)

    def may(verb: str, resource: str, group: str = "", subresource: str = "") -> bool:
        review = access_review(verb, resource, group=group, subresource=subresource)
        return allowed(api.post(SELF_ACCESS, review))

    if cluster.act_as == "impersonate":
        missing = [
            f"{resource}/{subresource}" if subresource else resource
            for group, resource, subresource in _impersonated(gateway)
            if not may("impersonate", resource, group, subresource)
        ]
        if missing:
            yield Finding(
                "fail",
                f"{check} impersonation",
                f"{name} may not impersonate {', '.join(missing)}",
                "grant it the verb impersonate on them in a ClusterRole, or set actAs: none",
            )
        else:
            yield Finding("ok", f"{check} impersonation", "the gateway may act as the agents")
    if may("*", "*", "*"):
        yield Finding(
            "warn",
            f"{check} rights",
            f"{name} may do everything in the cluster: policy is all that limits agents",
            "give the gateway a user of its own that may only impersonate, or only what agents shall do",
        )
        return
    broad = [
        f"{verb} {resource}{f'/{subresource}' if subresource else ''}"
        for verb, group, resource, subresource in BREADTH
        if may(verb, resource, group, subresource)
    ]
    if broad:
        yield Finding(
            "warn",
            f"{check} rights",
            f"{name} may {', '.join(broad)}",
            "take these from it, if no agent needs them",
        )
    else:
        yield Finding("ok", f"{check} rights", "nothing by which rights are gained")


def _user(reply: Reply) -> str:
    """The user that a SelfSubjectReview tells of; "" if it does not."""
    status = reply.object.get("status")
    info = status.get("userInfo") if isinstance(status, dict) else None
    name = info.get("username") if isinstance(info, dict) else None
    return visible(name)[:200] if isinstance(name, str) else ""


def _impersonated(gateway: Gateway) -> Iterator[tuple[str, str, str]]:
    """API group, resource, subresource of each right that `stages.credential.impersonation` makes use of."""
    yield from (("", "users", ""), ("", "groups", ""))
    extras = {"session"}
    extras |= {"agent" for provider in gateway.identity.oidc if provider.agent_claim}
    extras |= {"owner" for provider in gateway.identity.oidc if provider.owner_claim}
    for extra in sorted(extras):
        yield "authentication.k8s.io", "userextras", f"interlock-{extra}"


def _readable_by_others(check: str, cluster: Cluster) -> Iterator[Finding]:
    held = cluster.credential
    for path in (held.kubeconfig, held.token_file, held.client_key):
        if path is not None and path.stat().st_mode & 0o007:
            yield Finding(
                "warn",
                f"{check} credential",
                f"every user of this machine can read {path}",
                f"chmod 600 {path}",
            )


# ------------------------------------------------------------------------------------------ one refusal

_REFUSED_SESSION = (
    "SELECT ts, reason, code, user_name, issuer, subject, agent, cluster, client_ip, session_id, refusal_id"
    " FROM session_events WHERE refusal_id = $1"
)
_EXCHANGE = (
    "SELECT ts, effect, stage, rule, policy, reason, code, end_reason, cluster, user_name, agent, owner, client_ip,"
    " method, uri, verb, api_group, resource, subresource, namespace, name, ended, masked, session_id, request_id"
    " FROM exchanges WHERE request_id = TRY_CAST($1 AS UUID)"
)


def _explain(config: Path, id: str, as_json: bool) -> None:
    from interlock.cli.query import plain, text
    from interlock.config import load
    from interlock.evidence import reading

    directory = load(config).evidence.directory
    try:
        with reading.open_evidence(directory) as connection:
            found = [reading.query(connection, sql, [id]) for sql in (_REFUSED_SESSION, _EXCHANGE)]
    except reading.EvidenceUnreadable as error:
        raise Failed(visible(str(error))) from None
    records = [
        {name: value for name, value in zip(result.columns, row, strict=True) if value not in (None, "")}
        for result in found
        for row in result.rows
    ]
    if not records:
        raise Failed(
            f"the evidence in {directory} knows no refusal or exchange {visible(id)[:80]}; copy the whole id"
        )
    if as_json:
        print(
            json.dumps(
                [{name: plain(value) for name, value in record.items()} for record in records], indent=1
            )
        )
        return
    for record in records:
        for name, value in record.items():
            print(f"{name:>12}  {visible(text(value))}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
