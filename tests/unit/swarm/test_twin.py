"""An executor's second container, as the first one runs it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import docker
import pytest

from tests.unit.swarm.image import load

OWN = "0123456789ab"


class Container:
    """One that says a thing at each look: an error, or its exit code."""

    def __init__(self, *looks: object) -> None:
        self.looks = list(looks)
        self.attrs: dict[str, Any] = {"Image": "sha256:1", "State": {"ExitCode": None}}
        self.status = "running"
        self.done: list[str] = []
        self.refusal: Exception | None = None

    def reload(self) -> None:
        look = self.looks.pop(0)
        if isinstance(look, Exception):
            raise look
        if look is not None:
            self.status, self.attrs["State"]["ExitCode"] = "exited", look

    def put_archive(self, path: str, _content: bytes) -> None:
        self.done.append(f"put {path}")

    def start(self) -> None:
        if self.refusal:
            raise self.refusal
        self.done.append("start")

    def logs(self, **_options: int) -> bytes:
        return b"KVM runs no guest\n"

    def remove(self, **_options: bool) -> None:
        self.done.append("remove")


class Engine:
    """An engine with this executor's container, which makes its twin."""

    def __init__(self, twin: Container) -> None:
        self.containers = self
        self.twin = twin
        self.options: dict[str, Any] = {}

    def get(self, _which: str) -> Container:
        return Container()

    def create(self, _image: str, **options: Any) -> Container:
        self.options = options
        return self.twin


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("twin")
    monkeypatch.setattr(module, "LOOK_S", 0)
    monkeypatch.setattr(module, "_token", bytes)
    monkeypatch.setattr("sys.argv", ["twin.py", OWN])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return module


def ended(module: ModuleType, container: Container, monkeypatch: pytest.MonkeyPatch) -> int:
    engine = Engine(container)
    monkeypatch.setattr(docker, "from_env", lambda: engine)
    code: int = module.main()
    assert engine.options["devices"] == ["/dev/kvm:/dev/kvm:rw"]
    assert engine.options["environment"]["SWARM_RUNNER_TWIN"] == OWN
    assert container.done[-1] == "remove"
    return code


def test_its_exit_code_is_the_executors(twin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    away = docker.errors.APIError("the engine is away")
    assert ended(twin, Container(None, away, OSError(), 7), monkeypatch) == 7


def test_one_that_somebody_removed_is_not_waited_for(
    twin: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = docker.errors.NotFound("no such container")
    assert ended(twin, Container(None, gone), monkeypatch) == twin.REMOVED
    assert "was removed" in capsys.readouterr().err


def test_a_node_without_kvm(twin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    container = Container()
    container.refusal = docker.errors.APIError("x", explanation="no such device")
    assert ended(twin, container, monkeypatch) == twin.NO_KVM


def test_a_kvm_that_runs_no_guest_is_told_of(
    twin: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(twin, Container(twin.NO_KVM), monkeypatch) == twin.NO_KVM
    assert "KVM runs no guest" in capsys.readouterr().err
