"""The gateway's own credential: exactly one, read from where it stands, never shown."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from interlock.credential import (
    TOKEN_LIMIT,
    ClientCertificate,
    CredentialError,
    StaticToken,
    TokenFile,
    from_kubeconfig,
)
from interlock.documents import DocumentError

SECRET = "eyJhbGciOi.hunter2-secret"


def pair(name: str = "gateway", passphrase: bytes = b"") -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return certificate.public_bytes(Encoding.PEM), pem


CERTIFICATE, KEY = pair()
_, OTHER_KEY = pair()


def kubeconfig(directory: Path, user: dict[str, Any], **top: Any) -> Path:
    """A kubeconfig with one user in context `dev`."""
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dev",
        "preferences": {},
        "clusters": [{"name": "dev", "cluster": {"server": "https://elsewhere:6443"}}],
        "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "admin", "namespace": "x"}}],
        "users": [{"name": "admin", "user": user}],
        **top,
    }
    path = directory / "admin.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_token_in_a_kubeconfig(tmp_path: Path) -> None:
    credential = from_kubeconfig(kubeconfig(tmp_path, {"token": SECRET}), None)
    assert credential.bearer() == SECRET
    assert credential.certificate() is None
    assert repr(credential) == f"StaticToken(from {tmp_path}/admin.kubeconfig, context dev)"


def test_the_context_that_is_asked_for(tmp_path: Path) -> None:
    users = [{"name": n, "user": {"token": f"{n}-token"}} for n in ("a", "b")]
    contexts = [{"name": n, "context": {"user": n}} for n in ("a", "b")]
    path = kubeconfig(tmp_path, {}, users=users, contexts=contexts, **{"current-context": "a"})
    assert from_kubeconfig(path, None).bearer() == "a-token"
    assert from_kubeconfig(path, "b").bearer() == "b-token"


def test_a_token_file_beside_the_kubeconfig_is_read_again_when_it_is_rotated(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    credential = from_kubeconfig(kubeconfig(tmp_path, {"tokenFile": "token"}), None)
    assert repr(credential) == f"TokenFile({file})"
    assert credential.certificate() is None
    assert credential.bearer() == credential.bearer() == "first"
    (tmp_path / "new").write_text("other\n")  # as long as the first
    os.replace(tmp_path / "new", file)
    assert credential.bearer() == "other"


def test_a_token_file_that_goes_bad_gives_no_old_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    credential = TokenFile(file)
    for content, message in (
        (" \n", "is empty"),
        ("a b", "spaces"),
        ("a\nb", "line breaks"),
        ("é", "characters"),
    ):
        file.write_text(content)
        with pytest.raises(CredentialError, match=message):
            credential.bearer()
        with pytest.raises(CredentialError, match=message):
            credential.bearer()
    file.write_text("x" * (TOKEN_LIMIT + 1))
    with pytest.raises(CredentialError, match="is larger than 64 KiB"):
        credential.bearer()
    file.unlink()
    with pytest.raises(
        CredentialError, match="no such file or directory; the gateway needs it for every request"
    ):
        credential.bearer()


def test_a_token_that_no_header_can_hold_is_refused_without_showing_it() -> None:
    for token in ("", f"{SECRET} x", f"{SECRET}\r\nX: y", "x" * (TOKEN_LIMIT + 1)):
        with pytest.raises(CredentialError) as error:
            StaticToken(token, "F")
        assert SECRET not in str(error.value)
        assert str(error.value).startswith("F: the token ")


def test_a_client_certificate_from_files_is_read_again_when_it_is_renewed(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_bytes(CERTIFICATE)
    (tmp_path / "k.pem").write_bytes(KEY)
    user = {"client-certificate": "c.pem", "client-key": "k.pem"}
    credential = from_kubeconfig(kubeconfig(tmp_path, user), None)
    assert credential.bearer() is None
    first = credential.certificate()
    assert first is not None
    assert credential.certificate() is first
    assert first.chain[0].public_bytes(Encoding.PEM) == CERTIFICATE
    assert "PrivateKey" not in repr(first)
    certificate, key = pair("renewed")
    (tmp_path / "c.pem").write_bytes(certificate)
    with pytest.raises(CredentialError, match="does not belong to the certificate"):
        credential.certificate()  # half of the renewal
    (tmp_path / "k.pem").write_bytes(key)
    second = credential.certificate()
    assert second is not None
    assert second.digest != first.digest


def test_a_client_certificate_in_the_kubeconfig(tmp_path: Path) -> None:
    user = {
        "client-certificate-data": b64(CERTIFICATE),
        "client-key-data": b64(KEY),
        "client-key": "unused.pem",
    }
    credential = from_kubeconfig(kubeconfig(tmp_path, user), None)
    assert credential.certificate() is credential.certificate()
    assert repr(credential) == f"ClientCertificate(from {tmp_path}/admin.kubeconfig, context dev)"


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        (b"nothing", KEY, "the client certificate is not PEM; expected BEGIN CERTIFICATE"),
        (CERTIFICATE, b"nothing", "the client key is not PEM; expected BEGIN PRIVATE KEY"),
        (CERTIFICATE, OTHER_KEY, "the client key does not belong to the certificate; give the pair"),
        (CERTIFICATE, pair(passphrase=b"x")[1], "the client key is encrypted"),
    ],
)
def test_a_certificate_and_key_that_cannot_be_used(certificate: bytes, key: bytes, message: str) -> None:
    with pytest.raises(CredentialError, match=f"^F: {message}"):
        ClientCertificate(certificate, key, "F")


EXPECTED = "expected one token, tokenFile or client certificate"


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({}, f"its user has no credential; {EXPECTED}"),
        ({"token": ""}, f"its user has no credential; {EXPECTED}"),
        ({"token": SECRET, "tokenFile": "token"}, f"its user has 2 credentials; {EXPECTED}"),
        (
            {"token": SECRET, "client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(KEY)},
            f"its user has 2 credentials; {EXPECTED}",
        ),
        ({"client-certificate": "c.pem"}, "its user has half of a client certificate and key; give both"),
        ({"client-key-data": b64(KEY)}, "its user has half of a client certificate and key; give both"),
        (
            {"client-key-data": "%%", "client-certificate": "c"},
            "client-key-data is not base64; copy it again",
        ),
        ({"exec": {"command": "aws"}}, "its user has an exec plugin; the gateway runs no programs"),
        ({"token": SECRET, "exec": {"command": "aws"}}, "its user has an exec plugin"),
        ({"auth-provider": {"name": "gcp"}}, "its user has an auth-provider; client-go no longer has them"),
        ({"username": "a", "password": SECRET}, "its user has a user name and password"),
        ({"token": SECRET, "as": "root"}, "its user has impersonation"),
        ({"token": SECRET, "as-uid": "0"}, "its user has impersonation"),
        ({"token": SECRET, "as-groups": ["system:masters"]}, "its user has impersonation"),
        ({"token": SECRET, "as-user-extra": {"a": ["b"]}}, "its user has impersonation"),
    ],
)
def test_a_kubeconfig_user_without_exactly_one_usable_credential(
    tmp_path: Path, user: dict[str, Any], message: str
) -> None:
    with pytest.raises(CredentialError) as error:
        from_kubeconfig(kubeconfig(tmp_path, user), None)
    line = str(error.value)
    assert line.startswith(f"{tmp_path}/admin.kubeconfig, context dev: {message}")
    assert "\n" not in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("top", "context", "message"),
    [
        ({"current-context": ""}, None, "has no current-context; name one in credential.context"),
        ({}, "prod", "has no context 'prod'; its contexts are: dev"),
        ({"contexts": None}, None, "has no context 'dev'; its contexts are: none"),
        ({"users": []}, None, "context 'dev' names a user that is not in the file; correct its user"),
    ],
)
def test_a_context_that_leads_nowhere(
    tmp_path: Path, top: dict[str, Any], context: str | None, message: str
) -> None:
    path = kubeconfig(tmp_path, {"token": SECRET}, **top)
    with pytest.raises(CredentialError, match=f"^{path}: {message}$"):
        from_kubeconfig(path, context)


def test_a_kubeconfig_that_is_none_says_where(tmp_path: Path) -> None:
    path = tmp_path / "k"
    for text, message in (
        ("kind: Pod\n", ":1:7: kind: expected one of: Config"),
        (
            "users: [{name: a, user: {token: [x]}}]\n",
            ":1:33: users[0].user.token: expected text, found a list",
        ),
        (
            "users: [{name: a, user: {}}, {name: a, user: {}}]\n",
            ":1:37: users[1].name: the same name as on line 1",
        ),
        ("kind: Config\n---\nkind: Config\n", ":3:1: a kubeconfig is one document"),
    ):
        path.write_text(text)
        with pytest.raises(DocumentError) as error:
            from_kubeconfig(path, None)
        assert str(error.value).startswith(f"{path}{message}")
    with pytest.raises(DocumentError, match="no such file or directory"):
        from_kubeconfig(tmp_path / "none", None)
