"""`interlock demo`: the whole walk on this machine, with no cluster and no network.

A small Kubernetes API of our own stands behind the real gateway; an agent's session works through it with the
real kubectl if it is there, and speaks HTTP itself where it is not. What the agent saw, what was refused and
masked, and what the evidence says of it are shown side by side, and judged: the exit status is 0 only if
every act came out as promised and no secret got out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.errors import Failed

if TYPE_CHECKING:
    from interlock.demo.kubernetes import Kubernetes
    from interlock.demo.scenario import Act, Issuer

START = 60.0  # seconds that a loaded machine may take
JSON = typer.Option("--json", help="Print one JSON object instead of tables.")
KEEP = typer.Option("--keep", help="Leave it running, and print what puts a person into the agent's seat.")


@dataclass
class Result:
    """One act and what came of it. wrong: what was not as promised; nothing, if all went well."""

    act: str
    title: str
    command: str
    expected: str
    succeeded: bool
    output: str
    wrong: list[str] = field(default_factory=list)


def demo(as_json: Annotated[bool, JSON] = False, keep: Annotated[bool, KEEP] = False) -> None:
    """Show the whole walk on this machine: no cluster, no network."""
    from interlock.demo import scenario
    from interlock.demo.kubernetes import Kubernetes, Options

    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="interlock-demo-"))
    cluster = Kubernetes.start(Options(directory=directory / "cluster"))
    gateway = None
    try:
        issuer = scenario.Issuer()
        config = scenario.lay_out(
            directory / "gateway",
            issuer,
            server=cluster.server,
            ca=cluster.ca,
            token=directory / "cluster" / "token",
        )
        gateway, ready = _start(config)
        kubeconfig = _agent(directory, cluster, issuer, ready)
        results = _act(cluster, kubeconfig, ready)
        evidence = _evidence(Path(ready["evidence"]), len(results))
        wrong = [f"{r.act}: {what}" for r in results for what in r.wrong] + evidence["wrong"]
        if as_json:
            report = {"acts": [asdict(r) for r in results], "evidence": evidence, "wrong": wrong}
            print(json.dumps(report, indent=2, default=str))
        else:
            _show(results, evidence, wrong, time.monotonic() - began)
        if keep:
            _keep(kubeconfig, ready, directory)
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(20)
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
    if wrong:
        raise typer.Exit(1)


def _start(config: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """The gateway as users start it, and its ready file's content. Raises Failed."""
    log = config.parent / "gateway.log"
    with log.open("wb") as output:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "up", "--config", str(config)],
            stdout=output,
            stderr=output,
        )
    ready = config.parent / "ready.json"
    end = time.monotonic() + START
    while not ready.exists():
        if gateway.poll() is not None or time.monotonic() > end:
            gateway.kill()
            gateway.wait()
            raise Failed(f"the demo's gateway did not start: {log.read_text(errors='replace').strip()[:500]}")
        time.sleep(0.05)
    content: dict[str, Any] = json.loads(ready.read_text())
    return gateway, content


def _agent(directory: Path, cluster: Kubernetes, issuer: Issuer, ready: Mapping[str, Any]) -> Path:
    """The agent's kubeconfig: a session token, the gateway's CA and proxy; no credential of the cluster."""
    from datetime import UTC, datetime

    import httpx

    from interlock.demo import scenario

    answer = httpx.post(
        f"{ready['console']}/oauth2/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": issuer.token(datetime.now(UTC)),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "audience": scenario.CLUSTER,
        },
        trust_env=False,
        timeout=30,
    )
    if answer.status_code != 200:
        raise Failed(f"the demo's agent got no session: {answer.text[:300]}")
    kubeconfig = directory / "agent.kubeconfig"
    entry = {"server": cluster.server, "certificate-authority": ready["ca"], "proxy-url": ready["proxy"]}
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "demo", "cluster": entry}],
                "users": [{"name": "agent", "user": {"token": answer.json()["access_token"]}}],
                "contexts": [
                    {"name": "demo", "context": {"cluster": "demo", "user": "agent", "namespace": "shop"}}
                ],
                "current-context": "demo",
            }
        )
    )
    kubeconfig.chmod(0o600)
    return kubeconfig


def kubectl() -> str | None:
    """The real kubectl: the environment's own, or the one on PATH."""
    beside = Path(sys.prefix) / "bin" / "kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl")


def _act(cluster: Kubernetes, kubeconfig: Path, ready: Mapping[str, Any]) -> list[Result]:
    from interlock.demo import scenario

    program = kubectl()
    outputs: dict[str, str] = {}
    results: list[Result] = []
    pod = _pod(cluster)
    for act in scenario.ACTS:
        before = len(cluster.requests)
        if program is not None:
            argv = [argument.format(pod=pod) if "{pod}" in argument else argument for argument in act.argv]
            shown = "kubectl " + " ".join(argv)
            output, succeeded = _kubectl(program, argv, kubeconfig, outputs.get(act.feeds))
        else:
            shown = f"{act.call.method} {act.call.target.replace('{pod}', pod)}"
            output, succeeded = _http(act, pod, kubeconfig, ready, outputs.get(act.feeds))
        outputs[act.key] = output
        wrong = act.judge(output, succeeded)
        if act.outcome == "refused" and act.key not in scenario.REACHING:
            writes = [r for r in cluster.requests[before:] if r.method not in ("GET", "HEAD")]
            wrong += ["a refused request reached the API server"] if writes else []
        results.append(Result(act.key, act.title, shown, act.outcome, succeeded, output.strip(), wrong))
    return results


def _pod(cluster: Kubernetes) -> str:
    """A pod of the shop's, by the cluster's own account."""
    from interlock.demo.resources import RESOURCES

    kind = next(resource for resource in RESOURCES if resource.qualified == "pods")
    pods = cluster.api.store.objects(kind, "shop")[1]
    return next(str(p["metadata"]["name"]) for p in pods if p["metadata"]["name"].startswith("shop-web"))


def _kubectl(program: str, argv: list[str], kubeconfig: Path, stdin: str | None) -> tuple[str, bool]:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(
        [program, f"--cache-dir={kubeconfig.parent}/cache", *argv],
        env={**environment, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        input=_object(stdin) if stdin is not None else None,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode == 0


def _object(output: str) -> str:
    """The JSON object in an earlier act's output, without the warnings around it."""
    return output[output.index("{") : output.rindex("}") + 1] if "{" in output else output


def _http(
    act: Act, pod: str, kubeconfig: Path, ready: Mapping[str, Any], body: str | None
) -> tuple[str, bool]:
    import ssl

    import httpx

    user = json.loads(kubeconfig.read_text())
    server = user["clusters"][0]["cluster"]["server"]
    content = _object(body) if body is not None else json.dumps(act.call.body) if act.call.body else None
    headers = {"Authorization": f"Bearer {user['users'][0]['user']['token']}", **dict(act.call.headers)}
    if content is not None:
        headers["Content-Type"] = act.call.media_type
    trust = ssl.create_default_context(cafile=ready["ca"])
    with httpx.Client(proxy=ready["proxy"], verify=trust, trust_env=False, timeout=30) as client:
        answer = client.request(
            act.call.method, server + act.call.target.replace("{pod}", pod), content=content, headers=headers
        )
    return answer.text, answer.status_code < 400


def _evidence(directory: Path, acts: int) -> dict[str, Any]:
    """What the evidence says, in SQL on the file that the gateway is writing; and whether it hangs together."""
    from interlock.evidence.reading import open_evidence

    queries = {
        "decisions": "SELECT effect, count(*) AS requests FROM live.decisions GROUP BY effect ORDER BY effect",
        "refused": "SELECT d.code, r.verb, coalesce(nullif(r.resource, ''), r.uri) AS what, d.stage, d.rule "
        "FROM live.requests r JOIN live.decisions d ON d.request_id = r.id WHERE d.effect <> 'allow' ORDER BY r.ts",
        "masked": "SELECT r.resource, coalesce(nullif(r.name, ''), '(list)') AS name, f.path, f.token "
        "FROM live.findings f JOIN live.requests r ON r.id = f.request_id ORDER BY r.ts LIMIT 8",
    }
    found: dict[str, Any] = {"wrong": []}
    connection = open_evidence(directory)
    try:
        for name, sql in queries.items():
            answer = connection.execute(sql)
            columns = [column[0] for column in answer.description or ()]
            found[name] = {"sql": sql, "columns": columns, "rows": [list(row) for row in answer.fetchall()]}
        views = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'live' "
            "AND (table_name LIKE '%violations' OR table_name IN ('incomplete', 'seq_gaps')) ORDER BY 1"
        ).fetchall()
        for (view,) in views:
            rows = connection.execute(f"SELECT count(*) FROM live.{view}").fetchall()[0][0]
            if rows:
                found["wrong"].append(f"the evidence's view {view} holds {rows} rows, expected none")
        found["checked"] = [view for (view,) in views]
    finally:
        connection.close()
    if sum(row[1] for row in found["decisions"]["rows"]) < acts:
        found["wrong"].append("the evidence lacks requests")
    return found


def _show(results: list[Result], evidence: dict[str, Any], wrong: list[str], seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=min(max(Console().width, 80), 120))
    colour = {"allowed": "green", "masked": "yellow", "refused": "red"}
    acts = Table(title="What an agent tried, through the gateway", title_justify="left", expand=True)
    acts.add_column("it wanted to", ratio=3)
    acts.add_column("outcome")
    acts.add_column("what it saw", ratio=5)
    for result in results:
        mark = Text(result.expected if not result.wrong else "WRONG", style=colour[result.expected])
        acts.add_row(Text(f"{result.title}\n") + Text(f"$ {result.command}", style="dim"), mark, _saw(result))
        acts.add_section()
    console.print(acts)
    for name, title in (
        ("decisions", "The evidence, in SQL while the gateway writes it"),
        ("refused", "Refused, by which stage and rule"),
        ("masked", "Masked, by path and token (the value is nowhere)"),
    ):
        console.print(Text(f"\n{title}"), Text(evidence[name]["sql"], style="dim"), sep="\n")
        table = Table()
        for column in evidence[name]["columns"]:
            table.add_column(column)
        for row in evidence[name]["rows"]:
            table.add_row(*("" if value is None else str(value) for value in row))
        console.print(table)
    for line in wrong:
        console.print(Text(f"not as promised: {line}", style="bold red"))
    if not wrong:
        console.print(
            f"All {len(results)} acts came out as promised, no secret got out, and {len(evidence['checked'])} views "
            f"of what must never be are empty. {seconds:.1f} s."
        )


def _saw(result: Result) -> Any:
    """The telling lines of an output: those with a mask or a refusal, else the first."""
    from rich.text import Text

    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    telling = [line for line in lines if "masked-" in line or "bWFza2Vk" in line or "interlock:" in line]
    chosen = (telling or lines)[:2]
    return Text("\n".join(line if len(line) <= 240 else line[:239] + "…" for line in chosen))


def _keep(kubeconfig: Path, ready: Mapping[str, Any], directory: Path) -> None:
    """Wait until the person has had enough."""
    print(
        f"\nIt keeps running until Ctrl-C. In another terminal, you are the agent:\n"
        f"  export KUBECONFIG={kubeconfig}\n"
        f"  {kubectl() or 'kubectl'} get pods\n"
        f"and the analyst: interlock query --evidence {ready['evidence']} 'SELECT * FROM live.timeline'",
        file=sys.stderr,
        flush=True,
    )
    try:
        while directory.exists():
            time.sleep(1)
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
