"""Manifests: YAML of Kubernetes objects inside a string (Helm's releases, ConfigMaps, annotations).

In: the text, a walk over one parsed document and a rewriting of plain text. Out: the text, with each document
that the walk changed written anew and every other one as it was. The rule: a Secret is masked in a document
that does not parse too (a template), line by line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from interlock.masking.names import blank

LOOKS = re.compile(r"^(?:- )?[ \t]*[\"']?kind[\"']?:[ \t]+[\"']?[A-Z]", re.MULTILINE)  # it may be a manifest
LIMIT = 4 * 1024 * 1024  # characters of one document that is parsed; etcd holds no object above 1.5 MiB
DEPTH = 128

Walk = Callable[[Any], bool]
Rewrite = Callable[[str], str]

_MARK = re.compile(r"^---(?:[ \t][^\n]*)?\r?(?:\n|\Z)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
_HEAD = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*")
_SECRET = re.compile(r"^(?:- )?[ \t]*[\"']?kind[\"']?:[ \t]+[\"']?Secret\b", re.MULTILINE)
_FIELD = re.compile(r"^(?P<indent>[ \t]*(?:- )?)(?P<key>[^\s:{][^\n:]*):(?:[ \t]+(?P<value>[^\n]*))?$")


class _Loader(yaml.CSafeLoader):
    """YAML's JSON-like core: no dates, no binary, no sets, no merge keys (a small text, a huge tree)."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merge keys are not read")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.CSafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}


def masked(text: str, walk: Walk, rewrite: Rewrite) -> str:
    """`text` masked document by document.

    walk: masks a parsed document in place and says whether it changed it. rewrite: masks plain text.
    """
    pieces: list[str] = []
    at = 0
    for mark in (*_MARK.finditer(text), None):
        pieces.append(_document(text[at : mark.start() if mark else len(text)], walk, rewrite))
        if mark:
            pieces.append(rewrite(mark[0]))
            at = mark.end()
    return "".join(pieces)


def _document(text: str, walk: Walk, rewrite: Rewrite) -> str:
    if not text.strip():
        return text
    try:
        node = parsed(text)
    except ValueError:
        return rewrite(_secret_lines(text, rewrite) if _SECRET.search(text) else text)
    if not isinstance(node, (dict, list)):
        return rewrite(text)
    if not walk(node):
        return _COMMENT.sub(lambda comment: rewrite(comment[0]), text)
    head = _HEAD.match(text)
    written = yaml.dump(node, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**20)
    return rewrite(head[0] if head else "") + (written if text.endswith("\n") else written.rstrip("\n"))


def parsed(text: str) -> Any:
    """One YAML document as JSON would hold it. Raises ValueError when it does not parse, or is no such tree."""
    if len(text) > LIMIT:
        raise ValueError(f"a YAML document of more than {LIMIT} characters")
    try:
        return _plain(yaml.load(text, _Loader), set(), 0)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("not YAML that can be read") from error


def _plain(node: Any, seen: set[int], depth: int) -> Any:
    """The tree with keys as strings, as sigs.k8s.io/yaml makes them. An alias makes it a graph: ValueError."""
    if isinstance(node, (dict, list)):
        if id(node) in seen or depth > DEPTH:
            raise ValueError("aliases, or too deep")
        seen.add(id(node))
        if isinstance(node, list):
            return [_plain(value, seen, depth + 1) for value in node]
        return {
            key if isinstance(key, str) else str(key): _plain(value, seen, depth + 1)
            for key, value in node.items()
        }
    return node


def _secret_lines(text: str, mask: Rewrite) -> str:
    """A Secret that is no YAML, as Helm's templates are: what stands under data and stringData, by line."""
    lines = text.split("\n")
    section: int | None = None
    for i, line in enumerate(lines):
        stripped = line.strip()
        if not stripped or stripped.startswith(("{{", "#")):
            continue
        indent = len(line) - len(line.lstrip())
        if section is not None and indent <= section:
            section = None
        field = _FIELD.match(line)
        if section is None:
            if field and field["key"].strip("\"'") in ("data", "stringData"):
                section = indent
            continue
        value = (field["value"] or "").strip() if field else stripped
        if not value or blank(value) or value in ("|", ">", "|-", ">-", "|+", ">+"):
            continue
        start = line.rindex(value)
        lines[i] = (
            line[:start] + mask("secret: " + value).removeprefix("secret: ") + line[start + len(value) :]
        )
    return "\n".join(lines)
