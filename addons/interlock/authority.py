"""The gateway's own certificate authority: what agents trust in place of the cluster's.

In: a directory. Out: the path of the certificate alone (`ca.pem`), for kubeconfigs; the key stays beside it
in mitmproxy's own file (`mitmproxy-ca.pem`, 0600). The key never leaves the directory and is never shown.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

YEARS = 5


class AuthorityError(ValueError):
    """The directory cannot hold an authority, or holds half of one; one line, with what to do."""


def ensure(directory: Path, *, now: datetime.datetime | None = None) -> Path:
    """Make the authority in `directory` if there is none; returns the path of its certificate.

    Several processes may do so at once: the first to link its file wins, and all use that one.
    """
    bundle, certificate = directory / "mitmproxy-ca.pem", directory / "ca.pem"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not bundle.exists():
            _publish(bundle, _make(now or datetime.datetime.now(datetime.UTC)))
        pem = bundle.read_bytes()
        public = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.PEM)
        if not certificate.exists() or certificate.read_bytes() != public:
            _publish(certificate, public, mode=0o644, replace=True)
    except OSError as error:
        raise AuthorityError(
            f"{directory}: the gateway's certificate authority cannot be kept here ({error.strerror}); "
            "make the directory writable by this user, or set authority.directory"
        ) from None
    except ValueError:
        raise AuthorityError(
            f"{bundle}: no certificate can be read from it; move it away and a new authority is made"
        ) from None
    return certificate


def _publish(path: Path, content: bytes, *, mode: int = 0o600, replace: bool = False) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        if replace:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return  # another process was first; its authority is the one
    finally:
        Path(temporary).unlink(missing_ok=True)


def _make(now: datetime.datetime) -> bytes:
    """Key and certificate in PEM, as mitmproxy reads them. EC P-256 (FIPS 186-5), valid for YEARS."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Interlock"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Interlock gateway authority"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
