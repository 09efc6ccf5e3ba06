"""Credential: the agent's token out, the cluster's credential in.

In: Admission and Session. Out: every header that goes upstream, built anew: the agent's that may pass, the
gateway's own credential, who it acts for (`actAs: impersonate`: Impersonate-User, -Group and -Extra, so that
the cluster's RBAC stays a second layer and its audit log names the agent), and the Audit-ID.
"""

from __future__ import annotations

from interlock.exchange import Exchange, Header, Outbound, Refusal
from interlock.stages.perimeter import websocket_headers


class Credential:
    name = "credential"
    deadline = 2.0
    fills = {"request": ("outbound", Outbound)}

    def request(self, x: Exchange) -> Outbound:
        assert x.admission is not None
        assert x.session is not None
        assert x.decision is not None
        a = x.admission
        headers: list[Header] = [(b"Host", a.cluster.host_header.encode("ascii"))]
        headers.extend(a.headers)
        if a.protocols:
            headers.extend(websocket_headers(x.arrival, a.protocols))
        token = a.cluster.credential.bearer()
        if token:
            headers.append((b"Authorization", b"Bearer " + token.encode("ascii")))
        if a.impersonates:
            # Policy named this right; the first of a name wins upstream, so ours are not added to it.
            if not x.decision.impersonation:
                raise Refusal(403, "no rule lets this request act as another user (Impersonate-*)")
            headers.extend(a.impersonation)
        elif a.cluster.act_as == "impersonate":
            headers.extend(impersonation(x))
        headers.append((b"Audit-ID", x.id.encode("ascii")))
        return Outbound(tuple(headers))


def impersonation(x: Exchange) -> list[Header]:
    """Impersonate-* for the session's principal (Kubernetes: authentication, user impersonation)."""
    assert x.session is not None
    p = x.session.principal
    headers = [(b"Impersonate-User", p.user.encode())]
    headers.extend((b"Impersonate-Group", group.encode()) for group in p.groups)
    extras = {"session": x.session.id, "agent": p.agent, "owner": p.owner}
    headers.extend(
        (f"Impersonate-Extra-Interlock-{key}".encode(), value.encode())
        for key, value in extras.items()
        if value
    )
    return headers
