"""What others wrote, on a person's terminal: shown, never obeyed."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from interlock.cli.screen import WIDE, below, cut, screen, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("grün, 日本", "grün, 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f", "\\x7f"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("line\u2028end", "line\\u2028end"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_moves_a_cursor_or_turns_text_is_left(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    assert visible(shown) == shown


def test_a_pipe_has_no_end_and_a_terminal_has_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen(io.StringIO()).width == WIDE
    monkeypatch.setenv("COLUMNS", "80")
    assert screen(io.StringIO()).width == 80
    assert screen().width == 80


def test_words_are_never_read_as_markup() -> None:
    out = io.StringIO()
    screen(out).print("[red]x[/red] :boom:")
    assert out.getvalue() == "[red]x[/red] :boom:\n"


def test_lines_below_begin_where_they_should_and_end_in_time() -> None:
    text = below("one two three\x1b four-five six", 4, 24)
    assert text.splitlines() == ["    one two three\\x1b", "    four-five six"]
    assert below("narrow as it may be: 20 columns", 9, 5).splitlines()[0] == "         narrow as it may be:"
    assert below("word " * 50, 4, WIDE).count("\n") == 0


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 8, "short   "),
        ("exactly8", 8, "exactly8"),
        ("interlock-agents", 9, "inte…ents"),
        ("interlock-agents", 8, "inte…nts"),
        ("as it is\n", 0, "as it is\\n"),
        ("日本語の名前", 7, "日 … 前"),
        ("日本", 5, "日本 "),
    ],
)
def test_what_is_too_long_loses_its_middle(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown


@given(st.text(), st.integers(1, 60))
def test_a_column_is_never_wider_than_it_should_be(text: str, width: int) -> None:
    assert cell_len(cut(text, width)) == width
