"""schema.sql and views.sql: what the log becomes, and that a planted violation is found."""

import hashlib
import uuid
from dataclasses import fields

import duckdb
import pytest

from evidence import samples
from interlock.evidence import events, store

VIOLATIONS = [
    "promise_2_violations",
    "promise_3_violations",
    "promise_5_violations",
    "promise_6_violations",
    "promise_8_violations",
    "promise_10_violations",
    "ac3_violations",
    "ac5_violations",
    "au3_violations",
]
SECOND = 1_000_000


@pytest.fixture(scope="module")
def empty():
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(store.SCHEMA)
    store._derive(connection)
    connection.execute(store.VIEWS)
    yield connection
    connection.close()


@pytest.fixture
def evidence(empty):
    """Events go in by `evidence(...)`, as one gateway's log or another's; answers come out by `evidence.rows(sql)`."""
    yield Evidence(empty)
    for table in ("log", "bodies", *store.PROJECTED):
        empty.execute(f"DELETE FROM {table}")


class Evidence:
    def __init__(self, connection):
        self.connection = connection
        self.seqs = {}

    def __call__(self, *recorded, gateway="gateway-0123abcd", skip=0):
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE lines (gateway_id VARCHAR, seq UBIGINT, ts TIMESTAMP, type VARCHAR, request_id UUID,"
            " leaf VARCHAR, sha256 VARCHAR, text VARCHAR, base64 VARCHAR)"
        )
        for event in recorded:
            self.seqs[gateway] = seq = self.seqs.get(gateway, 0) + 1 + skip
            exchange = events.exchange_of(event)
            self.connection.execute(
                "INSERT INTO lines VALUES ($1, $2, make_timestamp($3), $4, TRY_CAST($5 AS UUID), $6, NULL, NULL, NULL)",
                [gateway, seq, event.ts, event.type, exchange, events.leaf(event, gateway, seq).decode()],
            )
        self.connection.execute("CREATE OR REPLACE TEMP TABLE leaves AS FROM main.leaves_in('lines')")
        store._insert(self.connection, "leaves")

    def body(self, content: bytes) -> str:
        digest, _ = samples.body(content)
        self.connection.execute(
            "INSERT INTO bodies VALUES ($1, $2, $3, NULL)", [digest, len(content), content.decode()]
        )
        return digest

    def rows(self, sql, *parameters):
        return self.connection.execute(sql, list(parameters)).fetchall()

    def row(self, sql, *parameters):
        (row,) = self.rows(sql, *parameters)
        return row

    def violations(self):
        return {view for view in VIOLATIONS if self.rows(f"FROM {view}")}


def clean(evidence, **fields):
    """A gateway's start, a session, and an exchange in it."""
    sent = samples.request(**fields)
    evidence(samples.started(), samples.policy(), samples.session(), sent, samples.response(sent))
    return sent


# Tables ----------------------------------------------------------------------------------------------------------


def test_an_exchange_becomes_rows(evidence):
    found = (samples.finding(path="$.a", token="masked-secret-abc"), samples.finding(path="$.b", count=2))
    sent = samples.request(
        classes=frozenset({"secret-read"}),
        holds_mask=True,
        body_bytes=7,
        findings=(samples.finding(path="$.uri"),),
    )
    evidence(
        samples.policy(),
        samples.session(),
        sent,
        samples.response(sent, masked=2, findings=found, duration_us=1500),
    )
    row = evidence.row(
        "SELECT id, ts, session_id, origin, method, uri, verb, api_group, version, resource, subresource, namespace, name,"
        " client_ip, groups, classes, dry_run, holds_mask, body_bytes, gateway_id, seq FROM requests"
    )
    assert row[0] == uuid.UUID(sent.id)
    assert row[2:] == (
        "session-1", "agent", "GET", "/api/v1/namespaces/shop-a/pods", "list", "", "v1", "pods", None, "shop-a", None,
        "127.0.0.1", ["developers"], ["secret-read"], False, True, 7, "gateway-0123abcd", 3,
    )  # fmt: skip
    assert evidence.row("SELECT epoch_us(ts) FROM requests") == (sent.ts,)
    assert evidence.row("SELECT request_id, effect, stage, rule, policy, policy_digest, code, matched, latency_us FROM decisions") == (
        uuid.UUID(sent.id), "allow", "authorization", "developers-read", "shop", samples.DIGEST, None, ["developers-read"], 21,
    )  # fmt: skip
    assert evidence.row("SELECT origin, code, ended, masked, duration_us FROM responses") == (
        "upstream",
        200,
        "complete",
        2,
        1500,
    )
    assert evidence.rows("SELECT source, number, path, token, count FROM findings ORDER BY ALL") == [
        ("request", 1, "$.uri", None, 1),
        ("response", 1, "$.a", "masked-secret-abc", 1),
        ("response", 2, "$.b", None, 2),
    ]
    assert evidence.row("SELECT digest, outcome, files, rules FROM policies") == (
        samples.DIGEST, "loaded", [{"path": "policy.yaml", "sha256": samples.DIGEST}], 3,
    )  # fmt: skip


def test_each_field_of_each_event_has_its_column(evidence):
    """What is recorded can be asked for: no field ends in the log alone."""
    tables = {
        events.GatewayStarted: "health_events", events.GatewayStopped: "health_events", events.Health: "health_events",
        events.PolicyLoaded: "policies", events.SessionOpened: "session_events", events.SessionRefused: "session_events",
        events.SessionEnded: "session_events", events.Request: "requests", events.Response: "responses",
        events.StreamChunk: "stream_chunks", events.ApprovalChanged: "approval_events", events.Reviewed: "reviews",
        events.Decision: "decisions", events.Finding: "findings",
    }  # fmt: skip
    assert set(events.RECORDS) <= set(tables)
    for record, table in tables.items():
        columns = {
            name
            for (name,) in evidence.rows(
                "SELECT column_name FROM duckdb_columns() WHERE table_name = $1", table
            )
        }
        assert {field.name for field in fields(record)} - {"decision", "findings"} <= columns, record


def test_a_leafs_hash_is_that_of_rfc_6962(evidence):
    clean(evidence)
    for leaf, leaf_hash in evidence.rows("SELECT leaf, leaf_hash FROM log"):
        assert hashlib.sha256(b"\0" + leaf.encode()).hexdigest() == leaf_hash


def test_values_of_the_wrong_kind_are_null_and_break_nothing(evidence):
    evidence(samples.request(id="not-a-uuid", body_bytes=None))
    assert evidence.row("SELECT id, uri FROM requests") == (None, "/api/v1/namespaces/shop-a/pods")
    assert "au3_violations" in evidence.violations()


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b", "\x1f\x7f\u2028", "é😀", "'\"\\\\n", "null", "x" * 100_000], ids=ascii
)
def test_any_text_is_there_as_it_was(evidence, text):
    sent = samples.request(user_agent=text, groups=(text, "a"), decision=samples.decision(reason=text))
    evidence(sent, samples.response(sent, findings=(samples.finding(path=text),)))
    assert evidence.row("SELECT user_agent, groups FROM requests") == (text, [text, "a"])
    assert evidence.row("SELECT reason FROM decisions") == (text,)
    assert evidence.row("SELECT path FROM findings") == (text,)


def test_a_session_is_one_row_with_its_end(evidence):
    opened = samples.session()
    evidence(
        opened,
        samples.session(session_id="session-2"),
        samples.session(ts=opened.ts + SECOND, renewed=True, expires_at=opened.ts + 900 * SECOND),
        events.SessionRefused(ts=opened.ts, reason="wrong audience", refusal_id="r1", code=400),
        events.SessionEnded(
            ts=opened.ts + 2 * SECOND, session_id="session-1", reason="revoked", ended_by="ops"
        ),
    )
    assert evidence.rows(
        "SELECT id, state, renewals, user_name, end_reason, ended_by FROM sessions ORDER BY id"
    ) == [
        ("session-1", "ended", 1, "dana@example.test", "revoked", "ops"),
        ("session-2", "open", 0, "dana@example.test", None, None),
    ]
    assert evidence.row(
        "SELECT epoch_us(ended_at), epoch_us(expires_at) FROM sessions WHERE id = 'session-1'"
    ) == (
        opened.ts + 2 * SECOND,
        opened.ts + 900 * SECOND,
    )
    assert evidence.row("SELECT reason, code FROM session_events WHERE event = 'refused'") == (
        "wrong audience",
        400,
    )


def approval(state, **fields):
    return events.ApprovalChanged(
        **{"id": "approval-1", "ts": samples.now(), "state": state, "requester": "dana", "owner": "dana"}
        | fields
    )


def test_an_approval_is_one_row_with_its_last_state(evidence):
    evidence(
        approval("pending", request_digest="d1", expires_at=samples.now() + SECOND),
        approval("approved", approver="olu", decided_at=samples.now()),
    )
    assert evidence.row("SELECT id, state, requester, approver, request_digest, uses FROM approvals") == (
        "approval-1", "approved", "dana", "olu", "d1", 0,
    )  # fmt: skip
    assert evidence.row("SELECT approval_id, state, held_us >= 0 FROM held") == (
        "approval-1",
        "approved",
        True,
    )


# Views of every day ----------------------------------------------------------------------------------------------


def test_the_day_in_views(evidence):
    sent = clean(evidence)
    refused = samples.request(decision=samples.denied(), resource="secrets", verb="get")
    evidence(
        refused,
        samples.response(
            refused, origin="gateway", code=403, upstream_code=None, findings=(samples.finding(),)
        ),
    )
    assert evidence.rows(
        "SELECT user_name, verb, what, namespace, effect, code FROM who_did_what ORDER BY ts"
    ) == [
        ("dana@example.test", "list", "core/pods", "shop-a", "allow", 200),
        ("dana@example.test", "get", "core/secrets", "shop-a", "deny", 403),
    ]
    assert evidence.row("SELECT request_id, reason, code FROM denied") == (
        uuid.UUID(refused.id),
        "no rule allows it",
        403,
    )
    assert evidence.row("SELECT path, category, resource, source FROM masked") == (
        "$.data.password",
        "secret",
        "secrets",
        "response",
    )
    assert [what for (what,) in evidence.rows("SELECT what FROM timeline ORDER BY seq")] == [
        "health", "policy", "session", "request", "response", "request", "response",
    ]  # fmt: skip
    assert evidence.row("SELECT who, target, outcome FROM timeline WHERE request_id = $1 AND what = 'request'", sent.id) == (
        "dana@example.test", "list /api/v1/namespaces/shop-a/pods", "allow developers-read",
    )  # fmt: skip
    assert evidence.row("SELECT gateway_id, last_seq, state FROM gateways") == (
        "gateway-0123abcd",
        7,
        "running",
    )


def test_a_request_that_is_no_resource_is_shown_by_its_path(evidence):
    evidence(
        samples.request(
            is_resource=False, resource="", uri="/version", verb="get", api_group=None, namespace=None
        )
    )
    assert evidence.row("SELECT what FROM who_did_what") == ("/version",)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (events.GatewayStopped(ts=samples.now()), "stopped"),
        (samples.started(), "started again"),
        (events.Health(ts=samples.now(), kind="gateway_died", component="recorder", detail="", about_gateway="gateway-0123abcd", about_seq=5), "died"),
    ],
)  # fmt: skip
def test_an_exchange_is_open_until_its_gateway_is_gone(evidence, end, reason):
    clean(evidence)
    left = samples.request()
    evidence(samples.request(), gateway="gateway-11111111")  # another gateway's
    evidence(left, gateway="gateway-0123abcd")
    assert evidence.row("SELECT count(*) FROM open_exchanges") == (2,)
    assert not evidence.rows("FROM incomplete")
    about_it = not isinstance(end, events.Health)
    evidence(end, gateway="gateway-0123abcd" if about_it else "recorder-00000000")
    if not about_it:
        assert evidence.row("SELECT about_seq FROM health_events WHERE kind = 'gateway_died'") == (5,)
        evidence(
            events.Health(ts=samples.now(), kind="gateway_died", component="recorder", detail="", about_gateway="gateway-0123abcd", about_seq=6),
            gateway="recorder-00000000",
        )  # fmt: skip
    request_id, text = evidence.row("SELECT request_id, reason FROM incomplete")
    assert request_id == uuid.UUID(left.id)
    assert reason in text
    assert evidence.row("SELECT count(*) FROM open_exchanges") == (1,)


def test_what_is_not_whole_says_why(evidence):
    there = evidence.body(b"there")
    faulty, truncated, missing, whole = (samples.request() for _ in range(4))
    watch, left = samples.request(streams=True), samples.request(streams=True)
    evidence(
        samples.started(), faulty, truncated, missing, whole, watch, left,
        samples.response(faulty, ended="fault", reason="masking could not read it"),
        samples.response(truncated, body_truncated=True),
        samples.response(missing, body_sha256="0" * 64),
        samples.response(whole, body_sha256=there),
        samples.chunk(watch, 0, body_sha256=there), samples.chunk(watch, 1), samples.chunk(watch, 4),
        samples.response(watch, ended="client_gone", reason="the client closed it"),
        samples.response(left, ended="upstream_gone", reason="reset"),
    )  # fmt: skip
    reasons = {
        str(request_id): reason
        for request_id, reason in evidence.rows("SELECT request_id, reason FROM incomplete")
    }
    assert reasons == {
        faulty.id: "ended early: fault: masking could not read it",
        truncated.id: "the response's body is recorded only in part",
        missing.id: f"the body {'0' * 64} is not there",
        watch.id: "2 pieces of the stream are missing before piece 4",
        left.id: "ended early: upstream_gone: reset",
    }


def test_a_request_whose_body_is_cut_is_not_whole(evidence):
    sent = samples.request(body_truncated=True)
    evidence(sent, samples.response(sent))
    assert evidence.row("SELECT reason FROM incomplete") == ("the request's body is recorded only in part",)


def test_a_hole_in_a_log_is_shown(evidence):
    evidence(samples.started())
    evidence(samples.policy(), skip=2)
    evidence(samples.started(), gateway="gateway-11111111", skip=4)
    assert evidence.rows("SELECT gateway_id, from_seq, to_seq, events FROM seq_gaps ORDER BY ALL") == [
        ("gateway-0123abcd", 2, 3, 2),
        ("gateway-11111111", 1, 4, 4),
    ]


# What must never be ----------------------------------------------------------------------------------------------


def test_an_ordinary_day_violates_nothing(evidence):
    clean(evidence)
    refused, self_review = samples.request(decision=samples.denied()), samples.request()
    own = samples.request(origin="gateway", parent_id=self_review.id, client_ip=None, session_id=None)
    evidence(
        refused, samples.response(refused, origin="gateway", code=403, upstream_code=None),
        self_review, own, samples.response(own), samples.chunk(self_review, 0),
        samples.response(self_review, ended="client_gone", chunks=1),
        events.SessionEnded(ts=samples.now(), session_id="session-1", reason="revoked"),
        samples.request(),  # within the second that it takes to hear of it
        samples.request(decision=samples.denied(stage="perimeter", code=400), method="BREW", uri="/", cluster=None,
                        user_name=None, session_id=None),
    )  # fmt: skip
    assert evidence.violations() == set()
    assert evidence.row("SELECT count(*) FROM requests") == (6,)
    assert not evidence.rows("FROM incomplete")


def test_an_approved_act_violates_nothing(evidence):
    acted = samples.request(request_digest="d1", decision=samples.decision(approval_id="approval-1"))
    evidence(samples.started(), samples.policy(), samples.session())
    evidence(
        approval("pending", request_digest="d1"),
        approval("approved", approver="olu", decided_at=samples.now()),
        approval("consumed", consumed_at=samples.now(), consumed_by=acted.id),
        acted,
        samples.response(acted),
    )
    assert evidence.violations() == set()


LATE = samples.now() + 3600 * SECOND
PLANTED = {
    "passed on although denied": (
        {"promise_2_violations", "ac3_violations"},
        lambda q: [q := samples.request(decision=samples.denied()), samples.response(q)],
    ),
    "passed on by no named rule": (
        {"promise_2_violations", "ac3_violations"},
        lambda q: [q := samples.request(decision=samples.decision(rule=None)), samples.response(q)],
    ),
    "answered without a recorded request": (
        {"promise_3_violations"},
        lambda q: [samples.response(samples.request())],
    ),
    "streamed without a recorded request": (
        {"promise_3_violations"},
        lambda q: [samples.chunk(samples.request(), 0)],
    ),
    "answered before its request was recorded": (
        {"promise_3_violations"},
        lambda q: [samples.response(q := samples.request()), q],
    ),
    "allowed without a session": (
        {"promise_5_violations"},
        lambda q: [samples.request(session_id=None)],
    ),
    "allowed in a session that nobody opened": (
        {"promise_5_violations"},
        lambda q: [samples.request(session_id="session-9")],
    ),
    "allowed after its session had ended": (
        {"promise_5_violations"},
        lambda q: [events.SessionEnded(ts=samples.now() - 5 * SECOND, session_id="session-1", reason="revoked"), samples.request()],
    ),
    "allowed after its session had expired": (
        {"promise_5_violations"},
        lambda q: [samples.session(session_id="s", expires_at=samples.now() - 5 * SECOND), samples.request(session_id="s")],
    ),
    "a masked value written": (
        {"promise_8_violations"},
        lambda q: [q := samples.request(holds_mask=True, verb="update"), samples.response(q)],
    ),
    "two ends": (
        {"promise_10_violations"},
        lambda q: [q := samples.request(), samples.response(q), samples.response(q)],
    ),
    "broke off without a reason": (
        {"promise_10_violations"},
        lambda q: [q := samples.request(), samples.response(q, ended="fault")],
    ),
    "a policy that no record shows": (
        {"ac3_violations"},
        lambda q: [samples.request(decision=samples.decision(policy_digest="0" * 64))],
    ),
    "a policy that was refused": (
        {"ac3_violations"},
        lambda q: [samples.policy(digest="1" * 64, outcome="refused"), samples.request(decision=samples.decision(policy_digest="1" * 64))],
    ),
    "no source": ({"au3_violations"}, lambda q: [samples.request(client_ip=None)]),
    "no method": ({"au3_violations"}, lambda q: [samples.request(method=None)]),
    "nobody allowed": ({"au3_violations"}, lambda q: [samples.request(user_name=None)]),
    "nowhere allowed": ({"au3_violations"}, lambda q: [samples.request(cluster=None)]),
    "approved by oneself": (
        {"promise_6_violations", "ac5_violations"},
        lambda q: [approval("approved", approver="dana", decided_at=samples.now())],
    ),
    "approved by its agent": (
        {"promise_6_violations", "ac5_violations"},
        lambda q: [approval("approved", agent="codex", approver="codex", decided_at=samples.now())],
    ),
    "used twice": (
        {"promise_6_violations"},
        lambda q: [approval("approved", approver="olu", decided_at=samples.now()),
                   *(approval("consumed", consumed_at=samples.now(), consumed_by=q) for _ in range(2))],
    ),
    "used without a decision": (
        {"promise_6_violations"},
        lambda q: [approval("consumed", consumed_at=samples.now(), consumed_by=q)],
    ),
    "used after it had expired": (
        {"promise_6_violations"},
        lambda q: [approval("approved", approver="olu", decided_at=samples.now(), expires_at=samples.now()),
                   approval("consumed", consumed_at=LATE, consumed_by=q)],
    ),
    "used for something else": (
        {"promise_6_violations"},
        lambda q: [approval("approved", approver="olu", decided_at=samples.now(), request_digest="d1"),
                   approval("consumed", consumed_at=samples.now(), consumed_by=q)],
    ),
    "passed on under an approval that is not recorded": (
        {"promise_6_violations"},
        lambda q: [samples.request(decision=samples.decision(approval_id="approval-9"))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_violation_is_found(evidence, planted):
    views, plant = PLANTED[planted]
    evidence(*plant(clean(evidence).id))
    assert evidence.violations() == views


def test_a_hole_that_nobody_explains_is_found_and_one_that_is_explained_is_not(evidence):
    clean(evidence)
    evidence(samples.policy(), skip=3)
    assert evidence.violations() == {"promise_10_violations"}
    evidence(
        events.Health(
            ts=samples.now(),
            kind="journal_gap",
            component="recorder",
            detail="",
            about_gateway="gateway-0123abcd",
            about_seq=6,
        ),
        gateway="recorder-00000000",
    )
    assert evidence.violations() == set()


def test_a_request_without_a_decision_is_found(evidence):
    clean(evidence)
    evidence.connection.execute("DELETE FROM decisions")
    assert {"promise_2_violations", "au3_violations"} <= evidence.violations()


def test_what_comes_while_a_query_runs_is_no_violation(evidence):
    """The tables of one query are read one after another: what is younger than the query is not judged."""
    clean(evidence)
    later = samples.now() + 60 * SECOND
    evidence(
        samples.response(samples.request(), ts=later, body_sha256="0" * 64),
        samples.request(
            ts=later, session_id="s2", decision=samples.decision(policy_digest="0" * 64), client_ip=None
        ),
    )
    assert evidence.violations() == set()
    assert not evidence.rows("FROM incomplete")
