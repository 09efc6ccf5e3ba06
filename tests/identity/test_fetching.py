"""What is asked of a provider over the network, and what is not believed of its answer."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from identity.provider import DISCOVERY, Provider
from interlock.identity import fetching
from interlock.identity.fetching import MAX_BYTES, fetch
from interlock.identity.sessions import ProviderAway


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


async def test_the_body_is_returned(provider: Provider) -> None:
    assert provider.issuer.encode() in await fetch(provider.issuer + DISCOVERY, None)


ANSWERS = {
    "a redirect": (302, {"Location": "/keys"}, b"", "answered 302, expected 200"),
    "nothing": (204, {}, b"", "answered 204"),
    "an error": (500, {}, b"x", "answered 500"),
    "too much": (200, {}, b"x" * (MAX_BYTES + 1), "more than 524288 bytes"),
    "cut": (200, {"Content-Length": "100"}, b"x", "cannot be reached"),
}


@pytest.mark.parametrize(("code", "headers", "body", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_no_other_answer_is_believed(
    provider: Provider, code: int, headers: dict[str, str], body: bytes, reason: str
) -> None:
    provider.answers["/odd"] = (code, {"Connection": "close", **headers}, body)
    provider.asked.clear()
    with pytest.raises(ProviderAway, match=reason):
        await fetch(provider.issuer + "/odd", None)
    assert provider.asked == ["/odd"]


async def test_a_compressed_answer_is_not_inflated(provider: Provider) -> None:
    provider.answers["/gzip"] = (200, {"Content-Encoding": "gzip"}, b"not gzip")
    assert await fetch(provider.issuer + "/gzip", None) == b"not gzip"


async def test_as_much_as_is_allowed_is_read(provider: Provider) -> None:
    provider.answers["/much"] = (200, {}, b"x" * MAX_BYTES)
    assert len(await fetch(provider.issuer + "/much", None)) == MAX_BYTES


async def test_certificates_are_verified() -> None:
    with Provider(tls=True) as one, Provider(tls=True) as two:
        assert await fetch(one.issuer + "/keys", one.ca)
        for ca in (None, two.ca):
            with pytest.raises(ProviderAway, match=r"cannot be reached: .*certificate"):
                await fetch(one.issuer + "/keys", ca)
        with pytest.raises(ProviderAway, match=r"cannot be reached: .*(mismatch|match)"):
            await fetch(one.issuer.replace("127.0.0.1", "localhost") + "/keys", one.ca)


@pytest.mark.parametrize("ca", [b"", b"nonsense", b"\xff", b"-----BEGIN CERTIFICATE-----\n"])
async def test_a_ca_that_is_none_trusts_nobody(ca: bytes) -> None:
    with pytest.raises(ProviderAway, match="not a PEM certificate"):
        await fetch("https://127.0.0.1:1/", ca)


async def test_the_environment_names_no_proxy(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await fetch(provider.issuer + "/keys", None)
    assert os.environ["HTTP_PROXY"]


async def test_an_address_that_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ProviderAway, match=r"did not answer within 0.3 s|cannot be reached"):
            await fetch(url, None)


async def test_an_answer_that_drips_has_a_deadline_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        stop = threading.Event()

        def drip() -> None:
            peer, _ = dripping.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not stop.wait(0.05):
                    try:
                        peer.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(ProviderAway, match=r"did not answer within 0.5 s"):
                await fetch(f"http://127.0.0.1:{dripping.getsockname()[1]}/", None)
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://no-such-host.invalid/", "nonsense", "http://[::1/"]
)
async def test_what_cannot_be_reached_is_away(url: str) -> None:
    with pytest.raises(ProviderAway, match="cannot be reached"):
        await fetch(url, None)
