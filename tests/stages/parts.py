"""Exchanges as the stages find them, for tests of one stage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from interlock.exchange import Admission, Arrival, Exchange
from interlock.identity.principal import Principal
from interlock.identity.sessions import Session, SessionState
from interlock.kube.body import parse_body
from interlock.kube.hazards import classify
from interlock.kube.target import parse_target

ADA = Principal("ada@example.com", ("agents", "dev"), "https://idp.example", "ada", agent="bot", owner="ada")


def session(principal: Principal = ADA) -> Session:
    return Session(
        id="0b9c8f5e-6a0e-4c1e-9e43-0d5a7a1f4c10",
        state=SessionState.ACTIVE,
        principal=principal,
        cluster="dev",
        addresses=(),
        opened_from="127.0.0.1",
        opened_at=0.0,
        last_used_at=0.0,
        idle_seconds=600.0,
        ends_at=1e12,
        mask_key=b"k" * 32,
    )


def cluster(**changed: Any) -> Any:
    credential = SimpleNamespace(bearer=lambda: "cluster-token")
    given = {
        "name": "dev",
        "host_header": "api.example:6443",
        "act_as": "impersonate",
        "credential": credential,
    }
    return SimpleNamespace(**{**given, **changed})


def arrival(method: str = "GET", target: str = "/api/v1/pods", body: bytes = b"", **changed: Any) -> Arrival:
    given: dict[str, Any] = {
        "method": method,
        "target": target.encode(),
        "headers": (),
        "body": body,
        "client_ip": "192.0.2.7",
        "listener": "proxy",
        "cluster": "dev",
        "scheme": "https",
        "absolute": "",
        "host": "api.example:6443",
        "sni": None,
    }
    return Arrival(**{**given, **changed})


def admitted(
    method: str = "GET",
    target: str = "/api/v1/namespaces/shop/pods",
    body: bytes = b"",
    *,
    media: str = "application/json",
    of: Any = None,
    **changed: Any,
) -> Exchange:
    """An exchange that has passed perimeter and authentication."""
    parsed = parse_target(method, target)
    content = parse_body(parsed.info, method, media if body else None, None, body)
    given: dict[str, Any] = {
        "cluster": of or cluster(),
        "target": parsed,
        "body": content,
        "classes": classify(parsed.info, content.object if content else None),
        "dry_run": False,
        "headers": ((b"Accept", b"application/json"),),
        "protocols": (),
        "unreadable": "",
        "bearer": "ilk_x",
        "impersonates": False,
        "impersonation": (),
        "user_agent": "kubectl",
        "kubectl_command": "",
        "kubectl_session": "",
    }
    x = Exchange(id="c0ffee00-0000-4000-8000-000000000001", arrival=arrival(method, target, body), began_ns=0)
    x.admission = Admission(**{**given, **changed})
    x.session = session()
    return x
