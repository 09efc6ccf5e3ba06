import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import samples
from interlock.evidence import events, lines


def test_an_events_line_holds_the_exact_leaf_and_what_readers_ask_first():
    sent = samples.request(user_agent='a "quoted" é \u2028')
    line = lines.leaf_line(sent, "gateway-0123abcd", 7)
    value = lines.parse_line(line)
    leaf = events.leaf(sent, "gateway-0123abcd", 7)
    assert value == {
        "seq": 7,
        "ts": events.rfc3339(sent.ts),
        "type": "request",
        "request_id": sent.id,
        "leaf": leaf.decode(),
    }
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert lines.parse_leaf(line) == json.loads(leaf)


def test_an_event_that_could_not_be_read_back_is_refused():
    with pytest.raises(ValueError, match="put the rest into bodies"):
        lines.leaf_line(samples.request(user_agent="x" * lines.LARGEST_LEAF), "g", 1)


def test_text_stays_text_and_anything_else_is_base64():
    digest, _ = samples.body(b"{}")
    assert json.loads(lines.body_line(digest, '{"a":"é"}'.encode())) == {
        "sha256": digest,
        "text": '{"a":"é"}',
    }
    for content in (b"\xff\x00", b"\x01" * 100):
        assert base64.b64decode(json.loads(lines.body_line(digest, content))["base64"]) == content
    assert json.loads(lines.body_line(digest, b"")) == {"sha256": digest, "text": ""}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_a_bodys_line_is_at_most_twice_its_size_and_gives_it_back(content):
    line = lines.body_line("0" * 64, content)
    value = json.loads(line)
    assert (value["text"].encode() if "text" in value else base64.b64decode(value["base64"])) == content
    assert len(line) <= 2 * len(content) + 96


@pytest.mark.parametrize("name", ["", "9f86", "g" * 63, '"' * 64, "é" * 64])
def test_a_body_is_named_by_its_hash(name):
    with pytest.raises(ValueError):
        lines.body_line(name, b"{}")


def test_a_body_that_could_not_be_read_back_is_refused():
    with pytest.raises(ValueError, match="truncate it"):
        lines.body_line("0" * 64, bytes(lines.LARGEST_BODY + 1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_no_line_that_is_cut_off_counts(data):
    line = lines.leaf_line(
        samples.request(id="6b1f3b6a-5d3e-4d25-8a5b-0123456789ab", ts=0, user_agent="é{}\\"), "g", 1
    )
    cut = data.draw(st.integers(0, len(line) - 2))
    assert lines.parse_line(line[:cut]) is None
    assert lines.parse_leaf(line[:cut]) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"7", b"{}", b'{"leaf":7}', b'{"leaf":"[]"}', b'{"leaf":"{\\"seq\\":\\"1\\"}"}', b"\0\0\0"],
)
def test_a_line_of_another_form_is_no_event(line):
    assert lines.parse_leaf(line) is None


def test_the_last_seq_is_the_last_whole_events():
    header, first, second = (
        lines.header_line(5),
        *(lines.leaf_line(samples.started(), "g", n) for n in (5, 6)),
    )
    assert lines.last_seq(header + first + second) == 6
    assert lines.last_seq(header + first + second[:-9]) == 5
    assert lines.last_seq(header + first + lines.body_line("0" * 64, b"{}")) == 5
    assert lines.last_seq(header) == 4
    assert lines.last_seq(header[:-5]) is None
    assert lines.last_seq(b"{}\n") is None
    assert lines.last_seq(b"") is None


def test_journal_files_are_in_the_order_of_their_logs_and_numbers(tmp_path):
    names = [
        "b-0123abcd-00000002.jsonl",
        "a-x-100000000.jsonl",
        "a-x-00000009.jsonl",
        "a-00000001.jsonl",
        "empty.jsonl",
        "a-x-00000009.1f.new",
        "A-00000001.jsonl",
        "a-1.jsonl",
    ]
    for name in names:
        (tmp_path / name).touch()
    found = lines.journal_files(tmp_path)
    assert [(f.gateway_id, f.number) for f in found] == [
        ("a", 1),
        ("a-x", 9),
        ("a-x", 10**8),
        ("b-0123abcd", 2),
    ]
    assert all(f.path.name == lines.journal_name(f.gateway_id, f.number) for f in found)


@pytest.mark.parametrize(
    ("name", "is_name"),
    [("gateway", True), ("gw-1.eu", True), ("", False), ("-gw", False), ("gw-", False), ("gw..1", False), ("GW", False),
     ("../gw", False), ("gw/1", False), ("gw 1", False), ("g'w", False), ("x" * 101, False)],
)  # fmt: skip
def test_a_log_is_named_by_what_is_safe_in_a_file_name(name, is_name):
    assert lines.is_log_name(name) is is_name


def test_a_folder_is_synced_by_its_path(tmp_path):
    lines.sync_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        lines.sync_directory(tmp_path / "none")
