"""Events as a gateway makes them, for the tests of this room."""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid
from typing import Any

from interlock.evidence import events

DIGEST = "9f" * 32


def now() -> int:
    return time.time_ns() // 1000


def started(**fields: Any) -> events.GatewayStarted:
    return events.GatewayStarted(
        **{"ts": now(), "version": "0.1.0", "pid": 4711, "clusters": ("dev",)} | fields
    )


def policy(**fields: Any) -> events.PolicyLoaded:
    file = events.PolicyFile(path="policy.yaml", sha256=DIGEST)
    return events.PolicyLoaded(**{"ts": now(), "digest": DIGEST, "files": (file,), "rules": 3} | fields)


def session(**fields: Any) -> events.SessionOpened:
    return events.SessionOpened(
        **{
            "ts": now(),
            "session_id": "session-1",
            "user_name": "dana@example.test",
            "groups": ("developers",),
            "issuer": "https://idp.example.test",
            "agent": "codex",
            "owner": "dana@example.test",
            "client_ip": "127.0.0.1",
            "expires_at": now() + 900_000_000,
        }
        | fields
    )


def decision(**fields: Any) -> events.Decision:
    return events.Decision(
        **{
            "effect": "allow",
            "stage": "authorization",
            "rule": "developers-read",
            "policy": "shop",
            "policy_digest": DIGEST,
            "reason": "allowed by developers-read",
            "matched": ("developers-read",),
            "latency_us": 21,
        }
        | fields
    )


def denied(**fields: Any) -> events.Decision:
    return decision(
        **{"effect": "deny", "rule": None, "code": 403, "reason": "no rule allows it", "matched": ()} | fields
    )


def request(**fields: Any) -> events.Request:
    return events.Request(
        **{
            "id": str(uuid.uuid4()),
            "ts": now(),
            "decision": decision(),
            "session_id": "session-1",
            "cluster": "dev",
            "method": "GET",
            "uri": "/api/v1/namespaces/shop-a/pods",
            "verb": "list",
            "is_resource": True,
            "api_group": "",
            "version": "v1",
            "resource": "pods",
            "namespace": "shop-a",
            "user_name": "dana@example.test",
            "groups": ("developers",),
            "agent": "codex",
            "client_ip": "127.0.0.1",
        }
        | fields
    )


def response(to: events.Request, **fields: Any) -> events.Response:
    return events.Response(
        **{
            "request_id": to.id,
            "ts": now(),
            "origin": "upstream",
            "code": 200,
            "upstream_code": 200,
            "bytes": 12,
        }
        | fields
    )


def chunk(of: events.Request, number: int, **fields: Any) -> events.StreamChunk:
    return events.StreamChunk(
        **{
            "request_id": of.id,
            "ts": now(),
            "chunk": number,
            "channel": "watch",
            "direction": "out",
            "bytes": 9,
            "offset_us": 1000 * number,
        }
        | fields
    )


def finding(**fields: Any) -> events.Finding:
    return events.Finding(**{"path": "$.data.password", "detector": "secret", "category": "secret"} | fields)


def body(content: bytes) -> tuple[str, dict[str, bytes]]:
    digest = hashlib.sha256(content).hexdigest()
    return digest, {digest: content}


def exchanges(count: int) -> itertools.chain[Any]:
    def pair() -> list[Any]:
        sent = request()
        return [sent, response(sent)]

    return itertools.chain.from_iterable(pair() for _ in range(count))
