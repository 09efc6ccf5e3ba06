"""The API server's own record against our reading of the same requests.

Every generated target that `parse_target` accepts is sent, in its canonical form and with an Audit-ID of its
own, to a real API server; verb, group, resource, subresource, namespace and name of the audit event must be
those of RequestInfo.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.targets import generate, harmless
from interlock.kube.target import BadTarget, Target, parse_target

GENERATED = 6000
SEED = 20


class Sender:
    """Plain HTTP/1.1 to one API server; a stream is left as soon as its headers are there."""

    def __init__(self, server: str, ca: str, token: str) -> None:
        self._address = urlsplit(server)
        self._tls = ssl.create_default_context(cafile=ca)
        self._token = token
        self._connection: http.client.HTTPSConnection | None = None

    def send(self, target: Target, audit_id: str) -> int:
        """The status of the answer."""
        for attempt in (1, 2):
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(
                    self._address.hostname, self._address.port, context=self._tls, timeout=30
                )
            try:
                return self._exchange(self._connection, target, audit_id)
            except (http.client.RemoteDisconnected, ConnectionError):
                # A kept connection that the server has closed meanwhile.
                self.close()
                if attempt == 2:
                    raise
        raise AssertionError

    def _exchange(self, connection: http.client.HTTPSConnection, target: Target, audit_id: str) -> int:
        connection.putrequest(target.method, target.canonical, skip_accept_encoding=True)
        connection.putheader("Authorization", f"Bearer {self._token}")
        connection.putheader("Audit-ID", audit_id)
        connection.putheader("Accept", "application/json")
        if target.method not in ("GET", "HEAD"):
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        if target.streams and response.status == 200:
            self.close()
        else:
            response.read()
        return response.status

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def understood(target: Target) -> dict[str, str]:
    info = target.info
    return {
        "verb": info.verb,
        "group": info.api_group,
        "resource": info.resource,
        "subresource": info.subresource,
        "namespace": info.namespace,
        "name": info.name,
    }


def recorded(event: dict[str, Any]) -> dict[str, str]:
    ref = event.get("objectRef", {})
    return {
        "verb": event["verb"],
        "group": ref.get("apiGroup", ""),
        "resource": ref.get("resource", ""),
        "subresource": ref.get("subresource", ""),
        "namespace": ref.get("namespace", ""),
        "name": ref.get("name", ""),
    }


def events(path: Path, wanted: set[str], seconds: float) -> dict[str, dict[str, Any]]:
    """The audit events of these Audit-IDs; those that are not there after `seconds` are left out."""
    found: dict[str, dict[str, Any]] = {}
    until = time.monotonic() + seconds
    with path.open() as log:
        rest = ""
        while len(found) < len(wanted) and time.monotonic() < until:
            lines = (rest + log.read()).split("\n")
            rest = lines.pop()
            for line in lines:
                event = json.loads(line)
                if event["auditID"] in wanted:
                    found[event["auditID"]] = event
            if not lines:
                time.sleep(0.2)
    return found


@pytest.mark.cluster
def test_what_is_forwarded_is_what_the_api_server_records(control_plane: Any) -> None:
    generated = list(generate(SEED, GENERATED))
    assert len(generated) >= 5000

    sent: dict[str, tuple[str, Target]] = {}
    statuses: Counter[int] = Counter()
    sender = Sender(control_plane.server, str(control_plane.ca), control_plane.admin_token.strip())
    for method, raw in generated:
        try:
            target = parse_target(method, raw)
        except BadTarget:
            continue
        assert harmless(target), f"{method} {raw} may remove something"
        audit_id = str(uuid.uuid4())
        sent[audit_id] = (raw, target)
        statuses[sender.send(target, audit_id)] += 1
    sender.close()
    assert len(sent) >= 0.4 * len(generated)

    log = events(Path(control_plane.audit_log), set(sent), seconds=60)
    missing = [sent[audit_id] for audit_id in sent if audit_id not in log]
    assert not missing, f"{len(missing)} requests are not in the audit log, the first: {missing[0]}"
    disagreements = [
        (raw, understood(target), recorded(log[audit_id]))
        for audit_id, (raw, target) in sent.items()
        if understood(target) != recorded(log[audit_id])
    ]
    assert not disagreements, f"{len(disagreements)} of {len(sent)}, the first: {disagreements[0]}"

    # The generator still reaches every verb, streams of each kind, and answers of success.
    verbs = {target.info.verb for _, target in sent.values() if target.info.is_resource}
    assert verbs == {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
    assert {target.streams for _, target in sent.values()} == {"", "watch", "log", "connect"}
    assert statuses[200] > 500
    print(f"{len(generated)} generated, {len(sent)} sent, 0 disagreements; answers {dict(statuses)}")
