"""A person's terminal: how words that others wrote are shown on it.

In: text of agents, clusters and files. Out: the same on a screen, on which nothing that it holds can move the
cursor, change colours or turn the direction of text. The rule: what others wrote is never printed but through
`visible`, and never read as markup.
"""

from __future__ import annotations

import os
import sys
import textwrap
import unicodedata
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Control, format (text direction, zero width), surrogate, private, unassigned; line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
WIDE = 100_000
"""Columns of what is no terminal: nothing is folded or cut there, for the next program to read."""


def visible(text: str) -> str:
    """`text` with every character that cannot be seen written as an escape: `\\x1b`, `\\u202e`, `\\n`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _UNSEEN else character
        for character in text
    )


def screen(file: IO[str] | None = None) -> Console:
    """A console on `file` (standard output): as wide as the terminal or COLUMNS say, else without end."""
    from rich.console import Console

    file = file or sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdigit() else WIDE
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def below(text: str, indent: int, width: int) -> str:
    """`text`, made visible, as lines of at most `width` columns that all begin `indent` columns in."""
    margin = " " * indent
    return textwrap.fill(
        visible(text),
        max(width, indent + 20),
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
    )


def cut(text: str, width: int) -> str:
    """`text`, made visible, in exactly `width` columns: what is too long loses its middle. As it is if 0."""
    from rich.cells import cell_len, set_cell_size

    shown = visible(text)
    size = cell_len(shown)
    if size <= width or width == 0:
        return shown + " " * (width - size)
    end = (width - 1) // 2
    # Some letters are two columns wide; where half of one would have to stay, a blank does.
    return f"{set_cell_size(shown, width - 1 - end)}…{set_cell_size(shown[::-1], end)[::-1]}"
