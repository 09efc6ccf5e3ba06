"""What the documents say is there, is there; and what is there, they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from interlock import cli, config
from interlock.documents import Strict

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_file_that_a_document_links_to_is_there(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not link.startswith(("http:", "https:", "mailto:")):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_command_that_a_document_runs_is_there(document: Path) -> None:
    for script in re.findall(r"(?<![\w/])(scripts/[a-z-]+)", document.read_text()):
        assert (ROOT / script).exists(), f"{document.name} runs {script}"
    for command in re.findall(r"scripts/interlock ([a-z-]+)", document.read_text()):
        assert command in COMMANDS, f"{document.name} runs interlock {command}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_or_changelog_and_has_help(name: str) -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"\b{name}\b", text), f"{name} is not documented"
    assert COMMANDS[name].help


def keys(model: type[Strict]) -> set[str]:
    """Every key of a configuration model, as the file writes it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(
            field.alias
            or (
                model.model_config["alias_generator"](name)
                if "alias_generator" in model.model_config
                else name
            )
        )  # type: ignore[operator]
    return found


@pytest.mark.parametrize(
    "model",
    [
        config.Gateway,
        config.Listen,
        config.Cluster,
        config.Credential,
        config.OpenIdProvider,
        config.Sessions,
        config.Directory,
    ],
)
def test_every_configuration_key_is_documented(model: type[Strict]) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for key in keys(model):
        assert re.search(rf"\b{key}\b", text), f"{key} is not in docs/configuration.md"


def test_the_example_configuration_names_files_that_are_there() -> None:
    for name in ("gateway.yaml", "policy.yaml"):
        assert (ROOT / "rules" / name).read_text().startswith("#")


def test_the_repository_speaks_of_the_product_alone() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    forbidden = re.compile(
        r"/work/main|/root/|pypi\.org|proxy\.golang\.org|registry\.npmjs|files\.pythonhosted"
    )
    for name in tracked.split():
        path = ROOT / name
        if path.suffix in (".gz", ".png") or name == "tests/test_docs.py" or not path.is_file():
            continue
        found = forbidden.search(path.read_text(errors="replace"))
        assert found is None, f"{name}: {found.group(0) if found else ''}"


@pytest.mark.processes
def test_the_demo_shows_what_the_readme_promises() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "came out as promised" in " ".join(done.stdout.split())
    assert "not as promised" not in done.stdout
