"""The upstream of the benchmark: a TLS responder that does next to nothing for a request.

    python tests/bench/upstream.py --directory D --list-mb 100        # prints its port, serves until it is ended

In: HTTP/1.1 GET requests, one after the other on kept connections. Out, by path alone: one pod (the small
request), a list of many pods with a Content-Length (`/api/v1/pods`), or a watch that stays idle. It parses no
header, keeps no state and shares no code with what is measured. D gets ca.pem.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path

from interlock.demo import certificates

SMALL = "/api/v1/namespaces/bench/pods/small"
LIST = "/api/v1/pods"
WATCH = "/api/v1/namespaces/bench/pods?watch=true"


def pod(name: str, padding: int = 0) -> bytes:
    """One pod as JSON: 300 bytes and the padding."""
    return json.dumps(
        {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "bench", "resourceVersion": "1", "annotations": {"pad": "p" * padding}},
            "spec": {"containers": [{"name": "app", "image": "example/app:1"}]},
            "status": {"phase": "Running", "podIP": "10.1.2.3", "hostIP": "10.0.0.1"},
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


def pod_list(megabytes: int) -> bytes:
    """A PodList of about so many megabytes, of pods of 3 KB."""
    count = megabytes * 1_000_000 // 3_000
    items = b",".join(pod(f"pod-{number:06}", 2_740) for number in range(count))
    return (
        b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[' + items + b"]}\n"
    )


def answer(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


IDLE_WATCH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Responder(asyncio.Protocol):
    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            path = self._held[: self._held.find(b"\r\n")].split(b" ")[1]
            self._held = self._held[end + 4 :]
            self._transport.write(self._answers[path])


async def serve(directory: Path, megabytes: int) -> None:
    now = datetime.now(UTC)
    authority = certificates.authority("bench", now)
    pair = certificates.server_certificate(authority, ("127.0.0.1",), now)
    (directory / "ca.pem").write_bytes(authority.certificate)
    (directory / "server.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "server.pem")
    answers = {
        SMALL.encode(): answer(pod("small")),
        LIST.encode(): answer(pod_list(megabytes)),
        WATCH.encode(): IDLE_WATCH,
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Responder(answers), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--list-mb", type=int, default=100)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.directory, options.list_mb))


if __name__ == "__main__":
    main()
