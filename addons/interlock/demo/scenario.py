"""The demo's story: who the agent is, how its gateway is set up, and what it tries.

In: a directory and the API server that was started. Out: the gateway's files, an identity token, and
ACTS, the table of what the agent does with what must come of it. The rule: an act that is refused
must not have reached the API server, and no output of any act may hold one of HIDDEN.
"""

import base64
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.demo import seed

FILES = Path(__file__).parent / "files"
CLUSTER = "demo"
ISSUER = "https://idp.interlock.test"
AUDIENCE = "interlock"
OWNER, GROUPS = "owner@interlock.test", ("agents",)
HIDDEN = tuple(
    form
    for value in (seed.PASSWORD, seed.API_KEY)
    for form in (value, base64.b64encode(value.encode()).decode())
)
"""What no output may hold, as it is and as a Secret holds it."""

QUERY = "SELECT verb, resource, name, effect, rule FROM live.timeline ORDER BY ts"

type Outcome = Literal["allowed", "masked", "refused"]


@dataclass(frozen=True, slots=True)
class Call:
    """An act as one HTTP request, for a machine without kubectl. `{pod}` in `target` is a pod's name."""

    method: str
    target: str
    body: Mapping[str, object] | None = None
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that the agent tries.

    `argv` are kubectl's arguments (`{pod}` as in `Call`); `feeds` names the act whose output is the
    standard input or the body. `shows` must be in the output (standard output and error together);
    `code` is the HTTP status that a refused call is answered with.
    """

    key: str
    title: str
    argv: tuple[str, ...]
    call: Call
    outcome: Outcome
    shows: tuple[str, ...] = ()
    code: int = 200
    feeds: str = ""

    def judge(self, output: str, succeeded: bool) -> list[str]:
        """What is wrong with an outcome, in words; nothing when it is as promised."""
        wrong = [f"the output lacks {text!r}" for text in self.shows if text not in output]
        wrong += ["the output holds a secret" for value in HIDDEN if value in output][:1]
        if succeeded == (self.outcome == "refused"):
            wrong.append("it was carried out" if succeeded else "it was refused")
        return wrong


SHOP = "/api/v1/namespaces/shop"
MASK = "masked-"
WEBSOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "ZGVtby1kZW1vLWRlbW8tMQ=="),
    ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
)

ACTS: tuple[Act, ...] = (
    Act("look", "look around in its namespace", ("get", "pods"), Call("GET", f"{SHOP}/pods"), "allowed", ("shop-web",)),
    Act("log", "read a log that prints a password", ("logs", "{pod}"), Call("GET", f"{SHOP}/pods/{{pod}}/log"), "masked", (MASK, "GET /orders/17")),
    Act("secret", "read a Secret", ("get", "secret", "payments", "-o", "json"), Call("GET", f"{SHOP}/secrets/payments"), "masked", ("payments", "Opaque")),
    Act("environment", "find the password in a pod's environment", ("get", "pod", "{pod}", "-o", "json"), Call("GET", f"{SHOP}/pods/{{pod}}"), "masked", (MASK, "DB_PASSWORD")),
    Act("scale", "scale the shop", ("scale", "deployment/shop-web", "--replicas=3"), Call("PATCH", "/apis/apps/v1/namespaces/shop/deployments/shop-web/scale", {"spec": {"replicas": 3}}, "application/merge-patch+json"), "allowed"),
    Act("write-back", "write the masked Secret back", ("replace", "-f", "-"), Call("PUT", f"{SHOP}/secrets/payments"), "refused", (MASK.rstrip("-"),), 422, "secret"),
    Act("break", "make the API server quote the Secret in an error", ("patch", "secret", "payments", "--type=merge", '-p={"data":{"other":"***"}}'), Call("PATCH", f"{SHOP}/secrets/payments", {"data": {"other": "***"}}, "application/merge-patch+json"), "refused", ("withheld",), 422),
    Act("exec", "open a shell in a pod", ("exec", "{pod}", "--", "env"), Call("GET", f"{SHOP}/pods/{{pod}}/exec?command=env&stdout=true", headers=WEBSOCKET), "refused", ("interlock:",), 403),
    Act("elsewhere", "read the Secrets of all namespaces", ("get", "secrets", "--all-namespaces"), Call("GET", "/api/v1/secrets"), "refused", ("namespaces",), 403),
    Act("delete", "delete the database", ("delete", "deployment", "shop-db"), Call("DELETE", "/apis/apps/v1/namespaces/shop/deployments/shop-db"), "refused", ("nothing-is-deleted",), 403),
    Act("token", "make itself a cluster credential", ("create", "token", "default"), Call("POST", f"{SHOP}/serviceaccounts/default/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}), "refused", ("serviceaccounts/token",), 403),
    Act("impersonate", "act as the administrator", ("get", "pods", "--as=system:admin", "--as-group=system:masters"), Call("GET", f"{SHOP}/pods", headers=(("Impersonate-User", "system:admin"), ("Impersonate-Group", "system:masters"))), "refused", ("mpersonat",), 403),
)  # fmt: skip

REACHING = frozenset({"break"})
"""Refused acts that the API server is asked all the same: there, it is the answer that is masked."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An OpenID provider without a server: a key, its public half as a file, and tokens."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    def jwks(self) -> bytes:
        """The public key as a JWK set (RFC 7517)."""
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [{**public, "kid": "demo", "use": "sig", "alg": "ES256"}]}).encode()

    def token(self, now: datetime, *, user: str = OWNER, groups: tuple[str, ...] = GROUPS) -> str:
        """An ID token for `user`, good for an hour from `now` (aware)."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "email": user,
            "email_verified": True,
            "groups": list(groups),
            "iat": now,
            "exp": now + timedelta(hours=1),
        }
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": "demo"})


def lay_out(directory: Path, issuer: Issuer, *, server: str, ca: Path, token: Path) -> Path:
    """Writes gateway.yaml, policy.yaml and jwks.json, and returns the path of the first.

    `server` is the API server's URL, `ca` and `token` are files of its authority and the gateway's
    own credential. Raises OSError when the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "server": server,
        "ca": json.dumps(str(ca.resolve())),
        "token": json.dumps(str(token.resolve())),
        "issuer": ISSUER,
    }
    for name in ("gateway.yaml", "policy.yaml"):
        template = string.Template((FILES / name).read_text("utf-8"))
        (directory / name).write_text(template.substitute(values), "utf-8")
    (directory / "jwks.json").write_bytes(issuer.jwks())
    return directory / "gateway.yaml"
