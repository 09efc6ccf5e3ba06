"""The agent's token out, the cluster's credential in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.exchange import Refusal
from interlock.stages.credential import Credential
from stages.parts import admitted, cluster


def sent(x: Any, *, impersonation: bool = False) -> list[tuple[bytes, bytes]]:
    x.decision = SimpleNamespace(effect="allow", impersonation=impersonation)
    return list(Credential().request(x).headers)


def test_the_clusters_token_replaces_the_agents() -> None:
    headers = sent(admitted())
    assert (b"Authorization", b"Bearer cluster-token") in headers
    assert b"ilk_x" not in b"".join(value for _, value in headers)
    assert (b"Host", b"api.example:6443") in headers
    assert (b"Audit-ID", b"c0ffee00-0000-4000-8000-000000000001") in headers


def test_a_client_certificate_needs_no_header() -> None:
    headers = sent(admitted(of=cluster(credential=SimpleNamespace(bearer=lambda: None))))
    assert b"Authorization" not in [name for name, _ in headers]


def test_the_agent_is_named_to_the_cluster() -> None:
    headers = sent(admitted())
    assert [v for n, v in headers if n == b"Impersonate-User"] == [b"ada@example.com"]
    assert [v for n, v in headers if n == b"Impersonate-Group"] == [b"agents", b"dev"]
    assert (b"Impersonate-Extra-Interlock-agent", b"bot") in headers
    assert not [n for n, _ in sent(admitted(of=cluster(act_as="none"))) if n.startswith(b"Impersonate")]


def test_the_agents_own_impersonation_needs_a_rule_and_is_not_mixed_with_ours() -> None:
    own = ((b"Impersonate-User", b"root"),)
    with pytest.raises(Refusal) as caught:
        sent(admitted(impersonates=True, impersonation=own))
    assert caught.value.code == 403
    headers = sent(admitted(impersonates=True, impersonation=own), impersonation=True)
    assert [v for n, v in headers if n == b"Impersonate-User"] == [b"root"]
    assert b"Impersonate-Group" not in [n for n, _ in headers]


def test_a_websocket_gets_the_gateways_own_handshake(tmp_path: Path) -> None:
    x = admitted(target="/api/v1/namespaces/shop/pods/p/exec?command=id", protocols=("v5.channel.k8s.io",))
    key = ((b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="))
    object.__setattr__(x.arrival, "headers", key)
    assert (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io") in sent(x)
