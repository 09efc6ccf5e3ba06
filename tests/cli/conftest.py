"""Fixtures for the command line's tests: a double of an API server, evidence to read, a way to run a command."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.double import ApiDouble
from interlock.cli import app
from interlock.evidence.journal import Journal
from interlock.evidence.recorder import Recorder


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    with ApiDouble() as double:
        yield double


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    error: BaseException | None
    err: str

    @property
    def message(self) -> str:
        """What the command would be ended with, on standard error."""
        return str(self.error)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs a command in this process: run("query", "SELECT 1", width=80). What it raises is in `error`."""

    def call(*arguments: object, width: int | None = None, stdin: str | None = None) -> Ran:
        monkeypatch.delenv("INTERLOCK_CONFIG", raising=False)
        monkeypatch.delenv("INTERLOCK_SERVER", raising=False)
        if width is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(width))
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        error = result.exception if not isinstance(result.exception, SystemExit) else None
        return Ran(result.exit_code, result.stdout, error, result.stderr)

    return call


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty evidence directory, not to be changed."""
    directory = tmp_path_factory.mktemp("fresh") / "evidence"
    Recorder(directory).start()
    return directory


@pytest.fixture
def evidence(tmp_path: Path, fresh: Path) -> Path:
    """An evidence directory of the test's own, published once; nobody records there."""
    shutil.copytree(fresh, tmp_path / "evidence")
    Recorder(tmp_path / "evidence").publish()
    return tmp_path / "evidence"


@pytest.fixture
def journal(evidence: Path) -> Iterator[Journal]:
    """A gateway's journal there."""
    journal = Journal(evidence)
    yield journal
    journal.close()
