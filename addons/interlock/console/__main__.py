"""python -m interlock.console --config F: the console's process, started by the gateway.

It ends on SIGTERM, and when its standard input does: then the gateway that started it is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from interlock import config, front_door
from interlock.console.app import Console, PublicCluster, create_app
from interlock.console.server import CannotListen, listen, run
from interlock.documents import DocumentError
from interlock.evidence.journal import Journal
from interlock.identity.sessions import StateAway
from interlock.state import State


def main() -> int:
    parser = argparse.ArgumentParser(prog="interlock-console")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--listeners", default="{}", help="JSON: the gateway's proxy and reverse URLs")
    parser.add_argument("--authority", type=Path, required=True, help="the gateway's CA certificate")
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        gateway = config.load(arguments.config)
        listening = listen(gateway.listen.console.host, gateway.listen.console.port, tls=False)
        state = State(gateway.state)
        journal = Journal(gateway.evidence.directory, "console")
    except (DocumentError, CannotListen, StateAway, OSError) as error:
        print(f"interlock: {error}", file=sys.stderr)
        return 1
    listeners = json.loads(arguments.listeners)
    pem = arguments.authority.read_text()
    threads = ThreadPoolExecutor(4, thread_name_prefix="interlock-console")
    service = front_door.token_service(gateway, state, journal, threads)
    console = Console(
        service=service,
        bearers=front_door.bearers(gateway, state, service),
        state=state,
        clusters=[
            PublicCluster(
                name=cluster.name,
                server=str(cluster.server),
                proxy=listeners.get("proxy"),
                reverse=listeners.get("reverse", {}).get(cluster.name),
                certificate_authority=pem,
            )
            for cluster in gateway.clusters
        ],
        monotonic=time.monotonic,
        threads=threads,
    )
    threading.Thread(target=_end_with_gateway, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        run(create_app(console), listening, ready_fd=arguments.ready_fd)
    journal.close()
    state.close()
    return 0


def _end_with_gateway() -> None:
    """The gateway holds the other end of standard input; its end is ours, however it came."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
