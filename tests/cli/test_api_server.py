"""Questions to an API server: only to it, only verified, and every failure in one line."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from cli.double import TOKEN, ApiDouble
from interlock.cli.api_server import ApiServer, Reply, access_review, allowed, parse_server
from interlock.cli.errors import Failed
from interlock.config import Authority, Server
from interlock.credential import ClientCertificate, CredentialError, StaticToken, TokenFile
from interlock.demo import certificates


def trusted(pem: bytes) -> Authority:
    return Authority("test", pem, tuple(x509.load_pem_x509_certificates(pem)))


def asking(api: ApiDouble, **changes: object) -> ApiServer:
    given = {
        "server": Server("127.0.0.1", api.port),
        "authority": trusted(api.authority.certificate),
        "credential": StaticToken(TOKEN, "test"),
        **changes,
    }
    return ApiServer(given.pop("server"), given.pop("authority"), given.pop("credential"), **given)


def test_a_question_carries_the_credential_and_the_audit_id(api: ApiDouble) -> None:
    reply = asking(api).get("/version", audit_id="4711")
    assert (reply.code, reply.object) == (200, {"gitVersion": "v1.36.2"})
    assert abs((reply.date - datetime.now(UTC)).total_seconds()) < 60
    (asked,) = api.asked
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["Audit-ID"] == "4711"


def test_a_review_is_posted_as_json(api: ApiDouble) -> None:
    review = access_review("impersonate", "userextras", group="authentication.k8s.io", subresource="x")
    reply = asking(api).post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert allowed(reply)
    assert api.asked[0].body == review
    assert api.asked[0].headers["Content-Type"] == "application/json"
    assert review["kind"] == "SelfSubjectAccessReview"
    assert access_review("list", "pods", user="ada")["kind"] == "SubjectAccessReview"
    assert access_review("list", "pods", user="ada")["spec"]["user"] == "ada"


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (201, {"status": {"allowed": False}}),
        (403, {"status": {"allowed": True}}),
        (201, {"status": 1}),
        (201, {}),
    ],
)
def test_a_review_that_is_not_answered_with_yes_is_a_no(code: int, answer: dict[str, object]) -> None:
    assert not allowed(Reply(code, answer, None))


def test_a_client_certificate_is_presented(api: ApiDouble, tmp_path: Path) -> None:
    credential = ClientCertificate(api.client.certificate, api.client.key, "test")
    assert asking(api, credential=credential).get("/version").code == 200
    assert "Authorization" not in api.asked[0].headers


def test_a_credential_that_went_bad_is_told(api: ApiDouble, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("good")
    credential = TokenFile(tmp_path / "token")
    (tmp_path / "token").write_text("")
    with pytest.raises(CredentialError, match="the token is empty"):
        asking(api, credential=credential)


def test_a_certificate_of_another_authority_is_refused(api: ApiDouble) -> None:
    other = certificates.authority("other", datetime.now(UTC)).certificate
    with pytest.raises(Failed, match="shows a certificate that its authority did not sign for this name"):
        asking(api, authority=trusted(other)).get("/version")
    assert api.asked == []


def test_a_certificate_for_another_name_is_refused(api: ApiDouble) -> None:
    with pytest.raises(Failed, match="did not sign for this name"):
        asking(api, server=Server("localhost", api.port)).get("/version")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_no_proxy_of_the_environment_is_asked(
    api: ApiDouble, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert asking(api).get("/version").code == 200


def test_a_redirect_is_not_followed(api: ApiDouble) -> None:
    api.answers["GET", "/version"] = (307, {})
    assert asking(api).get("/version").code == 307
    assert len(api.asked) == 1


def test_what_does_not_answer_in_time_is_told(api: ApiDouble) -> None:
    api.delay = 0.5
    with pytest.raises(Failed, match=r"did not answer within 0\.1 s"):
        asking(api, seconds=0.1).get("/version")


def test_an_answer_has_a_size(api: ApiDouble) -> None:
    api.answers["GET", "/version"] = (200, b"x" * ((1 << 20) + 1))
    with pytest.raises(Failed, match="answered more than 1 MiB"):
        asking(api).get("/version")


def test_nobody_listening_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        authority = trusted(certificates.authority("any", datetime.now(UTC)).certificate)
        with pytest.raises(Failed, match="refuses the connection"):
            ApiServer(Server("127.0.0.1", port), authority, StaticToken("t", "test")).get("/version")


def answered_once(speak: Callable[[socket.socket], None]) -> Server:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(4096)
            speak(connection)

    threading.Thread(target=serve, daemon=True).start()
    return Server("127.0.0.1", listening.getsockname()[1])


def test_a_port_that_speaks_no_tls_is_told(api: ApiDouble) -> None:
    server = answered_once(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(Failed, match=r"does not speak TLS as expected .*; check the port"):
        asking(api, server=server).get("/version")


def test_a_host_that_no_resolver_knows_is_told(api: ApiDouble) -> None:
    with pytest.raises(Failed, match=r"https://nowhere\.invalid cannot be reached: .*; check the address"):
        asking(api, server=Server("nowhere.invalid", 443)).get("/version")


def test_an_answer_that_breaks_off_is_told(api: ApiDouble, tmp_path: Path) -> None:
    serving = certificates.server_certificate(api.authority, ("127.0.0.1",), datetime.now(UTC))
    (tmp_path / "pem").write_bytes(serving.certificate + serving.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(Failed, match="cannot be reached: "):
        asking(api, server=Server("127.0.0.1", listening.getsockname()[1])).get("/version")
    thread.join()


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"[" * 100_000])
def test_what_is_no_json_object_is_an_empty_one(api: ApiDouble, body: bytes) -> None:
    api.answers["GET", "/version"] = (200, body)
    assert asking(api).get("/version").object == {}


@pytest.mark.parametrize(
    ("message", "shown"),
    [("two\nlines \x1b[31m", "two lines \\x1b[31m"), ("x" * 300, "x" * 200), (5, ""), (None, "")],
)
def test_a_message_is_one_short_line_that_a_terminal_can_be_shown(message: object, shown: str) -> None:
    assert Reply(403, {"message": message}, None).message == shown


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 23 Nov 2026 06:42:25 -0000"])
def test_a_date_that_cannot_be_told_is_none(api: ApiDouble, date: str) -> None:
    from interlock.cli.api_server import _date

    assert _date(date) is None
    assert _date(None) is None


def test_the_token_is_in_no_error_and_no_repr(api: ApiDouble) -> None:
    client = asking(api, server=Server("127.0.0.1", 1))
    with pytest.raises(Failed) as caught:
        client.get("/version")
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(client)


def test_a_server_is_read_as_the_configuration_reads_it() -> None:
    assert parse_server("https://API.example") == Server("api.example", 443)
    for url, said in (
        ("http://a", "must be https"),
        (None, "an https URL"),
        ("https://a/path", "without user, path"),
    ):
        with pytest.raises(ValueError, match=said):
            parse_server(url)
