"""What a person is told of an exception: lines that say what to do, and never what could be a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.authority import AuthorityError
from interlock.cli.errors import Failed, expected, fault, lines
from interlock.credential import CredentialError
from interlock.documents import DocumentError, Problem
from interlock.identity.sessions import Away, StateAway


def test_what_an_operator_can_mend_is_expected() -> None:
    for error in (
        Failed(""),
        AuthorityError(""),
        CredentialError(""),
        DocumentError([]),
        Away(""),
        OSError(),
    ):
        assert isinstance(error, expected())
    assert isinstance(StateAway("gone"), expected())
    assert not isinstance(ValueError(""), expected())


def test_each_problem_of_a_file_is_a_line_of_its_own() -> None:
    error = DocumentError(
        [Problem("a.yaml", 2, 1, "b", "unknown key"), Problem("a.yaml", 1, 1, "a", "missing")]
    )
    assert lines(error) == ["a.yaml:1:1: a: missing", "a.yaml:2:1: b: unknown key"]


def test_an_error_of_the_system_names_its_file_and_no_number() -> None:
    with pytest.raises(OSError) as caught:
        Path("/nope/file").read_bytes()
    assert lines(caught.value) == [
        "/nope/file: no such file or directory; check the path, its permissions and the disk"
    ]
    assert lines(OSError(28, "No space left on device")) == [
        "no space left on device; check the path, its permissions and the disk"
    ]


def test_words_of_our_own_are_told_as_they_are_and_there_is_always_a_line() -> None:
    assert lines(OSError("the console did not start")) == ["the console did not start"]
    assert lines(Failed("")) == ["Failed"]


def test_a_fault_is_told_by_its_place_and_never_by_its_text() -> None:
    try:
        int("hunter2")
    except ValueError as error:
        said = fault(error)
    assert "ValueError at test_errors.py:" in said
    assert "hunter2" not in said
    assert fault(ValueError("hunter2")).startswith("a fault of its own: ValueError; please report it")
