import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.masking.lines import LIMIT, TAIL, Lines
from interlock.masking.tokens import TOKEN, minter

MINT = minter(bytes(32))
S = "hunter2/x9+Zq"
T = MINT(S)


def run(chunks):
    lines = Lines(MINT, "log")
    out = [lines.feed(chunk) for chunk in chunks]
    out.append(lines.end())
    return b"".join(part.data for part in out), [f for part in out for f in part.findings]


def whole(text):
    return run([text if isinstance(text, bytes) else text.encode()])[0].decode("utf-8", "surrogateescape")


def test_a_line_is_released_when_it_ends():
    lines = Lines(MINT, "log")
    assert lines.feed(b"one\ntwo pass").data == b"one\n"
    assert lines.feed(b"word=hun").data == b""
    masked = lines.feed(f"ter2 x\nthr{''}".encode())
    assert masked.data == f"two password={MINT('hunter2')} x\n".encode()
    assert [finding.path for finding in masked.findings] == ["log"]
    assert lines.feed(b"").data == b""
    assert lines.end().data == b"thr"
    assert lines.end().data == b""


def test_lines_without_a_secret_stay_as_they_are():
    text = b"plain\r\n\n\xff\xfe not UTF-8\nkey of it\nno end"
    assert run([text]) == (text, [])


def test_each_line_is_read_by_itself():
    assert whole(f'a\n{{"password": "{S}"}}\ntoken={S}\nb\n') == f'a\n{{"password":"{T}"}}\ntoken={T}\nb\n'
    assert whole(f"password: |\n  {S}\n") == f"password: |\n  {S}\n"
    assert whole(b"password=\xff\xfe\n") == f"password={MINT(b'\xff\xfe')}\n"


KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n{}\n-----END RSA PRIVATE KEY-----"


def test_a_private_key_is_masked_over_its_lines():
    one, other = whole(f"a\n{KEY.format('x')}\nb\n"), whole(f"a\n{KEY.format('y')}\nb\n")
    token = TOKEN.findall(one)[0]
    assert one == f"a\n-----BEGIN RSA PRIVATE KEY-----\n{token}\n-----END RSA PRIVATE KEY-----\nb\n"
    assert TOKEN.findall(other)[0] != token
    data, findings = run([KEY.format("x").encode()])
    assert [finding.token for finding in findings] == [token]
    assert data.decode() == one[2:-3]


def test_a_private_key_that_does_not_end_is_masked_to_the_end():
    assert whole("-----BEGIN EC PRIVATE KEY-----\nMII\nabc").count("\n") == 2
    assert "abc" not in whole("-----BEGIN EC PRIVATE KEY-----\nMII\nabc")
    assert "abc" not in whole("-----BEGIN EC PRIVATE KEY-----\n" + "abc\n" * 20_000)
    assert "abc" not in whole("-----BEGIN EC PRIVATE KEY-----\n" + "abc" * 40_000 + "\nx")


def test_two_private_keys_and_one_on_a_line():
    text = f"{KEY.format('x')}\n{KEY.format('y')}\n"
    assert len(set(TOKEN.findall(whole(text)))) == 2
    line = KEY.format("x").replace("\n", "\\n")
    out = whole(f'key="{line}" next\nplain\n')
    assert "MIIabc" not in out
    assert out.endswith(" next\nplain\n")


def test_after_a_private_key_on_a_long_line_the_rest_is_read():
    line = (
        "-----BEGIN RSA PRIVATE KEY-----\n"
        + "abc " * LIMIT
        + f"-----END RSA PRIVATE KEY----- token={S}\nplain\n"
    )
    out = whole(line)
    assert "abc" not in out
    assert out.endswith(f"-----END RSA PRIVATE KEY----- token={T}\nplain\n")
    out = whole(
        f"-----BEGIN RSA PRIVATE KEY-----\nabc-----END RSA PRIVATE KEY----- {'word ' * LIMIT}token={S}\n"
    )
    assert "abc" not in out
    assert out.endswith(f"word token={T}\n")


@pytest.mark.parametrize("size", [64, 70, 76])
def test_a_private_key_whose_first_line_was_not_asked_for(size):
    line = ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ+/" * 2)[:size]
    assert whole(f"{line}\nplain\n{line}") == f"{MINT(line)}\nplain\n{MINT(line)}"
    assert run([line.encode()])[1][0].token == MINT(line)
    for other in (line[:-1], line + "x", line[:-1] + " ", line[:-1] + "=", "0123456789abcdef" * 4):
        assert whole(other + "\n") == other + "\n"


def test_a_last_line_that_the_client_cut_is_not_released():
    """The masks of a value's beginnings, asked for one by one, would spell it out."""
    for text in (b"one\npassword=hun", b"one\nplain", b"one\n-----BEGIN EC PRIVATE KEY-----\nMII", b"one\n"):
        lines = Lines(MINT, "log")
        lines.cut_by_client()
        assert lines.feed(text).data.startswith(b"one\n")
        assert (lines.end().data, lines.end().findings) == (b"", ())


@pytest.mark.parametrize("filler", ["word ", "x", '"a",', "é", "=", "ab.cd-ef_", "\x1b[0m"])
@pytest.mark.parametrize("offset", [0, 1, 7, 100, TAIL - 1, TAIL, TAIL + 1, TAIL + 20, LIMIT - 20])
def test_a_long_line_is_cut_where_nothing_is_torn(filler, offset):
    """A secret near every place where a line that is longer than may be held could be cut."""
    size = max(0, LIMIT - offset)
    before = (filler * (size // len(filler.encode()) + 1))[: size // len(filler[0].encode())]
    out = whole(f"{before} password={S} {filler * 20_000} token={S} end\nnext\n")
    assert S not in out
    assert S[:5] not in out
    assert set(TOKEN.findall(out)) == {T}
    assert out.endswith(f" token={T} end\nnext\n")
    assert len(TOKEN.findall(out)) == 2


def test_a_value_that_fills_what_may_be_held_hides_the_rest_of_its_line():
    out = whole(f"a password={'x' * LIMIT}{'y' * LIMIT} {S}\nnext password={S}\n")
    first, second, _ = out.split("\n")
    assert first.startswith("a password=masked-secret-")
    assert "xx" not in first
    assert "yy" not in first
    assert S not in first
    assert second == f"next password={T}"
    assert "yy" not in whole(f"a password={'y' * LIMIT * 3}")


def test_no_more_is_held_than_may_be():
    lines = Lines(MINT, "log")
    fed = out = 0
    for _ in range(100):
        out += len(lines.feed(b"word " * 1000).data)
        fed += 5000
        assert fed - out <= LIMIT + 5000


pieces = st.sampled_from(
    [
        b"\n", b" ", b"a", b"password=", b"hunter2", b'{"token":"', b'"}', b"\r\n", b"\xff", "é".encode(),
        b"-----BEGIN RSA PRIVATE KEY-----", b"-----END RSA PRIVATE KEY-----", b"x" * 3000, b"word " * 2000,
        b"https://u:", b"@host/", b": ", b"y" * 40_000, b"\npassword: a b\n", b"--token ",
    ]
)  # fmt: skip


@settings(derandomize=True, max_examples=250, deadline=None)
@given(st.lists(pieces, max_size=40), st.lists(st.integers(1, 20_000), max_size=20))
def test_how_the_bytes_were_cut_changes_nothing(parts, cuts):
    text = b"".join(parts)
    chunks, at = [], 0
    for cut in cuts:
        chunks.append(text[at : at + cut])
        at += cut
    chunks.append(text[at:])
    assert run(chunks) == run([text])
    assert run([bytes((byte,)) for byte in text[:300]]) == run([text[:300]])
