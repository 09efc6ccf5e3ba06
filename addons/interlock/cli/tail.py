"""`interlock tail`: what the gateway decides, as it decides it.

In: an evidence directory. Out: a line for each exchange when it ends (and one before, if it takes its time), and
for each thing that a reader must know beside them: refused sessions, new policies, faults. The rule: what stands
in the evidence was written by agents and clusters, so on a terminal it is only shown.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.errors import Failed
from interlock.cli.query import EVIDENCE, evidence_path
from interlock.cli.screen import WIDE, below, cut, screen, visible
from interlock.cli.up import CONFIG

if TYPE_CHECKING:
    from rich.console import Console

UNDECIDED = 10_000  # exchanges that are remembered while they are open
PATIENCE = 10  # looks at the journal (0.1 s each) before an open exchange is told of
COLOURS = {"allow": "green", "deny": "red", "fault": "bold magenta", "answer": "cyan"}
NOTES = ("session_refused", "policy_loaded", "health", "gateway_started", "gateway_stopped")

Event = dict[str, Any]


def tail(
    config: Annotated[Path, CONFIG] = Path("rules/gateway.yaml"),
    evidence: Annotated[Path | None, EVIDENCE] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was refused, or failed.")] = False,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Begin with so many of the past.")] = 10,
    follow: Annotated[bool, typer.Option(help="Go on with what comes.")] = True,
) -> None:
    """Follow what is decided: time (UTC), who, verb, what, effect, rule, HTTP code, number of masked values."""
    path = evidence_path(config, evidence)
    if path.is_file():
        raise Failed(
            f"{path} is a copy, to which nothing is added; use `interlock query`, or name a directory"
        )
    show = _as_json if as_json else _Lines(screen())
    try:
        for record in records(path, last=last, follow=follow, denied=denied):
            show(record)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def records(path: Path, *, last: int, follow: bool, denied: bool) -> Iterator[Event]:
    """What is to be shown, in order. Raises Failed if the directory holds no evidence."""
    from interlock.evidence import reading
    from interlock.evidence.events import rfc3339

    try:
        begin, open_before = _beginning(path, last, denied)
        told = _Told(open_before)
        now = rfc3339(time.time_ns() // 1000)
        for event in reading.tail(path, begin):
            if event is not None and not follow and str(event.get("ts")) > now:
                event = None
            found = told.idle() if event is None else told.event(event)
            yield from (record for record in found if not denied or _refused(record))
            if event is None and not follow:
                yield from (record for record in told.rest() if not denied or _refused(record))
                return
    except reading.EvidenceUnreadable as error:
        raise Failed(visible(str(error))) from None


def _beginning(path: Path, last: int, denied: bool) -> tuple[int | None, list[Event]]:
    """When the `last` exchanges began (microseconds since the epoch), and the requests open at that time."""
    from interlock.evidence import reading

    which = "WHERE effect IN ('deny', 'fault') OR ended = 'fault'" if denied else ""
    with reading.open_evidence(path) as connection:
        began = reading.query(
            connection,
            f"SELECT epoch_us(min(ts)) FROM (SELECT ts FROM exchanges {which} ORDER BY ts DESC LIMIT $1)",
            [last],
        ).rows[0][0]
        if began is None:
            began = reading.query(connection, "SELECT epoch_us(max(ts)) + 1 FROM log").rows[0][0]
        leaves = reading.query(
            connection,
            "SELECT leaf FROM log WHERE type = 'request' AND ts < make_timestamp($1)"
            " AND request_id IN (SELECT request_id FROM open_exchanges) ORDER BY ts DESC LIMIT $2",
            [began or 0, UNDECIDED],
        ).rows
    return began, [json.loads(leaf) for (leaf,) in reversed(leaves)]


class _Told:
    """Requests into exchanges: each is told of when it ends, and before that if it takes its time."""

    def __init__(self, open_before: list[Event]) -> None:
        # id -> the request, and how many looks ago it came; -1: it was told of
        self._open: OrderedDict[str, tuple[Event, int]] = OrderedDict(
            (event["id"], (event, -1)) for event in open_before
        )

    def event(self, event: Event) -> Iterator[Event]:
        kind = event.get("type")
        if kind == "request":
            self._open[event["id"]] = (event, 0)
            if len(self._open) > UNDECIDED:
                _, (oldest, looks) = self._open.popitem(last=False)
                if looks >= 0:
                    yield exchange(oldest, None)
        elif kind == "response":
            known = self._open.pop(event["request_id"], None)
            if known is not None:
                yield exchange(known[0], event)
        elif kind in NOTES and not str(event.get("gateway")).startswith("doctor-"):
            yield note(event)

    def idle(self) -> Iterator[Event]:
        for id, (request, looks) in self._open.items():
            if looks >= 0:
                self._open[id] = (request, looks + 1 if looks < PATIENCE else -1)
                if looks == PATIENCE:
                    yield exchange(request, None)

    def rest(self) -> Iterator[Event]:
        yield from (exchange(request, None) for request, looks in self._open.values() if looks >= 0)


def exchange(request: Event, response: Event | None) -> Event:
    """A request with its decision, and its end if it has one, under the names of the view `exchanges`."""
    decision = request.get("decision") or {}
    answer = response or {}
    record = {name: request.get(name) for name in _REQUEST}
    record |= {name: decision.get(name) for name in ("effect", "rule", "policy", "stage", "reason")}
    record |= {name: answer.get(name) for name in ("code", "masked", "ended", "duration_us")}
    return {
        "what": "exchange",
        "ts": request.get("ts"),
        "request_id": request.get("id"),
        **record,
        "end_reason": answer.get("reason"),
        "ended_at": answer.get("ts"),
    }


_REQUEST = (
    *("session_id", "origin", "cluster", "user_name", "agent", "owner", "client_ip", "method", "uri", "verb"),
    *("is_resource", "api_group", "resource", "subresource", "namespace", "name", "dry_run", "streams"),
)


def note(event: Event) -> Event:
    """What is no exchange, in the same words for all kinds."""
    kind = str(event.get("kind") or event.get("type")) if event["type"] == "health" else str(event["type"])
    detail = event.get("reason") or event.get("detail") or event.get("digest") or event.get("version")
    return {
        "what": kind,
        "ts": event.get("ts"),
        "effect": "deny" if kind == "session_refused" else event.get("outcome"),
        "user_name": event.get("user_name"),
        "cluster": event.get("cluster"),
        "client_ip": event.get("client_ip"),
        "refusal_id": event.get("refusal_id"),
        "reason": detail,
    }


def _refused(record: Mapping[str, Any]) -> bool:
    return record["effect"] in ("deny", "fault", "refused") or record.get("ended") == "fault"


def _as_json(record: Event) -> None:
    print(json.dumps({name: value for name, value in record.items() if value is not None}), flush=True)


class _Lines:
    """A line for each record, in columns that do not move, and below it why something was refused."""

    def __init__(self, out: Console) -> None:
        from rich.text import Text

        self._text = Text
        self._out = out
        # Beside time, verb, effect, code, masked and the blanks between: who, what and rule share what is left.
        left = max(out.width - 40, 30) if out.width < WIDE else 0
        self._who, self._rule = left * 2 // 7, left * 2 // 7
        self._what = left - self._who - self._rule

    def __call__(self, record: Event) -> None:
        line = self._exchange(record) if record["what"] == "exchange" else self._note(record)
        self._out.print(line, soft_wrap=True)
        reason = record.get("end_reason") or record.get("reason")
        if reason and (_refused(record) or record["what"] != "exchange"):
            self._out.print(self._text(below(str(reason), 9, self._out.width), style="dim"), soft_wrap=True)

    def _exchange(self, record: Event) -> Any:
        effect, ended = str(record["effect"]), record["ended"]
        style = COLOURS["fault"] if ended == "fault" else COLOURS.get(effect, "")
        code = record["code"] or ("open" if ended is None else "-")
        masked = f"{record['masked']} masked" if record["masked"] else ""
        broken = f" {ended}" if ended not in ("complete", "fault", None) else ""
        return self._text.assemble(
            (_time(record), "dim"),
            " ",
            (cut(_who(record), self._who), "bold"),
            " ",
            cut(str(record["verb"] or record["method"] or "-"), 6),
            " ",
            cut(_target(record), self._what),
            " ",
            (cut(effect, 6), style),
            " ",
            cut(str(record["rule"] or f"({record['stage']})"), self._rule),
            " ",
            (f"{code!s:<4}", style),
            (f" {masked}" if masked else "", "yellow"),
            (visible(broken), "dim"),
        )

    def _note(self, record: Event) -> Any:
        words = [
            record["what"].replace("_", " "),
            record["user_name"],
            record["cluster"],
            record["client_ip"],
        ]
        if record["refusal_id"]:
            words.append(f"id {record['refusal_id']}")
        said = visible(" ".join(str(word) for word in words if word))
        return self._text.assemble(
            (_time(record), "dim"), " ", (said, COLOURS["deny"] if _refused(record) else "blue")
        )


def _time(record: Event) -> str:
    """Hours, minutes and seconds, UTC, as in the evidence."""
    return str(record["ts"] or "")[11:19].ljust(8)


def _who(record: Event) -> str:
    who = record["user_name"] or record["client_ip"] or "?"
    return f"{record['agent']}·{who}" if record["agent"] else str(who)


def _target(record: Event) -> str:
    """`pods/log shop/web-1`, `deployments.apps *`, or the path of what is no resource."""
    if not record["resource"]:
        return str(record["uri"] or "-").partition("?")[0]
    group = f".{record['api_group']}".removesuffix(".k8s.io") if record["api_group"] else ""
    kind = "/".join(filter(None, (f"{record['resource']}{group}", record["subresource"])))
    name = record["name"] or ("*" if record["verb"] in ("list", "watch", "deletecollection") else "")
    namespace = record["namespace"] if record["namespace"] != record["name"] else ""
    where = f"{namespace}/{name}" if namespace else name
    return f"{kind} {where}" if where else kind
