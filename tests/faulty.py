"""Gateway processes that end at one step of the walk.

In: how the gateway is started, and "stage.hook.n": at the n-th call of that hook of that stage the process is
gone (`os._exit`: no handler, no buffer, no goodbye) with the status `STATUS`. Out: the process. Nothing else
about the gateway differs. A process is forked from a server that has read the modules already, which takes a
tenth of the time of a start; it has nothing of the test's own process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

STATUS = 71


def start(way: str, arguments: list[str], fault: str, directory: Path) -> BaseProcess:
    """`interlock up ARGUMENTS` or `mitmdump ARGUMENTS` in `directory`, its output in gateway.log there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["interlock.master", "interlock.cli.up", "mitmproxy.tools.main"])
    process = context.Process(target=run, args=(way, arguments, fault, str(directory)))
    process.start()
    return process


def run(way: str, arguments: list[str], fault: str, directory: str) -> None:
    os.chdir(directory)
    os.environ["HOME"] = directory
    log = os.open("gateway.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if fault:
        doom(*fault.split("."))
    if way == "up":
        from interlock.cli import main

        sys.argv = ["interlock", "up", *arguments]
        main()
    else:
        from mitmproxy.tools.main import mitmdump

        mitmdump(arguments)


def doom(name: str, hook: str, calls: str) -> None:
    from interlock import stack

    whole = stack.stages

    def stages(life: Any) -> Any:
        built = whole(life)
        (stage,) = (stage for stage in built if stage.name == name)
        setattr(stage, hook, dying(getattr(stage, hook), int(calls)))
        return built

    stack.stages = stages


def dying(call: Any, left: int) -> Any:
    def step(*given: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(STATUS)
        return call(*given)

    return step
