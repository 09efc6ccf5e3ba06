"""`interlock query`: SQL on the evidence, shown so that what agents wrote there does nothing to a terminal."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from cli.double import ApiDouble
from cli.setups import write
from evidence import samples
from interlock.cli import query as command
from interlock.cli.errors import Failed
from interlock.cli.query import ask, plain, text
from interlock.evidence.journal import Journal
from interlock.evidence.reading import Result

HOSTILE = "\x1b[2J[red]x[/red]\u202e"


def test_what_was_just_recorded_is_in_the_answer(run, evidence: Path, journal: Journal) -> None:
    journal.commit(samples.request(name=HOSTILE, resource="secrets", decision=samples.denied()))
    ran = run("query", "SELECT resource, effect, name FROM exchanges", "--evidence", evidence, "--json")
    assert json.loads(ran.out) == [{"resource": "secrets", "effect": "deny", "name": HOSTILE}]
    assert ran.out.isascii()
    assert "\x1b" not in ran.out


def test_the_configuration_names_the_evidence(run, tmp_path: Path, api: ApiDouble, evidence: Path) -> None:
    config = write(tmp_path, api)
    assert json.loads(run("query", "SELECT 1 AS one", "--config", config, "--json").out) == [{"one": 1}]


def test_a_table_for_a_person_shows_what_cannot_be_seen_and_obeys_nothing(run, evidence: Path) -> None:
    ran = run("query", f"SELECT '{HOSTILE}' AS a, NULL AS b, 17 AS c", "-e", evidence, width=80)
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    assert "\\x1b[2J[red]x[/red]\\u202e   NULL   17" in ran.out
    assert ran.out.endswith("1 row\n")


def test_numbers_stand_to_the_right(run, evidence: Path) -> None:
    lines = run("query", "SELECT unnest([1, 100]) AS n, 'x' AS t", "-e", evidence, width=80).out.splitlines()
    assert [line.rstrip() for line in lines if "x" in line] == ["   1   x", " 100   x"]


def test_what_is_too_wide_for_columns_is_a_block_for_each_row(run, evidence: Path) -> None:
    columns = ", ".join(f"'value {i}' AS column_number_{i}" for i in range(12))
    ran = run("query", f"SELECT {columns}", "-e", evidence, width=80)
    lines = ran.out.splitlines()
    assert lines[0] == "row 1"
    assert lines[1] == "   column_number_0  value 0"
    assert lines[-1] == "1 row"
    assert "value 0" in run("query", f"SELECT {columns}", "-e", evidence, width=400).out.splitlines()[3]


def test_a_pipe_gets_every_character(run, evidence: Path) -> None:
    assert "x" * 500 in run("query", "SELECT repeat('x', 500) AS a, 1 AS b", "-e", evidence).out


def test_no_rows_are_a_table_without_rows(run, evidence: Path) -> None:
    ran = run("query", "FROM denied", "-e", evidence, "--json")
    assert json.loads(ran.out) == []
    assert run("query", "SELECT 1 AS a WHERE false", "-e", evidence).out.endswith("0 rows\n")


def test_csv_is_for_programs(run, evidence: Path) -> None:
    sql = "SELECT 'a,\"b\"' AS x, NULL AS y, [1, 2] AS z, true AS t"
    rows = list(csv.reader(io.StringIO(run("query", sql, "-e", evidence, "--csv").out)))
    assert rows == [["x", "y", "z", "t"], ['a,"b"', "", "[1, 2]", "true"]]


@pytest.mark.parametrize(("terminal", "shown"), [(True, "\\x1b[2J"), (False, "\x1b[2J")])
def test_csv_on_a_terminal_is_shown_only(terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdout", out)
    command.print_csv(Result(("a",), [("\x1b[2J",)]))
    assert out.getvalue() == f"a\r\n{shown}\r\n"


def test_json_and_csv_do_not_go_together(run, evidence: Path) -> None:
    ran = run("query", "SELECT 1", "-e", evidence, "--json", "--csv")
    assert ran.code == 2
    assert "one of --json and --csv" in ran.err


def test_sql_may_come_from_standard_input(run, evidence: Path) -> None:
    assert json.loads(run("query", "-", "-e", evidence, "--json", stdin="SELECT 2 AS two").out) == [
        {"two": 2}
    ]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selec 1", "syntax error at or near"),
        ("SELECT nope FROM requests", 'Referenced column "nope" not found'),
        ("FROM nope", "Table with name nope does not exist"),
        ("DELETE FROM main.log", "read-only"),
        ("", "no SQL was given"),
        (" ; ", "no SQL was given"),
        ("SELECT now()", r"has a time zone, which cannot be shown; cast it, as in now\(\)::TIMESTAMP"),
    ],
)
def test_what_cannot_be_answered_is_one_line(evidence: Path, sql: str, said: str) -> None:
    with pytest.raises(Failed, match=said) as caught:
        ask(evidence, sql)
    assert str(caught.value).isprintable()


def test_no_evidence_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"nowhere is not there: give an evidence directory, or a copy"):
        ask(tmp_path / "nowhere", "SELECT 1")


def test_now_is_compared_in_utc_wherever_the_machine_is(
    evidence: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    journal.commit(samples.request())
    sql = "SELECT count(*) FROM requests WHERE ts BETWEEN now() - INTERVAL 1 HOUR AND now() + INTERVAL 1 HOUR"
    assert ask(evidence, sql).rows == [(1,)]


def test_columns_of_one_name_are_all_there(run, evidence: Path) -> None:
    ran = run("query", "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a", "-e", evidence, "--json")
    assert json.loads(ran.out) == [{"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}]


@pytest.mark.parametrize(
    ("value", "json_value", "shown"),
    [
        (None, None, "NULL"),
        (True, True, "true"),
        (2**127 - 1, 2**127 - 1, str(2**127 - 1)),
        (1.5, 1.5, "1.5"),
        (float("nan"), None, "None"),
        (datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05.000006Z"),
        (
            datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-02T01:00:00.000000Z",
            "2026-01-02T01:00:00.000000Z",
        ),
        (date(2026, 1, 2), "2026-01-02", "2026-01-02"),
        (time(1, 2), "01:02:00", "01:02:00"),
        (timedelta(days=1, seconds=2), "1 day, 0:00:02", "1 day, 0:00:02"),
        (Decimal("1.50"), "1.50", "1.50"),
        (UUID(int=1), str(UUID(int=1)), str(UUID(int=1))),
        (b"\x00\xff", "00ff", "00ff"),
        ([1, [b"a"]], [1, ["61"]], '[1, ["61"]]'),
        ({"a": {1: None}}, {"a": {"1": None}}, '{"a": {"1": null}}'),
        ((1, "b"), [1, "b"], '[1, "b"]'),
        (1j, "1j", "1j"),
    ],
)
def test_every_kind_of_value_can_be_shown(value: object, json_value: object, shown: str) -> None:
    assert plain(value) == json_value
    assert text(value) == shown
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == json_value


def test_times_are_utc(run, evidence: Path, journal: Journal) -> None:
    at = datetime(2026, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    journal.commit(samples.request(ts=int(at.timestamp()) * 1_000_000 + 10))
    ran = run("query", "SELECT ts FROM requests", "-e", evidence, "--json")
    assert json.loads(ran.out) == [{"ts": "2026-05-06T07:08:09.000010Z"}]
