"""Certificates for the demo's API server: one authority, and what it signs.

In: names and the time. Out: PEM bytes. Nothing here touches a file or a socket, and nothing made
here may be trusted outside the directory of one demo: every start makes a new authority.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=7)
BACKDATED = timedelta(minutes=5)  # for clients whose clock is a little behind


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM (PKCS #8 for the key)."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Pair(certificate=…, key=…)"


def authority(name: str, now: datetime) -> Pair:
    """Makes a self-signed EC P-256 authority called `name`, valid for a week from `now` (aware)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key, now).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def server_certificate(signer: Pair, names: tuple[str, ...], now: datetime) -> Pair:
    """Issues a TLS server certificate for host names and IP addresses, the first as common name."""
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return _issue(
        signer, [(NameOID.COMMON_NAME, names[0])], ExtendedKeyUsageOID.SERVER_AUTH, now, alternatives
    )


def client_certificate(signer: Pair, user: str, groups: tuple[str, ...], now: datetime) -> Pair:
    """Issues a client certificate that Kubernetes reads as user (CN) and groups (O)."""
    attributes = [(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return _issue(signer, [*attributes, (NameOID.COMMON_NAME, user)], ExtendedKeyUsageOID.CLIENT_AUTH, now)


def _issue(
    signer: Pair,
    subject: list[tuple[x509.ObjectIdentifier, str]],
    purpose: x509.ObjectIdentifier,
    now: datetime,
    alternatives: x509.SubjectAlternativeName | None = None,
) -> Pair:
    issuer = x509.load_pem_x509_certificate(signer.certificate)
    signing_key = serialization.load_pem_private_key(signer.key, password=None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    builder = (
        _builder(name, issuer.subject, key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
        )
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return _pair(builder.sign(signing_key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
