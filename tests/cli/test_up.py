"""`interlock up` with what cannot work: one line each that says where, what and what to do, and status 1."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.double import TOKEN, ApiDouble
from cli.setups import write
from cli.test_main import interlock
from interlock.cli.errors import Failed
from interlock.cli.up import _look


def refused(config: Path, *options: object) -> list[str]:
    """The lines that `up` says before it ends with status 1."""
    ran = interlock("up", "--config", config, *options)
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert all(line.startswith("interlock: ") for line in lines), ran.stderr
    assert "Traceback" not in ran.stderr
    assert TOKEN not in ran.stderr
    return [line.removeprefix("interlock: ") for line in lines]


Spoil = Callable[[Path, ApiDouble], Path]


def unknown_key(directory: Path, api: ApiDouble) -> Path:
    return write(directory, api, stat="x")


def no_authority(directory: Path, api: ApiDouble) -> Path:
    path = write(directory, api)
    (directory / "ca.pem").unlink()
    return path


def no_policy(directory: Path, api: ApiDouble) -> Path:
    path = write(directory, api)
    (directory / "policy.yaml").unlink()
    return path


def policy_with_a_problem(directory: Path, api: ApiDouble) -> Path:
    path = write(directory, api)
    (directory / "policy.yaml").write_text((directory / "policy.yaml").read_text().replace("verbs:", "verb:"))
    return path


def policy_that_is_a_directory(directory: Path, api: ApiDouble) -> Path:
    path = write(directory, api)
    (directory / "policy.yaml").unlink()
    (directory / "policy.yaml").mkdir()
    return path


def no_credential(directory: Path, api: ApiDouble) -> Path:
    path = write(directory, api)
    (directory / "kubeconfig").unlink()
    return path


def credential_with_a_space(directory: Path, api: ApiDouble) -> Path:
    (directory / "token").write_text(f"{TOKEN} {TOKEN}\n")
    return write(directory, api, credential={"tokenFile": "token"})


def evidence_on_a_read_only_disk(directory: Path, api: ApiDouble) -> Path:
    return write(directory, api, evidence={"directory": "/proc/evidence"})


def state_on_a_read_only_disk(directory: Path, api: ApiDouble) -> Path:
    return write(directory, api, state="sqlite:////proc/state.db")


def authority_on_a_read_only_disk(directory: Path, api: ApiDouble) -> Path:
    return write(directory, api, authority={"directory": "/proc/certs"})


ROWS: list[tuple[Spoil, str]] = [
    (unknown_key, "{0}/gateway.yaml:1:{column}: stat: unknown key; did you mean state?"),
    (no_authority, "certificateAuthority: {0}/ca.pem cannot be read: no such file or directory; check the path"),
    (no_policy, "policies[0]: {0}/policy.yaml does not exist; create it, or correct the path"),
    (policy_with_a_problem, "{0}/policy.yaml:8:"),
    (policy_that_is_a_directory, "{0}/policy.yaml: holds no policy file (*.yaml); add one"),
    (no_credential, "{0}/kubeconfig: cannot be read: no such file or directory; check the path"),
    (credential_with_a_space, "{0}/token: the token holds spaces, line breaks or characters that no header may hold"),
    (evidence_on_a_read_only_disk, "the evidence journal in /proc/evidence cannot be written"),
    (state_on_a_read_only_disk, "the state database /proc/state.db cannot be used"),
    (authority_on_a_read_only_disk, "make the directory writable by this user, or set authority.directory"),
]  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize(("spoil", "said"), ROWS, ids=[row[0].__name__ for row in ROWS])
def test_what_cannot_start_says_why_in_one_line(
    tmp_path: Path, api: ApiDouble, spoil: Spoil, said: str
) -> None:
    config = spoil(tmp_path, api)
    column = config.read_text().find('"stat"') + 1
    (line,) = refused(config)
    assert said.format(tmp_path, column=column) in line


@pytest.mark.processes
def test_a_port_in_use_is_told_with_its_key(tmp_path: Path, api: ApiDouble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        (line,) = refused(write(tmp_path, api, proxy=address))
        said = f"listen.proxy: {address}: address already in use; stop what is there, or choose another port"
        assert line == f"{tmp_path}/gateway.yaml: {said}"
        with pytest.raises(Failed, match=r"clusters\[0\]\.reverse"):
            _look(write(tmp_path, api, reverse=address), None)


def test_nothing_is_in_the_way_of_what_can_start(tmp_path: Path, api: ApiDouble) -> None:
    _look(write(tmp_path, api), tmp_path / "ready.json")


def test_a_ready_file_that_cannot_be_written_is_told_at_once(tmp_path: Path, api: ApiDouble) -> None:
    with pytest.raises(Failed, match="nowhere is not a directory; create it first"):
        _look(write(tmp_path, api), tmp_path / "nowhere" / "ready.json")


@pytest.mark.parametrize("alone", [True, False])
def test_it_serves_with_what_it_was_given(
    tmp_path: Path, api: ApiDouble, run, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    from interlock import lifecycle, master
    from interlock.cli import up

    given: list[object] = []
    ended = threading.Event()

    async def serve(life: object) -> None:
        given.append(life)

    monkeypatch.setattr(master, "serve", serve)
    monkeypatch.setattr(lifecycle, "Lifecycle", lambda *a, **k: (a, k))
    monkeypatch.setattr(up, "_end_with_first", ended.set)
    monkeypatch.setattr(logging.getLogger("interlock"), "level", logging.INFO)
    config = write(tmp_path, api)
    options = () if alone else ("--one-of-several",)
    ran = run("up", "--config", config, "--ready-file", tmp_path / "r.json", "--workers", 2, *options)
    assert (ran.code, ran.error) == (0, None)
    expected = {"ready_file": tmp_path / "r.json", "workers": 2, "one_of_several": not alone}
    assert given == [((config,), expected)]
    assert ended.wait(0 if alone else 5) is not alone


def test_a_worker_ends_with_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from interlock.cli.up import _end_with_first

    pieces, killed = iter([b"x", b""]), []
    monkeypatch.setattr(os, "read", lambda *_: next(pieces))
    monkeypatch.setattr(os, "kill", lambda *what: killed.append(what))
    _end_with_first()
    assert killed == [(os.getpid(), signal.SIGTERM)]
