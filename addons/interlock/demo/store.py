"""The objects of the demo's cluster, in memory, with resource versions and watches.

In: decoded objects. Out: objects, events, `Refused` with code, reason and message as the API server
words them. No network and no clock of its own: time and identifiers are handed in. An object that
is in the store is never changed in place, so that one that was handed out may be encoded at any time
without a lock. Safe for several threads: the server's loop and a test may both use it.
"""

import base64
import binascii
import copy
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from interlock.demo.resources import Object, Resource

HISTORY = 4096  # events kept for a watch that resumes; older ones answer 410
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?")

type Place = tuple[str, str]
"""Namespace ("" for a cluster-scoped object) and name."""


class Refused(Exception):
    """A request that the API server would answer with a `Status`; `causes` are (reason, message, field)."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        causes: tuple[tuple[str, str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.causes = causes


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `before` is the state that it replaced, so that a selector can tell enter from leave."""

    type: str  # ADDED, MODIFIED, DELETED
    resource: Resource
    object: Object
    before: Object | None

    @property
    def version(self) -> int:
        return int(self.object["metadata"]["resourceVersion"])


type Listener = Callable[[Event], None]


@dataclass(slots=True)
class Store:
    """All objects of all resources. `now` gives aware UTC times, `uid` fresh identifiers."""

    now: Callable[[], datetime]
    uid: Callable[[], str]
    version: int = 1000
    _objects: dict[Resource, dict[Place, Object]] = field(default_factory=dict)
    _history: deque[Event] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _listeners: list[Listener] = field(default_factory=list)
    _untold: deque[Event] = field(default_factory=deque)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object, or Refused 404."""
        with self._lock:
            found = self._objects.get(resource, {}).get((namespace, name))
        if found is None:
            raise not_found(resource, name)
        return found

    def objects(self, resource: Resource, namespace: str = "") -> tuple[int, list[Object]]:
        """The resource version and the objects of a namespace (all for ""), in key order."""
        with self._lock:
            held = self._objects.get(resource, {})
            places = sorted(place for place in held if not namespace or place[0] == namespace)
            return self.version, [held[place] for place in places]

    def create(self, resource: Resource, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        """Stores a new object and returns it as stored. Raises Refused 400, 409 or 422."""
        made = self._prepared(resource, namespace, body)
        metadata = made["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + self.uid().replace("-", "")[:5]
        name = metadata.get("name", "")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise invalid(
                resource, str(name), "metadata.name", "Required value: name or generateName is required"
            )
        with self._lock:
            if (namespace, name) in self._objects.get(resource, {}):
                raise Refused(
                    409,
                    "AlreadyExists",
                    f'{resource.qualified} "{name}" already exists',
                    details=_details(resource, name),
                )
            metadata["uid"] = self.uid()
            metadata["creationTimestamp"] = self.stamp()
            metadata.pop("deletionTimestamp", None)
            if "spec" in made:
                metadata["generation"] = 1
            return self._write("ADDED", resource, made, None, dry_run)

    def update(
        self, resource: Resource, live: Object, body: Object, *, dry_run: bool = False, status: bool = False
    ) -> Object:
        """Replaces `live`. Server-set metadata stays; an unchanged object keeps its version.

        `status` says which half the caller may change: the status alone, or all but it.
        Raises Refused 409 when `body` states another resourceVersion or uid.
        """
        metadata = live["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        made = self._prepared(resource, namespace, body)
        stated = made["metadata"]
        if stated.get("name") != name:
            raise Refused(
                400,
                "BadRequest",
                f"the name of the object ({stated.get('name', '')}) does not match the name on the URL ({name})",
            )
        with self._lock:
            live = self.get(resource, namespace, name)
            metadata = live["metadata"]
            for key in ("resourceVersion", "uid"):
                if stated.get(key) and stated[key] != metadata[key]:
                    raise Refused(
                        409,
                        "Conflict",
                        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been '
                        "modified; please apply your changes to the latest version and try again",
                        details=_details(resource, name),
                    )
            if status:
                made = {**live, "status": made.get("status", {})}
                made["metadata"] = dict(metadata)
            else:
                for key in ("uid", "creationTimestamp", "deletionTimestamp", "generation", "resourceVersion"):
                    stated.pop(key, None)
                    if key in metadata:
                        stated[key] = metadata[key]
                if "status" in live:
                    made["status"] = live["status"]
                if made.get("spec") != live.get("spec"):
                    stated["generation"] = metadata.get("generation", 1) + 1
            if made == live:
                return live
            if metadata.get("deletionTimestamp") and not made["metadata"].get("finalizers"):
                return self._remove(resource, made, dry_run)
            return self._write("MODIFIED", resource, made, live, dry_run)

    def set_status(self, resource: Resource, live: Object, status: Object) -> Object:
        """Replaces the status half, as a controller does."""
        name = {"metadata": {"name": live["metadata"]["name"]}}
        return self.update(resource, live, {**live, **name, "status": status}, status=True)

    def delete(self, resource: Resource, live: Object, *, dry_run: bool = False) -> Object:
        """Removes an object; one with finalizers is only marked. Returns its last state."""
        with self._lock:
            metadata = live["metadata"]
            if not metadata.get("finalizers"):
                return self._remove(resource, live, dry_run)
            if metadata.get("deletionTimestamp"):
                return live
            marked = {**live, "metadata": {**metadata, "deletionTimestamp": self.stamp()}}
            return self._write("MODIFIED", resource, marked, live, dry_run)

    def subscribe(self, listener: Listener, since: int | None = None) -> tuple[int, list[Event]]:
        """Calls `listener` for every later event, and returns the events after version `since`.

        Raises Refused 410 when events after `since` have been forgotten.
        """
        with self._lock:
            missed: list[Event] = []
            if since is not None:
                if len(self._history) == HISTORY and since < self._history[0].version:
                    raise Refused(
                        410, "Expired", f"too old resource version: {since} ({self._history[0].version})"
                    )
                missed = [event for event in self._history if event.version > since]
            self._listeners.append(listener)
            return self.version, missed

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.remove(listener)

    def still(self) -> AbstractContextManager[object]:
        """Nothing changes while this is entered: a list and a subscription that fit together."""
        return self._lock

    def stamp(self) -> str:
        """The present time as Kubernetes writes it (RFC 3339, seconds, UTC)."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _prepared(self, resource: Resource, namespace: str, body: Object) -> Object:
        """A private copy of a body that fits its place. Raises Refused 400."""
        made = {"kind": resource.kind, "apiVersion": resource.api_version, **copy.deepcopy(body)}
        if (made["kind"], made["apiVersion"]) != (resource.kind, resource.api_version):
            raise Refused(
                400,
                "BadRequest",
                f"{made['kind']} in version {made['apiVersion']!r} cannot be handled as a {resource.kind}",
            )
        metadata = made.get("metadata")
        if not isinstance(metadata, dict):
            metadata = made["metadata"] = {}
        if (metadata.get("namespace") or namespace) != namespace:
            raise Refused(
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            )
        if namespace:
            metadata["namespace"] = namespace
        check_secret(made)
        return made

    def _write(
        self, type_: str, resource: Resource, made: Object, before: Object | None, dry_run: bool
    ) -> Object:
        if dry_run:
            return made
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        metadata = made["metadata"]
        self._objects.setdefault(resource, {})[(metadata.get("namespace", ""), metadata["name"])] = made
        self._tell(Event(type_, resource, made, before))
        # A controller that listens may have changed it at once: the caller sees what is stored now.
        return self._objects[resource].get((metadata.get("namespace", ""), metadata["name"]), made)

    def _remove(self, resource: Resource, live: Object, dry_run: bool) -> Object:
        metadata = live["metadata"]
        if dry_run:
            return live
        if (
            self._objects.get(resource, {}).pop((metadata.get("namespace", ""), metadata["name"]), None)
            is None
        ):
            raise not_found(resource, metadata["name"])
        self.version += 1
        last = {**live, "metadata": {**metadata, "resourceVersion": str(self.version)}}
        self._tell(Event("DELETED", resource, last, live))
        return last

    def _tell(self, event: Event) -> None:
        """Tells every listener of every event in the order of versions, also when a listener writes."""
        self._history.append(event)
        self._untold.append(event)
        if len(self._untold) > 1:
            return  # a listener's own write: the loop below, further up the stack, will come to it
        try:
            while self._untold:
                for listener in tuple(self._listeners):
                    listener(self._untold[0])
                self._untold.popleft()
        finally:
            self._untold.clear()


def check_secret(made: Object) -> None:
    """Moves `stringData` into `data` and refuses values that are not base64, quoting as the server does.

    For POST and PUT the message names the position only (400). Patches that break a Secret are
    worded by the caller, because there the real server quotes the stored object.
    """
    if made.get("kind") != "Secret":
        return
    texts = made.pop("stringData", None)
    if texts:
        encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in texts.items()}
        made["data"] = {**(made.get("data") or {}), **encoded}
    made.setdefault("type", "Opaque")
    for value in (made.get("data") or {}).values():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Refused(
                400,
                "BadRequest",
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0',
            ) from None


def not_found(resource: Resource, name: str) -> Refused:
    return Refused(
        404, "NotFound", f'{resource.qualified} "{name}" not found', details=_details(resource, name)
    )


def invalid(resource: Resource, name: str, path: str, problem: str) -> Refused:
    return Refused(
        422,
        "Invalid",
        f'{resource.kind} "{name}" is invalid: {path}: {problem}',
        details=_details(resource, name),
        causes=(("FieldValueInvalid", problem, path),),
    )


def _details(resource: Resource, name: str) -> dict[str, object]:
    return {"name": name, "group": resource.group, "kind": resource.plural}


def label_selector(text: str) -> Callable[[Object], bool]:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k` (labels.Parse). Raises Refused 400."""
    tests = [_requirement(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]

    def matches(item: Object) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


_SET = re.compile(r"([^\s!=,()]+)\s+(in|notin)\s+\(([^()]*)\)")
_EQUALITY = re.compile(r"([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)")
_EXISTS = re.compile(r"(!?)\s*([^\s!=,()]+)")


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(text):
        key, operator, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        return lambda labels: (labels.get(key) in values) == (operator == "in")
    if found := _EQUALITY.fullmatch(text):
        key, operator, value = found[1], found[2], found[3]
        return lambda labels: (labels.get(key) == value) == (operator != "!=")
    if found := _EXISTS.fullmatch(text):
        negated, key = bool(found[1]), found[2]
        return lambda labels: (key in labels) != negated
    raise Refused(400, "BadRequest", f"unable to parse requirement: {text!r}")


# Fields that may be selected on. The real server knows a few for each kind; one list serves all here.
_FIELDS: tuple[str, ...] = (
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "type",
    "reason",
    "involvedObject.uid",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.kind",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "spec.unschedulable",
)


def field_selector(text: str) -> Callable[[Object], bool]:
    """`metadata.name=x,status.phase!=Running` (fields.ParseSelector). Raises Refused 400."""
    tests: list[tuple[str, str, bool]] = []
    for part in filter(None, text.split(",")):
        key, operator, value = re.fullmatch(r"([^=!]*)(!=|==|=|)(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        if not operator:
            raise Refused(400, "BadRequest", f"invalid selector: {part!r}; can't understand {part!r}")
        if key not in _FIELDS:
            raise Refused(400, "BadRequest", f'field label not supported: "{key}"')
        tests.append((key, value, operator != "!="))

    def matches(item: Object) -> bool:
        return all((_at(item, key) == value) == wanted for key, value, wanted in tests)

    return matches


def _at(item: Any, path: str) -> str:
    for key in path.split("."):
        item = item.get(key) if isinstance(item, dict) else None
    return "" if item is None else str(item)
