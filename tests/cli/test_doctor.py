"""`interlock doctor`: each thing that keeps a gateway from its work is found, told with a remedy, and changes nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cli.double import RSA, TOKEN, ApiDouble
from cli.setups import write
from evidence import samples
from identity.provider import Provider
from interlock import authority, config
from interlock.cli import doctor as command
from interlock.cli.doctor import Finding, examine
from interlock.cli.errors import Failed
from interlock.evidence import events
from interlock.evidence.journal import Journal
from interlock.evidence.recorder import Recorder


def found(path: Path) -> dict[str, Finding]:
    """The findings by check; of one check the worst."""
    worst: dict[str, Finding] = {}
    for finding in examine(path):
        assert (finding.text + finding.remedy).isprintable()
        assert TOKEN not in finding.text + finding.remedy
        known = worst.get(finding.check)
        order = ("ok", "warn", "fail")
        if known is None or order.index(known.level) < order.index(finding.level):
            worst[finding.check] = finding
    return worst


@pytest.fixture
def ready(tmp_path: Path, api: ApiDouble, evidence: Path) -> Path:
    """A configuration with all that a gateway needs."""
    authority.ensure(tmp_path / "certs")
    return write(tmp_path, api)


def test_a_gateway_that_could_start_has_nothing_that_fails(ready: Path) -> None:
    assert {name: finding.level for name, finding in found(ready).items()} == {
        "configuration": "ok",
        "policies": "ok",
        "authority": "ok",
        "state": "ok",
        "issuer https://kubernetes.default.svc": "ok",
        "evidence": "ok",
        "journal": "ok",
        "cluster dev": "ok",
        "cluster dev clock": "ok",
        "cluster dev credential": "ok",
        "cluster dev rights": "warn",
        "gateway": "warn",
    }


def test_it_is_shown_line_by_line_and_fits_the_terminal(run, ready: Path) -> None:
    ran = run("doctor", "--config", ready, width=80)
    assert (ran.code, ran.error) == (0, None)
    lines = ran.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(line.startswith("ok   policies: 1 rule, version ") for line in lines)
    assert any(line.startswith("     → take these from it") for line in lines)
    assert f"     → interlock up --config {ready}" in run("doctor", "--config", ready).out.splitlines()


def test_json_has_the_same(run, ready: Path) -> None:
    ran = run("doctor", "--config", ready, "--json")
    report = json.loads(ran.out)
    assert report["ok"] is True
    assert {"level": "ok", "check": "policies"}.items() <= report["findings"][1].items()
    assert report["findings"][-1]["remedy"].startswith("interlock up --config ")


def test_one_that_fails_is_its_exit_status(run, ready: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("kind: Policy\n")
    assert run("doctor", "--config", ready).code == 1
    ran = run("doctor", "--config", ready, "--json")
    assert (ran.code, json.loads(ran.out)["ok"]) == (1, False)


# ------------------------------------------------------------------------------------- files and the machine


def test_every_problem_of_the_configuration_is_told_and_nothing_else_is_tried(
    tmp_path: Path, api: ApiDouble
) -> None:
    path = write(tmp_path, api, stat="x", policys=[])
    findings = list(examine(path))
    assert [(finding.level, finding.check) for finding in findings] == [("fail", "configuration")] * 2
    assert "stat: unknown key; did you mean state?" in findings[0].text
    assert "policys: unknown key; did you mean policies?" in findings[1].text
    assert api.asked == []
    assert not (tmp_path / "evidence").exists()


def test_every_problem_of_the_policies_is_told(ready: Path, tmp_path: Path) -> None:
    text = (tmp_path / "policy.yaml").read_text().replace("effect: allow", "effekt: allow")
    (tmp_path / "policy.yaml").write_text(text)
    assert "unknown key; did you mean effect?" in next(
        finding.text
        for finding in examine(ready)
        if finding.check == "policies" and "unknown" in finding.text
    )


def test_an_authority_is_made_by_the_first_start_and_not_here(ready: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "certs")
    finding = found(ready)["authority"]
    assert (finding.level, finding.remedy) == ("warn", "the first start of the gateway makes it")
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nx", b"key"])
def test_an_authority_that_cannot_be_read_is_told(ready: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "certs" / "mitmproxy-ca.pem").write_bytes(content)
    assert "holds no certificate and key that can be read" in found(ready)["authority"].text


def test_an_authority_that_is_a_directory_is_told(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "certs" / "mitmproxy-ca.pem").unlink()
    (tmp_path / "certs" / "mitmproxy-ca.pem").mkdir()
    assert "is a directory" in found(ready)["authority"].text


def test_an_authoritys_key_that_others_can_read_is_told(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "certs" / "mitmproxy-ca.pem").chmod(0o640)
    finding = found(ready)["authority"]
    assert finding.level == "fail"
    assert "others can read the key" in finding.text


def test_a_key_of_another_certificate_is_told(ready: Path, tmp_path: Path) -> None:
    authority.ensure(tmp_path / "other")
    one, other = ((tmp_path / d / "mitmproxy-ca.pem").read_bytes() for d in ("certs", "other"))
    split = b"-----BEGIN CERTIFICATE"
    (tmp_path / "certs" / "mitmproxy-ca.pem").write_bytes(
        one[: one.index(split)] + other[other.index(split) :]
    )
    assert "the key is not the certificate's" in found(ready)["authority"].text


@pytest.mark.parametrize(
    ("years", "days", "level", "said"),
    [(5, 10, "warn", "valid until"), (5, -1, "fail", "no longer valid until"), (1, 0, "ok", "valid until")],
)
def test_an_authority_that_ends_soon_is_told(
    ready: Path, tmp_path: Path, years: int, days: int, level: str, said: str
) -> None:
    shutil.rmtree(tmp_path / "certs")
    began = dt.datetime.now(dt.UTC) - dt.timedelta(days=365 * years - days)
    authority.ensure(tmp_path / "certs", now=began)
    finding = found(ready)["authority"]
    assert (finding.level, said in finding.text) == (level, True)


def test_a_state_database_is_made_by_the_first_start_and_not_here(ready: Path, tmp_path: Path) -> None:
    assert found(ready)["state"].text.endswith("state.db is made at the first start")
    assert not (tmp_path / "state.db").exists()


def test_a_state_database_that_cannot_be_is_told(tmp_path: Path, api: ApiDouble, evidence: Path) -> None:
    path = write(tmp_path, api, state="sqlite:///nowhere/state.db")
    assert "cannot be made" in found(path)["state"].text


def test_a_state_database_is_read(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    assert found(ready)["state"].text == "can be read and written"
    (tmp_path / "state.db").write_bytes(b"no database" * 100)
    finding = found(ready)["state"]
    assert (finding.level, "cannot be used" in finding.text) == ("fail", True)


# --------------------------------------------------------------------------------------- identity providers


def test_a_provider_that_publishes_its_keys(tmp_path: Path, api: ApiDouble, evidence: Path) -> None:
    with Provider() as provider:
        path = write(tmp_path, api, issuer={"issuer": provider.issuer, "audience": "interlock"})
        assert found(path)[f"issuer {provider.issuer}"].text == "publishes its keys"
    finding = found(path)[f"issuer {provider.issuer}"]
    assert finding.level == "fail"
    assert "cannot be reached" in finding.text


def test_a_key_set_that_is_none_is_told(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = command._provider

    def spoilt(provider: Any) -> Finding:
        object.__setattr__(provider._accepted, "jwks", b"{")
        return real(provider)

    monkeypatch.setattr(command, "_provider", spoilt)
    finding = found(ready)["issuer https://kubernetes.default.svc"]
    assert finding.text == "jwks: the key set is not JSON, or has repeated keys"


# --------------------------------------------------------------------------------------------- the evidence


def test_evidence_begins_with_the_first_start(tmp_path: Path, api: ApiDouble) -> None:
    findings = found(write(tmp_path, api))
    assert findings["evidence"].text.endswith("evidence begins with the first start")
    assert findings["journal"].level == "ok"
    assert findings["cluster dev"].level == "ok"


def test_evidence_that_is_none_is_told(ready: Path, evidence: Path) -> None:
    (evidence / "evidence.duckdb").unlink()
    (evidence / "evidence.duckdb").write_text("no database")
    finding = found(ready)["evidence"]
    assert (finding.level, "cannot be opened" in finding.text) == ("fail", True)


def test_a_journal_that_cannot_be_written_keeps_every_question_back(tmp_path: Path, api: ApiDouble) -> None:
    findings = found(write(tmp_path, api, evidence={"directory": "/proc/evidence"}))
    assert findings["journal"].level == "fail"
    assert "the evidence journal in /proc/evidence cannot be written" in findings["journal"].text
    assert "not asked" in findings["cluster dev"].text
    assert api.asked == []


def test_another_users_directory_is_left_alone(
    ready: Path, evidence: Path, monkeypatch: pytest.MonkeyPatch, api: ApiDouble
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: evidence.stat().st_uid + 1)
    before = sorted(evidence.rglob("*"))
    findings = found(ready)
    assert f"belongs to another user (uid {evidence.stat().st_uid})" in findings["journal"].text
    assert sorted(evidence.rglob("*")) == before
    assert api.asked == []


def test_a_directory_is_not_begun_by_root_for_another_user(
    tmp_path: Path, api: ApiDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, api)
    real = Path.stat

    def foreign(self: Path, **options: Any) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:4], 4711, *found[5:10])) if self == tmp_path else found

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "stat", foreign)
    assert f"{tmp_path} belongs to another user (uid 4711)" in found(path)["journal"].text
    assert not (tmp_path / "evidence").exists()


@pytest.mark.parametrize(
    ("free", "seconds", "level", "remedy"),
    [
        (1 << 20, 0.0, "fail", "make room: "),
        (1 << 30, 0.0, "warn", "make room before"),
        (1 << 40, 0.5, "warn", "use a faster disk"),
        (1 << 40, 0.0001, "ok", ""),
    ],
)
def test_a_small_or_slow_disk_is_told(
    ready: Path, monkeypatch: pytest.MonkeyPatch, free: int, seconds: float, level: str, remedy: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 41, 0, free))
    monkeypatch.setattr(command, "_sync_seconds", lambda _: seconds)
    finding = found(ready)["journal"]
    assert (finding.level, remedy in finding.remedy) == (level, True)


def test_a_disk_that_fails_at_a_sync_is_told(
    ready: Path, monkeypatch: pytest.MonkeyPatch, api: ApiDouble
) -> None:
    def full(_: Path) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "_sync_seconds", full)
    assert "no space left on device" in found(ready)["journal"].text
    assert api.asked == []


def test_a_journal_that_fails_on_the_way_is_told(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.evidence.journal import JournalUnwritable

    real = Journal.commit

    def commit(self: Journal, event: Any, *more: Any) -> Any:
        if isinstance(event, events.Request | events.GatewayStopped):
            raise JournalUnwritable(self.directory, "no space left on device")
        return real(self, event, *more)

    monkeypatch.setattr(Journal, "commit", commit)
    finding = found(ready)["cluster dev"]
    assert (finding.level, "no space left on device" in finding.text) == ("fail", True)


def test_every_question_is_in_the_evidence_before_it_is_sent(
    ready: Path, evidence: Path, api: ApiDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[str] = []
    real = Journal.commit

    def commit(self: Journal, event: Any, *more: Any) -> Any:
        receipt = real(self, event, *more)
        if isinstance(event, events.Request):
            assert len(api.asked) == len(recorded)
            recorded.append(event.id)
        return receipt

    monkeypatch.setattr(Journal, "commit", commit)
    found(ready)
    assert [asked.headers["Audit-ID"] for asked in api.asked] == recorded
    assert len(recorded) > 5


def test_its_own_records_break_no_promise_and_leave_nothing_open(ready: Path, evidence: Path) -> None:
    found(ready)
    Recorder(evidence).start()
    with duckdb.connect(str(evidence / "evidence.duckdb"), read_only=True) as connection:
        connection.execute("SET search_path = 'live,main'")

        def rows(sql: str) -> list[tuple[Any, ...]]:
            return connection.execute(sql).fetchall()

        assert rows("SELECT DISTINCT origin, rule, effect, state, ended FROM exchanges") == [
            ("gateway", "doctor", "allow", "ended", "complete")
        ]
        assert rows("FROM incomplete") == []
        assert rows("SELECT kind FROM health_events") == [("gateway_stopped",)]
        for view in ("promise_2", "promise_3", "promise_5", "promise_8", "promise_10", "ac3", "au3"):
            assert rows(f"FROM {view}_violations") == [], view


# --------------------------------------------------------------------------------------------- the clusters


def test_a_cluster_that_is_away_is_told_and_recorded(tmp_path: Path, api: ApiDouble, evidence: Path) -> None:
    findings = found(write(tmp_path, api, server="https://127.0.0.1:1"))
    assert "https://127.0.0.1:1 refuses the connection" in findings["cluster dev"].text
    Recorder(evidence).start()
    with duckdb.connect(str(evidence / "evidence.duckdb"), read_only=True) as connection:
        (row,) = connection.execute("SELECT ended, end_reason FROM live.exchanges").fetchall()
    assert row[0] == "upstream_gone"
    assert "refuses the connection" in row[1]


@pytest.mark.parametrize(
    ("code", "answer", "check", "said"),
    [
        (401, {}, "cluster dev credential", "does not take it (401)"),
        (503, {"message": "etcd\nis away"}, "cluster dev", "answers 503 to /version: etcd is away"),
        (200, {}, "cluster dev", "answers 200 to /version"),
    ],
)
def test_a_cluster_that_does_not_serve_is_told(
    ready: Path, api: ApiDouble, code: int, answer: Any, check: str, said: str
) -> None:
    api.answers["GET", "/version"] = (code, answer)
    findings = found(ready)
    assert (findings[check].level, said in findings[check].text) == ("fail", True)


def test_a_credential_that_went_bad_is_told(
    tmp_path: Path, api: ApiDouble, evidence: Path, monkeypatch
) -> None:
    (tmp_path / "token").write_text("good")
    (tmp_path / "token").chmod(0o600)
    path = write(tmp_path, api, credential={"tokenFile": "token"})
    real = config.load

    def then_spoil(path: Path) -> Any:
        gateway = real(path)
        (tmp_path / "token").write_text("two words")
        return gateway

    monkeypatch.setattr(config, "load", then_spoil)
    finding = found(path)["cluster dev credential"]
    assert "the token holds spaces" in finding.text


@pytest.mark.parametrize(
    ("off", "level", "said"),
    [
        (0.0, "ok", "agrees"),
        (12.0, "warn", "12 s ahead of"),
        (-12.0, "warn", "s behind"),
        (600.0, "fail", "ahead of the API server's"),
    ],
)
def test_a_clock_that_is_off_is_told(ready: Path, api: ApiDouble, off: float, level: str, said: str) -> None:
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    finding = command._clock("cluster dev", began, began.timestamp() + 0.5 + off)
    assert (finding.level, said in finding.text) == (level, True)


def test_the_clock_is_compared_with_what_the_server_says(ready: Path, api: ApiDouble) -> None:
    api.date_off = 600.0
    assert found(ready)["cluster dev clock"].level == "fail"


def test_a_server_that_tells_no_time_is_told(ready: Path, api: ApiDouble) -> None:
    api.date_off = None  # type: ignore[assignment]
    assert found(ready)["cluster dev clock"].level == "warn"


@pytest.mark.parametrize(
    "answer", [(403, {}), (201, {"status": {"userInfo": 5}}), (201, {"status": 5}), (201, {})]
)
def test_a_server_that_does_not_tell_who_the_gateway_is(
    ready: Path, api: ApiDouble, answer: tuple[int, Any]
) -> None:
    api.answers["POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"] = answer
    assert "does not tell whose it is" in found(ready)["cluster dev credential"].text


@pytest.mark.parametrize(
    ("may_not", "level", "said"),
    [
        ((), "ok", "the gateway may act as the agents"),
        (("users",), "fail", "may not impersonate users"),
        (("groups", "userextras"), "fail", "may not impersonate groups, userextras/interlock-agent"),
    ],
)
def test_impersonation_that_is_not_allowed_is_told(
    tmp_path: Path, api: ApiDouble, evidence: Path, may_not: tuple[str, ...], level: str, said: str
) -> None:
    api.may = lambda attributes: attributes["resource"] not in may_not
    issuer = {
        "issuer": "https://idp.example",
        "audience": "a",
        "jwks": "jwks.json",
        "agentClaim": "a",
        "ownerClaim": "o",
    }
    finding = found(write(tmp_path, api, actAs="impersonate", issuer=issuer))["cluster dev impersonation"]
    assert (finding.level, said in finding.text) == (level, True)
    asked = [a.body["spec"]["resourceAttributes"] for a in api.asked if a.path.endswith("accessreviews")]
    assert {
        "verb": "impersonate",
        "group": "authentication.k8s.io",
        "resource": "userextras",
        "subresource": "interlock-session",
    } in asked
    assert sum(attributes["resource"] == "userextras" for attributes in asked) == 3


def everything(_: dict[str, Any]) -> bool:
    return True


def nothing(_: dict[str, Any]) -> bool:
    return False


@pytest.mark.parametrize(
    ("may", "level", "said"),
    [
        (everything, "warn", "interlock-gateway may do everything in the cluster"),
        (nothing, "ok", "nothing by which rights are gained"),
        (lambda a: a["verb"] == "escalate", "warn", "interlock-gateway may escalate clusterroles"),
        (lambda a: a["subresource"] == "token", "warn", "may create serviceaccounts/token"),
    ],
)
def test_rights_beyond_need_are_told(
    ready: Path, api: ApiDouble, may: Callable[[dict[str, Any]], bool], level: str, said: str
) -> None:
    api.may = may
    finding = found(ready)["cluster dev rights"]
    assert (finding.level, said in finding.text) == (level, True)


def test_a_credential_that_every_user_can_read_is_told(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").chmod(0o644)
    finding = found(ready)["cluster dev credential"]
    assert (finding.level, "every user of this machine can read" in finding.text) == ("warn", True)


# ---------------------------------------------------------------------------------------------- the gateway


class Running:
    """A console's double."""

    def __init__(self) -> None:
        self.alive: Any = {"status": "ok"}
        self.ready: tuple[int, Any] = (200, {"status": "ok"})
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = (200, double.alive) if self.path == "/healthz" else double.ready
                content = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


def test_a_gateway_that_runs_is_told(
    tmp_path: Path, api: ApiDouble, evidence: Path, running: Running
) -> None:
    findings = found(write(tmp_path, api, console=running.address))
    assert findings["gateway"].text == f"runs; console http://{running.address}"
    assert findings["recorder"].text == "does not run, so nothing is sealed"


def test_a_gateway_is_found_by_its_ready_file(
    tmp_path: Path, api: ApiDouble, evidence: Path, running: Running
) -> None:
    (tmp_path / "ready.json").write_text(json.dumps({"console": f"http://{running.address}"}))
    assert found(write(tmp_path, api, readyFile="ready.json"))["gateway"].level == "ok"


def test_a_gateway_that_opens_no_session_is_told(
    tmp_path: Path, api: ApiDouble, evidence: Path, running: Running
) -> None:
    running.ready = (503, {"error_description": "the state database cannot be used: gone"})
    finding = found(write(tmp_path, api, console=running.address))["gateway"]
    assert (finding.level, finding.text) == (
        "fail",
        "runs, and opens no session: the state database cannot be used: gone",
    )


@pytest.mark.parametrize("alive", [{"status": "up"}, [], "x"])
def test_another_program_at_the_consoles_address_is_no_gateway(
    tmp_path: Path, api: ApiDouble, evidence: Path, running: Running, alive: Any
) -> None:
    running.alive = alive
    assert found(write(tmp_path, api, console=running.address))["gateway"].text == "does not run"


def test_a_runnning_gateway_whose_recorder_said_why_it_ended(
    tmp_path: Path, api: ApiDouble, evidence: Path, running: Running
) -> None:
    path = write(tmp_path, api, console=running.address)
    (evidence / "private" / "recorder.log").write_text("first\nevidence cannot be sealed: disk full\n")
    assert "recorder.log says: evidence cannot be sealed: disk full" in found(path)["recorder"].remedy
    (evidence / "evidence.duckdb").unlink()
    finding = found(path)["evidence"]
    assert (finding.level, "has no evidence.duckdb" in finding.text) == ("fail", True)
    shutil.rmtree(evidence / "private")
    assert "start the gateway again" in found(path)["evidence"].remedy


def test_nobody_at_the_consoles_address_is_no_gateway(tmp_path: Path, api: ApiDouble, evidence: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert found(write(tmp_path, api, console=f"127.0.0.1:{port}"))["gateway"].text == "does not run"


def test_a_port_that_is_taken_is_told(tmp_path: Path, api: ApiDouble, evidence: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        finding = found(write(tmp_path, api, proxy=address))["gateway"]
    assert (finding.level, f"listen.proxy: {address}: address already in use" in finding.text) == (
        "fail",
        True,
    )


# ----------------------------------------------------------------------------------------------- one refusal


def test_a_refused_sessions_whole_reason_is_told_by_its_id(
    run, ready: Path, evidence: Path, journal: Journal
) -> None:
    journal.commit(
        events.SessionRefused(
            ts=samples.now(), reason="token from issuer 'https://evil\x1b', which is not configured",
            refusal_id="4711-b", code=400, cluster="dev", client_ip="10.0.0.9",
        )
    )  # fmt: skip
    ran = run("doctor", "--config", ready, "--id", "4711-b")
    assert ran.code == 0
    assert "      reason  token from issuer 'https://evil\\x1b', which is not configured\n" in ran.out
    assert "   client_ip  10.0.0.9\n" in ran.out
    (record,) = json.loads(run("doctor", "--config", ready, "--id", "4711-b", "--json").out)
    assert (record["refusal_id"], record["code"]) == ("4711-b", 400)


def test_a_refused_request_is_told_by_its_audit_id(
    run, ready: Path, evidence: Path, journal: Journal
) -> None:
    sent = samples.request(decision=samples.denied(reason="no rule allows it; rule read comes closest"))
    journal.commit(sent)
    (record,) = json.loads(run("doctor", "--config", ready, "--id", sent.id, "--json").out)
    assert (record["effect"], record["reason"]) == ("deny", "no rule allows it; rule read comes closest")
    assert record["request_id"] == sent.id


@pytest.mark.parametrize("id", ["nope", "'; DROP TABLE log; --", "\x1b[2J"])
def test_an_id_that_nobody_knows_is_told(run, ready: Path, id: str) -> None:
    ran = run("doctor", "--config", ready, "--id", id)
    assert isinstance(ran.error, Failed)
    assert "knows no refusal or exchange" in ran.message
    assert ran.message.isprintable()


def test_no_evidence_no_reason(run, tmp_path: Path, api: ApiDouble) -> None:
    ran = run("doctor", "--config", write(tmp_path, api), "--id", "4711")
    assert isinstance(ran.error, Failed)
    assert "give an evidence directory" in ran.message


def test_the_key_that_the_double_shows_is_usable() -> None:
    from interlock.identity.oidc import parse_keys

    assert len(parse_keys(json.dumps({"keys": [RSA]}).encode())) == 1
