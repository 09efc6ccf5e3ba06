"""The messages of Kubernetes protobuf as a table: the data file in, `Message` plans for the decoder out.

In: `table.json.gz` beside this file, written by scripts/protobuf-descriptors, which explains its words.
Out: one `Table`, built at the first call of `load` and kept.
Rule: only what the file names can be decoded; the file is data and nobody edits it by hand.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from interlock.kube.protobuf.forms import FORMS

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2

_WIRE: Final = {"bool": VARINT, "int32": VARINT, "int64": VARINT, "double": FIXED64}
# What Go writes for a scalar that is not on the wire (bytes: a nil slice).
_ZERO: Final[Mapping[str, Any]] = {
    "string": "",
    "bytes": None,
    "bool": False,
    "int32": 0,
    "int64": 0,
    "double": 0.0,
}


class Field:
    """One field of a message, with what its absence means worked out.

    `kind` is a scalar's name or "message" (then `message` is set; for a map it is the entry), `shape` one |
    list | map | inline, `omission` always | empty | zero | absent | null (scripts/protobuf.d/descriptors).
    """

    __slots__ = ("drops_absent", "drops_empty", "drops_null", "kind", "message", "name", "number", "shape", "tag", "zero", "zero_message")  # fmt: skip

    def __init__(
        self, number: int, name: str, kind: str, shape: str, omission: str, message: "Message | None" = None
    ) -> None:
        self.number, self.name, self.kind, self.shape, self.message = number, name, kind, shape, message
        self.tag = number << 3 | _WIRE.get(kind, BYTES)
        # encoding/json: a struct is never empty; a slice, a map, a zero scalar is, also a slice that has a
        # message of its own around it.
        can_be_empty = shape in ("list", "map") or message is None or message.is_list
        self.drops_empty = omission == "empty" and can_be_empty
        self.drops_null = omission == "zero"
        self.drops_absent = omission in ("absent", "zero") or self.drops_empty
        single = shape in ("one", "inline") and omission != "null"
        self.zero_message = None if message is None or message.is_list or not single else message
        self.zero = _ZERO[kind] if single and message is None else None


class Message:
    """One message. Its JSON is an object of its fields; or, with `is_list`, the list of its one field; or what
    `form` makes of the fields that were on the wire, by name."""

    __slots__ = ("always", "by_tag", "fields", "form", "is_list", "name")

    def __init__(
        self,
        name: str,
        fields: tuple[Field, ...] = (),
        *,
        form: Callable[[Mapping[str, Any]], Any] | None = None,
        is_list: bool = False,
    ) -> None:
        self.name, self.form, self.is_list = name, form, is_list
        self.set_fields(fields)

    def set_fields(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.by_tag = {field.tag: field for field in fields}
        # Those that are in the JSON although they are not on the wire.
        self.always = tuple(field for field in fields if not field.drops_absent)


class Table:
    """`kinds[apiVersion][kind]` is a message; `modules` the versions that the table was made from."""

    __slots__ = ("kinds", "messages", "modules")

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.modules: Mapping[str, str] = data["modules"]
        self.messages: Mapping[str, Message] = {
            name: Message(
                name,
                form=FORMS[name.rpartition(".")[2]] if row["form"] == "special" else None,
                is_list=row["form"] == "list",
            )
            for name, row in data["messages"].items()
        }
        for name, message in self.messages.items():
            message.set_fields(tuple(self._field(name, *row) for row in data["messages"][name]["fields"]))
        self.kinds: Mapping[str, Mapping[str, Message]] = {
            version: {kind: self.messages[name] for kind, name in of_version.items()}
            for version, of_version in data["kinds"].items()
        }

    def _field(self, owner: str, number: int, name: str, kind: str, shape: str, omission: str) -> Field:
        message = self.messages.get(kind)
        if message is not None:
            kind = "message"
        if shape != "map":
            return Field(number, name, kind, shape, omission, message)
        value = Field(2, "value", kind, "one", "always", message)
        # An entry without a value holds an empty slice, not a nil one.
        if kind == "bytes":
            value.zero = ""
        value.zero_message = message
        entry = Message(f"{owner}.{name}", (Field(1, "key", "string", "one", "always"), value))
        return Field(number, name, "message", "map", omission, entry)


@cache
def load() -> Table:
    """Reads the table: some 30 ms at the first call, nothing after it."""
    return Table(json.loads(gzip.decompress(files(__package__).joinpath("table.json.gz").read_bytes())))
