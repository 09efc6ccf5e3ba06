"""Request bodies: the bytes that came off the wire in, the object that they mean and the bytes to forward out.

In: what the request is (RequestInfo), its Content-Type, Content-Encoding and body. Out: a `Body`, or None when
there is rightly none, or `BadBody`.
Rule: what is checked is what is sent. Only `Body.canonical` is forwarded, with `Body.media_type`, and it is JSON
whatever came in; a body that the API server and this reader could understand differently is refused.

Bodies of exec, attach, port-forward and the proxy subresources are no Kubernetes objects, nobody can judge them,
and they are refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock.kube import json, protobuf, yaml
from interlock.kube.target import RequestInfo

# Bytes; the API server's own limit (apiserver/pkg/server/config.go, MaxRequestBodyBytes).
MAX_BYTES: Final = 3 << 20
# apiserver/pkg/endpoints/handlers/patch.go, maxJSONPatchOperations
MAX_OPERATIONS: Final = 10_000

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

Reader = Callable[[bytes], Any]

# Media type -> its reader. Objects are forwarded as JSON; a patch keeps its type, since the type is its meaning
# (JSON is YAML, so an apply patch in JSON is one too). CBOR is in neither: the API server has it switched off,
# and clients fall back to JSON at 415.
OBJECTS: Final[Mapping[str, Reader]] = {JSON: json.parse, YAML: yaml.parse, PROTOBUF: protobuf.decode}
PATCHES: Final[Mapping[str, Reader]] = {
    JSON_PATCH: json.parse,
    MERGE_PATCH: json.parse,
    STRATEGIC_PATCH: json.parse,
    APPLY_PATCH: yaml.parse,
}

# Core resources whose body, if any, is a stream and no object.
STREAMS: Final = frozenset(
    {
        ("pods", "exec"),
        ("pods", "attach"),
        ("pods", "portforward"),
        ("pods", "proxy"),
        ("services", "proxy"),
        ("nodes", "proxy"),
    }
)
# Core resources that act although dryRun=All is asked for (kubernetes/pkg/registry/core/serviceaccount/storage/
# token.go never reads CreateOptions.DryRun: the token it gives is real).
IGNORES_DRY_RUN: Final = frozenset({("serviceaccounts", "token")})

# RFC 6902 §4: the members of each operation; all are required, no others are accepted.
OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "add": frozenset({"op", "path", "value"}),
    "remove": frozenset({"op", "path"}),
    "replace": frozenset({"op", "path", "value"}),
    "move": frozenset({"op", "path", "from"}),
    "copy": frozenset({"op", "path", "from"}),
    "test": frozenset({"op", "path", "value"}),
}
# RFC 6901 §3. The API server's reader takes "x/spec" for "/spec".
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*", re.DOTALL)


class BadBody(ValueError):
    """A refused body. `reason` is one line: what was wrong and what to send; `code` is the HTTP status: 400 not
    readable, 413 too large, 415 media type or encoding, 422 readable and not what the method takes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Body:
    """A checked body.

    object: its JSON value: a dict, or a list of operations for a JSON patch.
    canonical: the bytes to forward; compact JSON.
    media_type: the Content-Type to forward.
    sent_as: the media type that it came in, without parameters.
    ignores_dry_run: the API server acts on this request even with dryRun=All.
    """

    object: Any
    canonical: bytes
    media_type: str
    sent_as: str
    ignores_dry_run: bool = False


def parse_body(
    info: RequestInfo, method: str, content_type: str | None, content_encoding: str | None, raw: bytes
) -> Body | None:
    """Reads the body of a request strictly; None when it has none and needs none. Raises BadBody."""
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        # The API server ignores the header and would read the compressed bytes.
        raise BadBody(415, "a request body with Content-Encoding is not accepted: send it uncompressed")
    streams = info.api_group == "" and (info.resource, info.subresource) in STREAMS
    if not raw:
        if info.is_resource and not streams and method in ("POST", "PUT", "PATCH"):
            raise BadBody(400, f"{method} without a body: send the object")
        return None
    if method in ("GET", "HEAD"):
        raise BadBody(400, f"{method} with a body is not accepted: send it without")
    if len(raw) > MAX_BYTES:
        raise BadBody(413, f"the body is larger than {MAX_BYTES >> 20} MiB, the API server's limit")
    if streams or not info.is_resource:
        raise BadBody(415, "a body that is no Kubernetes object cannot be checked and is not accepted here")

    if method == "PATCH":
        sent_as = forwarded = _patch_type(content_type)
        reader = PATCHES[sent_as]
    else:
        sent_as, forwarded = _object_type(content_type), JSON
        reader = OBJECTS[sent_as]
    try:
        value = reader(raw)
        canonical = json.emit(value)
    except (json.BadJson, yaml.BadYaml) as error:
        raise BadBody(400, f"the body cannot be read: {error}") from None
    except protobuf.BadProtobuf as error:
        raise BadBody(415, f"the protobuf body cannot be read: {error}; send it as JSON") from None
    if len(canonical) > MAX_BYTES:
        raise BadBody(413, f"as JSON the body is larger than {MAX_BYTES >> 20} MiB, the API server's limit")
    if sent_as == JSON_PATCH:
        _check_operations(value)
    else:
        _check_object(value)
    ignores = info.api_group == "" and (info.resource, info.subresource) in IGNORES_DRY_RUN
    return Body(value, canonical, forwarded, sent_as, ignores)


def dry_run(method: str, query: Iterable[tuple[str, str]], body: Body | None) -> bool:
    """Whether the API server will take the request for a dry run: only if it surely will, so any doubt is False.

    For DELETE a body's DeleteOptions replace the query whole (apiserver/pkg/endpoints/handlers/delete.go). A
    request that reads is never a dry run, nor is one that acts in spite of it.
    """
    if method == "DELETE" and body is not None:
        asked = body.object.get("dryRun")
    elif method == "DELETE" or (
        method in ("POST", "PUT", "PATCH") and body is not None and not body.ignores_dry_run
    ):
        asked = [value for key, value in query if key == "dryRun"]
    else:
        return False
    return isinstance(asked, list) and len(asked) > 0 and all(value == "All" for value in asked)


def _object_type(content_type: str | None) -> str:
    """The media type of an object, as apiserver/pkg/endpoints/handlers/negotiation reads it: absent means JSON,
    upper case is lowered, parameters are dropped; of parameters only charset=utf-8 is accepted."""
    if not content_type:
        return JSON
    name, *parameters = content_type.split(";")
    name = name.strip().lower()
    if name in OBJECTS and all(p.strip().lower() in _CHARSETS for p in parameters):
        return name
    raise BadBody(415, f"this Content-Type is not accepted: send {', '.join(OBJECTS)}")


def _patch_type(content_type: str | None) -> str:
    """The type of a patch, as apiserver/pkg/endpoints/handlers/patch.go reads it: what is before the first
    semicolon, letter by letter."""
    name, *parameters = (content_type or "").split(";")
    if name in PATCHES and all(p.strip().lower() in _CHARSETS for p in parameters):
        return name
    raise BadBody(415, f"this Content-Type is not accepted for PATCH: send {', '.join(PATCHES)}")


# The API server ignores a charset and reads UTF-8.
_CHARSETS = frozenset({"charset=utf-8", 'charset="utf-8"'})


def _check_object(value: Any) -> None:
    if not isinstance(value, dict):
        raise BadBody(422, "the body is not an object")
    for name in value:
        # The API server looks for the kind with a reader that ignores case (apimachinery/pkg/runtime/serializer/
        # json/meta.go) and for everything else with one that does not.
        if (
            len(name) in (4, 10)
            and name not in ("kind", "apiVersion")
            and name.casefold() in ("kind", "apiversion")
        ):
            raise BadBody(422, "kind and apiVersion must be written just so")
    for name in ("kind", "apiVersion"):
        if not isinstance(value.get(name, ""), str):
            raise BadBody(422, f"{name} is not a string")


def _check_operations(value: Any) -> None:
    if not isinstance(value, list):
        raise BadBody(422, "a JSON patch is a list of operations")
    if len(value) > MAX_OPERATIONS:
        raise BadBody(413, f"a JSON patch of more than {MAX_OPERATIONS} operations, the API server's limit")
    for place, operation in enumerate(value):
        members = operation.keys() if isinstance(operation, dict) else set()
        name = operation.get("op") if isinstance(operation, dict) else None
        if not isinstance(name, str) or members != OPERATIONS.get(name):
            raise BadBody(
                422, f"operation {place} of the JSON patch is none of RFC 6902: {', '.join(OPERATIONS)}"
            )
        for pointer in ("path", "from"):
            if not isinstance(text := operation.get(pointer, ""), str) or not _POINTER.fullmatch(text):
                raise BadBody(
                    422, f"{pointer} of operation {place} is not a JSON pointer such as /spec/replicas"
                )
