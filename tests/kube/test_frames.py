import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube.frames import CHANNELS, PROTOCOLS, Lines, Overlong, accepted_protocols, split


def test_lines_come_out_whole():
    lines = Lines()
    assert lines.feed(b"one\ntw") == [b"one\n"]
    assert lines.feed(b"") == []
    assert lines.feed(b"o\n\nthree") == [b"two\n", b"\n"]
    assert lines.end() == b"three"
    assert lines.end() == b""


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"x", b"\n")), max_size=20))
def test_lines_do_not_depend_on_where_the_bytes_were_cut(chunks):
    lines = Lines()
    cut = [line for chunk in chunks for line in lines.feed(chunk)]
    rest = lines.end()
    whole = b"".join(chunks)
    assert b"".join(cut) + rest == whole
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in cut)
    assert b"\n" not in rest


def test_a_line_is_not_held_beyond_its_limit():
    lines = Lines(limit=4)
    assert lines.feed(b"1234\n") == [b"1234\n"]
    assert lines.feed(b"1234") == []
    with pytest.raises(Overlong) as raised:
        lines.feed(b"5")
    assert raised.value.reason == "a line is longer than 4 bytes"
    with pytest.raises(Overlong):
        Lines(limit=4).feed(b"ok\n12345\n")
    with pytest.raises(Overlong):
        Lines(limit=4).feed(b"ok\n12345")


def test_a_message_is_its_channel_and_its_payload():
    assert split(b"\x01hello") == (1, b"hello")
    assert split(b"\xff\x00") == (255, b"\x00")
    assert split(b"\x02") == (2, b"")
    assert CHANNELS[split(b"\x03{}")[0]] == "error"
    with pytest.raises(ValueError, match="without a channel byte"):
        split(b"")


def test_only_protocols_that_can_be_inspected_pass():
    offered = [
        "v5.channel.k8s.io",
        " v4.channel.k8s.io ",
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "base64url.bearer.authorization.k8s.io.c2VjcmV0",
        "SPDY/3.1+portforward.k8s.io",
        "V5.CHANNEL.K8S.IO",
        "",
    ]
    assert accepted_protocols("exec", offered) == ["v5.channel.k8s.io", "v4.channel.k8s.io"]
    assert accepted_protocols("attach", reversed(offered)) == ["v4.channel.k8s.io", "v5.channel.k8s.io"]
    assert accepted_protocols("portforward", offered) == ["v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"]
    assert accepted_protocols("proxy", offered) == []
    assert accepted_protocols("", offered) == []
    assert set(PROTOCOLS) == {"exec", "attach", "portforward"}
