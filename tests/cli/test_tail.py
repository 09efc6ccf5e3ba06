"""`interlock tail`: what is decided, as it is decided, in lines that a terminal only shows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from cli.double import ApiDouble
from cli.setups import write
from evidence import samples
from interlock.cli import tail as command
from interlock.cli.errors import Failed
from interlock.cli.tail import _target, _Told, exchange, note, records
from interlock.evidence import events
from interlock.evidence.journal import Journal

HOSTILE = "x\x1b]0;title\x07\u202e"


def lines(run, evidence: Path, *options: object, width: int = 100) -> list[str]:
    ran = run("tail", "--evidence", evidence, "--no-follow", *options, width=width)
    assert (ran.code, ran.error) == (0, None)
    return ran.out.splitlines()


def test_an_exchange_is_a_line_with_who_what_effect_rule_code_and_masks(
    run, evidence: Path, journal: Journal
) -> None:
    sent = samples.request(verb="get", resource="secrets", name="payments", ts=1767225600_000000, agent=None)
    journal.commit(sent)
    journal.commit(samples.response(sent, masked=3))
    assert lines(run, evidence) == [
        "00:00:00 dana@example.test get    secrets shop-a/payments    allow  developers-read   200  3 masked"
    ]


def test_a_refusal_has_its_reason_below(run, evidence: Path, journal: Journal) -> None:
    decision = samples.denied(
        reason="policy refuses to delete pods; no rule allows it; ask the operator " * 3
    )
    sent = samples.request(verb="delete", decision=decision, ts=1767225600_000000)
    journal.commit(sent)
    journal.commit(samples.response(sent, code=403, origin="gateway", upstream_code=None))
    first, *below = lines(run, evidence)
    assert first.startswith("00:00:00 codex·da…ple.test delete pods shop-a/")
    assert first.rstrip().endswith("deny   (authorization)   403")
    assert all(line.startswith("         ") and len(line) <= 100 for line in below)
    assert " ".join(line.strip() for line in below) == decision.reason.strip()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_lines_fit_the_terminal_whatever_agents_send(
    run, evidence: Path, journal: Journal, width: int
) -> None:
    sent = samples.request(
        resource="customresourcedefinitions", api_group="apiextensions.k8s.io", subresource="status",
        namespace="n" * 63, name="m" * 253, user_name="u" * 256, agent="a" * 256,
        decision=samples.decision(rule="r" * 200),
    )  # fmt: skip
    journal.commit(sent)
    journal.commit(samples.response(sent))
    (line,) = lines(run, evidence, width=width)
    assert len(line.rstrip()) <= width


def test_what_agents_wrote_does_nothing_to_the_terminal(run, evidence: Path, journal: Journal) -> None:
    decision = samples.denied(reason=f"no {HOSTILE}\nsecond line", rule=HOSTILE)
    sent = samples.request(name=HOSTILE, user_name=HOSTILE, verb=HOSTILE[:5], decision=decision)
    journal.commit(sent)
    journal.commit(samples.response(sent, ended=HOSTILE, reason=f"end {HOSTILE}"))
    ran = run("tail", "-e", evidence, "--no-follow", width=200)
    assert "\\x1b]0;title\\x07\\u202e" in ran.out
    assert not {"\x1b", "\x07", "\u202e"} & set(ran.out)


def test_a_pipe_is_never_cut(run, evidence: Path, journal: Journal) -> None:
    sent = samples.request(name="m" * 253)
    journal.commit(sent)
    journal.commit(samples.response(sent))
    ran = run("tail", "-e", evidence, "--no-follow")
    assert f"pods shop-a/{'m' * 253} allow" in ran.out


def test_json_is_one_object_a_line(run, evidence: Path, journal: Journal) -> None:
    sent = samples.request(name=HOSTILE)
    journal.commit(sent)
    journal.commit(samples.response(sent, masked=1))
    (line,) = lines(run, evidence, "--json")
    record = json.loads(line)
    assert line.isascii()
    assert record["request_id"] == sent.id
    assert (record["effect"], record["code"], record["masked"], record["name"]) == ("allow", 200, 1, HOSTILE)


def test_the_past_begins_where_it_is_told_to(run, evidence: Path, journal: Journal) -> None:
    for number in range(5):
        sent = samples.request(name=f"pod-{number}", ts=samples.now() + number)
        journal.commit(sent)
        journal.commit(samples.response(sent))
    shown = [json.loads(line)["name"] for line in lines(run, evidence, "--json", "-n", 2)]
    assert shown == ["pod-3", "pod-4"]
    assert lines(run, evidence, "--json", "-n", 0) == []
    assert len(lines(run, evidence, "--json")) == 5


def test_only_what_was_refused(run, evidence: Path, journal: Journal) -> None:
    for decision in (samples.decision(), samples.denied(), samples.decision(effect="fault", code=503)):
        sent = samples.request(decision=decision)
        journal.commit(sent)
        journal.commit(samples.response(sent))
    broken = samples.request()
    journal.commit(broken)
    journal.commit(samples.response(broken, ended="fault", reason="masking failed"))
    journal.commit(samples.policy())
    journal.commit(samples.policy(outcome="refused", reason="policy.yaml:1:1: no"))
    journal.commit(events.SessionRefused(ts=samples.now(), reason="wrong issuer", refusal_id="4711"))
    shown = [json.loads(line) for line in lines(run, evidence, "--denied", "--json", "-n", 3)]
    assert [(record["effect"], record.get("ended")) for record in shown] == [
        ("deny", "complete"),
        ("fault", "complete"),
        ("allow", "fault"),
        ("refused", None),
        ("deny", None),
    ]
    assert shown[-1]["refusal_id"] == "4711"


def test_what_is_still_open_is_told_once_and_again_at_its_end() -> None:
    sent = json.loads(events.leaf(samples.request(verb="watch"), "gateway-1", 1))
    end = json.loads(
        events.leaf(samples.response(samples.request(id=sent["id"]), ended="client_gone"), "g", 2)
    )
    told = _Told([])
    assert list(told.event(sent)) == []
    looks = [record for _ in range(30) for record in told.idle()]
    assert [record["ended"] for record in looks] == [None]
    assert [record["ended"] for record in told.event(end)] == ["client_gone"]
    assert list(told.event(end)) == []
    assert list(told.rest()) == []


def test_what_was_open_before_is_told_at_its_end_only(run, evidence: Path, journal: Journal) -> None:
    watch = samples.request(verb="watch", ts=samples.now() - 5_000_000)
    journal.commit(watch)
    found = records(evidence, last=0, follow=True, denied=False)
    later = samples.request()
    journal.commit(samples.response(samples.request()))  # of a request that nobody knows
    first = next_after(found, lambda: (journal.commit(later), journal.commit(samples.response(later))))
    assert first["request_id"] == later.id
    journal.commit(samples.response(watch, ended="client_gone"))
    assert next(found)["request_id"] == watch.id


def next_after(found, act):
    """The next record, when `act` happens after the past was read: at the first look that finds nothing."""
    from interlock.evidence import reading

    real, done = reading.time.sleep, []

    def sleep(seconds: float) -> None:
        if not done:
            done.append(act())
        real(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading.time, "sleep", sleep)
        return next(found)


def test_without_following_what_is_open_is_told_at_the_end(run, evidence: Path, journal: Journal) -> None:
    journal.commit(samples.request(verb="watch"))
    (line,) = lines(run, evidence)
    assert line.rstrip().endswith("open")
    assert lines(run, evidence, "--denied") == []
    journal.commit(samples.request(decision=samples.denied()))
    assert len(lines(run, evidence, "--denied")) == 2


def test_without_following_it_ends_although_more_comes(
    evidence: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interlock.evidence import reading

    def endless(*_: object):
        for _ in itertools.count():
            yield json.loads(events.leaf(samples.request(ts=samples.now() + 60_000_000), "gateway-1", 1))

    monkeypatch.setattr(reading, "tail", endless)
    assert list(records(evidence, last=1, follow=False, denied=False)) == []


def test_following_shows_what_comes(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.evidence import reading

    sent = samples.request()
    events_now = [
        json.loads(events.leaf(event, "gateway-1", n))
        for n, event in enumerate([sent, samples.response(sent)])
    ]
    monkeypatch.setattr(reading, "tail", lambda *_: iter([None, *events_now, None]))
    shown = list(records(evidence, last=0, follow=True, denied=False))
    assert [record["request_id"] for record in shown] == [sent.id]
    assert list(records(evidence, last=0, follow=True, denied=True)) == []


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "UNDECIDED", 2)
    told = _Told([])
    sent = [json.loads(events.leaf(samples.request(), "gateway-1", n)) for n in range(1, 5)]
    shown = [record["request_id"] for event in sent for record in told.event(event)]
    assert shown == [sent[0]["id"], sent[1]["id"]]
    told = _Told(sent[:2])
    assert [record for event in sent[2:] for record in told.event(event)] == []


@pytest.mark.parametrize(
    ("event", "what", "effect", "reason"),
    [
        (samples.policy(), "policy_loaded", "loaded", samples.DIGEST),
        (
            samples.policy(outcome="refused", reason="a.yaml:1:1: no"),
            "policy_loaded",
            "refused",
            "a.yaml:1:1: no",
        ),
        (
            events.Health(ts=1, kind="journal_gap", component="recorder", detail="events 1 to 3 are missing"),
            "journal_gap",
            None,
            "events 1 to 3 are missing",
        ),
        (samples.started(), "gateway_started", None, "0.1.0"),
        (events.GatewayStopped(ts=1), "gateway_stopped", None, None),
        (events.SessionRefused(ts=1, reason="wrong issuer"), "session_refused", "deny", "wrong issuer"),
    ],
)
def test_what_is_no_exchange_is_a_note(event: events.Event, what: str, effect: str, reason: str) -> None:
    found = note(json.loads(events.leaf(event, "gateway-1", 1)))
    assert (found["what"], found["effect"], found["reason"]) == (what, effect, reason)


def test_notes_are_shown_and_those_of_the_doctor_are_not(run, evidence: Path) -> None:
    for name in ("gateway", "doctor"):
        log = Journal(evidence, name)
        log.commit(samples.request())
        log.commit(
            events.SessionRefused(ts=samples.now(), reason=f"of {name}", refusal_id="4711", client_ip="::1")
        )
        log.close()
        log = Journal(evidence, name)
        log.commit(samples.policy())
        log.close()
    shown = lines(run, evidence)
    assert sum(line.endswith(" policy loaded") for line in shown) == 1
    assert any(line.endswith("session refused ::1 id 4711") for line in shown)
    assert "         of gateway" in shown
    assert "         of doctor" not in shown


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"resource": "pods", "subresource": "log", "namespace": "shop", "name": "web"}, "pods/log shop/web"),
        ({"resource": "pods", "verb": "list"}, "pods *"),
        ({"resource": "pods", "verb": "watch", "namespace": "shop"}, "pods shop/*"),
        ({"resource": "pods", "verb": "create", "namespace": "shop"}, "pods shop/"),
        ({"resource": "deployments", "api_group": "apps", "name": "web", "namespace": "shop"}, "deployments.apps shop/web"),
        ({"resource": "leases", "api_group": "coordination.k8s.io", "name": "x"}, "leases.coordination x"),
        ({"resource": "namespaces", "namespace": "shop", "name": "shop"}, "namespaces shop"),
        ({"resource": "selfsubjectreviews", "api_group": "authentication.k8s.io", "verb": "create"}, "selfsubjectreviews.authentication"),
        ({"uri": "/version?timeout=32s"}, "/version"),
        ({}, "-"),
    ],
)  # fmt: skip
def test_a_target_is_short(fields: dict[str, str], shown: str) -> None:
    names = ("resource", "subresource", "namespace", "name", "verb", "uri", "api_group")
    assert _target({name: fields.get(name) for name in names}) == shown


def test_a_request_that_was_never_understood_is_a_line_too(run, evidence: Path, journal: Journal) -> None:
    sent = events.Request(
        id=samples.request().id, ts=samples.now(), client_ip="10.0.0.9", method="BREW",
        decision=events.Decision(effect="deny", stage="perimeter", code=400, reason="no such method"),
    )  # fmt: skip
    journal.commit(sent)
    journal.commit(events.Response(request_id=sent.id, ts=samples.now(), origin="gateway"))
    first, second = lines(run, evidence)
    assert first[9:].split() == ["10.0.0.9", "BREW", "-", "deny", "(perimeter)", "-"]
    assert second == "         no such method"
    assert exchange({}, None)["effect"] is None


def test_a_copy_cannot_be_followed(run, evidence: Path) -> None:
    ran = run("tail", "-e", evidence / "evidence.duckdb")
    assert isinstance(ran.error, Failed)
    assert "is a copy, to which nothing is added" in ran.message


def test_no_evidence_is_one_line(run, tmp_path: Path) -> None:
    ran = run("tail", "-e", tmp_path / "nowhere")
    assert isinstance(ran.error, Failed)
    assert "give an evidence directory" in ran.message


def test_control_c_ends_it(
    run, tmp_path: Path, api: ApiDouble, evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(command, "records", interrupted)
    ran = run("tail", "--config", write(tmp_path, api))
    assert (ran.code, ran.error) == (130, None)
