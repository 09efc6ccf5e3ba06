"""The gateway's own certificate authority: made once, by whoever is first, readable by nobody else."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from interlock.authority import AuthorityError, ensure


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    certificate = ensure(tmp_path / "certs")
    first = certificate.read_bytes()
    assert ensure(tmp_path / "certs") == certificate
    assert certificate.read_bytes() == first
    assert stat.S_IMODE((tmp_path / "certs").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "certs" / "mitmproxy-ca.pem").stat().st_mode) == 0o600


def test_the_certificate_is_an_authoritys_and_alone_in_its_file(tmp_path: Path) -> None:
    pem = ensure(tmp_path).read_bytes()
    assert b"PRIVATE KEY" not in pem
    certificate = x509.load_pem_x509_certificate(pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    key = load_pem_private_key((tmp_path / "mitmproxy-ca.pem").read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_many_processes_at_once_agree_on_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: ensure(tmp_path), range(16)))
    assert len(set(paths)) == 1
    bundle = x509.load_pem_x509_certificate((tmp_path / "mitmproxy-ca.pem").read_bytes())
    assert x509.load_pem_x509_certificate(paths[0].read_bytes()) == bundle
    assert not list(tmp_path.glob(".new-*"))


def test_a_certificate_that_is_not_the_keys_is_replaced(tmp_path: Path) -> None:
    certificate = ensure(tmp_path)
    first = certificate.read_bytes()
    certificate.write_text("something else")
    assert ensure(tmp_path).read_bytes() == first


def test_a_file_that_holds_no_certificate_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mitmproxy-ca.pem").write_text("not a certificate")
    with pytest.raises(AuthorityError) as caught:
        ensure(tmp_path)
    assert str(tmp_path / "mitmproxy-ca.pem") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuthorityError, match=r"authority\.directory"):
        ensure(tmp_path / "file" / "certs")
