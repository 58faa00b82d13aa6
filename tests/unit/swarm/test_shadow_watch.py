"""The shadows of a schedd that has died are ended, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.swarm.image import load_program


@pytest.fixture
def module() -> ModuleType:
    return load_program("shadow_watch")


@pytest.fixture
def killed(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that were sent."""
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(module.os, "kill", lambda *arguments: signals.append(arguments))
    return signals


def add_process(proc: Path, pid: int, name: str, parent: int, state: str = "S") -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {parent} 1 1 0 -1\n")


def test_shadows_without_their_schedd_are_killed(
    module: ModuleType, tmp_path: Path, killed: list[tuple[int, int]]
) -> None:
    add_process(tmp_path, 18, "condor_master", 7)
    add_process(tmp_path, 200, "condor_schedd", 18)
    add_process(tmp_path, 201, "condor_shadow", 200)
    # Of an earlier schedd; orphans belong to the container's first process.
    add_process(tmp_path, 101, "condor_shadow", 1)
    add_process(tmp_path, 102, "a) S (condor_shadow", 1)
    add_process(tmp_path, 103, "condor_shadow", 1, state="Z")
    (tmp_path / "104").mkdir()
    assert module.end_orphans(tmp_path) == [101]
    assert killed == [(101, signal.SIGKILL)]


def test_a_shadows_child_goes_with_its_shadow(
    module: ModuleType, tmp_path: Path, killed: list[tuple[int, int]]
) -> None:
    add_process(tmp_path, 200, "condor_schedd", 18)
    add_process(tmp_path, 201, "condor_shadow", 200)
    add_process(tmp_path, 202, "condor_shadow", 201)
    assert module.end_orphans(tmp_path) == []
    add_process(tmp_path, 101, "condor_shadow", 1)
    add_process(tmp_path, 102, "condor_shadow", 101)
    assert sorted(module.end_orphans(tmp_path)) == [101, 102]
    assert sorted(killed) == [(101, signal.SIGKILL), (102, signal.SIGKILL)]


def test_a_schedd_that_has_not_been_reaped_is_gone(
    module: ModuleType, tmp_path: Path, killed: list[tuple[int, int]]
) -> None:
    add_process(tmp_path, 200, "condor_schedd", 18, state="Z")
    add_process(tmp_path, 201, "condor_shadow", 200)
    assert module.end_orphans(tmp_path) == [201]
    assert killed == [(201, signal.SIGKILL)]


@pytest.mark.parametrize("has_call", [True, False])
def test_the_end_of_a_process_is_noticed(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, *, has_call: bool
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0)
    if not has_call:

        def refuse(_pid: int) -> int:
            raise PermissionError("seccomp")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        waiter = threading.Thread(target=module.wait_for_end, args=(process.pid,))
        waiter.start()
        process.kill()
        waiter.join(60)
        assert not waiter.is_alive()
