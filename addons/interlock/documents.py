"""Operator files: strict YAML in, validated values or every problem of the file out, each with its line.

In: a file of one or more YAML documents, and the pydantic model (a `Strict`) that says what may stand in it.
Out: frozen model values, and `Problem`s that name file, line, column, key, what was expected and the nearest
valid word. The rules that must not be broken:

- What could be read in two ways is refused, never guessed: duplicate keys, anchors, tags, merge keys, and
  plain words on which YAML readers disagree (`yes`, `0777`, `8:30`, `2024-01-01`) where text is expected.
- No message repeats a value from the file, because a value may be a secret. Keys are shown if they look like
  keys. (A validator that is sure of its value may name it in the `ValueError` that it raises.)
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

FILE_LIMIT = 1 << 20
"""Bytes of one operator file: far above any real one, far below what would stall a reload."""

DEPTH_LIMIT = 32
"""Levels of nesting; the deepest file of ours has eight."""

Loc = tuple[str | int, ...]
M = TypeVar("M", bound="Strict")


class Strict(BaseModel):
    """Base of every operator file's model: camelCase keys, no unknown key, no conversion, no change."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    takes_null: ClassVar[bool] = False
    """Whether a key may be left without a value. Not in our files: it would count as absent, so as unlimited."""


class Fault(ValueError):
    """What a validator raises to put its problem on a key below the value that it validates."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at: Loc = at


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A plain scalar that YAML 1.1 and 1.2 read differently. It is no str, so no model field accepts it."""

    text: str


class _Faulty:
    """Its one value stands for a value that has a problem already: no field accepts it, none complains."""


_FAULTY: Final = _Faulty()


def _plain(value: object) -> object:
    if type(value) not in (str, bool, int):
        raise ValueError("expected text, a whole number, or true or false")
    return value


Plain = Annotated[str | bool | int, BeforeValidator(_plain)]
"""A value as a claim may have it; its type counts."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a file. Line and column count from 1; line 0 means the file as a whole."""

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class DocumentError(ValueError):
    """An operator file that cannot be used. `problems` holds all that is wrong with it; str() is one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: plain data (mappings as dict, lists as tuple) and where each part of it stands.

    text: of the whole file that it was read from. nulls: the places that have no value.
    """

    file: str
    text: str
    data: object
    keys: Mapping[Loc, tuple[int, int]]
    values: Mapping[Loc, tuple[int, int]]
    nulls: tuple[Loc, ...] = ()
    problems: tuple[Problem, ...] = ()

    def problem(self, at: Loc, message: str) -> Problem:
        """A problem with the value at `at`, or with the nearest enclosing part of the file that exists."""
        return self._problem(at, self.values, message)

    def duplicates(self, at: Loc, key: str) -> Iterator[Problem]:
        """A problem for each item of the list at `at` whose `key` repeats that of an item before it."""
        items = self.data
        for step in at:
            items = items.get(step) if isinstance(items, dict) else None
        first: dict[str, int] = {}
        for i, item in enumerate(items if isinstance(items, tuple) else ()):
            name = item.get(key) if isinstance(item, dict) else None
            if isinstance(name, str) and first.setdefault(name, i) != i:
                line = self.values[(*at, first[name], key)][0]
                yield self.problem((*at, i, key), f"the same {key} as on line {line}; each must be its own")

    def validate(
        self, model: type[M], context: Mapping[str, Any] | None = None
    ) -> tuple[M | None, list[Problem]]:
        """The document as a `model`, and all that is wrong with it; the model is None if anything is."""
        problems = list(self.problems)
        try:
            value = model.model_validate(self.data, context=context)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=True)
            wrong_kind = [d for d in details if d["loc"] in (("apiVersion",), ("kind",))]
            for detail in wrong_kind or details:
                problems.extend(self._read(detail, model))
            value = None
        if not model.takes_null:
            known = {(p.line, p.column) for p in problems}
            empty = (at for at in self.nulls if self.values[at] not in known)
            problems.extend(self.problem(at, "has no value; give one, or remove the key") for at in empty)
        return (None if problems else value), problems

    def _read(self, detail: ErrorDetails, model: type[BaseModel]) -> Iterator[Problem]:
        loc, kind = tuple(detail["loc"]), detail["type"]
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, DocumentError):
            yield from cause.problems
        elif kind == "extra_forbidden":
            known = _known_keys(model, loc[:-1])
            yield self._problem(loc, self.keys, f"unknown key; {nearest(str(loc[-1]), known, 'known keys')}")
        elif kind == "missing":
            yield self.problem(loc, "missing; it must be given")
        elif detail["input"] is _FAULTY or (kind == "too_short" and detail["input"]):
            pass  # it, or each of its items, has a problem already
        else:
            at = cause.at if isinstance(cause, Fault) else ()
            yield self.problem(loc + at, _explain(kind, detail))

    def _problem(self, at: Loc, places: Mapping[Loc, tuple[int, int]], message: str) -> Problem:
        place = places.get(at)
        for end in range(len(at), -1, -1):
            place = place or self.values.get(at[:end])
        line, column = place or (1, 1)
        return Problem(self.file, line, column, dotted(at), message)


def read(path: Path) -> tuple[Document, ...]:
    """The documents of the YAML file at `path`, at least one.

    Raises DocumentError if it is missing, unreadable, not a plain file, too large, not UTF-8, not YAML, empty.
    """
    file = str(path)
    try:
        raw = read_bytes(path)
    except ValueError as error:
        raise DocumentError([Problem(file, 0, 0, "", str(error))]) from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise DocumentError([Problem(file, line, column, "", "not UTF-8; save the file as UTF-8")]) from None
    return parse(text, file)


def read_bytes(path: Path, limit: int = FILE_LIMIT) -> bytes:
    """The content of a plain file of at most `limit` bytes; ValueError with one line that says why not."""
    try:
        if path.is_dir():
            raise ValueError("is a directory; name a file in it")
        if path.exists() and not path.is_file():
            raise ValueError("is not a plain file")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ValueError(f"cannot be read: {reason}; check the path and its permissions") from None
    if len(raw) > limit:
        raise ValueError(f"is larger than {limit // 1024} KiB; this cannot be the file that was meant")
    return raw


def parse(text: str, file: str) -> tuple[Document, ...]:
    """The documents in `text`; `file` is its name in problems. Raises DocumentError if it is not YAML or empty."""
    documents: list[Document] = []
    builder = _Builder(file, text)
    try:
        for event in yaml.parse(text, _LOADER):
            if isinstance(event, yaml.DocumentEndEvent):
                if builder.root is not None or builder.problems:
                    documents.append(builder.document())
                builder = _Builder(file, text)
            else:
                builder.take(event)
    except _TooDeep as error:
        line, column = error.args
        raise DocumentError(
            [Problem(file, line, column, "", f"nested deeper than {DEPTH_LIMIT} levels")]
        ) from None
    except yaml.MarkedYAMLError as error:
        raise DocumentError([_syntax(error, text, file)]) from None
    except yaml.reader.ReaderError as error:
        message = f"the character U+{_code(error.character):04X} may not stand in a file"
        raise DocumentError([Problem(file, 0, 0, "", f"{message}; remove it")]) from None
    if not documents:
        raise DocumentError(
            [Problem(file, 0, 0, "", "is empty; write its settings, or remove it from the list")]
        )
    return tuple(documents)


# libyaml's parser where PyYAML was built with it: nine times as fast, the same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read. `key` is the one whose value comes next, None before a key."""

    container: dict[str, object] | list[object]
    loc: Loc
    is_key: bool  # it stands where a key should: a fault already, and dropped when it ends
    key: str | None = None
    drop: bool = False  # the next value's key was faulty: the value is read and dropped


class _TooDeep(Exception):
    """Nested deeper than DEPTH_LIMIT, at this line and column."""


class _Builder:
    """Plain data out of one document's parsing events, without recursion, so that depth cannot hurt."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.root: object = None
        self.keys: dict[Loc, tuple[int, int]] = {}
        self.values: dict[Loc, tuple[int, int]] = {}
        self.nulls: list[Loc] = []
        self.problems: list[Problem] = []
        self.open: list[_Open] = []

    def document(self) -> Document:
        nulls, problems = tuple(self.nulls), tuple(self.problems)
        return Document(self.file, self.text, self.root, self.keys, self.values, nulls, problems)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.NodeEvent):
            if event.anchor:
                self._fault(event, "anchors and aliases (& and *) are not read here; write the value out")
            if getattr(event, "tag", None):
                self._fault(event, "tags (!) are not read here; write a plain value")
            if isinstance(event, yaml.MappingStartEvent):
                self._enter(event, {})
            elif isinstance(event, yaml.SequenceStartEvent):
                self._enter(event, [])
            elif self._at_key():
                self._take_key(event)
            else:
                value = _scalar(event) if isinstance(event, yaml.ScalarEvent) else _FAULTY
                self.values[self._here()] = _mark(event)
                if value is None:
                    self.nulls.append(self._here())
                self._store(value)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self.open.pop()
            if done.is_key:
                self.open[-1].key, self.open[-1].drop = "", True
            else:
                self._store(done.container if isinstance(done.container, dict) else tuple(done.container))

    def _enter(self, event: yaml.NodeEvent, container: dict[str, object] | list[object]) -> None:
        if len(self.open) == DEPTH_LIMIT:
            raise _TooDeep(*_mark(event))
        is_key = self._at_key()
        if is_key:
            self._fault(event, "a key must be plain text")
        else:
            self.values[self._here()] = _mark(event)
        self.open.append(_Open(container, self._here(), is_key))

    def _take_key(self, event: yaml.NodeEvent) -> None:
        parent = self.open[-1]
        if not isinstance(event, yaml.ScalarEvent):
            parent.key, parent.drop = "", True  # an alias, a fault already
            return
        key: str = event.value
        at = (*parent.loc, key)
        parent.key, parent.drop = key, True
        if key == "<<" and not event.style:
            self._fault(event, "merge keys (<<) are not read here; write the keys out")
        elif at in self.keys:
            line = self.keys[at][0]
            self._fault(event, f"{_shown(key)} is given a second time (first on line {line}); remove one")
        else:
            self.keys[at] = _mark(event)
            parent.drop = False

    def _store(self, value: object) -> None:
        if not self.open:
            self.root = value
            return
        parent = self.open[-1]
        if isinstance(parent.container, list):
            parent.container.append(value)
            return
        if not parent.drop:
            parent.container[parent.key or ""] = value
        parent.key, parent.drop = None, False

    def _at_key(self) -> bool:
        return bool(self.open) and isinstance(self.open[-1].container, dict) and self.open[-1].key is None

    def _here(self) -> Loc:
        """The place of the value that comes next."""
        if not self.open:
            return ()
        parent = self.open[-1]
        if parent.drop:  # a place of its own, so that what is dropped does not clash with what is kept
            return (*parent.loc, f"\0{len(self.values)}")
        if isinstance(parent.container, list):
            return (*parent.loc, len(parent.container))
        return (*parent.loc, parent.key or "")

    def _fault(self, event: yaml.Event, message: str) -> None:
        line, column = _mark(event)
        at = self.open[-1].loc if self.open else ()
        self.problems.append(Problem(self.file, line, column, dotted(at), message))


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark: Any = event.start_mark
    return mark.line + 1, mark.column + 1


# Plain scalars, as YAML 1.2's core schema has them (yaml.org/spec/1.2.2 §10.3.2) ...
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
# ... and those that YAML 1.1 readers (PyYAML, Go's yaml.v2) or 1.2 readers take for something else than text.
_AMBIGUOUS = re.compile(
    r"(?i:y|n|yes|no|on|off)"
    r"|[-+]?[0-9.][0-9_,]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?"  # 0777, 1_000, 1e3, .5
    r"|[-+]?0[xob][0-9a-f_]+"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"  # 8:30 is 510
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"
    r"|[-+]?\.(?:inf|nan)|=",
    re.IGNORECASE,
)


def _scalar(event: yaml.ScalarEvent) -> object:
    text: str = event.value
    if event.tag:
        return _FAULTY
    if event.style:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return Ambiguous(text) if _AMBIGUOUS.fullmatch(text) else text


_FOUND = {
    Ambiguous: "a word that YAML readers disagree on",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    tuple: "a list",
    dict: "a mapping",
    type(None): "nothing",
}

# pydantic's error type -> what was expected, and what to do about it
_EXPECTED = {
    "string_type": ("text", "; put it in quotes"),
    "tuple_type": ("a list", "; write it as [ ... ]"),
    "dict_type": ("a mapping of keys to values", ""),
    "model_type": ("a mapping of keys to values", ""),
    "bool_type": ("true or false", ""),
    "int_type": ("a whole number", ""),
}


_QUOTE = " (YAML readers disagree on a plain word like this one: put text in quotes)"


def _explain(kind: str, detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    value = detail["input"]
    if kind == "value_error":
        return f"{context['error']}{_QUOTE if isinstance(value, Ambiguous) else ''}"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        return nearest(value if isinstance(value, str) else "", words, "expected one of")
    if kind in ("too_short", "string_too_short"):
        return "must not be empty; leave the key out, or name at least one"
    if kind in _EXPECTED:
        expected, remedy = _EXPECTED[kind]
        quotable = kind != "string_type" or isinstance(value, (Ambiguous, bool, int, float))
        return f"expected {expected}, found {_FOUND.get(type(value), 'something else')}{remedy if quotable else ''}"
    return "not a value that can stand here"


def nearest(word: str, known: Iterable[str], label: str) -> str:
    """The known word that `word` is likely meant to be, or all of them after `label`."""
    words = list(known)
    near = difflib.get_close_matches(word[:64], words, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"{label}: {', '.join(words)}"


def _known_keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys that may stand in the mapping at `loc` of a document of `model`."""
    here: list[Any] = [model]
    for step in loc:
        if isinstance(step, int):
            here = [
                item
                for t in _plain_types(here)
                if typing.get_origin(t) is tuple
                for item in typing.get_args(t)
            ]
        else:
            here = [field.annotation for key, field in _fields(here) if key == step]
    return [key for key, _ in _fields(here)]


def _fields(annotations: Iterable[Any]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys, as the file has them, and fields of the models that `annotations` allow."""
    for each in _plain_types(annotations):
        if isinstance(each, type) and issubclass(each, BaseModel):
            for name, field in each.model_fields.items():
                yield field.alias or name, field


def _plain_types(annotations: Iterable[Any]) -> Iterator[Any]:
    """The types in `annotations`, without what says that a value may be left out or how it is validated."""
    for each in annotations:
        if typing.get_origin(each) is Annotated:
            yield from _plain_types(typing.get_args(each)[:1])
        elif typing.get_origin(each) in (typing.Union, types.UnionType):
            yield from _plain_types(typing.get_args(each))
        else:
            yield each


_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


def _shown(key: str) -> str:
    """A key as problems show it. What does not look like a key may be a misplaced value, so it is not shown."""
    return key if _KEY.fullmatch(key) else "(a key that is not a word)"


def dotted(loc: Loc) -> str:
    """A place in a file as problems name it: `spec.rules[2].effect`."""
    text = "".join(f"[{s}]" if isinstance(s, int) else f".{_shown(s)}" for s in loc)
    return text.removeprefix(".")


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark: Any = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    lines = text.splitlines()
    indent = re.match(r"\s*", lines[line - 1] if 0 < line <= len(lines) else "")
    if indent and "\t" in indent.group():
        return Problem(file, line, 1, "", "indented with a tab; indent with spaces")
    what = error.problem or "cannot be parsed"
    return Problem(
        file, line, column, "", f"not YAML: {what}; check quotes, brackets and indentation near here"
    )


def _code(character: int | str | bytes) -> int:
    return character if isinstance(character, int) else ord(character[:1])
