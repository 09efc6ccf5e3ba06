"""The journal's format: how events and bodies lie in a file, and how a file is called.

A file `journal/<gateway_id>-<number>.jsonl` holds one JSON object a line, of one of these forms:

    {"journal": 1, "first_seq": 101}                   first line; the file's first event has this seq
    {"seq": 101, "ts": "…", "type": "request", "request_id": "…", "leaf": "{…}"}     an event
    {"sha256": "9f86…", "text": "…"}                   a body that is UTF-8; before the event that names it
    {"sha256": "9f86…", "base64": "…"}                 any other body

The leaf is a string and not an object so that no JSON reader can change its bytes; what stands beside it is
for readers who need not open it, and is in the leaf as well (the recorder compares). A proper prefix of a line
is never valid JSON, so a line that was cut off (a crash, a reader that is faster than the writer) cannot be
taken for a whole one. Every reader, here or in SQL, holds to one rule: a line counts if it parses.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from interlock.evidence import events

VERSION = 1
# A body of this size makes a line of at most twice as many bytes, which must stay below LARGEST_LINE.
LARGEST_BODY = 8 * 1024 * 1024
LARGEST_LEAF = 1024 * 1024
LARGEST_LINE = 32 * 1024 * 1024

_FILE = re.compile(r"([a-z0-9]+(?:[.-][a-z0-9]+)*)-(\d{8,18})\.jsonl")
_NAME = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


class JournalFile(NamedTuple):
    """A journal file by its name: which log, and its number in it."""

    gateway_id: str
    number: int
    path: Path


def journal_name(gateway_id: str, number: int) -> str:
    """The file's name; numbers sort as text up to 10**8 files and by value beyond."""
    return f"{gateway_id}-{number:08d}.jsonl"


def is_log_name(name: str) -> bool:
    """Whether `name` can name a log: lower case letters, digits, single dots and hyphens between them."""
    return len(name) <= 100 and _NAME.fullmatch(name) is not None


def journal_files(directory: Path) -> list[JournalFile]:
    """The journal files in `directory` (the `journal/` folder), by log and number; other names are left out."""
    found = ((_FILE.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted(JournalFile(match[1], int(match[2]), path) for match, path in found if match)


def header_line(first_seq: int) -> bytes:
    return b'{"journal":%d,"first_seq":%d}\n' % (VERSION, first_seq)


def leaf_line(event: events.Event, gateway_id: str, seq: int) -> bytes:
    """TypeError or ValueError as `events.leaf`, ValueError if the event is too large to be read back."""
    leaf = events.leaf(event, gateway_id, seq)
    if len(leaf) > LARGEST_LEAF:
        raise ValueError(
            f"an event of {len(leaf)} bytes; {LARGEST_LEAF} is the most, put the rest into bodies"
        )
    facts = {
        "seq": seq,
        "ts": events.rfc3339(event.ts),
        "type": event.type,
        "request_id": events.exchange_of(event),
        "leaf": leaf.decode(),
    }
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)


def body_line(sha256: str, body: bytes) -> bytes:
    """ValueError if the body is too large to be read back; the caller truncates and says so in the event."""
    if len(sha256) != 64 or not sha256.isalnum():
        raise ValueError("a body is named by its SHA-256 in hexadecimal")
    if len(body) > LARGEST_BODY:
        raise ValueError(
            f"a body of {len(body)} bytes; {LARGEST_BODY} is the most, truncate it and say so in the event"
        )
    try:
        text = orjson.dumps(body.decode())
    except UnicodeDecodeError:
        text = b""
    if text and len(text) <= 2 * len(body) + 2:
        return b'{"sha256":"%b","text":%b}\n' % (sha256.encode("ascii"), text)
    return b'{"sha256":"%b","base64":"%b"}\n' % (sha256.encode("ascii"), base64.b64encode(body))


def parse_line(line: bytes) -> dict[str, Any] | None:
    """A line as its object, or None if it does not count (cut off, empty, not one of the forms)."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def parse_leaf(line: bytes) -> dict[str, Any] | None:
    """The event of a line as its fields, or None if the line holds none."""
    value = parse_line(line)
    text = value.get("leaf") if value else None
    event = parse_line(text.encode()) if isinstance(text, str) else None
    return event if event and isinstance(event.get("seq"), int) else None


def last_seq(content: bytes) -> int | None:
    """The last event's seq in a journal file, one less than the first's if it has none, None if it cannot be told."""
    rows = content.split(b"\n")
    for row in reversed(rows):
        event = parse_leaf(row)
        if event is not None:
            return int(event["seq"])
    header = parse_line(rows[0])
    first = header.get("first_seq") if header else None
    return first - 1 if isinstance(first, int) else None


def sync_directory(path: Path) -> None:
    """Makes the names in a folder durable: a file that was made, renamed or deleted."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
