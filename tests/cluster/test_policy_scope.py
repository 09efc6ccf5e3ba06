"""The table of what lives outside namespaces, against what a real API server says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.policy.scope import CLUSTER_SCOPED

pytestmark = pytest.mark.cluster


def served(control_plane: Any, namespaced: bool) -> set[tuple[str, str]]:
    text = control_plane.kubectl("api-resources", f"--namespaced={str(namespaced).lower()}", "-o", "name")
    rows = (line.partition(".") for line in getattr(text, "stdout", text).split())
    return {(group, resource) for resource, _, group in rows}


def test_the_table_is_what_the_api_server_serves(control_plane: Any) -> None:
    outside, inside = served(control_plane, False), served(control_plane, True)
    assert len(outside) > 20
    assert len(inside) > 20
    assert outside - CLUSTER_SCOPED == {("", "namespaces")}
    assert inside.isdisjoint(CLUSTER_SCOPED)
