"""The console's HTTP API over real sockets' semantics (ASGI): what it answers, and what it never tells."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.provider import AUDIENCE, Provider
from interlock.console import app as app_module
from interlock.console.app import (
    ACCESS_TOKEN,
    ID_TOKEN,
    JWT,
    MAX_BODY,
    OPENAPI,
    ROUTES,
    SAML2,
    TOKEN_EXCHANGE,
    Console,
    PublicCluster,
    create_app,
)
from interlock.identity.bearer import Bearers
from interlock.identity.fetching import fetch
from interlock.identity.oidc import Issuer, Verifier
from interlock.identity.sessions import Limits, SessionEvent, SessionState, is_token, token_hash
from interlock.identity.token_service import TokenService
from interlock.state import State

FORM = "application/x-www-form-urlencoded"
PEM = "-----BEGIN CERTIFICATE-----\n"
WITHHELD = "the token was not accepted; `interlock doctor --id ID` tells the operator why"


class House:
    def __init__(self, folder: Path) -> None:
        self.provider = Provider(algorithm="ES256")
        self.file = folder / "state.db"
        self.state = State(f"sqlite:///{self.file}")
        self.threads = ThreadPoolExecutor(4)
        self.events: list[Mapping[str, Any]] = []
        self.broken: Exception | None = None
        self.now = time.time()
        issuer = Issuer(self.provider.issuer, AUDIENCE, username_claim="email")
        service = TokenService(
            verifier=Verifier([issuer], fetch=fetch, clock=time.time, monotonic=time.monotonic),
            state=self.state,
            record=self.record,
            clusters=["dev", "prod"],
            limits=Limits(),
            clock=lambda: self.now,
            random=os.urandom,
            threads=self.threads,
        )
        self.console = Console(
            service=service,
            bearers=Bearers(self.state, clock=lambda: self.now, monotonic=lambda: self.now),
            state=self.state,
            clusters=[
                PublicCluster(
                    "dev", "https://api.dev:6443", "http://127.0.0.1:8080", "https://127.0.0.1:8443", PEM
                ),
                PublicCluster("prod", "https://api.prod:6443", "http://127.0.0.1:8080", None, PEM),
            ],
            monotonic=lambda: self.now,
            threads=self.threads,
        )
        self.app = create_app(self.console)
        self.client = self.from_address("10.0.0.1")

    def from_address(self, address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True, client=(address, 1234))
        return httpx.AsyncClient(transport=transport, base_url="http://console")

    async def record(self, event: Mapping[str, Any]) -> None:
        if self.broken:
            raise self.broken
        self.events.append(event)

    async def exchange(self, token: str | None = None, **form: str | None) -> httpx.Response:
        good: dict[str, str | None] = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": self.provider.token() if token is None else token,
            "subject_token_type": ID_TOKEN,
            "audience": "dev",
        }
        given = {name: value for name, value in {**good, **form}.items() if value is not None}
        return await self.client.post("/oauth2/token", data=given)

    async def token(self, audience: str = "console", user: str = "ada") -> str:
        answer = await self.exchange(self.provider.token(user), audience=audience)
        return str(answer.json()["access_token"])

    async def sessions(self, token: str, query: str = "") -> httpx.Response:
        return await self.client.get(f"/api/v1/sessions{query}", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.client.aclose()
    await house.console.bearers.close()
    house.console.bearers._threads.shutdown()
    house.threads.shutdown()
    house.state.close()
    house.provider.stop()


# --------------------------------------------------------------------------------------- token exchange


@pytest.mark.parametrize("kind", [ID_TOKEN, JWT])
@pytest.mark.parametrize("audience", ["dev", "prod", "console"])
async def test_an_identity_token_is_exchanged_for_a_session_token(
    house: House, kind: str, audience: str
) -> None:
    answer = await house.exchange(
        subject_token_type=kind, audience=audience, requested_token_type=ACCESS_TOKEN
    )
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert is_token(body["access_token"])
    assert body == {
        "access_token": body["access_token"],
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": 900,
        "session_id": body["session_id"],
    }
    held = house.state.session_by_token_hash(token_hash(body["access_token"]))
    assert held is not None
    assert (held.session.id, held.session.cluster, held.session.opened_from) == (
        body["session_id"],
        audience,
        "10.0.0.1",
    )


async def test_a_session_token_is_renewed(house: House) -> None:
    first = (await house.exchange()).json()
    for audience in ("dev", None):
        second = await house.exchange(
            first["access_token"], subject_token_type=ACCESS_TOKEN, audience=audience
        )
        assert second.status_code == 200
        assert second.json()["session_id"] == first["session_id"]
        assert second.json()["access_token"] != first["access_token"]


async def test_unknown_parameters_and_empty_ones_are_ignored(house: House) -> None:
    assert (
        await house.exchange(scope="openid", client_id="x", resource="", actor_token="")
    ).status_code == 200


BAD: dict[str, tuple[dict[str, str | None], str, str]] = {
    "no grant type": ({"grant_type": None}, "unsupported_grant_type", "token-exchange"),
    "another grant type": ({"grant_type": "client_credentials"}, "unsupported_grant_type", "token-exchange"),
    "no token": ({"subject_token": None}, "invalid_request", "subject_token is missing"),
    "empty token": ({"subject_token": ""}, "invalid_request", "subject_token is missing"),
    "no token type": ({"subject_token_type": None}, "invalid_request", "subject_token_type is missing"),
    "odd token type": ({"subject_token_type": "jwt"}, "invalid_request", "subject_token_type must be"),
    "SAML": ({"subject_token_type": SAML2}, "invalid_request", "SAML assertions are not supported"),
    "a refresh token is wanted": (
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        "invalid_request",
        "requested_token_type can only be",
    ),
    "an actor": ({"actor_token": "x"}, "invalid_request", "actor_token is not supported"),
    "an actor's type": ({"actor_token_type": "x"}, "invalid_request", "actor_token_type is not supported"),
    "a resource": ({"resource": "https://api.dev"}, "invalid_target", "audience"),
    "no audience": ({"audience": None}, "invalid_target", "audience is missing"),
    "unknown audience": ({"audience": "stage"}, "invalid_target", "audience must be"),
    "audience in another case": ({"audience": "Dev"}, "invalid_target", "audience must be"),
    "an identity token as session token": (
        {"subject_token_type": ACCESS_TOKEN},
        "invalid_request",
        "is for renewing a session token",
    ),
}


@pytest.mark.parametrize(("form", "error", "why"), BAD.values(), ids=BAD)
async def test_a_bad_request_says_what_was_expected(
    house: House, form: dict[str, str | None], error: str, why: str
) -> None:
    token = house.provider.token()
    answer = await house.exchange(token, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert why in answer.json()["error_description"]
    assert answer.headers["cache-control"] == "no-store"
    assert token not in answer.text
    assert house.events == []
    assert house.state.sessions() == []


async def test_unknown_and_wrong_tokens_hear_the_same_words(house: House) -> None:
    heard = []
    forged = house.provider.token().rpartition(".")[0] + ".AAAA"
    other = (await house.exchange()).json()["access_token"]
    for token, kind in (
        ("x", ID_TOKEN),
        (forged, JWT),
        (house.provider.token(iss="https://evil.example"), ID_TOKEN),
        (other, ID_TOKEN),
    ):
        answer = await house.exchange(token, subject_token_type=kind)
        body = answer.json()
        heard.append(
            (answer.status_code, body["error"], body["error_description"].replace(body["error_id"], "ID"))
        )
        assert token not in answer.text
    assert set(heard) == {(400, "invalid_grant", WITHHELD)}
    refused = [event for event in house.events if event["type"] == "session_refused"]
    assert len({event["reason"] for event in refused}) == 3


async def test_a_session_token_that_was_never_given_out_hears_them_too(house: House) -> None:
    from interlock.identity.sessions import new_token

    answer = (await house.exchange(new_token(os.urandom), subject_token_type=ACCESS_TOKEN)).json()
    assert answer["error"] == "invalid_grant"
    assert answer["error_description"] == WITHHELD.replace("ID", answer["error_id"])


async def test_the_holder_of_a_real_token_hears_the_check_that_failed(house: House) -> None:
    answer = await house.exchange(house.provider.token(aud="other"))
    assert answer.json()["error"] == "invalid_grant"
    assert "has audience 'other', expected 'interlock'" in answer.json()["error_description"]
    assert house.events[-1]["id"] == answer.json()["error_id"]


BODIES: dict[str, tuple[dict[str, str], bytes, int, str]] = {
    "JSON": ({"content-type": "application/json"}, b"{}", 400, "Content-Type must be"),
    "multipart": ({"content-type": "multipart/form-data; boundary=x"}, b"--x--", 400, "Content-Type must be"),
    "no type": ({}, b"grant_type=x", 400, "Content-Type must be"),
    "a parameter twice": ({"content-type": FORM}, b"audience=dev&audience=prod", 400, "given twice"),
    "no parameters": ({"content-type": FORM}, b"", 400, "grant_type must be"),
    "no pairs": ({"content-type": FORM}, b"grant_type", 400, "not a form"),
    "not UTF-8": ({"content-type": FORM}, b"a=%ff", 400, "not a form"),
    "not ASCII": ({"content-type": FORM}, b"a=\xff", 400, "not a form"),
    "too many": ({"content-type": FORM}, b"&".join(b"a%d=b" % n for n in range(50)), 400, "not a form"),
    "too large": ({"content-type": FORM}, b"a=" + b"x" * MAX_BODY, 413, "larger than"),
}


@pytest.mark.parametrize(("headers", "body", "code", "why"), BODIES.values(), ids=BODIES)
async def test_a_body_that_is_no_form_is_refused(
    house: House, headers: dict[str, str], body: bytes, code: int, why: str
) -> None:
    answer = await house.client.post("/oauth2/token", content=body, headers=headers)
    assert answer.status_code == code
    assert why in answer.json()["error_description"]


async def test_a_form_may_name_its_encoding(house: House) -> None:
    answer = await house.client.post(
        "/oauth2/token",
        content=b"a=b",
        headers={"content-type": "Application/X-WWW-Form-Urlencoded; charset=utf-8"},
    )
    assert answer.json()["error"] == "unsupported_grant_type"


async def test_a_body_that_never_ends_has_a_deadline(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_SECONDS", 0.1)

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if sent:
            await asyncio.sleep(20)
        sent.append(1)
        return {"type": "http.request", "body": b"a=", "more_body": True}

    answers: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answers.append(message)

    await house.app(scope("POST", "/oauth2/token", {"content-type": FORM}), receive, send)
    assert answers[0]["status"] == 408


async def test_a_caller_that_leaves_is_no_fault(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    answers: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answers.append(message)

    await house.app(scope("POST", "/oauth2/token", {"content-type": FORM}), receive, send)
    assert answers[0]["status"] == 400
    assert caplog.records == []


def scope(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.1", 1),
        "server": ("console", 80),
        "scheme": "http",
    }


async def test_a_caller_without_an_address_is_served_as_one(house: House) -> None:
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"a=b", "more_body": False}

    async def send(message: Any) -> None:
        answers.append(message)

    await house.app({**scope("POST", "/oauth2/token", {"content-type": FORM}), "client": None}, receive, send)
    assert answers[0]["status"] == 400


# ------------------------------------------------------------------------------------------ rate limits


async def test_exchanges_of_an_address_have_a_limit(house: House) -> None:
    house.console.exchanges = app_module.Rate(3)
    codes = [(await house.exchange()).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    late = await house.exchange()
    assert late.headers["retry-after"] == "20"
    assert late.json()["error"] == "too_many_requests"
    house.client = house.from_address("10.0.0.2")
    assert (await house.exchange()).status_code == 200


async def test_failed_exchanges_have_a_lower_one_and_cost_the_right_token_too(house: House) -> None:
    house.console.failures = app_module.Rate(2)
    assert [(await house.exchange("x")).status_code for _ in range(3)] == [400, 400, 429]
    assert (await house.exchange()).status_code == 429
    house.now += 30
    assert (await house.exchange()).status_code == 200
    house.console.failures = app_module.Rate(2)
    assert [(await house.exchange(audience="none")).status_code for _ in range(3)] == [400, 400, 429]


async def test_what_is_away_costs_no_failure(house: House) -> None:
    house.console.failures = app_module.Rate(1)
    house.broken = OSError("full")
    assert [(await house.exchange()).status_code for _ in range(3)] == [503] * 3
    house.broken = None
    assert (await house.exchange()).status_code == 200


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (app_module.EXCHANGES_A_MINUTE, app_module.FAILURES_A_MINUTE) == (600, 60)


async def test_a_forwarded_address_is_not_believed(house: House) -> None:
    house.console.exchanges = app_module.Rate(1)
    house.client.headers = {"x-forwarded-for": "1.1.1.1", "forwarded": "for=1.1.1.1", "x-real-ip": "1.1.1.1"}
    assert [(await house.exchange()).status_code for _ in range(2)] == [200, 429]
    assert house.state.sessions()[0].opened_from == "10.0.0.1"


# ------------------------------------------------------------------------------------------------ away


async def test_what_cannot_be_recorded_is_503_and_no_session(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.broken = OSError(28, "No space left on device")
    token = house.provider.token()
    for answer in (await house.exchange(token), await house.exchange("x")):
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
        assert "retry-after" not in answer.headers
        assert "evidence cannot be written" in answer.json()["error_description"]
    assert house.state.sessions() == []
    assert token not in caplog.text


async def test_a_provider_or_a_database_that_is_away_is_503(house: House) -> None:
    token, console = house.provider.token(), await house.token()
    house.now += 1
    aside = house.file.rename(house.file.with_name("aside"))
    for answer in (
        await house.exchange(token),
        await house.sessions(console),
        await house.client.get("/readyz"),
    ):
        assert answer.status_code == 503
        assert "state database" in answer.json()["error_description"]
    assert (await house.client.get("/healthz")).status_code == 200
    aside.rename(house.file)
    assert (await house.client.get("/readyz")).status_code == 200
    assert (await house.exchange(token)).status_code == 200


async def test_a_fault_is_503_and_shows_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = house.provider.token()

    async def fault(*_: object) -> None:
        raise KeyError(token)

    monkeypatch.setattr(house.console.service, "open", fault)
    answer = await house.exchange(token)
    assert answer.status_code == 503
    assert answer.json()["error_description"] == "the console could not do its work; see its log"
    assert "KeyError" in caplog.text
    assert token not in caplog.text


async def test_nothing_that_was_sent_is_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = await house.token()
    sent = [house.provider.token(aud="x"), "x.y.z-secret", issued]
    for token in sent:
        await house.exchange(token)
        await house.sessions(token)
    own = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    assert not [token for token in sent if token in own]


# ------------------------------------------------------------------------------------------- /api/v1


async def test_people_see_their_own_sessions(house: House) -> None:
    console, eve = await house.token(), await house.token(user="eve")
    dev = await house.token("dev")
    answer = await house.sessions(console)
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert {item["user"] for item in items} == {"ada"}
    assert sorted(item["cluster"] for item in items) == ["console", "dev"]
    assert len((await house.sessions(eve)).json()["items"]) == 1
    shown = next(item for item in items if item["cluster"] == "dev")
    held = house.state.session_by_token_hash(token_hash(dev))
    assert held is not None
    assert shown["id"] == held.session.id
    assert shown["state"] == "active"
    assert shown["openedAt"].endswith("Z")
    assert shown["endedAt"] is None
    assert set(shown) == {
        "id", "state", "cluster", "user", "groups", "issuer", "agent", "owner", "openedFrom", "openedAt",
        "lastUsedAt", "endsAt", "endedAt", "endReason",
    }  # fmt: skip
    for secret in (
        console,
        dev,
        held.session.mask_key.hex(),
        base64.b64encode(held.session.mask_key).decode(),
    ):
        assert secret not in answer.text


async def test_sessions_are_filtered(house: House) -> None:
    console = await house.token()
    dev = (await house.exchange()).json()["session_id"]
    house.state.end(dev, house.now, event=SessionEvent.REVOKE, reason="left")
    revoked = (await house.sessions(console, "?state=revoked")).json()["items"]
    assert [(item["id"], item["endReason"]) for item in revoked] == [(dev, "left")]
    assert revoked[0]["endedAt"].endswith("Z")
    assert (await house.sessions(console, "?state=revoked&cluster=prod")).json() == {"items": []}
    assert len((await house.sessions(console, "?cluster=dev")).json()["items"]) == 1


@pytest.mark.parametrize("query", ["?state=open", "?other=1", "?state=active&state=ended", "?cluster"])
async def test_an_odd_query_is_refused(house: House, query: str) -> None:
    answer = await house.sessions(await house.token(), query)
    if query == "?cluster":
        assert answer.json() == {"items": []}
    else:
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_without_a_console_token_there_is_nothing(house: House) -> None:
    console, dev = await house.token(), await house.token("dev")
    headers: list[list[tuple[str, str]]] = [
        [],
        [("Authorization", "")],
        [("Authorization", console)],
        [("Authorization", f"Basic {console}")],
        [("Authorization", f"Bearer  {console}")],
        [("Authorization", f"Bearer {console} x")],
        [("Authorization", f"Bearer {console}"), ("Authorization", f"Bearer {console}")],
        [("Authorization", f"Bearer {dev}")],
        [("Authorization", f"Bearer {house.provider.token()}")],
        [("Cookie", f"token={console}")],
    ]
    for sent in headers:
        answer = await house.client.get("/api/v1/sessions", headers=sent)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        assert answer.headers["www-authenticate"] == 'Bearer realm="interlock", error="invalid_token"'
        assert console not in answer.text
    assert (
        await house.client.get("/api/v1/sessions", headers={"Authorization": f"bearer {console}"})
    ).is_success


async def test_an_ended_console_session_sees_nothing(house: House) -> None:
    console = await house.token()
    (one,) = house.state.sessions()
    house.state.end(one.id, house.now)
    assert (await house.sessions(console)).status_code == 401


async def test_anybody_may_know_what_a_kubeconfig_needs(house: House) -> None:
    every = (await house.client.get("/api/v1/clusters")).json()["items"]
    assert every[0] == {
        "name": "dev",
        "server": "https://api.dev:6443",
        "proxy": "http://127.0.0.1:8080",
        "reverse": "https://127.0.0.1:8443",
        "certificateAuthority": PEM,
    }
    assert [one["name"] for one in every] == ["dev", "prod"]
    assert (await house.client.get("/api/v1/clusters?name=prod")).json()["items"] == [every[1]]
    assert (await house.client.get("/api/v1/clusters?name=x")).json()["items"] == []


# ----------------------------------------------------------------------------------- the whole surface


async def test_every_route_is_described_and_every_description_is_a_route(house: House) -> None:
    described = (await house.client.get("/openapi.json")).json()
    assert described == OPENAPI
    assert {(path, method.upper()) for path, its in described["paths"].items() for method in its} == {
        (api.path, api.method) for api in ROUTES
    }
    sessions = described["paths"]["/api/v1/sessions"]["get"]
    assert [parameter["name"] for parameter in sessions["parameters"]] == ["state", "cluster"]
    assert sessions["security"] == [{"session": []}]
    form = described["paths"]["/oauth2/token"]["post"]["requestBody"]["content"][FORM]["schema"]["properties"]
    assert set(form) == {"grant_type", "subject_token", "subject_token_type", "audience"}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/oauth2/token", 405),
        ("POST", "/api/v1/sessions", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/", 404),
        ("GET", "/oauth2/token/", 404),
        ("GET", "/api/v1/sessions/../clusters/x", 404),
        ("GET", "/docs", 404),
        ("GET", "/metrics", 404),
    ],
)
async def test_there_is_nothing_else(house: House, method: str, path: str, code: int) -> None:
    answer = await house.client.request(method, path)
    assert answer.status_code == code
    assert set(answer.json()) == {"error", "error_description"}


async def test_other_errors_of_the_framework_are_json_too() -> None:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    answer = await app_module._http_error(Request({"type": "http"}), HTTPException(400, "secret"))
    assert answer.status_code == 400
    assert b"secret" not in answer.body


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_no_form_breaks_the_endpoint(body: bytes) -> None:
    class Request:
        headers = {"content-type": FORM}

        async def stream(self) -> AsyncIterator[bytes]:
            yield body

    try:
        form = asyncio.run(app_module._form(Request()))  # type: ignore[arg-type]
    except app_module.Answer:
        return
    assert all(form.values())


# ----------------------------------------------------------------------------------------- the sweeping


async def test_what_has_timed_out_is_ended_and_recorded_while_the_console_runs(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app_module, "SWEEP_SECONDS", 0.01)
    await house.exchange()
    house.now += 1e6
    house.broken = OSError("full")
    async with house.app.router.lifespan_context(house.app):
        while "not recorded as ended yet" not in caplog.text:
            await asyncio.sleep(0.01)
        house.broken = None
        while not [event for event in house.events if event["type"] == "session_ended"]:
            await asyncio.sleep(0.01)
    assert house.state.sessions()[0].state is SessionState.EXPIRED
    assert [event["reason"] for event in house.events[1:]] == ["max"]
