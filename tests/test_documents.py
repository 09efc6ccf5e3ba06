"""Operator files: one meaning or none, and every problem at once with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field, model_validator

from interlock import documents
from interlock.documents import (
    DEPTH_LIMIT,
    FILE_LIMIT,
    Document,
    DocumentError,
    Fault,
    Plain,
    Problem,
    Strict,
    nearest,
    parse,
    read,
    read_bytes,
)


class Item(Strict):
    name: str
    effect: Literal["allow", "deny"] = "allow"
    sure: bool = False
    count: int = 0

    @model_validator(mode="after")
    def _even(self) -> Item:
        if self.count % 2:
            raise Fault("must be even", "count")
        return self


def _elsewhere(value: object) -> object:
    if value == "broken":
        raise DocumentError([Problem("other.yaml", 3, 4, "user", "is broken")])
    if value == "odd":
        raise ValueError("odd")
    return value


class File(Strict):
    kind: Literal["File"] = "File"
    api_groups: tuple[str, ...] = ()
    items: Annotated[tuple[Item, ...], Field(min_length=1)] | None = None
    one: Item | None = None
    two: Annotated[tuple[Annotated[Item, BeforeValidator(lambda v: v)], ...], Field()] = ()
    words: dict[str, Plain] = Field(default_factory=dict)
    other: Annotated[str, BeforeValidator(_elsewhere)] = ""
    short: Annotated[str, Field(min_length=1)] = "x"
    ratio: float = 1.0
    when: Annotated[int, Field(gt=3)] = 4


class Lenient(Item):
    takes_null: ClassVar[bool] = True


def problems(text: str, model: type[Strict] = File) -> list[str]:
    """What is wrong with the only document of `text`, one line each."""
    (document,) = parse(text, "f.yaml")
    value, found = document.validate(model)
    assert (value is None) == bool(found)
    return [str(problem) for problem in DocumentError(found).problems]


def value(text: str) -> File:
    (document,) = parse(text, "f.yaml")
    read_value, found = document.validate(File)
    assert not found
    assert read_value is not None
    return read_value


def test_a_good_file_becomes_frozen_values() -> None:
    file = value(
        "apiGroups: [apps, '']\nitems:\n- {name: a, sure: true, count: 2}\nwords: {a: 1, b: true, c: x}\n"
    )
    assert file.api_groups == ("apps", "")
    assert file.items == (Item(name="a", sure=True, count=2),)
    assert file.words == {"a": 1, "b": True, "c": "x"}
    with pytest.raises(ValueError, match="frozen"):
        file.other = "y"


def test_json_is_read_too() -> None:
    assert value('{"apiGroups": ["apps"], "one": {"name": "é", "count": -4}}').one == Item(name="é", count=-4)


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "misspelt key": ("apiGroup: []", "f.yaml:1:1: apiGroup: unknown key; did you mean apiGroups?"),
        "misspelt key in a list": (
            "items:\n- {name: a}\n- name: b\n  effekt: deny\n",
            "f.yaml:4:3: items[1].effekt: unknown key; did you mean effect?",
        ),
        "misspelt key in an optional mapping": (
            "one: {name: a, sur: true}",
            "f.yaml:1:16: one.sur: unknown key; did you mean sure?",
        ),
        "misspelt key below validators": (
            "two: [{name: a, nam: b}]",
            "f.yaml:1:17: two[0].nam: unknown key; did you mean name?",
        ),
        "a key like no other": (
            "one: {name: a, zzz: true}",
            "f.yaml:1:16: one.zzz: unknown key; known keys: name, effect, sure, count",
        ),
        "snake case": ("api_groups: []", "f.yaml:1:1: api_groups: unknown key; did you mean apiGroups?"),
        "misspelt word": (
            "items: [{name: a, effect: denny}]",
            "f.yaml:1:27: items[0].effect: did you mean deny?",
        ),
        "a word like no other": (
            "items: [{name: a, effect: x}]",
            "f.yaml:1:27: items[0].effect: expected one of: allow, deny",
        ),
        "no word at all": (
            "items: [{name: a, effect: [x]}]",
            "f.yaml:1:27: items[0].effect: expected one of: allow, deny",
        ),
        "missing key": ("items:\n- effect: deny\n", "f.yaml:2:3: items[0].name: missing; it must be given"),
        "number for text": (
            "items: [{name: 12}]",
            "f.yaml:1:16: items[0].name: expected text, found a number; put it in quotes",
        ),
        "list for text": ("items: [{name: [a]}]", "f.yaml:1:16: items[0].name: expected text, found a list"),
        "text for a list": ("apiGroups: apps", "f.yaml:1:12: apiGroups: expected a list, found text; write it as [ ... ]"),
        "text for a mapping": ("one: a", "f.yaml:1:6: one: expected a mapping of keys to values, found text"),
        "list for a mapping": ("words: [a]", "f.yaml:1:8: words: expected a mapping of keys to values, found a list"),
        "text for a flag": ("one: {name: a, sure: 'true'}", "f.yaml:1:22: one.sure: expected true or false, found text"),
        "flag for a number": (
            "one: {name: a, count: true}",
            "f.yaml:1:23: one.count: expected a whole number, found true or false",
        ),
        "fraction for a number": (
            "one: {name: a, count: 1.5}",
            "f.yaml:1:23: one.count: expected a whole number, found a number",
        ),
        "an empty list": ("items: []", "f.yaml:1:8: items: must not be empty; leave the key out, or name at least one"),
        "an empty text": ("short: ''", "f.yaml:1:8: short: must not be empty; leave the key out, or name at least one"),
        "a key without a value": ("apiGroups:\n", "f.yaml:1:11: apiGroups: expected a list, found nothing; write it as [ ... ]"),
        "a null": ("one: {name: a, count: ~}", "f.yaml:1:23: one.count: expected a whole number, found nothing"),
        "an optional null": ("one: null", "f.yaml:1:6: one: has no value; give one, or remove the key"),
        "a value of no type": ("words: {a: [1]}", "f.yaml:1:12: words.a: expected text, a whole number, or true or false"),
        "a validator's word": ("other: odd", "f.yaml:1:8: other: odd"),
        "a validator's word below": ("one: {name: a, count: 3}", "f.yaml:1:23: one.count: must be even"),
        "what pydantic alone knows": ("when: 1", "f.yaml:1:7: when: not a value that can stand here"),
        "another file's problem": ("other: broken", "other.yaml:3:4: user: is broken"),
        "no mapping": ("[a]", "f.yaml:1:1: expected a mapping of keys to values, found a list"),
        "another kind": ("kind: Policy\nzzz: 1\nitems: 3\n", "f.yaml:1:7: kind: expected one of: File"),
    }.values(),
)  # fmt: skip
def test_a_problem_says_where_what_was_expected_and_what_to_do(text: str, expected: str) -> None:
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    "word",
    ["yes", "No", "ON", "off", "y", "0777", "1_000", "1e3", ".5", "0x1f", "0o17", "8:30", "2024-01-01", ".inf", "=",
     "2024-01-01 10:00:00", "-.NaN", "1,000", "+1:30", "00", "1."],
)  # fmt: skip
def test_a_word_that_yaml_readers_disagree_on_is_refused_where_text_is_expected(word: str) -> None:
    (line,) = problems(f"apiGroups: [{word!s}]" if "," not in word else f"apiGroups:\n- {word}\n")
    assert "expected text, found a word that YAML readers disagree on; put it in quotes" in line
    assert value(f"apiGroups:\n- '{word}'\n").api_groups == (word,)
    (line,) = problems(f"words:\n  a: {word}\n")
    assert "expected text, a whole number, or true or false (YAML readers disagree" in line


def test_every_text_that_pyyaml_takes_for_something_else_is_ambiguous_or_so_here() -> None:
    """PyYAML reads YAML 1.1; what it would not read as this text, we do not either."""
    words = [
        "a",
        "0",
        "1",
        "-7",
        "08",
        "1.5",
        "true",
        "null",
        "~",
        "<<",
        "=",
        "on",
        "12:30:45",
        "1_0",
        "+.inf",
        "0b1",
        "1:2",
    ]
    for word in words:
        (document,) = parse(f"a: {word}", "f")
        ours = document.data["a"]  # type: ignore[index]
        theirs = yaml.safe_load(f"a: {word}")["a"] if word not in ("=", "<<") else None
        assert isinstance(ours, documents.Ambiguous) or ours == theirs or word == "<<", word


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "a key twice": (
            "one: {name: a, name: b}",
            "f.yaml:1:16: one: name is given a second time (first on line 1); remove one",
        ),
        "a mapping twice": (
            "one: {name: a}\none: {name: b, sure: true}\n",
            "f.yaml:2:1: one is given a second time (first on line 1); remove one",
        ),
        "an anchor": ("apiGroups: &a [x]", "f.yaml:1:12: anchors and aliases (& and *) are not read here; write the value out"),
        "a tag": ("apiGroups: [!!str 7]", "f.yaml:1:13: apiGroups: tags (!) are not read here; write a plain value"),
        "a merge key": ("one: {<<: {sure: true}, name: a}", "f.yaml:1:7: one: merge keys (<<) are not read here; write the keys out"),
        "a list as key": ("? [a]\n: b\n", "f.yaml:1:3: a key must be plain text"),
        "a mapping as key": ("? {a: 1}\n: {b: 2}\n", "f.yaml:1:3: a key must be plain text"),
    }.values(),
)  # fmt: skip
def test_what_has_two_meanings_is_refused(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_an_alias_is_refused_as_value_and_as_key() -> None:
    found = problems("other: &a x\nshort: *a\n*a : z\n")
    assert [line.split(": ")[0] for line in found] == ["f.yaml:1:8", "f.yaml:2:8", "f.yaml:3:1"]
    assert all("anchors and aliases" in line for line in found)


def test_a_quoted_merge_key_and_a_key_that_ends_in_space_are_unknown_keys() -> None:
    assert problems('"<<": 1') == [
        "f.yaml:1:1: (a key that is not a word): unknown key; known keys: "
        "kind, apiGroups, items, one, two, words, other, short, ratio, when"
    ]
    assert problems('"kind ": File')[0].startswith("f.yaml:1:1: (a key that is not a word): unknown key")


def test_a_model_may_take_null_for_absent() -> None:
    (document,) = parse("name: ~\n", "f")
    _, found = document.validate(Lenient)
    assert [p.message for p in found] == ["expected text, found nothing"]
    (document,) = parse("name: a\nrest: ~\n", "f")
    _, found = document.validate(Lenient)
    assert [p.message[:11] for p in found] == ["unknown key"]


def test_all_problems_of_a_file_come_at_once_in_its_order() -> None:
    found = problems(
        "apiGroup: []\nitems:\n- {nam: a, effect: x, nam: c}\n- 3\none: {name: yes, count: [1]}\n"
    )
    assert [line.split(": ")[0] for line in found] == [
        "f.yaml:1:1",
        "f.yaml:3:3",
        "f.yaml:3:4",
        "f.yaml:3:20",
        "f.yaml:3:23",
        "f.yaml:4:3",
        "f.yaml:5:13",
        "f.yaml:5:25",
    ]


def test_no_problem_repeats_a_value() -> None:
    secret = "hunter2-eyJhbGciOi"
    text = f"one: {{name: [{secret}], effect: {secret}, sure: {secret}, 'token:{secret}': 1}}\nkind: File\nwhen: {secret}\n"
    found = problems(text)
    assert len(found) == 5
    assert secret not in "\n".join(found)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    {
        "a tab": ("a:\n\t- b\n", 2, "tab"),
        "an open bracket": ("a: [1\nb: 2\n", 2, "not YAML"),
        "an open quote": ("a: 'x\n", 1, "not YAML"),
        "two colons": ("a: b: c\n", 1, "not YAML"),
        "a surrogate": ('a: "\\ud800"\n', 1, "not YAML"),
        "another version": ("%YAML 9.9\n---\na: 1\n", 1, "not YAML"),
        "too deep": ("[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1), 1, "nested deeper than 32"),
        "far too deep": ("{a: " * 100_000 + "}" * 100_000, 1, "nested deeper than 32"),
    }.values(),
)
def test_what_is_not_yaml_is_refused_with_its_line(text: str, line: int, word: str) -> None:
    with pytest.raises(DocumentError) as error:
        parse(text, "f.yaml")
    (problem,) = error.value.problems
    assert word in problem.message
    assert "\n" not in str(problem)
    # libyaml reports an error at the end of the text on the line after it
    assert problem.line in (line, line + 1)
    assert str(problem).startswith(f"f.yaml:{problem.line}:")


def test_the_pure_python_parser_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a: 1\nb: [x, {c: 'd'}]\n", "a: {b: 1, b: 2}\n", "? [a]\n: &x b\n", "- !!str x\n- *y\n"]
    fast = [parse(text, "f") for text in texts]
    monkeypatch.setattr(documents, "_LOADER", yaml.SafeLoader)
    assert [parse(text, "f") for text in texts] == fast
    for text in ("a:\n\t- b\n", "a: \x07", "a: [1\nb: 2"):
        with pytest.raises(DocumentError):
            parse(text, "f")


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n---\n", "null\n"])
def test_an_empty_file_is_a_problem_not_an_empty_setting(text: str) -> None:
    with pytest.raises(DocumentError, match=r"^f\.yaml: is empty; write its settings"):
        parse(text, "f.yaml")


def test_a_document_of_nothing_but_a_problem_is_not_passed_over() -> None:
    assert len(parse("a: 1\n---\n*x\n---\nb: 2\n", "f")) == 3


def test_several_documents_keep_their_lines() -> None:
    _, second = parse("kind: File\n---\nkind: File\nitem: 1\n", "f.yaml")
    _, found = second.validate(File)
    assert [str(p) for p in found] == ["f.yaml:4:1: item: unknown key; did you mean items?"]


def test_control_characters_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"^f: the character U\+0000 may not stand in a file; remove it$"):
        parse("a: \x00", "f")


def test_names_that_must_differ_are_compared_even_in_a_broken_file() -> None:
    text = "items:\n- {name: a, x: 1}\n- {name: b}\n- {name: a}\n- {name: 3}\n- {name: 3}\n- 7\nrest: {items: 3}\n"
    (document,) = parse(text, "f.yaml")
    assert [str(p) for p in document.duplicates(("items",), "name")] == [
        "f.yaml:4:10: items[2].name: the same name as on line 2; each must be its own"
    ]
    assert list(document.duplicates(("rest", "items"), "name")) == []
    assert list(document.duplicates(("rest", "items", "x"), "name")) == []


def test_a_problem_with_a_part_that_is_not_there_stands_at_what_encloses_it() -> None:
    (document,) = parse("a:\n  b: {c: 1}\n", "f.yaml")
    assert str(document.problem(("a", "b", "x", 3), "no")) == "f.yaml:2:6: a.b.x[3]: no"
    assert str(document.problem((), "no")) == "f.yaml:1:1: no"


def test_reading_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("a: 1\n", encoding="utf-8-sig")
    assert read(good)[0].data == {"a": 1}
    cases: dict[str, tuple[Path, str]] = {}

    def case(name: str, message: str, content: bytes | None = None) -> None:
        cases[name] = (tmp_path / name, message)
        if content is not None:
            (tmp_path / name).write_bytes(content)

    case("missing", "cannot be read: no such file or directory; check the path and its permissions")
    case("latin", "not UTF-8; save the file as UTF-8", b"a: 1\nb: \xe9\n")
    case("large", "is larger than 1024 KiB; this cannot be the file that was meant", b"#" * (FILE_LIMIT + 1))
    case("folder", "is a directory; name a file in it")
    (tmp_path / "folder").mkdir()
    case("pipe", "is not a plain file")
    os.mkfifo(tmp_path / "pipe")
    for path, message in cases.values():
        with pytest.raises(DocumentError) as error:
            read(path)
        assert str(error.value).startswith(str(path))
        assert str(error.value).endswith(message)
    with pytest.raises(DocumentError, match="latin:2:4: "):
        read(tmp_path / "latin")


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ValueError, match=r"^cannot be read: permission denied; check the path"):
        read_bytes(tmp_path / "f")


def test_nearest_word() -> None:
    assert nearest("effekt", ["effect", "match"], "known") == "did you mean effect?"
    assert nearest("x" * 10_000, ["effect", "match"], "known") == "known: effect, match"


_words = st.text("ab<&*!'\"[]{}:,-#|>%@`? \t\n0yes~.", max_size=40)


@given(_words)
@settings(max_examples=250, deadline=None, derandomize=True)
def test_no_text_breaks_the_reader(text: str) -> None:
    documents_read: tuple[Document, ...] = ()
    lines = ["a problem"]
    try:
        documents_read = parse(text, "f")
    except DocumentError as error:
        lines = [str(problem) for problem in error.problems]
    assert lines
    assert not any("\n" in line for line in lines)
    for document in documents_read:
        value_read, found = document.validate(File)
        assert (value_read is None) == bool(found)


_plain = st.recursive(
    st.booleans() | st.integers(-(10**6), 10**6) | st.text("abc xyz:yes01", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz01 ", min_size=1, max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), _plain, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_what_pyyaml_writes_is_read_back(data: dict[str, object]) -> None:
    (document,) = parse(yaml.safe_dump(data), "f")
    assert not document.problems
    assert _lists(document.data) == data


def _lists(data: object) -> object:
    if isinstance(data, tuple):
        return [_lists(item) for item in data]
    if isinstance(data, dict):
        return {key: _lists(item) for key, item in data.items()}
    return data.text if isinstance(data, documents.Ambiguous) else data
