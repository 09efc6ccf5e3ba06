"""Lists that outgrow memory, through real gateways: the same items as in pages, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bench import processes
from gateways import MODES, Running, Upstream
from interlock.demo.kubernetes import Kubernetes, Options

pytestmark = pytest.mark.processes

PODS, SIZE = 10_000, 3_000  # 30 MB: several times what is held of an answer
PAGE = 1_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    directory = tmp_path_factory.mktemp("cluster")
    with Kubernetes.start(Options(directory=directory, pods=PODS, pod_size=SIZE)) as running:
        yield running


@pytest.fixture(scope="module", params=MODES)
def gateway(
    request: pytest.FixtureRequest, cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "token").write_text(cluster.token)
    upstream = Upstream("dev", cluster.server, cluster.ca, f"{{tokenFile: {directory}/token}}")
    with Running(directory, [upstream], mode=request.param) as running:
        yield running


def pages(client: httpx.Client) -> list[Any]:
    items: list[Any] = []
    at = ""
    while True:
        query = {"limit": str(PAGE), **({"continue": at} if at else {})}
        page = client.get("/api/v1/namespaces/bulk/pods", params=query).json()
        items += page["items"]
        at = page["metadata"].get("continue", "")
        if not at:
            return items


def test_a_long_list_has_the_items_of_its_pages(gateway: Running) -> None:
    with gateway.client("dev", gateway.session("dev"), "reverse") as client:
        paged = pages(client)
        before = processes.memory(gateway.process.pid)
        processes.forget_peak(gateway.process.pid)
        answer = client.get("/api/v1/namespaces/bulk/pods", timeout=120)
        grown = processes.peak(gateway.process.pid) - before
    assert answer.status_code == 200
    assert len(answer.content) > PODS * SIZE * 0.9
    assert b"bulk-secret-" not in answer.content
    assert answer.json()["items"] == paged
    assert grown < len(answer.content)  # held whole, and parsed, it would be several times that
