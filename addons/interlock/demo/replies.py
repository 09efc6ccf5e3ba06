"""How the demo's API server words its answers, and how it reads what a request asks for.

In: decoded documents, refusals, headers. Out: `Answer` values, selections, decoded bodies.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any

import orjson
import yaml

from interlock.demo import shapes
from interlock.demo.attributes import Attributes
from interlock.demo.resources import Object, Resource
from interlock.demo.store import Event, Refused, field_selector, label_selector
from interlock.demo.wire import Answer, Pieces, Request, Socket, Upgrade

JSON = "application/json"
PIECE = 64 * 1024  # bytes of a long list that are sent at once
SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

type Selection = Callable[[Object], bool]


def status(refused: Refused) -> Object:
    """The `Status` of a refusal (meta/v1)."""
    causes = [
        {"reason": reason, "message": message, "field": field} for reason, message, field in refused.causes
    ]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": refused.message,
        "reason": refused.reason,
        "details": {**refused.details, **({"causes": causes} if causes else {})},
        "code": refused.code,
    }


def unknown() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> Refused:
    return Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def encoded(code: int, body: bytes, media_type: str = JSON) -> Answer:
    return Answer(code, (("Content-Type", media_type),), body)


def json_answer(code: int, document: Object) -> Answer:
    return encoded(code, orjson.dumps(document))


def text(code: int, body: str) -> Answer:
    return encoded(code, body.encode(), "text/plain; charset=utf-8")


def tagged(request: Request, document: Object, media_type: str = JSON) -> Answer:
    """A document with its ETag; 304 when the client holds it already."""
    body = orjson.dumps(document)
    tag = f'"{sha256(body).hexdigest().upper()}"'
    headers = (("Content-Type", media_type), ("ETag", tag), ("Vary", "Accept"))
    return Answer(304, headers, b"") if request.header("if-none-match") == tag else Answer(200, headers, body)


def streamed_list(head: bytes, items: Iterable[bytes]) -> Pieces:
    """A list in pieces of about 64 KiB."""

    async def pieces() -> Pieces:
        pending = bytearray(head)
        separator = b""
        for item in items:
            pending += separator + item
            separator = b","
            if len(pending) >= PIECE:
                yield bytes(pending)
                pending.clear()
        yield bytes(pending) + b"]}"

    return pieces()


def framed(answer: Answer) -> Upgrade:
    """Row 19 of the bypasses: an upgrade on a list or a watch carries the answer in WebSocket frames."""

    async def run(socket: Socket) -> None:
        if isinstance(answer.body, bytes):
            await socket.send(answer.body, text=True)
            return
        async for piece in answer.body:
            if piece:
                await socket.send(piece, text=True)

    return Upgrade((), "", run)


def shape(request: Request) -> str:
    """`Table`, `PartialObjectMetadata` or "": the first `as` in Accept. 406 when nothing listed is spoken."""
    for entry in (request.header("accept") or "*/*").split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        if media_type in (JSON, "application/yaml", "application/*", "*/*"):
            wanted = next((p.removeprefix("as=") for p in parameters if p.startswith("as=")), "")
            return wanted if wanted in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList") else ""
    raise Refused(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
    )


def wants_yaml(request: Request) -> bool:
    return (request.header("accept") or "").strip().startswith("application/yaml")


def selection(seen: Attributes) -> Selection:
    """What labelSelector, fieldSelector and a name in the path of a watch leave over."""
    by_label = label_selector(seen.first("labelSelector"))
    by_field = field_selector(seen.first("fieldSelector"))
    return lambda item: (
        (not seen.name or item["metadata"]["name"] == seen.name) and by_label(item) and by_field(item)
    )


def seen_through(
    event: Event, row: Resource, namespace: str, wanted: Selection
) -> Iterator[tuple[str, Object]]:
    """What a watcher with a selector sees of an event: what enters is ADDED, what leaves DELETED."""
    item = event.object
    if event.resource is not row or (namespace and item["metadata"].get("namespace") != namespace):
        return
    before = event.before is not None and wanted(event.before)
    after = event.type != "DELETED" and wanted(item)
    if before or after:
        yield ("MODIFIED" if before and after else "ADDED" if after else "DELETED"), item


def bookmark(row: Resource, version: int) -> Object:
    """The bookmark that ends the initial events of a watch (KEP-3157)."""
    annotations = {"k8s.io/initial-events-end": "true"}
    metadata = {"resourceVersion": str(version), "annotations": annotations}
    return {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata}


def body_of(request: Request) -> Object:
    """The request's body as an object. JSON (also with no content type) and YAML; 415 for others."""
    media_type = (request.header("content-type") or JSON).partition(";")[0].strip()
    if media_type not in (JSON, "application/yaml", "*/*"):
        raise Refused(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml",
        )
    body = loaded(request.body)
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "the body of the request is not an object")
    shapes.check(body)
    return body


def loaded(raw: bytes) -> Any:
    """JSON, or YAML for what is not JSON (one document), as the server's decoder tries them."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        return next(iter(yaml.safe_load_all(raw)), None)
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Refused(
            400, "BadRequest", "couldn't get version/kind; json parse error: invalid character"
        ) from None


def dry_run(seen: Attributes) -> bool:
    asked = seen.every("dryRun")
    if any(value != "All" for value in asked):
        raise Refused(422, "Invalid", f'dryRun: Unsupported value: {list(asked)}: supported values: "All"')
    return bool(asked)


def continuation(version: int, start: int) -> str:
    """The token of the next page; as the real one it is base64 of JSON with the version."""
    token = orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": str(start)})
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def continued(token: str) -> int:
    """Where a page starts. Raises Refused 400 for a token that is not ours."""
    try:
        return int(orjson.loads(unpadded(token))["start"]) if token else 0
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "BadRequest", "continue key is not valid") from None


def version(since: str) -> int:
    found = number(since)
    if found is None:
        raise Refused(400, "BadRequest", f'Invalid value: "{since}": strconv.ParseUint: invalid syntax')
    return found


def number(text: str) -> int | None:
    """A number that is not negative and fits 63 bits (Go's int64), or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def unpadded(value: str) -> str:
    """base64url without padding, decoded; "" for what is not."""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def protocols(request: Request) -> list[str]:
    """The WebSocket subprotocols that are offered."""
    return [
        protocol.strip()
        for key, value in request.headers
        if key == "sec-websocket-protocol"
        for protocol in value.split(",")
    ]


def not_base64(made: Object) -> str:
    """Go's complaint about the first value of a Secret's `data` that is not base64; "" when all are."""
    if made.get("kind") != "Secret":
        return ""
    for value in (made.get("data") or {}).values():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            return "illegal base64 data at input byte 0"
    return ""


def go_text(value: Any) -> str:
    """A decoded document as Go's `%+v` prints it; error messages quote patches so."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(go_text(item) for item in value)}]"
    return "<nil>" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
