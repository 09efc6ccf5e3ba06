"""The console's HTTP API: tokens, sessions, and what a client has to know before it has either.

In: HTTP requests. Out: JSON. `ROUTES` is the whole of it, and `/openapi.json` is made from it.

The rules: no answer, log line or error holds a token that somebody sent; a fault is 503, never a traceback;
whoever has no token hears the same whether what was asked for exists or not; what could not be recorded did
not happen (`identity/token_service.py`).

Sources: RFC 8693 (token exchange), RFC 6749 §3.2 and §5 (its parameters, answers, errors), RFC 6750 (bearers).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from interlock.console.limits import Rate
from interlock.identity.bearer import Bearers
from interlock.identity.sessions import CONSOLE, Away, NoSession, Session, SessionState, is_token
from interlock.identity.token_service import Refused, TokenService
from interlock.state import State

log = logging.getLogger("interlock.console")

MAX_BODY: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
SWEEP_SECONDS: Final = 5.0
EXCHANGES_A_MINUTE: Final = 600
FAILURES_A_MINUTE: Final = 60

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:"
ID_TOKEN, JWT, ACCESS_TOKEN, SAML2 = (
    TOKEN_TYPE + name for name in ("id_token", "jwt", "access_token", "saml2")
)


@dataclass(frozen=True, slots=True)
class PublicCluster:
    """What anybody may know of a cluster: enough for a kubeconfig, and nothing that opens anything.

    server: the API server's URL, which agents CONNECT to; proxy, reverse: the gateway's URLs, None where there
    is no such way in; certificate_authority: the gateway's CA certificate (PEM).
    """

    name: str
    server: str
    proxy: str | None
    reverse: str | None
    certificate_authority: str


class Answer(Exception):
    """An answer other than 200, from anywhere below an endpoint. `more` goes into its JSON body."""

    def __init__(self, code: int, error: str, description: str, *, wait: int = 0, **more: str) -> None:
        super().__init__(description)
        self.code = code
        self.body = {"error": error, "error_description": description, **more}
        self.headers = {"Cache-Control": "no-store"}
        if wait:
            self.headers["Retry-After"] = str(wait)
        if code == 401:
            self.headers["WWW-Authenticate"] = f'Bearer realm="interlock", error="{error}"'


Endpoint = Callable[["Console", Request], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Api:
    """One line of `ROUTES`: path, method, endpoint, and what OpenAPI tells of it."""

    path: str
    method: str
    endpoint: Endpoint
    summary: str
    answer: str
    parameters: Mapping[str, str] | None = None
    form: Mapping[str, str] | None = None
    bearer: bool = False


class Console:
    """What the endpoints work with. monotonic: seconds."""

    def __init__(
        self,
        *,
        service: TokenService,
        bearers: Bearers,
        state: State,
        clusters: Sequence[PublicCluster],
        monotonic: Callable[[], float],
        threads: Executor,
        exchanges_a_minute: int = EXCHANGES_A_MINUTE,
        failures_a_minute: int = FAILURES_A_MINUTE,
    ) -> None:
        self.service = service
        self.bearers = bearers
        self.state = state
        self.clusters = clusters
        self.monotonic = monotonic
        self.threads = threads
        self.exchanges = Rate(exchanges_a_minute)
        self.failures = Rate(failures_a_minute)

    # ------------------------------------------------------------------------------------- tokens

    async def token(self, request: Request) -> object:
        address, now = _address(request), self.monotonic()
        if wait := max(self.exchanges.wait(address, now), self.failures.wait(address, now)):
            raise Answer(
                429, "too_many_requests", f"too many exchanges from this address; wait {wait} s", wait=wait
            )
        self.exchanges.count(address, now)
        try:
            return await self._exchange(await _form(request), address)
        except (Answer, Refused) as failed:
            if isinstance(failed, Refused):
                failed = Answer(400, "invalid_grant", failed.reason, error_id=failed.id)
            if failed.code == 400:
                self.failures.count(address, now)
            raise failed from None

    async def _exchange(self, form: Mapping[str, str], address: str) -> object:
        if form.get("grant_type") != TOKEN_EXCHANGE:
            raise Answer(400, "unsupported_grant_type", f"grant_type must be {TOKEN_EXCHANGE}")
        for name in ("subject_token", "subject_token_type"):
            if name not in form:
                raise Answer(400, "invalid_request", f"{name} is missing")
        for name in ("actor_token", "actor_token_type"):
            if name in form:
                raise Answer(400, "invalid_request", f"{name} is not supported")
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            raise Answer(400, "invalid_request", f"requested_token_type can only be {ACCESS_TOKEN}")
        if "resource" in form:
            raise Answer(400, "invalid_target", "name the cluster in `audience`, not a URL in `resource`")
        audience, kind, token = form.get("audience"), form["subject_token_type"], form["subject_token"]
        if audience is not None and audience not in self.service.audiences:
            raise Answer(400, "invalid_target", f"audience must be {CONSOLE} or the name of a cluster")
        if kind in (ID_TOKEN, JWT):
            if audience is None:
                raise Answer(
                    400, "invalid_target", f"audience is missing: {CONSOLE} or the name of a cluster"
                )
            issued = await self.service.open(token, audience, address)
        elif kind == ACCESS_TOKEN:
            if not is_token(token):
                raise Answer(
                    400,
                    "invalid_request",
                    f"{ACCESS_TOKEN} is for renewing a session token; for an identity token use {JWT}",
                )
            issued = await self.service.renew(token, audience, address)
        elif kind == SAML2:
            raise Answer(400, "invalid_request", f"SAML assertions are not supported; use {ID_TOKEN}")
        else:
            raise Answer(
                400, "invalid_request", f"subject_token_type must be {ID_TOKEN}, {JWT} or {ACCESS_TOKEN}"
            )
        return {
            "access_token": issued.token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": issued.expires_in,
            "session_id": issued.session.id,
        }

    # ----------------------------------------------------------------------------------- /api/v1

    async def sessions(self, request: Request) -> object:
        caller = await self._bearer(request)
        asked = _query(request, "state", "cluster")
        if "state" in asked and asked["state"] not in SessionState:
            raise Answer(400, "invalid_request", f"state must be one of {', '.join(SessionState)}")
        found = await asyncio.get_running_loop().run_in_executor(
            self.threads,
            lambda: self.state.sessions(
                user=caller.principal.user,
                issuer=caller.principal.issuer,
                state=SessionState(asked["state"]) if "state" in asked else None,
            ),
        )
        return {"items": [_show(one) for one in found if asked.get("cluster", one.cluster) == one.cluster]}

    async def public_clusters(self, request: Request) -> object:
        asked = _query(request, "name")
        return {
            "items": [
                {
                    "name": one.name,
                    "server": one.server,
                    "proxy": one.proxy,
                    "reverse": one.reverse,
                    "certificateAuthority": one.certificate_authority,
                }
                for one in self.clusters
                if asked.get("name", one.name) == one.name
            ]
        }

    async def _bearer(self, request: Request) -> Session:
        values = request.headers.getlist("authorization")
        scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        try:
            return await self.bearers.check(
                token if scheme.lower() == "bearer" else "", CONSOLE, _address(request)
            )
        except NoSession as none:
            raise Answer(401, "invalid_token", none.reason) from None

    # ------------------------------------------------------------------------------------- health

    async def alive(self, _: Request) -> object:
        return {"status": "ok"}

    async def ready(self, _: Request) -> object:
        await asyncio.get_running_loop().run_in_executor(self.threads, self.state.ping)
        return {"status": "ok"}

    async def openapi(self, _: Request) -> object:
        return OPENAPI


ROUTES: Final = (
    Api(
        "/oauth2/token",
        "POST",
        Console.token,
        "Exchange an identity token for a session token, or renew one (RFC 8693)",
        "the session token",
        form={
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": "the identity token, or the session token to renew",
            "subject_token_type": f"{ID_TOKEN}, {JWT}, or {ACCESS_TOKEN} to renew",
            "audience": f"the cluster's name, or `{CONSOLE}` for this API",
        },
    ),
    Api(
        "/api/v1/sessions",
        "GET",
        Console.sessions,
        "The caller's own sessions, the newest first",
        "the sessions",
        parameters={"state": "only those in this state", "cluster": "only those for this cluster"},
        bearer=True,
    ),
    Api(
        "/api/v1/clusters",
        "GET",
        Console.public_clusters,
        "What a kubeconfig needs: the clusters, the ways to the gateway, and its CA certificate",
        "the clusters",
        parameters={"name": "only this cluster"},
    ),
    Api("/healthz", "GET", Console.alive, "Whether the process answers", "it does"),
    Api("/readyz", "GET", Console.ready, "Whether sessions can be opened: 503 if not", "they can"),
    Api("/openapi.json", "GET", Console.openapi, "This description", "an OpenAPI 3.1 document"),
)


def _openapi() -> dict[str, object]:
    def operation(api: Api) -> dict[str, object]:
        described: dict[str, object] = {
            "summary": api.summary,
            "responses": {
                "200": {"description": api.answer, "content": {"application/json": {}}},
                "default": {"description": "`error` and `error_description`, with what to do next"},
            },
        }
        if api.parameters:
            described["parameters"] = [
                {"name": name, "in": "query", "description": what, "schema": {"type": "string"}}
                for name, what in api.parameters.items()
            ]
        if api.form:
            fields = {name: {"type": "string", "description": what} for name, what in api.form.items()}
            content = {
                "application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": fields}}
            }
            described["requestBody"] = {"required": True, "content": content}
        if api.bearer:
            described["security"] = [{"session": []}]
        return described

    return {
        "openapi": "3.1.0",
        "info": {"title": "Interlock", "version": "v1"},
        "paths": {api.path: {api.method.lower(): operation(api)} for api in ROUTES},
        "components": {"securitySchemes": {"session": {"type": "http", "scheme": "bearer"}}},
    }


OPENAPI: Final = _openapi()


def create_app(console: Console) -> Starlette:
    """The ASGI application. While it runs it also ends, every few seconds, the sessions that have timed out."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(console.service))
        try:
            yield
        finally:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping
            await console.bearers.close()

    app = Starlette(
        routes=[Route(api.path, _answering(console, api.endpoint), methods=[api.method]) for api in ROUTES],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host the caller names
    return app


async def _sweep(service: TokenService) -> None:
    while True:
        try:
            await service.expire()
        except Away as away:
            log.warning("sessions that have timed out are not recorded as ended yet: %s", away.reason)
        await asyncio.sleep(SWEEP_SECONDS)


def _answering(console: Console, endpoint: Endpoint) -> Callable[[Request], Awaitable[JSONResponse]]:
    """The one place where a fault becomes an answer."""

    async def answer(request: Request) -> JSONResponse:
        try:
            found = await endpoint(console, request)
        except Answer as other:
            return JSONResponse(other.body, other.code, other.headers)
        except Away as away:
            log.warning("%s %s: 503: %s", request.method, request.url.path, away.reason)
            failed = Answer(503, "temporarily_unavailable", away.reason)
            return JSONResponse(failed.body, failed.code, failed.headers)
        except ClientDisconnect:
            return JSONResponse(None, 400)
        except Exception as fault:  # noqa: BLE001  # fails closed, and shows nothing of what was sent
            log.error("%s %s: 503: %s", request.method, request.url.path, type(fault).__name__)
            failed = Answer(503, "temporarily_unavailable", "the console could not do its work; see its log")
            return JSONResponse(failed.body, failed.code, failed.headers)
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    return answer


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = error.status_code
    words = {
        404: ("not_found", "no such path; see /openapi.json"),
        405: ("invalid_request", "no such method here"),
    }
    name, description = words.get(code, ("invalid_request", "the request could not be read"))
    failed = Answer(code, name, description)
    return JSONResponse(failed.body, code, {**(error.headers or {}), **failed.headers})


def _address(request: Request) -> str:
    # The peer of the connection; X-Forwarded-For and the like are what anybody may write.
    return request.client.host if request.client else ""


async def _form(request: Request) -> dict[str, str]:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise Answer(400, "invalid_request", "Content-Type must be application/x-www-form-urlencoded")
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    raise Answer(413, "invalid_request", f"the body is larger than {MAX_BODY} bytes")
    except TimeoutError:
        raise Answer(408, "invalid_request", f"the body did not arrive within {BODY_SECONDS:g} s") from None
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=32,
        )
    except ValueError:
        raise Answer(400, "invalid_request", "the body is not a form of parameters") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        # RFC 8693 lets `audience` repeat; one session is for one cluster.
        raise Answer(400, "invalid_request", "a parameter is given twice")
    return {name: value for name, value in form.items() if value}


def _query(request: Request, *known: str) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    asked = dict(pairs)
    if len(asked) != len(pairs) or not asked.keys() <= set(known):
        raise Answer(400, "invalid_request", f"parameters here are {', '.join(known)}, each at most once")
    return asked


def _show(session: Session) -> dict[str, Any]:
    principal = session.principal
    return {
        "id": session.id,
        "state": session.state.value,
        "cluster": session.cluster,
        "user": principal.user,
        "groups": list(principal.groups),
        "issuer": principal.issuer,
        "agent": principal.agent,
        "owner": principal.owner,
        "openedFrom": session.opened_from,
        "openedAt": _utc(session.opened_at),
        "lastUsedAt": _utc(session.last_used_at),
        "endsAt": _utc(session.ends_at),
        "endedAt": None if session.ended_at is None else _utc(session.ended_at),
        "endReason": session.end_reason,
    }


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
