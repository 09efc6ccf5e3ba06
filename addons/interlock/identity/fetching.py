"""The one place of this room that opens a socket: GET of what an identity provider publishes.

In: an https URL (http on loopback) and the CA certificates to trust. Out: at most `MAX_BYTES` of body, or
`ProviderAway`.

The rules: certificates are verified; redirects are not followed; no proxy, password or CA is taken from the
environment, since the environment's proxy may be this gateway; size and time have bounds.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from typing import Final

import httpx

from interlock.identity.sessions import ProviderAway

MAX_BYTES: Final = 512 * 1024
SECONDS: Final = 5.0


async def fetch(url: str, certificate_authority: bytes | None) -> bytes:
    """The body of a 200 answer. certificate_authority: PEM, trusted alone; None: the public CAs.

    Raises `ProviderAway` for everything else, in one line that names the URL.
    """
    try:
        trust = await asyncio.to_thread(_trust, certificate_authority)
    except (ssl.SSLError, ValueError):
        raise ProviderAway(f"{url}: certificateAuthority is not a PEM certificate") from None
    try:
        async with (
            asyncio.timeout(SECONDS),
            httpx.AsyncClient(
                verify=trust, trust_env=False, follow_redirects=False, timeout=SECONDS
            ) as client,
            client.stream(
                "GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}
            ) as answer,
        ):
            if answer.status_code != 200:
                raise ProviderAway(f"{url} answered {answer.status_code}, expected 200")
            body = b""
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MAX_BYTES:
                    raise ProviderAway(f"{url} answered more than {MAX_BYTES} bytes")
            return body
    except TimeoutError:
        raise ProviderAway(f"{url} did not answer within {SECONDS:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise ProviderAway(f"{url} cannot be reached: {str(error) or type(error).__name__}") from None


@functools.lru_cache(maxsize=32)  # reading all public CAs takes some 50 ms
def _trust(certificate_authority: bytes | None) -> ssl.SSLContext:
    if certificate_authority is not None:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.load_verify_locations(cadata=certificate_authority.decode("ascii"))
        return trust
    trust = httpx.create_ssl_context(trust_env=False)  # the public CAs as certifi has them
    trust.load_default_certs()  # and as this machine has them, which may have one of its own
    return trust
