"""Helm's release records: the Secret of type helm.sh/release.v1 that holds all a release was made of.

In: a value of Secret data, base64-decoded once. Out: the release as JSON, and back. The form (helm v3 and v4,
pkg/storage/driver/util.go): base64, gzip (or none, in old ones), JSON. `helm list` leaves out a release that
it cannot decode [read there], so a mask has to be put inside of it.
The rule: what is opened is bounded, however well it was compressed.
"""

from __future__ import annotations

import binascii
import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import orjson

TYPE = "helm.sh/release.v1"
KEY = "release"
LIMIT = 32 * 1024 * 1024  # bytes of JSON; a Secret holds 1 MiB, gzip rarely gets 30 out of it


class TooLarge(ValueError):
    """It holds more than may be unpacked."""


def opened(data: bytes) -> dict[str, Any]:
    """The release in `data`. Raises ValueError when it is none, or larger than LIMIT."""
    packed = binascii.a2b_base64(data.strip(), strict_mode=True)
    release = orjson.loads(inflated(packed, LIMIT) if packed.startswith(b"\x1f\x8b") else packed)
    if not isinstance(release, dict):
        raise ValueError("a release is a JSON object")
    return release


def closed(release: dict[str, Any]) -> bytes:
    """The release as Helm stores it; the same bytes for the same release."""
    return binascii.b2a_base64(gzip.compress(orjson.dumps(release), 6, mtime=0), newline=False)


def inflated(packed: bytes, limit: int) -> bytes:
    """What gzip packed (RFC 1952, one member). Raises ValueError when it is broken, TooLarge above `limit` bytes."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(packed, max(limit, 1))
    except zlib.error as error:
        raise ValueError("not gzip") from error
    if unpacker.unconsumed_tail:
        raise TooLarge(f"more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("cut off, or more than one member")
    return plain


def manifests(release: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each part of a release that has a `manifest`: itself and its hooks."""
    hooks = release.get("hooks")
    for holder in (release, *(hooks if isinstance(hooks, list) else ())):
        if isinstance(holder, dict) and isinstance(holder.get("manifest"), str):
            yield holder


def files(release: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each file of the release's chart: `name`, and `data` in base64."""
    chart = release.get("chart")
    for part in ("templates", "files"):
        entries = chart.get(part) if isinstance(chart, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("data"), str):
                yield entry
