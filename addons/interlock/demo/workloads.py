"""What a container of the demo sees and says: its environment, its files and its log.

In: a pod, and a way to read Secrets and ConfigMaps. Out: plain values. The environment and files are
those that a kubelet would give (valueFrom, envFrom, volumes, the service account's token).
"""

import base64
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from interlock.demo.printing import at
from interlock.demo.resources import Object

LINES = 10_000  # kept for each container; the oldest go first

type Lookup = Callable[[str, str], Object | None]
"""Kind (`Secret`, `ConfigMap`) and name to the object in the pod's namespace, or None."""


def container_of(pod: Object, name: str) -> Object | None:
    """The container called `name`, the first one for "", None when there is none such."""
    every = [
        container
        for key in ("containers", "initContainers", "ephemeralContainers")
        for container in at(pod, f"spec.{key}", ())
    ]
    return next((container for container in every if name in ("", container.get("name"))), None)


def values_of(source: Object | None) -> dict[str, bytes]:
    """The keys of a Secret (decoded) or a ConfigMap."""
    data = at(source, "data", {})
    if at(source, "kind", "") == "Secret":
        return {key: base64.b64decode(value or "") for key, value in data.items()}
    return {key: str(value).encode() for key, value in data.items()}


def environment(pod: Object, container: Object, lookup: Lookup) -> dict[str, str]:
    """The environment of a container's processes."""
    found = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": at(pod, "metadata.name", ""),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    for source in container.get("envFrom") or []:
        for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if key in source:
                found.update(_texts(lookup(kind, at(source, f"{key}.name", ""))))
    for variable in container.get("env") or []:
        value = variable.get("value", "")
        for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            reference = at(variable, f"valueFrom.{key}", {})
            if reference:
                value = _texts(lookup(kind, reference.get("name", ""))).get(reference.get("key", ""), "")
        field_path = at(variable, "valueFrom.fieldRef.fieldPath", "")
        found[str(variable.get("name", ""))] = str(at(pod, field_path, "")) if field_path else value
    return found


def files(pod: Object, container: Object, lookup: Lookup, token: str) -> dict[str, bytes]:
    """The files of a container that are worth reading, by absolute path."""
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    found = {
        "/etc/hostname": f"{at(pod, 'metadata.name', '')}\n".encode(),
        "/etc/os-release": b'NAME="Interlock demo"\n',
        f"{account}/namespace": str(at(pod, "metadata.namespace", "")).encode(),
        f"{account}/token": token.encode(),
    }
    for mount in container.get("volumeMounts") or []:
        volume: Object = next(
            (v for v in at(pod, "spec.volumes", ()) if v.get("name") == mount.get("name")), {}
        )
        for kind, name in (
            ("Secret", at(volume, "secret.secretName", "")),
            ("ConfigMap", at(volume, "configMap.name", "")),
        ):
            for key, value in values_of(lookup(kind, name) if name else None).items():
                found[f"{mount.get('mountPath', '').rstrip('/')}/{key}"] = value
    return found


def _texts(source: Object | None) -> dict[str, str]:
    return {key: value.decode("utf-8", "replace") for key, value in values_of(source).items()}


type Stream = tuple[str, str, str]
"""Namespace, pod, container."""


@dataclass(frozen=True, slots=True)
class Line:
    stamp: str
    text: bytes


@dataclass(slots=True)
class Logs:
    """The log lines of all containers, and who follows them. Safe for several threads."""

    stamp: Callable[[], str]
    _lines: dict[Stream, deque[Line]] = field(default_factory=dict)
    _followers: list[tuple[Stream, Callable[[Line | None], None]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def append(self, stream: Stream, text: str | bytes) -> None:
        """Adds one line (without its newline) and tells the followers."""
        line = Line(self.stamp(), text.encode() if isinstance(text, str) else text)
        with self._lock:
            self._lines.setdefault(stream, deque(maxlen=LINES)).append(line)
            followers = [tell for followed, tell in self._followers if followed == stream]
        for tell in followers:
            tell(line)

    def lines(self, stream: Stream) -> list[Line]:
        with self._lock:
            return list(self._lines.get(stream, ()))

    def follow(self, stream: Stream, tell: Callable[[Line | None], None]) -> list[Line]:
        """Calls `tell` for every later line, and with None at the end; returns the lines so far."""
        with self._lock:
            self._followers.append((stream, tell))
            return list(self._lines.get(stream, ()))

    def unfollow(self, tell: Callable[[Line | None], None]) -> None:
        with self._lock:
            self._followers = [(stream, known) for stream, known in self._followers if known is not tell]

    def end(self, namespace: str, pod: str) -> None:
        """Ends what is followed of a pod that has gone, and forgets its lines."""
        with self._lock:
            ended = [tell for stream, tell in self._followers if stream[:2] == (namespace, pod)]
            for stream in [stream for stream in self._lines if stream[:2] == (namespace, pod)]:
                del self._lines[stream]
        for tell in ended:
            tell(None)
