"""Fields: the walk over a decoded document of any kind, and what it masks where.

In: what a JSON parser made (dicts, lists, strings, numbers). Out: the same objects, with tokens written into
them, and a finding for each. What is masked:

    Secret, at any depth          every value of data and stringData; a Helm release is opened instead
    any key, any depth            the strings (and numbers) under a name of `names.sensitive`
    {name, value}, {key, value}   value (or default), if the name is sensitive: environment, headers, parameters
    lists of strings              the word after a flag with a sensitive name: ["--password", "x"]
    any string                    JSON inside it is walked, manifests are, the rules of `text` apply
    last-applied-configuration    walked as its own object; masked whole when it does not parse
    binaryData                    by key, and as text when it is text
    Table                         the row's object, then cells: by column name, by the row's masked values
    managedFields                 names stay, values of sets (`v:"..."`) under a sensitive name do not
    Status of a failure           what may quote an object
    the rest of the same object   where a value that was masked stands once more

The rule: a document that this does not understand is not passed on: Unmaskable.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

import orjson

from interlock.masking import failures, helm, manifest, text
from interlock.masking.masked import Finding, Unmaskable
from interlock.masking.names import NEUTRAL, sensitive
from interlock.masking.tokens import Mint, is_token

Path = tuple[Any, str] | None  # linked: (the path above, this step); None at the root

DEPTH = 128  # containers inside each other; API types and CRD schemas stay under 60
NESTING = 6  # documents inside strings of documents

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Of metadata, what the API server and its clients hand back as they got it.
_OPAQUE = frozenset({"resourceVersion", "continue", "uid", "selfLink", "creationTimestamp", "deletionTimestamp",
                     "name", "namespace", "generateName"})  # fmt: skip
# Strings that name a thing, so that a rule for text, or a value that is found again, must not touch them.
_IDENTIFIERS = frozenset(
    {"image", "imageID", "containerID", "kind", "apiVersion", "name", "namespace", "secretName"}
)
_IMAGES = frozenset({"image", "imageID", "containerID"})  # `repository/vault-token:1.2`

_VALUES = ("value", "default")  # what stands beside a name: environment, parameters

SWEEP_LIMIT = (
    256  # values of one object that are looked for inside its other strings; beyond: equal ones only
)
SWEEP_LEAST = 6  # characters; a shorter value stands everywhere


class Walk:
    """One document's walk. `findings` grows as it goes."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self.findings: list[Finding] = []
        self._clean: set[str] = set()  # strings of this document in which nothing is to be found
        self._tamed: set[bytes] = set()  # keys of managedFields that hold no secret
        self._fresh: dict[str, str] = {}  # values masked in the object at hand -> tokens
        self._nested = 0
        self.columns: list[str] = []  # of a Table that does not name its own: a watch's second event

    # Values -------------------------------------------------------------------------------------------

    def token(self, value: str | bytes, path: Path, name: str = "") -> str:
        """The token of a value that is to be masked, noted as a finding at `path`."""
        token = self._mint(value, "secret")
        self.findings.append(Finding("secret", render(path), token))
        plain = value if isinstance(value, str) else value.decode("utf-8", "replace")
        plain = plain.strip()
        if len(plain) >= SWEEP_LEAST and (sensitive(name) or not _WORDS.fullmatch(plain)):
            self._fresh[plain] = token
        return token

    def string(self, value: str, path: Path) -> str:
        """A string that its name does not call a secret, with what is secret in it masked."""
        if len(value) < 5 or value in self._clean:
            return value
        if text.touches(value):
            found = len(self.findings)
            new = self._embedded(value, path)
            if len(self.findings) > found:
                return new
        self._clean.add(value)
        return value

    def _named(self, value: str, path: Path, name: str) -> str:
        """A string under a sensitive name."""
        return text.value_of(value, lambda secret, _: self.token(secret, path, name), name)

    def whole(self, node: Any, path: Path) -> Any:
        """Everything in `node` masked: what should be a value and has another shape."""
        if isinstance(node, dict):
            return {key: self.whole(value, (path, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [self.whole(value, (path, f"[{i}]")) for i, value in enumerate(node)]
        if node is None or node == "" or isinstance(node, bool):
            return node
        value = node if isinstance(node, str) else orjson.dumps(node).decode()
        return value if is_token(value) else self.token(value, path, "secret")

    # Documents inside strings -------------------------------------------------------------------------

    def _embedded(self, value: str, path: Path) -> str:
        def rewrite(plain: str) -> str:
            return text.rewrite(plain, lambda secret, name: self.token(secret, path, name))

        if value.lstrip()[:1] in ("{", "[") and (inner := parsed(value)) is not None:
            return self._json(value, inner, path)
        if manifest.LOOKS.search(value):
            return self._inside(
                lambda: manifest.masked(value, lambda node: self.changes(node, path), rewrite), path
            )
        return rewrite(value)

    def _json(self, value: str, inner: Any, path: Path) -> str:
        if not self._inside(lambda: self.changes(inner, path), path):
            return value
        return orjson.dumps(inner).decode() + value[len(value.rstrip()) :]

    def changes(self, node: Any, path: Path = None) -> bool:
        """Masks `node` in place and says whether there was anything to mask."""
        found = len(self.findings)
        self.document(node, path)
        return len(self.findings) > found

    def _inside[T](self, work: Callable[[], T], path: Path) -> T:
        if self._nested >= NESTING:
            raise Unmaskable(f"more than {NESTING} documents inside each other at {render(path)}")
        self._nested += 1
        try:
            return work()
        finally:
            self._nested -= 1

    # Documents ----------------------------------------------------------------------------------------

    def document(self, node: Any, path: Path = None, kind: str = "") -> None:
        """Masks one document in place: an object, a list of them, a Table, a watch event, or any JSON.

        kind: what it is when it does not say so itself. Raises Unmaskable.
        """
        if isinstance(node, dict):
            said = node.get("kind")
            kind = said if isinstance(said, str) and said else kind
            if kind == "Table" and isinstance(node.get("rows"), list):
                self._table(node, path)
            elif kind.endswith("List") and isinstance(items := node.get("items"), list):
                for i, item in enumerate(items):
                    self.document(item, (path, f"items[{i}]"), kind[:-4])
                self._rest(node, path, ("items",))
            else:
                self._scoped(lambda: self._dict(node, path, kind, False, 0), node, path)
        elif isinstance(node, list):
            self._scoped(lambda: self._list(node, path, False, 0), node, path)

    def _scoped(self, work: Callable[[], None], node: Any, path: Path) -> None:
        """One object: what `work` masks in it is then looked for in all of it."""
        outer, self._fresh = self._fresh, {}
        work()
        if self._fresh:
            self._sweep(node, path)
        outer.update(self._fresh)
        self._fresh = outer

    def _rest(self, node: dict[str, Any], path: Path, done: tuple[str, ...], depth: int = 0) -> None:
        """The fields of `node` that are not `done`."""
        rest = {key: value for key, value in node.items() if key not in done}
        self._dict(rest, path, "", False, depth)
        node.update(rest)

    def _dict(self, node: dict[str, Any], path: Path, kind: str, under: bool, depth: int) -> None:
        """under: whether a key above has a sensitive name."""
        if depth > DEPTH:
            raise Unmaskable(f"more than {DEPTH} fields inside each other at {render(path)[:100]}")
        said = node.get("kind")
        if type(said) is str and said:
            kind = said
        done: tuple[str, ...] = ()
        if kind:
            if kind == "Secret":
                self._secret(node, path)
                done = ("data", "stringData")
            elif kind == "Status" and node.get("status") == "Failure":
                failures.withhold(
                    node,
                    lambda value, where: self.token(value, (path, where)),
                    lambda thing: self.changes(thing, (path, "message")),
                    secret=False,
                )
                if failures.PLAIN.fullmatch(str(node.get("message"))):
                    done = ("message",)  # `cannot be handled as a Secret: illegal base64` names no value
        if "value" in node or "default" in node:
            self._pair(node, path)
        clean = self._clean
        for key, value in node.items():
            shape = type(value)
            if shape is str:
                if sensitive(key) or (under and key.lower() in NEUTRAL):
                    node[key] = self._named(value, (path, key), key)
                elif value in clean or key in _IMAGES or key in done:
                    continue
                elif key == helm.KEY and value.startswith("H4sI"):
                    node[key] = self._release(value, value.encode(), (path, key)).decode()
                else:
                    node[key] = self.string(value, (path, key))
            elif shape is dict:
                if key == "metadata":
                    self._metadata(value, (path, key), depth + 1)
                elif key == "binaryData":
                    self._binary(value, (path, key))
                elif key not in done:
                    self._dict(value, (path, key), "", under or sensitive(key), depth + 1)
            elif shape is list:
                if key not in done:
                    item = kind[:-4] if key == "items" and kind.endswith("List") else ""
                    self._list(value, (path, key), under or sensitive(key), depth + 1, key, item)
            elif (shape is int or shape is float) and sensitive(key):
                node[key] = self.token(orjson.dumps(value), (path, key), key)

    def _list(
        self, node: list[Any], path: Path, under: bool, depth: int, name: str = "", kind: str = ""
    ) -> None:
        """name: the key that the list stands under. kind: what its objects are if they do not say."""
        if depth > DEPTH:
            raise Unmaskable(f"more than {DEPTH} fields inside each other at {render(path)[:100]}")
        secret = under and (not name or sensitive(name) or name.lower() in NEUTRAL)
        flagged = False
        for i, value in enumerate(node):
            shape = type(value)
            if shape is dict:
                self._dict(value, (path, f"[{i}]"), kind, under, depth + 1)
            elif shape is str:
                if secret or (flagged and not value.startswith("-")):
                    node[i] = self._named(value, (path, f"[{i}]"), "secret")
                elif (new := self.string(value, (path, f"[{i}]"))) is not value:
                    node[i] = new
                flagged = value.startswith("-") and sensitive(value) and "=" not in value and " " not in value
            elif shape is list:
                self._list(value, (path, f"[{i}]"), under, depth + 1)
            elif secret and (shape is int or shape is float):
                node[i] = self.token(orjson.dumps(value), (path, f"[{i}]"), "secret")

    # Fields of their own ------------------------------------------------------------------------------

    def _pair(self, node: dict[str, Any], path: Path) -> None:
        name = node.get("name") or node.get("key")
        if not isinstance(name, str) or not sensitive(name):
            return
        for key in _VALUES:
            value = node.get(key)
            if isinstance(value, str):
                node[key] = self._named(value, (path, key), name)
            elif key in node and not isinstance(value, dict):
                node[key] = self.whole(value, (path, key))

    def _metadata(self, node: dict[str, Any], path: Path, depth: int) -> None:
        annotations = node.get("annotations")
        if isinstance(annotations, dict) and isinstance(applied := annotations.get(LAST_APPLIED), str):
            annotations[LAST_APPLIED] = self._applied(applied, ((path, "annotations"), LAST_APPLIED))
        managed = node.get("managedFields")
        if isinstance(managed, list):
            for i, entry in enumerate(managed):
                fields = entry.get("fieldsV1") if isinstance(entry, dict) else None
                if isinstance(fields, dict) and not self._tame(fields):
                    self._managed(fields, (path, f"managedFields[{i}]"), False)
        elif managed is not None:
            node["managedFields"] = self.whole(managed, (path, "managedFields"))
        opaque = tuple(key for key in _OPAQUE if isinstance(node.get(key), str))
        self._rest(node, path, ("managedFields", *opaque), depth)

    def _applied(self, applied: str, path: Path) -> str:
        if not applied or is_token(applied):
            return applied
        inner = parsed(applied)
        return self._json(applied, inner, path) if isinstance(inner, dict) else self.token(applied, path)

    def _tame(self, fields: Any) -> bool:
        """Whether no key of a FieldsV1 holds a value that could be a secret: a quick yes for most."""
        raw = orjson.dumps(fields)
        if raw.count(b'":') - raw.count(b'\\":') != raw.count(b'":{') - raw.count(b'\\":{'):
            return False  # FieldsV1 has no leaves
        for key in _KEYED.findall(raw):
            if key not in self._tamed:
                body = orjson.loads(b'"' + key[2:] + b'"')
                if key.startswith(b"v:") or Walk(self._mint).string(body, None) != body:
                    return False
                self._tamed.add(key)
        return True

    def _managed(self, node: dict[str, Any], path: Path, under: bool) -> None:
        """FieldsV1 (apimachinery, meta/v1): keys are `f:name`, `k:{key}`, `v:value`, `i:index` and `.`."""
        for key in list(node):
            value, head, body = node[key], key[:2], key[2:]
            if isinstance(value, dict):
                self._managed(value, path, under or (head == "f:" and sensitive(body)))
            else:
                node[key] = value = self.whole(value, path)
            new = body
            if head == "v:" and under:
                new = orjson.dumps(self._named(body.strip('"'), path, "secret")).decode()
            elif head != "f:":
                new = self.string(body, path)
            if new != body:
                del node[key]
                node[head + new] = value

    def _binary(self, node: dict[str, Any], path: Path) -> None:
        for key, value in node.items():
            raw = decoded(value) if isinstance(value, str) else None
            if raw is None:
                node[key] = self.whole(value, (path, key))
            elif sensitive(key):
                node[key] = self._data(raw, (path, key), key)
            else:
                plain = raw.decode("utf-8", "surrogateescape")
                if (new := self.string(plain, (path, key))) != plain:
                    node[key] = encoded(new)

    def _data(self, raw: bytes, path: Path, name: str) -> str:
        """The base64 of what stands for the value `raw` of a Secret's data."""
        if not raw or is_token(raw.decode("latin-1")):
            return encoded(raw.decode("latin-1"))
        return encoded(self.token(raw, path, name))

    def _secret(self, node: dict[str, Any], path: Path) -> None:
        data, plain = node.get("data"), node.get("stringData")
        if isinstance(data, dict):
            for key, value in data.items():
                step = ((path, "data"), key)
                raw = decoded(value) if isinstance(value, str) else None
                if raw is None:
                    data[key] = self._malformed(value, step)
                elif node.get("type") == helm.TYPE and key == helm.KEY:
                    release = self._release(value, raw, step)
                    data[key] = value if release is raw else base64.b64encode(release).decode()
                else:
                    data[key] = self._data(raw, step, key)
        elif data is not None:
            node["data"] = self.whole(data, (path, "data"))
        if isinstance(plain, dict):
            for key, value in plain.items():
                plain[key] = self.whole(value, ((path, "stringData"), key))
        elif plain is not None:
            node["stringData"] = self.whole(plain, (path, "stringData"))

    def _malformed(self, value: Any, path: Path) -> Any:
        """What is no base64 and stands where base64 should."""
        if not isinstance(value, str):
            return self.whole(value, path)
        return value if is_token(value) else encoded(self.token(value, path))

    def _release(self, value: str, raw: bytes, path: Path) -> bytes:
        """A Helm release, masked inside and closed again; `raw` itself if there is nothing to mask; a token
        for one that does not open."""
        try:
            release = helm.opened(raw)
        except ValueError:
            return raw if is_token(raw.decode("latin-1")) else self.token(raw, path).encode()
        found = len(self.findings)
        self._inside(lambda: self._scoped(lambda: self._released(release, path), release, path), path)
        return helm.closed(release) if len(self.findings) > found else raw

    def _released(self, release: dict[str, Any], path: Path) -> None:
        for holder in helm.manifests(release):
            holder["manifest"] = self._embedded(holder["manifest"], path)
            self._clean.add(holder["manifest"])
        for file in helm.files(release):
            raw = decoded(file["data"])
            plain = file["data"] if raw is None else raw.decode("utf-8", "surrogateescape")
            if (new := self.string(plain, (path, "chart"))) != plain:
                file["data"] = encoded(new)
        self._dict(release, path, "", False, 0)

    # Tables -------------------------------------------------------------------------------------------

    def _table(self, node: dict[str, Any], path: Path) -> None:
        names = columns(node.get("columnDefinitions")) or self.columns
        for i, row in enumerate(node["rows"]):
            self.row(row, (path, f"rows[{i}]"), names)
        self._rest(node, path, ("rows", "columnDefinitions"))

    def row(self, row: Any, path: Path, names: list[str]) -> None:
        """One row of a meta.k8s.io Table whose columns have these names. Raises Unmaskable."""
        if not isinstance(row, dict) or not isinstance(row.get("cells", []), list):
            raise Unmaskable(f"{render(path)} is no row of a Table")
        outer, self._fresh = self._fresh, {}
        self.document(row.get("object"), (path, "object"))
        for j, cell in enumerate(row.get("cells", ())):
            step = (path, f"cells[{j}]")
            if j < len(names) and sensitive(names[j]) and not isinstance(cell, int):
                row["cells"][j] = (
                    self._named(cell, step, names[j]) if isinstance(cell, str) else self.whole(cell, step)
                )
            elif isinstance(cell, str):
                row["cells"][j] = self._swept(self.string(cell, step), step)
        self._rest(row, path, ("object", "cells"))
        self._fresh = outer

    # The same value elsewhere in the object -----------------------------------------------------------

    def _sweep(self, node: Any, path: Path) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, str):
                    if key not in _IDENTIFIERS:
                        node[key] = self._swept(value, (path, key))
                elif key == "metadata" and isinstance(value, dict):
                    self._sweep(value.get("annotations"), ((path, key), "annotations"))
                elif isinstance(value, (dict, list)):
                    self._sweep(value, (path, key))
        elif isinstance(node, list):
            for i, value in enumerate(node):
                if isinstance(value, str):
                    node[i] = self._swept(value, (path, f"[{i}]"))
                else:
                    self._sweep(value, (path, f"[{i}]"))

    def _swept(self, value: str, path: Path) -> str:
        if (token := self._fresh.get(value)) is not None:
            self.findings.append(Finding("secret", render(path), token))
            return token
        if len(self._fresh) <= SWEEP_LIMIT:
            for secret, token in self._fresh.items():
                if secret in value:
                    value = value.replace(secret, token)
                    self.findings.append(Finding("secret", render(path), token))
        return value


def columns(definitions: Any) -> list[str]:
    """The names of a Table's columns, in their order."""
    if not isinstance(definitions, list):
        return []
    return [str(column.get("name", "")) if isinstance(column, dict) else "" for column in definitions]


def render(path: Path) -> str:
    """A path for people: `items[3].data.password`."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(step)
    return ".".join(reversed(steps)).replace(".[", "[")


def parsed(value: str) -> Any:
    """The JSON object or list that `value` is, or None: what only begins like JSON is text like any other."""
    try:
        inner = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return inner if isinstance(inner, (dict, list)) else None


def decoded(value: str) -> bytes | None:
    """The bytes that `value` is the base64 of (RFC 4648, section 4), or None."""
    try:
        return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
    except ValueError:
        return None


def encoded(value: str) -> str:
    """The base64 of a string's UTF-8."""
    return base64.b64encode(value.encode("utf-8", "surrogateescape")).decode("ascii")


_KEYED = re.compile(rb'"([kv]:(?:[^"\\]|\\.)*)"')  # keys of FieldsV1 that hold values

# Values that are plain words: too common to be looked for elsewhere, unless their name calls them a secret.
_WORDS = re.compile(r"[A-Z]?[a-z]+(?:[ ._/:\-][a-z]+)*[ ._/:\-]?[0-9]{0,5}")
