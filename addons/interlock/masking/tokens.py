"""Mask tokens: `masked-<type>-<16 base32 characters>`, what stands in the place of a value.

In: a session's key and a value. Out: its token. The rules: the same value gives the same token wherever and
in whatever encoding it is found (so a value is decoded before it gets here), and nothing can be learned from
a token without the key: HMAC-SHA256 over type, NUL and value, cut to 80 bits (RFC 2104, section 5).
"""

from __future__ import annotations

import hmac
import re
from typing import Protocol

KEY_BYTES = (
    16  # the least that a key may have (RFC 2104, section 3: not less than the security that is wanted)
)

# Any token, of any key: lower case and short enough for labels, DNS names, URLs and plain YAML.
TOKEN = re.compile(r"masked-[a-z0-9]{1,16}-[a-z2-7]{16}")
TOKEN_BYTES = re.compile(TOKEN.pattern.encode("ascii"))

# Base32 of RFC 4648 in lower case, ten bits at a time.
_PAIRS = [a + b for a in "abcdefghijklmnopqrstuvwxyz234567" for b in "abcdefghijklmnopqrstuvwxyz234567"]


class Mint(Protocol):
    """(value, type) -> token, for one session."""

    def __call__(self, value: str | bytes, type: str = "secret") -> str: ...


def minter(key: bytes) -> Mint:
    """The function (value, type) -> token for one session. A `str` counts as its UTF-8, and a value with a
    last newline as the one without: a file that holds a password ends with one.

    Raises ValueError for a key of less than 16 bytes.
    """
    if len(key) < KEY_BYTES:
        raise ValueError(f"a mask key has {KEY_BYTES} bytes or more, this one {len(key)}")

    def mint(value: str | bytes, type: str = "secret") -> str:
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        digest = hmac.digest(key, type.encode("ascii") + b"\0" + value.rstrip(b"\r\n"), "sha256")
        bits = int.from_bytes(digest[:10], "big")
        return f"masked-{type}-{''.join([_PAIRS[bits >> shift & 1023] for shift in range(70, -1, -10)])}"

    return mint


def is_token(value: str) -> bool:
    """Whether `value` is a token and nothing else."""
    return TOKEN.fullmatch(value) is not None
