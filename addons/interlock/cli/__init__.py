"""The command line: one file a command group, each a thin face over the rooms that do the work.

Every command exits 0 when it did its work, 1 when something was refused or failed, 2 for wrong usage. Data go
to stdout (`--json` where a program may read them), everything for a person's eye to stderr. An error is one
line that says what to do next, never a traceback. Commands import what they need when they run, so that a
credential plugin does not wait for DuckDB.
"""

from __future__ import annotations

import os
import sys

import typer

from interlock.cli import demo, doctor, init, kubeconfig, query, tail, up

app = typer.Typer(
    name="interlock",
    help="A guardrail gateway between AI agents and the Kubernetes API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("up", help="Serve: gateway, recorder and console, from one configuration file.")(up.up)
app.command("init", short_help="Set up a gateway before a real cluster.")(init.init)
app.command("kubeconfig", short_help="Print a kubeconfig for an agent.")(kubeconfig.kubeconfig)
app.command("doctor", short_help="Check all that the gateway needs.")(doctor.doctor)
app.command("query", short_help="Ask the evidence, in SQL.")(query.query)
app.command("tail", short_help="Follow what the gateway decides.")(tail.tail)
app.command("demo", help="Show the whole walk on this machine: no cluster, no network.")(demo.demo)


def main() -> None:
    """Run the command line; turns what an operator can mend into lines on stderr and status 1."""
    from interlock.cli.errors import expected, fault, lines

    try:
        app()
    except BrokenPipeError:
        # The reader of our output went away (`interlock tail | head`); Python must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except expected() as error:
        for line in lines(error):
            print(f"interlock: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # a person gets a line; its text could quote a secret
        if os.environ.get("INTERLOCK_TRACEBACK"):
            raise
        print(f"interlock: {fault(error)}", file=sys.stderr)
        sys.exit(1)
