import base64
import hashlib
import hmac
import re

import pytest

from interlock.masking.tokens import TOKEN, TOKEN_BYTES, is_token, minter

KEY = bytes(range(32))


def test_a_token_is_the_keyed_hash_of_type_and_value_cut_to_80_bits():
    digest = hmac.new(KEY, b"secret\0hunter2", hashlib.sha256).digest()
    assert minter(KEY)("hunter2") == f"masked-secret-{base64.b32encode(digest[:10]).decode().lower()}"


def test_the_same_value_has_the_same_token_in_one_session_only():
    mint, other = minter(KEY), minter(KEY[::-1])
    assert mint("hunter2") == mint(b"hunter2") == minter(KEY)("hunter2")
    assert mint("hunter2") != mint("hunter3")
    assert mint("hunter2") != other("hunter2")
    assert mint("a@b.example", "email") != mint("a@b.example", "secret")
    assert mint("a@b.example", "email").startswith("masked-email-")


def test_the_newline_at_the_end_of_a_file_is_not_part_of_its_value():
    mint = minter(KEY)
    assert mint("hunter2\n") == mint(b"hunter2\r\n") == mint("hunter2")
    assert mint("hunter2 ") != mint("hunter2")


def test_any_bytes_have_a_token():
    mint = minter(KEY)
    assert mint(b"\xff\xfe") == mint("\udcff\udcfe")
    assert is_token(mint(b""))
    assert is_token(mint("東京"))


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_short_key_is_refused(size):
    with pytest.raises(ValueError, match=f"a mask key has 16 bytes or more, this one {size}"):
        minter(bytes(size))


def test_tokens_fit_where_values_stand():
    token = minter(KEY)("x")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", token)  # RFC 1123 label, Kubernetes' names
    assert len(token) <= 40


def test_tokens_are_recognised_in_text_and_bytes():
    token = minter(KEY)("x")
    assert TOKEN.findall(f"a={token};") == [token]
    assert TOKEN_BYTES.findall(f"{token}\n{token}".encode()) == [token.encode()] * 2
    assert is_token(token)
    for near in (token[:-1], token + "a", token.upper(), f" {token}", token.replace("masked", "mask"), ""):
        assert not is_token(near)
