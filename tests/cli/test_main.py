"""The command line as a whole: exit statuses, one line for each error, and every option written down."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from interlock import cli
from interlock.cli.errors import Failed
from interlock.documents import DocumentError, Problem

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Failed("no SQL was given"), 1, "interlock: no SQL was given\n"),
        (
            DocumentError(
                [Problem("g.yaml", 1, 1, "a", "missing"), Problem("g.yaml", 2, 1, "b", "unknown key")]
            ),
            1,
            "interlock: g.yaml:1:1: a: missing\ninterlock: g.yaml:2:1: b: unknown key\n",
        ),
        (
            PermissionError(13, "Permission denied", "/f"),
            1,
            "interlock: /f: permission denied; check the path",
        ),
        (KeyboardInterrupt(), 130, ""),
        (ValueError("hunter2"), 1, "interlock: a fault of its own: ValueError at test_main.py:"),
    ],
)
def test_an_error_is_lines_and_an_exit_status(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.delenv("INTERLOCK_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert "hunter2" not in err
    assert bool(err) == bool(said)


def test_a_traceback_is_shown_to_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise ValueError("mine")

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.setenv("INTERLOCK_TRACEBACK", "1")
    with pytest.raises(ValueError, match="mine"):
        cli.main()


def test_success_is_silent(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(cli, "app", lambda: None)
    cli.main()
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    def failing() -> None:
        raise BrokenPipeError

    kept: list[tuple[int, int]] = []
    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.setattr(os, "dup2", lambda new, old: kept.append((new, old)))
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    os.close(kept[0][0])
    assert (ended.value.code, kept[0][1]) == (1, 1)
    assert capfd.readouterr() == ("", "")


def interlock(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interlock.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")},
    )  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize(
    "arguments", [(), ("nope",), ("up", "--workers", "0"), ("query",), ("init", "--nope")]
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    ran = interlock(*arguments)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.processes
def test_a_command_imports_no_database_and_no_proxy_before_it_runs() -> None:
    heavy = "{'duckdb', 'mitmproxy', 'sqlalchemy', 'uvicorn', 'httpx', 'rich.console', 'cryptography', 'pydantic'}"
    code = f"import sys, interlock.cli; print(sorted({heavy} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_documents(name: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{name} has no section in docs/commands.md"
    for parameter in COMMANDS[name].params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--") and option != "--help" and not getattr(parameter, "hidden", False):
                assert f"`{option}" in section[1], f"{name} {option} is not documented"


def test_every_option_that_is_documented_is_there() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    sections = re.findall(r"^## ([a-z]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in sections] == list(COMMANDS)
    for name, section in sections:
        known = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)}
        for option in re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE):
            assert option in known, f"{name} has no {option}"
