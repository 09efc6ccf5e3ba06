"""A look at the listeners before the start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cli.double import ApiDouble
from cli.setups import write
from interlock.cli.listeners import taken
from interlock.config import load


@pytest.fixture
def busy() -> int:
    listening = socket.create_server(("127.0.0.1", 0))
    yield listening.getsockname()[1]
    listening.close()


def test_nothing_is_in_the_way_of_free_ports(tmp_path: Path, api: ApiDouble) -> None:
    assert taken(load(write(tmp_path, api))) == []


def test_what_is_in_the_way_is_told_with_the_key_to_change(tmp_path: Path, api: ApiDouble, busy: int) -> None:
    path = write(tmp_path, api, proxy=f"127.0.0.1:{busy}")
    assert taken(load(path)) == [
        f"{path}: listen.proxy: 127.0.0.1:{busy}: address already in use; "
        "stop what is there, or choose another port"
    ]


def test_reverse_listeners_are_looked_at_too(tmp_path: Path, api: ApiDouble, busy: int) -> None:
    (line,) = taken(load(write(tmp_path, api, reverse=f"127.0.0.1:{busy}")))
    assert f"clusters[0].reverse: 127.0.0.1:{busy}: address already in use" in line


def test_an_address_that_is_not_this_machines_is_in_the_way(tmp_path: Path, api: ApiDouble) -> None:
    (line,) = taken(load(write(tmp_path, api, proxy="192.0.2.1:8080")))
    assert "listen.proxy: 192.0.2.1:8080: cannot assign requested address" in line
