"""`interlock query`: SQL on the evidence, while the gateway writes it.

In: one SQL statement, and where the evidence is. Out: its rows, as a table for a person, as JSON or as CSV. The
rule: what stands in the evidence was written by agents and clusters, so on a terminal it is only shown.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.errors import Failed
from interlock.cli.screen import screen, visible
from interlock.cli.up import CONFIG

if TYPE_CHECKING:
    from interlock.evidence.reading import Result

EVIDENCE = typer.Option(
    "--evidence",
    "-e",
    envvar="INTERLOCK_EVIDENCE",
    help="An evidence directory, or a copy of its evidence.duckdb; else the one that --config names.",
)
READABLE = 12  # columns that text needs before folding it makes no sense


def query(
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="A statement, or - to read it from standard input.")
    ],
    config: Annotated[Path, CONFIG] = Path("rules/gateway.yaml"),
    evidence: Annotated[Path | None, EVIDENCE] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV (RFC 4180) with a header.")] = False,
) -> None:
    """Run SQL on the evidence. Names are those of schema `live`: timeline, who_did_what, denied, masked, requests, …

    \b
    interlock query "FROM who_did_what ORDER BY ts DESC LIMIT 20"
    interlock query "SELECT user_name, count(*) FROM denied GROUP BY ALL" --json
    interlock query "SELECT view_name FROM duckdb_views() WHERE schema_name = 'live'"
    """
    if as_json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")
    if sql == "-":
        sql = sys.stdin.read()
    result = ask(evidence_path(config, evidence), sql)
    if as_json:
        print_json(result)
    elif as_csv:
        print_csv(result)
    else:
        print_table(result)


def evidence_path(config: Path, evidence: Path | None) -> Path:
    """Where the evidence is: as given, else as the configuration says."""
    if evidence is not None:
        return evidence
    from interlock.config import load

    return load(config).evidence.directory


def ask(path: Path, sql: str) -> Result:
    """The answer to `sql`. Raises Failed in one line."""
    from interlock.evidence import reading

    if not sql.strip().strip(";"):
        raise Failed('no SQL was given; try "FROM who_did_what"')
    try:
        with reading.open_evidence(path) as connection:
            # Times in the evidence are UTC without a zone; now() and the like must not be local time.
            connection.execute("SET TimeZone = 'UTC'")
            return reading.query(connection, sql)
    except reading.EvidenceUnreadable as error:
        if "pytz" in str(error):
            raise Failed(
                "a column has a time zone, which cannot be shown; cast it, as in now()::TIMESTAMP"
            ) from None
        raise Failed(visible(str(error))) from None


def print_json(result: Result) -> None:
    """An array of objects; ASCII alone, so that a terminal cannot be told anything by it."""
    names = _unique(result.columns)
    rows = [dict(zip(names, map(plain, row), strict=True)) for row in result.rows]
    print("[" + ",\n ".join(json.dumps(row, allow_nan=False) for row in rows) + "]")


def print_csv(result: Result) -> None:
    """RFC 4180. To a terminal, with what cannot be seen made visible; to a program, as it is."""
    show = visible if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow([show(name) for name in result.columns])
    writer.writerows([["" if value is None else show(text(value)) for value in row] for row in result.rows])


def print_table(result: Result) -> None:
    """A table if its columns can be read at this width, else one block of lines for each row."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = screen()
    cells = [[visible(text(value)) for value in row] for row in result.rows]
    heads = [visible(name) for name in result.columns]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    if (
        sum(min(width, max(READABLE, len(head))) + 2 for width, head in zip(widths, heads, strict=True))
        <= out.width
    ):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for i, head in enumerate(heads):
            numbers = bool(result.rows) and all(_is_number(row[i]) for row in result.rows)
            table.add_column(Text(head), justify="right" if numbers else "left", overflow="fold")
        for row, line in zip(result.rows, cells, strict=True):
            table.add_row(
                *(
                    Text(cell, style="dim" if value is None else "")
                    for cell, value in zip(line, row, strict=True)
                )
            )
        out.print(table)
    else:
        name = max(map(len, heads))
        for number, line in enumerate(cells, 1):
            out.print(Text(f"row {number}", style="bold"))
            for head, cell in zip(heads, line, strict=True):
                out.print(
                    Text.assemble((f"  {head:>{name}}  ", "cyan"), cell), overflow="fold", soft_wrap=True
                )
    out.print(Text(f"{len(result.rows)} row{'' if len(result.rows) == 1 else 's'}", style="dim"))


def text(value: object) -> str:
    """A value as a table shows it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "NULL"
    if isinstance(value, list | dict | tuple):
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
    found = plain(value)
    return json.dumps(found) if isinstance(found, bool) else str(found)


def plain(value: Any) -> Any:
    """A value of DuckDB's as JSON can hold it: times in RFC 3339 (UTC), blobs in hexadecimal, no NaN."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else text(key): plain(item) for key, item in value.items()}
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal | uuid.UUID):
        return str(value)
    return str(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


def _unique(names: Sequence[str]) -> list[str]:
    """Column names, each its own: a second `ts` is `ts_2`."""
    return list(_each_its_own(names))


def _each_its_own(names: Sequence[str]) -> Iterator[str]:
    taken: set[str] = set()
    for name in names:
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        yield free
