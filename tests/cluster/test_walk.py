"""The walk: kubectl through both gateways and both ways in, beside the same commands straight at the API server.

Five kubectls do the same things at the same time, each in a namespace of its own: one directly, four through a
gateway. What each command said is kept, and every test compares one command of one passage with the direct run:
exit status, standard output and standard error are equal, apart from what no two runs have in common (ages, uids)
and from masked values. Where the API server gave a planted secret, the gateway gave a mask.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import socket
import subprocess
import tarfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.conftest import ControlPlane
from cluster.passage import GATEWAY_USER, Passage, gateways
from gateways import KUBECTL, MODES, WAYS, Mode
from interlock.masking.tokens import TOKEN, is_token

pytestmark = [pytest.mark.cluster, pytest.mark.processes]

DIRECT = "direct"
PASSAGES = [f"{mode}-{way}" for mode in MODES for way in WAYS]
SEATS = [DIRECT, *PASSAGES]

PLANTED = "Zq7-planted-8vKx2"  # the value of a Secret, and of variables and log lines that say what they are
PLANTED_FORMS = (PLANTED, base64.b64encode(PLANTED.encode()).decode())

BINARY = bytes(range(256)) * 600 + b"end\n"

POD_LINES = (
    "2026-01-01T00:00:03.000000000Z stdout F walk: connected with password=" + PLANTED + "\n"
    "2026-01-01T00:00:04.000000000Z stdout F walk: done\n"
)

MANIFEST = """
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: %(planted)s}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: %(color)s, motd: "welcome"}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: one}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: none
    env:
    - {name: GREETING, value: hello}
    - {name: DB_PASSWORD, value: %(planted)s}
"""
NODE = """
apiVersion: v1
kind: Node
metadata: {name: %(node)s, labels: {walk: here}}
spec:
  taints: [{key: walk, effect: NoSchedule}]
---
apiVersion: v1
kind: Pod
metadata: {name: guest, namespace: %(namespace)s, labels: {app: guest}}
spec:
  nodeName: %(node)s
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers: [{name: main, image: none}]
"""
SERVER_SIDE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: applied}
data: {one: "1"}
"""


@dataclass(frozen=True)
class Said:
    """What a command said, as it came."""

    code: int
    out: str
    err: str


@dataclass
class Seat:
    """One who runs the commands: directly, or through one passage."""

    name: str
    environment: dict[str, str]
    cache: Path
    plane: ControlPlane
    folder: Path
    run_id: str = ""
    said: dict[str, Said] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return f"walk-{zlib.crc32((self.name + self.run_id).encode()):08x}"  # all of one length: columns stand alike

    @property
    def node(self) -> str:
        return f"node-{zlib.crc32((self.name + self.run_id).encode()):08x}"

    def fill(self, text: str) -> str:
        for name, value in {"NS": self.namespace, "NODE": self.node, "TMP": str(self.folder)}.items():
            text = text.replace(name, value)
        return text

    def command(self, *arguments: str) -> list[str]:
        return [str(KUBECTL), f"--cache-dir={self.cache}", "-n", self.namespace, *map(self.fill, arguments)]

    def run(self, *arguments: str, stdin: str | None = None, **environment: str) -> Said:
        done = subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def lines_until(process: subprocess.Popen[bytes], wanted: str, seconds: float = 60) -> list[str]:
    """Lines of its output until one holds `wanted`."""
    assert process.stdout is not None
    read = b""
    end = time.monotonic() + seconds
    while not (wanted.encode() in read and read.endswith(b"\n")):
        ready = select.select([process.stdout], [], [], max(0, end - time.monotonic()))[0]
        assert ready, f"no line with {wanted!r} within {seconds} s, only {read!r}"
        more = os.read(process.stdout.fileno(), 65536)
        assert more, f"it ended before a line with {wanted!r}: {read!r}"
        read += more
    return read.decode().splitlines(keepends=True)


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.stdout is not None
    process.stdout.close()
    process.wait(20)


# The commands that need more than arguments ---------------------------------------------------------------


def settled(seat: Seat) -> Said:
    """A new namespace has its service account, and a pod answers its first exec, soon and not at once."""
    seat.run("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    return seat.run("get", "serviceaccounts")


def watched(seat: Seat) -> Said:
    """`get -w`: the row that is there, and that of a change."""
    process = seat.start("get", "configmaps", "settings", "-w", "--output-watch-events", "--no-headers")
    try:
        lines = lines_until(process, "ADDED")
        seat.run("label", "configmap/settings", "watched=yes")
        lines += lines_until(process, "MODIFIED")
    finally:
        ended(process)
    return Said(0, "".join(lines), "")


def watched_secrets(seat: Seat) -> Said:
    process = seat.start("get", "secret", "keys", "-w", "-o", "jsonpath={.data.password};{'\\n'}")
    try:
        lines = lines_until(process, ";")
        seat.run("label", "secret/keys", "watched=yes")
        lines += lines_until(process, ";")
    finally:
        ended(process)
    return Said(0, "".join(lines), "")


def followed(seat: Seat) -> Said:
    """`logs -f`: the lines that are there, and one that is written meanwhile."""
    process = seat.start("logs", "-f", "one")
    try:
        lines = lines_until(process, "walk: done")
        news = f"news for {seat.namespace}"
        with seat.plane.pod_log.open("a") as log:
            log.write(f"2026-01-01T00:00:05.000000000Z stdout F {news}\n")
        lines_until(process, news)
    finally:
        ended(process)
    return Said(0, "".join(lines), "")


def edited(seat: Seat) -> Said:
    editor = seat.folder / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/welcome/farewell/ "$1"\n')
    editor.chmod(0o755)
    return seat.run("edit", "configmap", "settings", KUBE_EDITOR=str(editor))


def forwarded(seat: Seat) -> Said:
    """A connection to port 7 of the pod, which echoes."""
    process = seat.start("port-forward", "pod/one", ":7")
    try:
        lines = lines_until(process, "Forwarding from 127.0.0.1")
        port = int(re.search(r"127\.0\.0\.1:(\d+)", "".join(lines))[1])  # type: ignore[index]
        with socket.create_connection(("127.0.0.1", port), timeout=30) as echo:
            echo.sendall(PLANTED.encode() + b" there and back\n")
            back = b""
            while not back.endswith(b"\n"):
                back += echo.recv(100)
    finally:
        ended(process)
    return Said(0, back.decode().replace(PLANTED, "it came"), "")


def copied(seat: Seat) -> Said:
    """`cp` out of the pod (what a pod executes is a process of this machine, so its files are here too)."""
    there, back = seat.folder / "there", seat.folder / "back"
    there.write_bytes(BINARY)
    said = seat.run("cp", f"one:{there}", str(back))
    return Said(said.code, f"same: {back.read_bytes() == BINARY}\n", said.err)


def copied_in(seat: Seat) -> Said:
    """Into the pod, as `cp` does it. (`cp` itself ends its input by closing it, which kwok hands to no process.)"""
    there, here, archive = (seat.folder / name for name in ("in", "inner", "archive.tar"))
    there.mkdir()
    here.write_bytes(BINARY)
    with tarfile.open(archive, "w") as tar:
        tar.add(here, "inner")
    size = archive.stat().st_size
    done = subprocess.run(
        seat.command("exec", "-i", "one", "--", "sh", "-c", f"head -c {size} | tar xmf - -C {there}"),
        env=seat.environment,
        input=archive.read_bytes(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, f"same: {(there / 'inner').read_bytes() == BINARY}\n", done.stderr.decode())


def gone(seat: Seat) -> Said:
    """Everything of the walk, by `delete`, and what is left of it."""
    said = seat.run("delete", "deployment,configmap,secret,hpa,service", "--all", "--wait=false")
    seat.run("delete", "node", seat.node)
    return Said(said.code, "\n".join(sorted(said.out.splitlines())), said.err)


Run = Callable[[Seat], Said]


def kubectl(line: str, stdin: str | None = None) -> Run:
    def run(seat: Seat) -> Said:
        return seat.run(*line.split(), stdin=None if stdin is None else seat.fill(stdin))

    return run


def script(*words: str, stdin: str | None = None) -> Run:
    return lambda seat: seat.run(*words, stdin=stdin)


def then(*runs: Run) -> Run:
    """Several in a row; what the last one said."""

    def run(seat: Seat) -> Said:
        for one in runs[:-1]:
            one(seat)
        return runs[-1](seat)

    return run


FIRST = {"planted": PLANTED, "color": "red"}
SECOND = {"planted": PLANTED, "color": "blue"}

# In the order in which they are run.
COMMANDS: Mapping[str, Run] = {
    "create-namespace": kubectl("create namespace NS"),
    "service-accounts": settled,
    "version": kubectl("version -o json"),
    "api-resources": kubectl("api-resources"),
    "api-versions": kubectl("api-versions"),
    "explain": kubectl("explain deployment.spec.replicas"),
    "create": kubectl("create -f -", POD % FIRST),
    "create-deployment": kubectl("create deployment web --image=none --replicas=2 --port=80"),
    "create-configmap-protobuf": kubectl("create configmap literal --from-literal=a=b"),
    "apply": kubectl("apply -f -", MANIFEST % FIRST),
    "apply-again": kubectl("apply -f -", MANIFEST % SECOND),
    "apply-server-side": kubectl("apply --server-side -f -", SERVER_SIDE),
    "apply-server-side-conflict": then(
        kubectl("patch configmap applied --type=merge -p {\"data\":{\"one\":\"2\"}}"),
        kubectl("apply --server-side -f -", SERVER_SIDE),
    ),
    "diff": kubectl("diff -f -", SERVER_SIDE.replace('"1"', '"3"')),
    "wait": kubectl("wait --for=condition=Ready pod/one --timeout=90s"),
    "get-table": kubectl("get pod one"),
    "get-wide": kubectl("get pods -l app=one -o wide"),
    "get-yaml": kubectl("get pod one -o yaml"),
    "get-json": kubectl("get pod one -o json"),
    "get-all-kinds": kubectl("get configmap,secret"),
    "get-secret-yaml": kubectl("get secret keys -o yaml"),
    "get-secret-json": kubectl("get secrets -o json"),
    "get-secret-value": script("get", "secret", "keys", "-o", "go-template={{.data.password | base64decode}}"),
    "get-secret-raw": kubectl("get --raw /api/v1/namespaces/NS/secrets/keys"),
    "get-missing": kubectl("get configmap none"),
    "get-watch": watched,
    "get-secret-watch": watched_secrets,
    "describe-pod": kubectl("describe pod one"),
    "describe-secret": kubectl("describe secret keys"),
    "describe-configmap": kubectl("describe configmap settings"),
    "events": kubectl("events --for pod/one -o json"),
    "edit": edited,
    "edited": kubectl("get configmap settings -o jsonpath={.data}"),
    "patch-strategic": kubectl("patch deployment web -p {\"spec\":{\"paused\":false,\"minReadySeconds\":1}}"),
    "patch-merge": kubectl("patch configmap settings --type=merge -p {\"data\":{\"motd\":null}} -o json"),
    "patch-json": script(
        "patch", "configmap", "settings", "--type=json", "-p",
        '[{"op": "add", "path": "/data/added", "value": "yes"}]', "-o", "jsonpath={.data}",
    ),
    "patch-secret": kubectl("patch secret keys -p {\"metadata\":{\"labels\":{\"a\":\"b\"}}} -o yaml"),
    "dry-run": kubectl("create secret generic dry --from-literal=password=" + PLANTED + " --dry-run=server -o yaml"),
    "label": kubectl("label pod one tier=front"),
    "annotate": kubectl("annotate pod one note=this"),
    "set-image": kubectl("set image deployment/web none=other"),
    "scale": kubectl("scale deployment web --replicas=1"),
    "rollout-status": then(
        kubectl("rollout status deployment/web --timeout=90s"), kubectl("rollout status deployment/web --timeout=90s")
    ),
    "rollout-restart": kubectl("rollout restart deployment/web"),
    "rollout-history": kubectl("rollout history deployment/web"),
    "autoscale": kubectl("autoscale deployment web --max=3"),
    "expose": kubectl("expose deployment web --port=80"),
    "create-token": kubectl("create token default"),
    "can-i": kubectl("auth can-i create deployments"),
    "can-i-nothing": kubectl("auth can-i get nothing.example.com"),
    "logs": kubectl("logs one"),
    "logs-limit": kubectl("logs one --limit-bytes=9"),
    "logs-missing": kubectl("logs nobody"),
    "logs-follow": followed,
    "exec": script("exec", "one", "--", "sh", "-c", "echo out; echo err >&2"),
    "exec-stdin": script("exec", "-i", "one", "--", "sh", "-c", "read line; echo got $line", stdin="given\n"),
    "exec-status": script("exec", "one", "--", "sh", "-c", "exit 3"),
    "exec-secret": script("exec", "one", "--", "sh", "-c", "echo DB_PASSWORD=" + PLANTED),
    "exec-long": script("exec", "one", "--", "sh", "-c", "seq 1 20000"),
    "exec-missing": script("exec", "nobody", "--", "true"),
    "cp": copied,
    "cp-into": copied_in,
    "port-forward": forwarded,
    "replace": then(
        kubectl("create configmap replaced --from-literal=a=b"),
        kubectl("replace -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: replaced}, data: {a: c}}"),
    ),
    "create-node": kubectl("create -f -", NODE.replace("%(node)s", "NODE").replace("%(namespace)s", "NS")),
    "guest-runs": kubectl("wait --for=condition=Ready pod/guest --timeout=90s"),
    "drain": kubectl("drain NODE --force --timeout=90s"),
    "uncordon": kubectl("uncordon NODE"),
    "delete-pod": kubectl("delete pod one"),
    "delete-selector": kubectl("delete configmap -l watched=yes"),
    "delete-missing": kubectl("delete configmap none"),
    "delete-all": gone,
    "delete-namespace": kubectl("delete namespace NS --wait=false"),
}  # fmt: skip

# How a command's output is read before it is compared; text where nothing is said.
STRUCTURED = frozenset({
    "version", "get-yaml", "get-json", "get-secret-yaml", "get-secret-json", "get-secret-raw", "patch-merge",
    "patch-secret", "dry-run", "events",
})  # fmt: skip
SECRET = frozenset({
    "get-json", "get-yaml", "get-secret-yaml", "get-secret-json", "get-secret-value", "get-secret-raw",
    "get-secret-watch", "describe-pod", "patch-secret", "dry-run", "logs", "exec-secret",
})  # fmt: skip


# What two runs do not have in common ----------------------------------------------------------------------

VARYING = frozenset({
    "uid", "resourceVersion", "creationTimestamp", "time", "lastTransitionTime", "lastProbeTime", "startTime",
    "startedAt", "podIP", "podIPs", "hostIP", "hostIPs", "containerID", "generation", "observedGeneration",
    "firstTimestamp", "lastTimestamp", "eventTime", "lastHeartbeatTime", "managedFields", "ip",
})  # fmt: skip
TEXT = [
    (re.compile(r"Warning: 299 .*\n|Warning: interlock masked \d+ values? in this answer\n"), ""),
    (re.compile(r"(?m)^[IWEF]\d{4} .*\n"), ""),  # klog, with its time
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "MASK"),  # a service account's token
    (re.compile(r"kube-api-access-\w{5}"), "kube-api-access-X"),
    (re.compile(r"web-[0-9a-z]{8,10}(-\w{5})?"), "web-X"),
    (re.compile(r"one\.[0-9a-f]{16}"), "one.X"),
    (re.compile(r"\b(\d+[dhms]){1,2}\b|<unknown>|<invalid>"), "AGE"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} [+-]\d{4}|\d{4}-\d\d-\d\d[T ][\d:.]+(Z| \+0000)"), "TIME"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "IP"),
    (re.compile(r"\d+ bytes"), "N bytes"),
    (re.compile(r"/tmp/(LIVE|MERGED)-\d+"), r"/tmp/\1"),
    (re.compile(r" {2,}|-{4,}"), " "),
]
ENCODED = re.compile(r"[A-Za-z0-9+/]{36,}={0,2}")


def masks(text: str) -> str:
    """Masks, in clear and in base64, as one word; so the values in whose place they stand."""
    for form in PLANTED_FORMS:
        text = text.replace(form, "MASK")

    def plain(found: re.Match[str]) -> str:
        try:
            return "MASK" if is_token(base64.b64decode(found[0]).decode()) else found[0]
        except ValueError:
            return found[0]

    return TOKEN.sub("MASK", ENCODED.sub(plain, text))


def stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if k not in VARYING}
    if isinstance(value, list):
        return [stable(v) for v in value]
    return common(value) if isinstance(value, str) else value


def common(text: str) -> str:
    text = masks(text)
    for pattern, instead in TEXT:
        text = pattern.sub(instead, text)
    return text


def normal(seat: Seat, command: str) -> tuple[int, Any, str]:
    """What it said, without what is a matter of this run."""
    said = seat.said[command]

    def own(text: str) -> str:
        for value, name in ((seat.namespace, "NS"), (seat.node, "NODE"), (str(seat.folder), "TMP")):
            text = text.replace(value, name)
        return text

    out: Any = own(said.out)
    if command in STRUCTURED and said.code == 0:
        out = stable(yaml.safe_load(out))
    else:
        out = common(out)
    if command == "events":
        out = sorted(json.dumps(e, sort_keys=True) for e in out["items"])
    elif command in ("logs", "logs-follow"):
        out = out[: out.index("walk: done")]  # other seats write into the same log
    return said.code, out, common(own(said.err))


# The walk -------------------------------------------------------------------------------------------------


def walk(seat: Seat) -> None:
    seat.folder.mkdir()
    for name, run in COMMANDS.items():
        try:
            seat.said[name] = run(seat)
        except Exception as error:  # noqa: BLE001 - this command's failure; the others go on
            seat.said[name] = Said(-1, "", f"{type(error).__name__}: {error}")


@pytest.fixture(scope="module")
def passages(
    tmp_path_factory: pytest.TempPathFactory, control_plane: ControlPlane
) -> Iterator[dict[Mode, Passage]]:
    with gateways(tmp_path_factory.mktemp("walk"), control_plane) as running:
        yield running


@pytest.fixture(scope="module")
def seats(
    tmp_path_factory: pytest.TempPathFactory, control_plane: ControlPlane, passages: dict[Mode, Passage]
) -> dict[str, Seat]:
    """The walk of all five, done."""
    folder, run_id = tmp_path_factory.mktemp("seats"), uuid.uuid4().hex
    with control_plane.pod_log.open("a") as log:
        log.write(POD_LINES)

    def seat(name: str, environment: dict[str, str]) -> Seat:
        return Seat(name, environment, folder / f"cache-{name}", control_plane, folder / name, run_id)

    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    all_seats = [
        seat(DIRECT, {**clean, "KUBECONFIG": str(control_plane.admin_kubeconfig), "HOME": str(folder)})
    ]
    for mode, passage in passages.items():
        for way in WAYS:
            environment = passage.gateway.environment_for("dev", passage.token(), way)
            all_seats.append(seat(f"{mode}-{way}", environment))
    with ThreadPoolExecutor(len(all_seats)) as together:
        list(together.map(walk, all_seats))
    return {seat.name: seat for seat in all_seats}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("passage", PASSAGES)
def test_a_command_says_what_it_says_directly(seats: dict[str, Seat], passage: str, command: str) -> None:
    assert normal(seats[passage], command) == normal(seats[DIRECT], command)


SUCCEED = [c for c in COMMANDS if c not in {
    "apply-server-side-conflict", "diff", "get-missing", "can-i-nothing", "logs-missing", "exec-status",
    "exec-missing", "delete-missing",
}]  # fmt: skip


@pytest.mark.parametrize("command", SUCCEED)
def test_directly_it_works(seats: dict[str, Seat], command: str) -> None:
    """Otherwise equal answers would be equal failures."""
    said = seats[DIRECT].said[command]
    assert said.code == 0, said


@pytest.mark.parametrize("command", sorted(SECRET))
def test_directly_it_shows_the_secret(seats: dict[str, Seat], command: str) -> None:
    out = seats[DIRECT].said[command].out
    assert any(form in out for form in PLANTED_FORMS), out


@pytest.mark.parametrize("passage", PASSAGES)
def test_no_command_shows_the_secret(seats: dict[str, Seat], passage: str) -> None:
    shown = [
        name
        for name, said in seats[passage].said.items()
        for form in PLANTED_FORMS
        if form in said.out or form in said.err
    ]
    assert shown == []


@pytest.mark.parametrize("passage", PASSAGES)
def test_the_same_value_has_the_same_mask_in_every_command(seats: dict[str, Seat], passage: str) -> None:
    said = seats[passage].said
    value = said["get-secret-value"].out
    assert is_token(value)
    for command in ("get-json", "describe-pod", "logs", "exec-secret"):
        assert value in said[command].out, command
    for command in ("get-secret-json", "get-secret-watch", "patch-secret", "dry-run"):
        assert base64.b64encode(value.encode()).decode() in said[command].out, command


def test_every_request_with_the_gateways_credential_is_in_the_evidence(
    passages: dict[Mode, Passage], seats: dict[str, Seat]
) -> None:
    """And what is in the evidence as let through is what reached the API server."""
    events = next(iter(passages.values())).audited()
    reached = {e["auditID"] for e in events if e["user"].get("username") == GATEWAY_USER}
    assert len(reached) > 500
    let_through: set[str] = set()
    end = time.monotonic() + 20
    while True:
        let_through = {
            str(id)
            for passage in passages.values()
            for (id,) in passage.recorded(
                "SELECT q.id FROM live.requests q JOIN live.decisions d ON d.request_id = q.id "
                "WHERE d.effect = 'allow' AND q.cluster = 'dev'"
            )
        }
        if reached <= let_through or time.monotonic() > end:
            break
        time.sleep(0.5)
    assert reached - let_through == set()
    assert let_through - reached == set()
