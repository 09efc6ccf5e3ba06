"""The protobuf wire format of Kubernetes objects: bytes in, the JSON object out.

In: `k8s\\0` and a runtime.Unknown message (apimachinery/pkg/runtime/serializer/protobuf). Out: the object.
Rule: every byte is accounted for. An unknown kind, field or wire type, a field twice, bytes that are left
over, a number that does not fit its type, a text that is not UTF-8: each is refused. (Go's own reader skips
unknown fields, takes the last of two and cuts numbers; so might the next reader, differently.)
"""

import base64
import math
import struct
from typing import Any, Final

from interlock.kube.protobuf.table import BYTES, VARINT, Field, Message, load

PREFIX: Final = b"k8s\x00"
# Messages inside messages; only a CRD's schema nests deeper than about 15.
MAX_DEPTH: Final = 100
# Fields read and written for one body. Each costs up to 3 µs on the thread that serves all requests, and 3 MiB
# could hold a million; a CRD of 1 MiB, about the most that etcd stores, has some 80,000.
MAX_WORK: Final = 200_000

_INT32 = range(-(2**31), 2**31)
_DOUBLE = struct.Struct("<d")

# apimachinery/pkg/runtime/generated.proto: TypeMeta and Unknown
_API_VERSION = Field(1, "apiVersion", "string", "one", "always")
_KIND = Field(2, "kind", "string", "one", "always")
_TYPE_META = Field(1, "typeMeta", "message", "one", "always", Message("TypeMeta", (_API_VERSION, _KIND)))
_RAW = Field(2, "raw", "bytes", "one", "always")
_CONTENT_ENCODING = Field(3, "contentEncoding", "string", "one", "always")
_CONTENT_TYPE = Field(4, "contentType", "string", "one", "always")
_UNKNOWN = Message("Unknown", (_TYPE_META, _RAW, _CONTENT_ENCODING, _CONTENT_TYPE))


class BadProtobuf(ValueError):
    """A body that is refused; the message is one line, names the place, and never quotes values."""


def decode(body: bytes) -> dict[str, Any]:
    """Gives the object of a protobuf body with its apiVersion and kind, as Go's JSON encoder would.

    Raises BadProtobuf.
    """
    if not body.startswith(PREFIX):
        raise BadProtobuf("it does not begin with k8s and a zero byte, as Kubernetes protobuf does")
    reader = _Reader()
    envelope = reader.fields(_UNKNOWN, body[len(PREFIX) :], 0)
    if envelope.get(_CONTENT_ENCODING) or envelope.get(_CONTENT_TYPE):
        raise BadProtobuf("its envelope names a content type or encoding of its own")
    type_meta = envelope.get(_TYPE_META, {"apiVersion": "", "kind": ""})
    message = load().kinds.get(type_meta["apiVersion"], {}).get(type_meta["kind"])
    if message is None:
        raise BadProtobuf("its apiVersion and kind are not among the kinds that are known in protobuf")
    return {**type_meta, **reader.value(message, envelope.get(_RAW, b""), 1)}


class _Reader:
    """Reads one body; `left` is the work that it may still make."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_WORK

    def value(self, message: Message, data: bytes, depth: int) -> Any:
        """The JSON of one message."""
        seen = self.fields(message, data, depth)
        if message.form is not None:
            try:
                return message.form({field.name: value for field, value in seen.items()})
            except ValueError as error:
                raise BadProtobuf(f"{message.name} holds {error}") from None
        if message.is_list:
            return seen.get(message.fields[0], [])
        self._spend(len(message.always) + 1)
        for field in message.always:
            if field not in seen:
                zero = field.zero_message
                seen[field] = field.zero if zero is None else self.value(zero, b"", depth + 1)
        out: dict[str, Any] = {}
        for field, value in seen.items():
            if not value and (field.drops_empty or (value is None and field.drops_null)):
                continue
            if field.shape == "inline":
                out.update(value)
            elif field.kind == "bytes" and value is not field.zero:
                out[field.name] = base64.b64encode(value).decode()
            else:
                out[field.name] = value
        return out

    def _spend(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise BadProtobuf(f"more than {MAX_WORK} fields")

    def fields(self, message: Message, data: bytes, depth: int) -> dict[Field, Any]:
        """The fields that are on the wire: scalars (bytes as they are) and the JSON of messages."""
        if depth > MAX_DEPTH:
            raise BadProtobuf(f"messages nested deeper than {MAX_DEPTH}")
        seen: dict[Field, Any] = {}
        by_tag = message.by_tag
        at, end = 0, len(data)
        while at < end:
            self._spend(1)
            tag, at = _varint(message, data, at)
            field = by_tag.get(tag)
            if field is None:
                raise BadProtobuf(
                    f"{message.name} has no field {tag >> 3} of wire type {tag & 7} in the version known here"
                )
            wire = tag & 7
            value: Any
            if wire == VARINT:
                number, at = _varint(message, data, at)
                value = _integer(message, field, number)
            else:
                size = 8
                if wire == BYTES:
                    size, at = _varint(message, data, at)
                chunk = data[at : at + size]
                at += size
                if at > end:
                    raise BadProtobuf(f"{message.name} ends in the middle of field {field.number}")
                if field.message is not None:
                    value = self.value(field.message, chunk, depth + 1)
                elif field.kind == "string":
                    value = _text(message, field, chunk)
                elif field.kind == "bytes":
                    value = chunk
                else:
                    value = _float(message, field, chunk)
            if field.shape == "list":
                seen.setdefault(field, []).append(value)
            elif field.shape == "map":
                entries = seen.setdefault(field, {})
                if value["key"] in entries:
                    raise BadProtobuf(f"{message.name} holds a key of {field.name} twice")
                entries[value["key"]] = value["value"]
            elif field in seen:
                raise BadProtobuf(f"{message.name} holds field {field.number} twice")
            else:
                seen[field] = value
        return seen


def _varint(message: Message, data: bytes, at: int) -> tuple[int, int]:
    """A base-128 number of at most 64 bits, and the place after it."""
    try:
        number = data[at]
        at += 1
        if number < 0x80:
            return number, at
        number &= 0x7F
        for shift in range(7, 70, 7):
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80 and number < 2**64:
                return number, at
    except IndexError:
        raise BadProtobuf(f"{message.name} ends in the middle of a number") from None
    raise BadProtobuf(f"{message.name} holds a number of more than 64 bits")


def _integer(message: Message, field: Field, number: int) -> int | bool:
    if field.kind == "bool":
        if number > 1:
            raise BadProtobuf(f"{message.name} holds {number} where field {field.number} is true or false")
        return number == 1
    if number >= 2**63:
        number -= 2**64
    if field.kind == "int32" and number not in _INT32:
        raise BadProtobuf(f"{message.name} holds more than 32 bits in field {field.number}")
    return number


def _float(message: Message, field: Field, chunk: bytes) -> float:
    number: float = _DOUBLE.unpack(chunk)[0]
    if not math.isfinite(number):
        raise BadProtobuf(f"{message.name} holds no finite number in field {field.number}")
    return number


def _text(message: Message, field: Field, chunk: bytes) -> str:
    try:
        return chunk.decode()
    except UnicodeDecodeError:
        raise BadProtobuf(f"{message.name} holds text that is not UTF-8 in field {field.number}") from None
