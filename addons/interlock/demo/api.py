"""The demo's Kubernetes API: one request in, one reply out.

In: `Request` from the wire. Out: an `Answer`, an `Upgrade` for exec, attach and port-forward, or what
a fault makes of it. It follows kube-apiserver where a client or a gateway can see the difference, its
leniencies included (`attributes.py`); it has no RBAC: whoever is authenticated may do anything, so
that whatever stops a request in a test was the gateway.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import yaml

from interlock.demo import discovery, patch, printing, replies, shapes
from interlock.demo.attributes import Attributes, attributes
from interlock.demo.bulk import Bulk
from interlock.demo.connect import execute, forward
from interlock.demo.faults import Fault
from interlock.demo.record import Record
from interlock.demo.replies import json_answer
from interlock.demo.resources import Object, Resource
from interlock.demo.shell import Shell
from interlock.demo.store import Event, Refused, Store, invalid
from interlock.demo.wire import Answer, Pieces, Reply, Request, Socket, Upgrade
from interlock.demo.workloads import Line, Logs, container_of, environment, files

PAGE = 500  # objects encoded at once in a long list
CHANNELS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
BEARER = "base64url.bearer.authorization.k8s.io."
OPEN = frozenset({"/healthz", "/livez", "/readyz", "/version"})  # ClusterRole system:public-info-viewer
PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": patch.json_patch,
    "application/merge-patch+json": patch.merge,
    "application/strategic-merge-patch+json": patch.strategic,
    "application/apply-patch+yaml": patch.apply,
}


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...]


@dataclass(slots=True)
class Api:
    """One server's state. `tokens` are the bearer tokens that it takes; `faults` are tried in order."""

    store: Store
    logs: Logs
    record: Record
    resources: tuple[Resource, ...]
    tokens: dict[str, User]
    bulk: Bulk | None = None
    faults: Callable[[], list[Fault]] = list
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _rows: dict[tuple[str, str, str], Resource] = field(init=False)
    _groups: dict[tuple[str, str], list[Resource]] = field(init=False)

    def __post_init__(self) -> None:
        self._rows = {(row.group, row.version, row.plural): row for row in self.resources}
        self._groups = discovery.groups(self.resources)

    async def handle(self, request: Request) -> tuple[Reply, Callable[[int], None]]:
        """Answers one request; the second value takes the bytes sent once it is over."""
        audit_id = request.header("audit-id") or self.store.uid()
        received = self.record.arrive(request, self.store.stamp(), audit_id)
        extra = (("Audit-Id", audit_id), ("Cache-Control", "no-cache, private"))
        reply: Reply
        try:
            seen = attributes(request.method, request.target)
            user = self._authenticated(request, seen)
            received.user = user.name
            acting = self._impersonated(request, user)
            if acting is not user:
                received.impersonated_user, received.impersonated_groups = acting.name, acting.groups
            if request.too_large:
                raise Refused(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")
            reply = await self._route(request, seen, acting)
        except Refused as refused:
            reply = json_answer(refused.code, replies.status(refused))
        except ValueError as problem:
            reply = Answer(
                400, (("Content-Type", "text/plain; charset=utf-8"),), f"400 Bad Request: {problem}".encode()
            )
        if isinstance(reply, Answer):
            if request.wants_websocket and reply.code == 200:
                reply = replies.framed(reply)
            else:
                reply = Answer(reply.code, (*reply.headers, *extra), reply.body)
        if isinstance(reply, Upgrade):
            reply = Upgrade((*reply.headers, *extra), reply.protocol, reply.run)
        code = reply.code if isinstance(reply, Answer) else 101
        fault = next((fault for fault in self.faults() if fault.takes(request)), None)
        if fault is not None:
            reply = await fault.apply(reply)
        return reply, lambda sent: self.record.end(received, code, sent)

    # Who asks

    def _authenticated(self, request: Request, seen: Attributes) -> User:
        """Bearer (first header, first word), the WebSocket subprotocol, then the client certificate."""
        words = (request.header("authorization") or "").split(" ")
        candidates = [words[1]] if len(words) > 1 and words[0].lower() == "bearer" else []
        if request.wants_websocket:
            for protocol in replies.protocols(request):
                if protocol.startswith(BEARER):
                    candidates.append(replies.unpadded(protocol.removeprefix(BEARER)))
        for token in candidates:
            if token in self.tokens:
                return self.tokens[token]
        subject = [pair for part in request.certificate.get("subject", ()) for pair in part]
        names = [value for key, value in subject if key == "commonName"]
        if names and not candidates:
            return User(
                names[0], (*(v for k, v in subject if k == "organizationName"), "system:authenticated")
            )
        if seen.path in OPEN and not candidates:
            return User("system:anonymous", ("system:unauthenticated",))
        raise Refused(401, "Unauthorized", "Unauthorized")

    def _impersonated(self, request: Request, user: User) -> User:
        name = request.header("impersonate-user")
        groups = tuple(value for key, value in request.headers if key == "impersonate-group")
        if name is None:
            if any(key.startswith("impersonate-") for key, _ in request.headers):
                raise Refused(400, "BadRequest", "requested impersonation without impersonating a user")
            return user
        if "system:masters" not in user.groups:
            raise Refused(
                403,
                "Forbidden",
                f'users "{name}" is forbidden: User "{user.name}" cannot impersonate resource "users" '
                'in API group "" at the cluster scope',
                details={"name": name, "kind": "users"},
            )
        return User(name, (*groups, "system:authenticated"))

    # What is asked

    async def _route(self, request: Request, seen: Attributes, user: User) -> Answer | Upgrade:
        if not seen.resource:
            return self._non_resource(request, seen)
        row = self._rows.get((seen.group, seen.version, seen.resource))
        proxied = seen.subresource == "proxy" and row is not None and row.subresource("proxy") is not None
        if row is None or seen.verb == "proxy" or (seen.rest and not proxied):
            raise replies.unknown()
        if not row.stored:
            return self._review(request, seen, row, user)
        if seen.subresource:
            return await self._subresource(request, seen, row)
        handler = _VERBS.get(seen.verb)
        nameless = seen.verb in ("update", "patch") and not seen.name
        if handler is None or seen.verb not in row.verbs or nameless:
            raise replies.method_not_allowed()
        return handler(self, request, seen, row)

    def _non_resource(self, request: Request, seen: Attributes) -> Answer:
        if request.method not in ("GET", "HEAD"):
            raise replies.method_not_allowed() if seen.path in OPEN else replies.unknown()
        path = seen.path.rstrip("/")
        accept = request.header("accept") or ""
        if path in _PLAIN:
            return replies.text(200, _PLAIN[path])
        if (
            path in ("/api", "/apis")
            and "as=APIGroupDiscoveryList" in accept
            and ";v=v2" in accept.replace("v2beta1", "")
        ):
            document = discovery.aggregated(self.resources, core=path == "/api")
            return replies.tagged(request, document, discovery.AGGREGATED)
        documents: dict[str, Callable[[], Object]] = {
            "/version": lambda: discovery.VERSION,
            "/api": discovery.api_versions,
            "/apis": lambda: discovery.api_groups(self.resources),
            "/openapi/v3": lambda: discovery.openapi_index(self.resources),
        }
        if path in documents:
            return replies.tagged(request, documents[path]())
        for (group, version), rows in self._groups.items():
            root = f"/apis/{group}/{version}" if group else f"/api/{version}"
            if path == root:
                return replies.tagged(request, discovery.api_resources(rows))
            if path == f"/openapi/v3{root}":
                return replies.tagged(request, discovery.openapi(rows))
            if group and path == f"/apis/{group}":
                return replies.tagged(
                    request, {"kind": "APIGroup", "apiVersion": "v1", **discovery.api_group(group, version)}
                )
        raise replies.unknown()

    # Verbs on stored objects

    def _get(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        found = self._found(row, seen)
        shape = replies.shape(request)
        if shape == "Table":
            return json_answer(
                200,
                self._table(row, [found], {"resourceVersion": found["metadata"]["resourceVersion"]}, seen),
            )
        return self._one(request, 200, printing.partial(found) if shape else found)

    def _list(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        version, objects = self.store.objects(row, seen.namespace)
        wanted = replies.selection(seen)
        items: list[Object | int] = [item for item in objects if wanted(item)]
        if self.bulk and self.bulk.holds(row, seen.namespace):
            items += range(self.bulk.count) if wanted(self.bulk.object(0)) else ()
        start = replies.continued(seen.first("continue"))
        limit = replies.number(seen.first("limit")) or 0
        page = items[start : start + limit] if limit else items[start:]
        metadata: Object = {"resourceVersion": str(version)}
        left = len(items) - start - len(page)
        if left:
            metadata |= {
                "continue": replies.continuation(version, start + len(page)),
                "remainingItemCount": left,
            }
        shape = replies.shape(request)
        if shape == "Table":
            return json_answer(200, self._table(row, self._decoded(page), metadata, seen))
        if shape:
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            encoded = (orjson.dumps(printing.partial(item)) for item in self._decoded(page))
        else:
            kind, api_version = f"{row.kind}List", row.api_version
            encoded = (orjson.dumps(i) if isinstance(i, dict) else self._bulk().encoded(i) for i in page)
        head = (
            orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})[:-1] + b',"items":['
        )
        if len(page) > PAGE:
            return Answer(200, (("Content-Type", replies.JSON),), replies.streamed_list(head, encoded))
        body = head + b",".join(encoded) + b"]}"
        return (
            self._one(request, 200, orjson.loads(body))
            if replies.wants_yaml(request)
            else replies.encoded(200, body)
        )

    def _watch(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        return Answer(
            200,
            (("Content-Type", replies.JSON),),
            self._events(seen, row, replies.selection(seen), replies.shape(request)),
        )

    def _create(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        if seen.name:
            raise replies.method_not_allowed()
        namespace = seen.namespace if row.namespaced else ""
        if row.namespaced:
            if not namespace:
                raise Refused(400, "BadRequest", "an empty namespace may not be set during creation")
            self.store.get(self._rows["", "v1", "namespaces"], "", namespace)
        made = self.store.create(row, namespace, replies.body_of(request), dry_run=replies.dry_run(seen))
        return self._one(request, 201, made, row)

    def _update(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        made = self.store.update(
            row, self._found(row, seen), replies.body_of(request), dry_run=replies.dry_run(seen)
        )
        return self._one(request, 200, made, row)

    def _patch(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        media_type = (request.header("content-type") or "").partition(";")[0].strip()
        dry_run = replies.dry_run(seen)
        try:
            live = self._found(row, seen)
        except Refused:
            if media_type != "application/apply-patch+yaml":
                raise
            self.store.get(self._rows["", "v1", "namespaces"], "", seen.namespace) if row.namespaced else None
            body = self._patched(request, media_type, {})
            body["metadata"] = {"name": seen.name, **(body.get("metadata") or {})}
            made = self.store.create(row, seen.namespace if row.namespaced else "", body, dry_run=dry_run)
            return self._one(request, 201, made, row)
        made = self.store.update(row, live, self._patched(request, media_type, live), dry_run=dry_run)
        return self._one(request, 200, made, row)

    def _delete(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        options = replies.body_of(request) if request.body else {}
        live = self._found(row, seen)
        metadata = live["metadata"]
        for key, value in (options.get("preconditions") or {}).items():
            if value is not None and value != metadata.get(key):
                raise Refused(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {row.qualified} "{seen.name}": the {key} in the precondition '
                    f"({value}) does not match the {key} in record ({metadata.get(key)})",
                )
        dry_run = bool(options.get("dryRun")) if request.body else replies.dry_run(seen)
        last = self.store.delete(row, live, dry_run=dry_run)
        if row.plural in ("pods", "namespaces") or metadata.get("finalizers"):
            return self._one(request, 200, last, row)
        details = {"name": seen.name, "group": row.group, "kind": row.plural, "uid": metadata["uid"]}
        return json_answer(200, {**replies.SUCCESS, "details": details})

    def _delete_collection(self, request: Request, seen: Attributes, row: Resource) -> Answer:
        options = replies.body_of(request) if request.body else {}
        dry_run = bool(options.get("dryRun")) if request.body else replies.dry_run(seen)
        wanted = replies.selection(seen)
        version, objects = self.store.objects(row, seen.namespace)
        gone = [self.store.delete(row, item, dry_run=dry_run) for item in objects if wanted(item)]
        metadata = {"resourceVersion": str(version)}
        return json_answer(
            200,
            {"kind": f"{row.kind}List", "apiVersion": row.api_version, "metadata": metadata, "items": gone},
        )

    def _patched(self, request: Request, media_type: str, live: Object) -> Object:
        """The object after the patch. A patch that breaks a Secret is answered as the real server
        does: merge and JSON patches quote the stored object, strategic ones only what was sent."""
        change = PATCHES.get(media_type)
        if change is None:
            raise Refused(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format - accepted media types include: {', '.join(PATCHES)}",
            )
        sent = replies.loaded(request.body)
        try:
            made = change(live, sent)
        except patch.BadPatch as bad:
            raise Refused(bad.code, "BadRequest" if bad.code == 400 else "Invalid", bad.reason) from None
        if not isinstance(made, dict):
            raise Refused(400, "BadRequest", "the patched document is not an object")
        shapes.check(made)
        problem = replies.not_base64(made)
        if problem:
            quoted = orjson.dumps(made).decode()
            if media_type in ("application/strategic-merge-patch+json", "application/apply-patch+yaml"):
                quoted = replies.go_text(sent)
            cause = f"Invalid value: {orjson.dumps(quoted).decode()}: {problem}"
            raise Refused(
                422,
                "Invalid",
                f' "" is invalid: patch: {cause}',
                causes=(("FieldValueInvalid", cause, "patch"),),
            )
        return made

    def _found(self, row: Resource, seen: Attributes) -> Object:
        namespace = seen.namespace if row.namespaced else ""
        try:
            return self.store.get(row, namespace, seen.name)
        except Refused:
            number = self.bulk.number(row, namespace, seen.name) if self.bulk else None
            if number is None:
                raise
            return self._bulk().object(number)

    def _bulk(self) -> Bulk:
        assert self.bulk is not None
        return self.bulk

    def _decoded(self, page: list[Object | int]) -> list[Object]:
        return [item if isinstance(item, dict) else self._bulk().object(item) for item in page]

    def _table(
        self, row: Resource, items: list[Object], metadata: Object, seen: Attributes, headed: bool = True
    ) -> Object:
        include = seen.first("includeObject", "Metadata")
        return printing.table(row, items, metadata, include, self.store.now(), headed=headed)

    def _one(self, request: Request, code: int, item: Object, row: Resource | None = None) -> Answer:
        """One object, as a Table where that was asked for, as YAML where only that is taken."""
        if row is not None and replies.shape(request) == "Table":
            item = printing.table(row, [item], {}, "Metadata", self.store.now())
        if replies.wants_yaml(request):
            return replies.encoded(code, yaml.safe_dump(item).encode(), "application/yaml")
        return json_answer(code, item)

    async def _events(self, seen: Attributes, row: Resource, wanted: replies.Selection, shape: str) -> Pieces:
        """Watch events as JSON lines, each a piece of its own, until `timeoutSeconds` or the client ends it."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        headed = True

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        def line(kind: str, item: Object) -> bytes:
            nonlocal headed
            if shape == "Table":
                item = self._table(
                    row, [item], {"resourceVersion": item["metadata"]["resourceVersion"]}, seen, headed
                )
                headed = False
            elif shape:
                item = printing.partial(item)
            return orjson.dumps({"type": kind, "object": item}) + b"\n"

        since = seen.first("resourceVersion")
        initial = since in ("", "0") or seen.flag("sendInitialEvents")
        try:
            with self.store.still():
                version, missed = self.store.subscribe(tell, None if initial else replies.version(since))
                objects = self.store.objects(row, seen.namespace)[1] if initial else []
        except Refused as expired:
            yield orjson.dumps({"type": "ERROR", "object": replies.status(expired)}) + b"\n"
            return
        try:
            for item in objects:
                if wanted(item):
                    yield line("ADDED", item)
            if initial and seen.flag("sendInitialEvents") and seen.flag("allowWatchBookmarks"):
                yield orjson.dumps({"type": "BOOKMARK", "object": replies.bookmark(row, version)}) + b"\n"
            for event in missed:
                for kind, item in replies.seen_through(event, row, seen.namespace, wanted):
                    yield line(kind, item)
            yield b""  # the headers go out now, though no event may come for hours
            seconds = replies.number(seen.first("timeoutSeconds"))
            deadline = loop.time() + seconds if seconds else None
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        event = await queue.get()
                except TimeoutError:
                    return
                for kind, item in replies.seen_through(event, row, seen.namespace, wanted):
                    yield line(kind, item)
        finally:
            self.store.unsubscribe(tell)

    # Subresources

    async def _subresource(self, request: Request, seen: Attributes, row: Resource) -> Answer | Upgrade:
        sub = row.subresource(seen.subresource)
        if sub is None or not seen.name:
            raise replies.unknown()
        if sub.name == "proxy":
            self._found(row, seen)
            return replies.text(200, f"proxied {request.method} /{'/'.join(seen.rest)}\n")
        if seen.verb not in sub.verbs:
            raise replies.method_not_allowed()
        live = self._found(row, seen)
        if sub.name in _CONNECTS:
            return self._connect(request, seen, live)
        return _SUBRESOURCES.get(sub.name, Api._part)(self, request, seen, row, live)

    def _part(self, request: Request, seen: Attributes, row: Resource, live: Object) -> Answer:
        """status, ephemeralcontainers, resize, finalize: the object itself, one half of it writable."""
        if seen.verb == "get":
            return self._one(request, 200, live, row)
        if seen.verb == "patch":
            made = self._patched(request, (request.header("content-type") or "").partition(";")[0], live)
        else:
            made = replies.body_of(request)
        changed = self.store.update(
            row, live, made, dry_run=replies.dry_run(seen), status=seen.subresource == "status"
        )
        return self._one(request, 200, changed, row)

    def _scale(self, request: Request, seen: Attributes, row: Resource, live: Object) -> Answer:
        scale = _scale_of(live)
        if seen.verb == "get":
            return json_answer(200, scale)
        if seen.verb == "patch":
            scale = self._patched(request, (request.header("content-type") or "").partition(";")[0], scale)
        else:
            scale = replies.body_of(request)
        replicas = printing.at(scale, "spec.replicas", 0)
        changed = {**live, "spec": {**live.get("spec", {}), "replicas": replicas}}
        return json_answer(
            200, _scale_of(self.store.update(row, live, changed, dry_run=replies.dry_run(seen)))
        )

    def _evict(self, request: Request, seen: Attributes, row: Resource, live: Object) -> Answer:
        options = (replies.body_of(request).get("deleteOptions") or {}).get("dryRun")
        budgets = self.store.objects(self._rows["policy", "v1", "poddisruptionbudgets"], seen.namespace)[1]
        labels = live["metadata"].get("labels") or {}
        for budget in budgets:
            chosen = printing.at(budget, "spec.selector.matchLabels", {})
            if printing.at(budget, "spec.maxUnavailable", 1) == 0 and chosen.items() <= labels.items():
                raise Refused(
                    429,
                    "TooManyRequests",
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                )
        self.store.delete(row, live, dry_run=bool(options) or replies.dry_run(seen))
        return json_answer(201, {**replies.SUCCESS, "code": 201})

    def _bind(self, request: Request, seen: Attributes, row: Resource, live: Object) -> Answer:
        node = printing.at(replies.body_of(request), "target.name", "")
        self.store.update(
            row, live, {**live, "spec": {**live["spec"], "nodeName": node}}, dry_run=replies.dry_run(seen)
        )
        return json_answer(201, {**replies.SUCCESS, "code": 201})

    def _token(self, request: Request, seen: Attributes, row: Resource, live: Object) -> Answer:
        body = replies.body_of(request)
        token = f"demo.{base64.urlsafe_b64encode(self.store.uid().encode()).decode().rstrip('=')}.token"
        accounts = (
            f"system:serviceaccounts:{seen.namespace}",
            "system:serviceaccounts",
            "system:authenticated",
        )
        if not replies.dry_run(seen):
            self.tokens[token] = User(f"system:serviceaccount:{seen.namespace}:{seen.name}", accounts)
        seconds = printing.at(body, "spec.expirationSeconds", 3600)
        if not 600 <= seconds <= 1 << 32:
            raise invalid(
                row,
                seen.name,
                "spec.expirationSeconds",
                "Invalid value: may not specify a duration less than 10 minutes",
            )
        expires = (self.store.now() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return json_answer(201, {**body, "status": {"token": token, "expirationTimestamp": expires}})

    def _log(self, request: Request, seen: Attributes, row: Resource, live: Object) -> Answer:
        container = self._container(live, seen)
        stream = (seen.namespace, seen.name, container["name"])
        tail = replies.number(seen.first("tailLines"))
        stamped = seen.flag("timestamps")
        if seen.flag("follow"):
            return Answer(200, _PLAIN_TEXT, self._followed(stream, live, tail, stamped))
        body = b"".join(_log_line(line, stamped) for line in _tail(self.logs.lines(stream), tail))
        return Answer(200, _PLAIN_TEXT, body[: replies.number(seen.first("limitBytes"))])

    async def _followed(
        self, stream: tuple[str, str, str], pod: Object, tail: int | None, stamped: bool
    ) -> Pieces:
        queue: asyncio.Queue[Line | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(line: Line | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, line)

        earlier = self.logs.follow(stream, tell)
        try:
            for line in _tail(earlier, tail):
                yield _log_line(line, stamped)
            yield b""
            if printing.at(pod, "status.phase", "") in ("Succeeded", "Failed"):
                return
            while (line_or_end := await queue.get()) is not None:
                yield _log_line(line_or_end, stamped)
        finally:
            self.logs.unfollow(tell)

    def _connect(self, request: Request, seen: Attributes, live: Object) -> Answer | Upgrade:
        if not request.wants_websocket:
            raise Refused(
                400, "BadRequest", "Upgrade request required: this server speaks WebSocket only, not SPDY"
            )
        offered = replies.protocols(request)
        known = next((protocol for protocol in CHANNELS if protocol in offered), None)
        if known is None:
            raise Refused(
                400,
                "BadRequest",
                f"unable to upgrade: no known subprotocol offered, of {', '.join(CHANNELS)}",
            )
        if seen.subresource == "portforward":
            given = [replies.number(port) for value in seen.every("ports") for port in value.split(",")]
            ports = [port for port in given if port is not None and 0 < port < 1 << 16]
            return Upgrade((), known, lambda socket: forward(socket, ports))
        container = self._container(live, seen)
        if seen.subresource == "attach":
            stream = (seen.namespace, seen.name, container["name"])
            return Upgrade((), known, lambda socket: self._attach(socket, stream, live))
        argv = seen.every("command")
        if not argv:
            raise Refused(400, "BadRequest", "you must specify at least 1 command for the container")
        shell = self._shell(live, container, seen.flag("tty"))
        return Upgrade((), known, lambda socket: execute(socket, shell, argv, stdin=seen.flag("stdin")))

    async def _attach(self, socket: Socket, stream: tuple[str, str, str], pod: Object) -> None:
        async for piece in self._followed(stream, pod, 0, False):
            if piece:
                await socket.send(b"\x01" + piece)

    def _shell(self, pod: Object, container: Object, tty: bool) -> Shell:
        namespace = pod["metadata"]["namespace"]
        rows = {"Secret": self._rows["", "v1", "secrets"], "ConfigMap": self._rows["", "v1", "configmaps"]}

        def lookup(kind: str, name: str) -> Object | None:
            try:
                return self.store.get(rows[kind], namespace, name)
            except Refused:
                return None

        token = f"demo.{pod['metadata']['uid']}.token"
        self.tokens[token] = User(f"system:serviceaccount:{namespace}:default", ("system:authenticated",))
        return Shell(
            environment(pod, container, lookup), files(pod, container, lookup, token), self.sleep, tty
        )

    def _container(self, pod: Object, seen: Attributes) -> Object:
        container = container_of(pod, seen.first("container"))
        if container is None:
            raise Refused(
                400, "BadRequest", f"container {seen.first('container')} is not valid for pod {seen.name}"
            )
        return container

    # Reviews: answered, never stored

    def _review(self, request: Request, seen: Attributes, row: Resource, user: User) -> Answer:
        if seen.verb != "create" or seen.name:
            raise replies.method_not_allowed()
        body = replies.body_of(request)
        info = {"username": user.name, "groups": list(user.groups)}
        every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        known = self.tokens.get(str(printing.at(body, "spec.token", "")))
        statuses: dict[str, Object] = {
            "SelfSubjectReview": {"userInfo": info},
            "SelfSubjectAccessReview": {"allowed": True, "reason": "the demo's API server allows everything"},
            "SelfSubjectRulesReview": {"resourceRules": [every], "nonResourceRules": [], "incomplete": False},
            "TokenReview": {"authenticated": known is not None}
            | ({"user": {"username": known.name, "groups": list(known.groups)}} if known else {}),
        }
        head = {"kind": row.kind, "apiVersion": row.api_version, "metadata": {}}
        return json_answer(201, {**head, "spec": body.get("spec", {}), "status": statuses[row.kind]})


type Verb = Callable[[Api, Request, Attributes, Resource], Answer]
type Part = Callable[[Api, Request, Attributes, Resource, Object], Answer]

_VERBS: dict[str, Verb] = {
    "get": Api._get,
    "list": Api._list,
    "watch": Api._watch,
    "create": Api._create,
    "update": Api._update,
    "patch": Api._patch,
    "delete": Api._delete,
    "deletecollection": Api._delete_collection,
}
_SUBRESOURCES: dict[str, Part] = {
    "binding": Api._bind,
    "eviction": Api._evict,
    "log": Api._log,
    "scale": Api._scale,
    "token": Api._token,
}  # every other one is a part of the object: `_part`
_CONNECTS = frozenset({"attach", "exec", "portforward"})
_PLAIN = {
    "/healthz": "ok",
    "/livez": "ok",
    "/readyz": "ok",
    "/metrics": '# TYPE apiserver_request_total counter\napiserver_request_total{verb="GET"} 1\n',
    "/configz": '{"demo":{"clientSecret":"not-for-agents"}}',
}
_PLAIN_TEXT = (("Content-Type", "text/plain"),)


def _scale_of(item: Object) -> Object:
    metadata = item["metadata"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")},
        "spec": {"replicas": printing.at(item, "spec.replicas", 0)},
        "status": {"replicas": printing.at(item, "status.replicas", 0)},
    }


def _tail(lines: list[Line], count: int | None) -> list[Line]:
    return lines if count is None else lines[max(0, len(lines) - count) :]


def _log_line(line: Line, stamped: bool) -> bytes:
    return (line.stamp.encode() + b" " if stamped else b"") + line.text + b"\n"
