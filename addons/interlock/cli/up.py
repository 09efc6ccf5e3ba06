"""`interlock up`: the gateway as a process of its own, with its recorder and console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CONFIG = typer.Option(
    "--config", "-c", envvar="INTERLOCK_CONFIG", help="The gateway's configuration (kind: Gateway)."
)


def up(
    config: Annotated[Path, CONFIG] = Path("rules/gateway.yaml"),
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Written as JSON once all serve: proxy, console, reverse, ca, evidence."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Gateway processes that share the ports.")] = 1,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then close what is open and end every process within 10 seconds."""
    import asyncio
    import logging

    from interlock import master
    from interlock.lifecycle import Lifecycle

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("interlock").setLevel(logging.INFO)

    async def serve() -> None:
        await master.serve(Lifecycle(config, ready_file=ready_file))

    asyncio.run(serve())
