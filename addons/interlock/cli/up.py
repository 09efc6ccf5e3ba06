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
    one_of_several: Annotated[bool, typer.Option("--one-of-several", hidden=True)] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then close what is open and end every process within 10 seconds."""
    import asyncio
    import logging
    import threading

    from interlock import master
    from interlock.lifecycle import Lifecycle

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("interlock").setLevel(logging.INFO)

    if not one_of_several:
        _look(config, ready_file)
    else:
        threading.Thread(target=_end_with_first, daemon=True).start()

    async def serve() -> None:
        life = Lifecycle(config, ready_file=ready_file, workers=workers, one_of_several=one_of_several)
        await master.serve(life)

    asyncio.run(serve())


def _look(config: Path, ready_file: Path | None) -> None:
    """Raise Failed for what would fail only later, in words that are not for persons."""
    from interlock.cli.errors import Failed
    from interlock.cli.listeners import taken
    from interlock.config import load

    if ready_file is not None and not ready_file.absolute().parent.is_dir():
        raise Failed(f"--ready-file: {ready_file.absolute().parent} is not a directory; create it first")
    if in_the_way := taken(load(config)):
        raise Failed("\n".join(in_the_way))


def _end_with_first() -> None:
    """The first worker holds the other end of standard input; its end is ours, however it came."""
    import contextlib
    import os
    import signal

    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            continue
    os.kill(os.getpid(), signal.SIGTERM)
