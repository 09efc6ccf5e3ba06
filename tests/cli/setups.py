"""A gateway's files in front of the double of an API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.double import ISSUER, RSA, ApiDouble

POLICY = """
apiVersion: interlock/v1
kind: Policy
metadata: {name: agents}
spec:
  subjects: [{group: agents}]
  rules:
  - {name: read, effect: allow, match: {namespaces: ["*"], resources: [pods], verbs: [get, list]}}
"""


def write(directory: Path, api: ApiDouble, **changes: Any) -> Path:
    """gateway.yaml and what it names; `changes` are proxy, reverse, issuer, actAs, credential or further keys."""
    (directory / "ca.pem").write_bytes(api.authority.certificate)
    (directory / "policy.yaml").write_text(POLICY)
    (directory / "jwks.json").write_text(json.dumps({"keys": [RSA]}))
    kubeconfig = api.kubeconfig(directory)
    cluster = {
        "name": "dev",
        "server": changes.pop("server", api.server),
        "certificateAuthority": "ca.pem",
        "credential": changes.pop("credential", {"kubeconfig": str(kubeconfig)}),
        "actAs": changes.pop("actAs", "none"),
    }
    if "reverse" in changes:
        cluster["reverse"] = changes.pop("reverse")
    issuer = {"issuer": ISSUER, "audience": "interlock", "jwks": "jwks.json"}
    gateway = {
        "apiVersion": "interlock/v1",
        "kind": "Gateway",
        "listen": {
            "proxy": changes.pop("proxy", "127.0.0.1:0"),
            "console": changes.pop("console", "127.0.0.1:0"),
        },
        "clusters": [cluster],
        "identity": {"oidc": [changes.pop("issuer", issuer)]},
        "policies": ["policy.yaml"],
        **changes,
    }
    path = directory / "gateway.yaml"
    path.write_text(json.dumps(gateway))
    return path
