"""JSON forms of the Kubernetes types whose JSON is not their fields.

In: the fields that were on the wire, by name. Out: the JSON value that the type's MarshalJSON gives.
Rule: a value that Go would not marshal, or would change on the way, is refused.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from interlock.kube.json import parse

Seen = Mapping[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62_135_596_800  # 0001-01-01T00:00:00Z, which is Go's zero time
_LAST: Final = 253_402_300_799  # 9999-12-31T23:59:59Z

# apimachinery/pkg/api/resource/quantity.go, "the serialization format"
_QUANTITY = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")


def _moment(seen: Seen, digits: str) -> str | None:
    seconds, nanos = seen.get("seconds", 0), seen.get("nanos", 0)
    if not _FIRST <= seconds <= _LAST or not 0 <= nanos < 1_000_000_000:
        raise ValueError("a time outside the years 1 to 9999")
    if digits == "seconds" and nanos:
        raise ValueError("a time with fractions where Kubernetes keeps whole seconds")
    if not seen or (seconds == _FIRST and nanos < 1000):
        return None
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return moment.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def time(seen: Seen) -> str | None:
    """meta/v1 Time: RFC 3339 in UTC, whole seconds; null for none (time.go, time_proto.go)."""
    return _moment(seen, "seconds")


def micro_time(seen: Seen) -> str | None:
    """meta/v1 MicroTime: RFC 3339 in UTC with six digits; null for none (micro_time.go)."""
    return _moment(seen, "microseconds")


def duration(seen: Seen) -> str:
    """meta/v1 Duration: nanoseconds as Go's time.Duration.String prints them, such as 1h0m0.5s."""
    nanos: int = seen.get("duration", 0)
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanos < size * 1000:
            return f"{sign}{_decimal(nanos, size)}{unit}"
    minutes, nanos = divmod(nanos, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(nanos, 1_000_000_000)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(nanos: int, size: int) -> str:
    whole, rest = divmod(nanos, size)
    return f"{whole}.{str(size + rest)[1:]}".rstrip("0").rstrip(".") if rest else str(whole)


def quantity(seen: Seen) -> str:
    """resource Quantity: its text, which clients send in canonical form (quantity_proto.go)."""
    text: str = seen.get("string", "0")
    if not _QUANTITY.fullmatch(text):
        raise ValueError("a quantity that is not a number with a suffix such as 100m or 2Gi")
    return text


def int_or_string(seen: Seen) -> int | str:
    """intstr IntOrString: type 0 is the number, 1 the text (intstr.go)."""
    which = seen.get("type", 0)
    if which == 0:
        number: int = seen.get("intVal", 0)
        return number
    if which == 1:
        text: str = seen.get("strVal", "")
        return text
    raise ValueError("neither a number nor a text where one of them belongs")


def raw_json(name: str) -> Callable[[Seen], Any]:
    """A message that holds JSON text in the field `name`: that JSON, or null without it."""

    def form(seen: Seen) -> Any:
        return parse(seen[name]) if name in seen else None

    return form


def schema_or_array(seen: Seen) -> Any:
    """apiextensions JSONSchemaPropsOrArray (apiextensions/v1/marshal.go)."""
    return seen.get("jSONSchemas") or seen.get("schema")


def schema_or_bool(seen: Seen) -> Any:
    """apiextensions JSONSchemaPropsOrBool (apiextensions/v1/marshal.go)."""
    return seen["schema"] if "schema" in seen else seen.get("allows", False)


def schema_or_strings(seen: Seen) -> Any:
    """apiextensions JSONSchemaPropsOrStringArray (apiextensions/v1/marshal.go)."""
    return seen.get("property") or seen.get("schema")


# By the last part of the message's name.
FORMS: Final[Mapping[str, Callable[[Seen], Any]]] = {
    "Duration": duration,
    "FieldsV1": raw_json("Raw"),
    "IntOrString": int_or_string,
    "JSON": raw_json("raw"),
    "JSONSchemaPropsOrArray": schema_or_array,
    "JSONSchemaPropsOrBool": schema_or_bool,
    "JSONSchemaPropsOrStringArray": schema_or_strings,
    "MicroTime": micro_time,
    "Quantity": quantity,
    "RawExtension": raw_json("raw"),
    "Time": time,
}
