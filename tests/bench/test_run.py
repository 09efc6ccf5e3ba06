"""The benchmark runs: every contender answers, and every figure is there. How large they are is not tested."""

from __future__ import annotations

import json

import pytest

from bench import run

TINY = (
    "--rounds=1",
    "--one-by-one=2",
    "--waves=1",
    "--connections=1",
    "--list-mb=1",
    "--watches=0",
    "--events=512",
)


@pytest.mark.processes
def test_the_benchmark_measures_every_contender(capsys: pytest.CaptureFixture[str]) -> None:
    run.main([*TINY, "--json"])
    result = json.loads(capsys.readouterr().out)
    direct, *gateways = result["contenders"]
    assert direct["name"] == "direct"
    assert direct["rate"] > 0
    assert [g["name"] for g in gateways] == ["mitmdump -q", "mitmdump -s gateway.py", "interlock up"]
    for gateway in gateways:
        assert gateway["p99"] >= gateway["p50"] > 0
        assert gateway["cpu_request"] is not None
        assert gateway["list_outcome"] == "1.0 MB"
    assert result["journal"]["rate"] > 0


def test_the_table_shows_ratios_to_mitmproxy_alone() -> None:
    figures = [
        run.Figures("direct", rate=9000.0, p50=0.0001, p99=0.0002),
        run.Figures("mitmdump -q", cpu_request=0.002, rate=500.0, p50=0.0021, p99=0.004, watch_outcome="no answer"),
        run.Figures("interlock up", cpu_request=0.001, rate=900.0, p50=0.0011, p99=0.003, watch_outcome="open"),
    ]  # fmt: skip
    shown = run.table(figures)
    rows = {
        name: tuple(column._cells[i] for column in shown.columns[1:])
        for i, name in enumerate(shown.columns[0]._cells)
    }
    assert rows["CPU ms/request, 16 in flight"] == ("", "2.00 (1.00)", "1.00 (0.50)")
    assert rows["added p50 ms"] == ("", "2.00 (1.00)", "1.00 (0.50)")
    assert rows["idle watches"] == ("", "no answer", "open")
