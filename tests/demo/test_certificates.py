"""The demo's certificates verify against their own authority and no other."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from interlock.demo.certificates import authority, client_certificate, server_certificate

NOW = datetime.now(UTC)


def _handshake(ca: bytes, serving: bytes, name: str, tmp_path: Path) -> None:
    """A TLS handshake in memory; raises ssl.SSLError when the client does not accept the server."""
    path = tmp_path / "server.pem"
    path.write_bytes(serving)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(path)
    client_context = ssl.create_default_context(cadata=ca.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() is not None


def test_a_server_is_trusted_under_every_one_of_its_names(tmp_path: Path) -> None:
    ca = authority("demo", NOW)
    serving = server_certificate(ca, ("api.interlock.test", "127.0.0.1"), NOW)
    for name in ("api.interlock.test", "127.0.0.1"):
        _handshake(ca.certificate, serving.certificate + serving.key, name, tmp_path)


def test_another_name_or_another_authority_is_not_trusted(tmp_path: Path) -> None:
    ca = authority("demo", NOW)
    serving = server_certificate(ca, ("api.interlock.test",), NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(ca.certificate, serving.certificate + serving.key, "elsewhere.test", tmp_path)
    other = authority("demo", NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(other.certificate, serving.certificate + serving.key, "api.interlock.test", tmp_path)


def test_a_client_certificate_names_user_and_groups() -> None:
    pair = client_certificate(authority("demo", NOW), "gateway", ("system:masters", "ops"), NOW)
    subject = x509.load_pem_x509_certificate(pair.certificate).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["gateway"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == [
        "system:masters",
        "ops",
    ]


def test_a_key_is_never_in_a_repr() -> None:
    assert "PRIVATE" not in repr(authority("demo", NOW))
