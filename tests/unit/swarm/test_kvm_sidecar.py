"""An executor's second container, as the first one runs it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import docker
import pytest

from tests.unit.swarm.image import load_program

EXECUTOR_CONTAINER_ID = "0123456789ab"


class FakeContainer:
    """One that says a thing at each look: an error, or its exit code."""

    def __init__(self, *poll_results: object) -> None:
        self.poll_results = list(poll_results)
        self.attrs: dict[str, Any] = {"Image": "sha256:1", "State": {"ExitCode": None}}
        self.status = "running"
        self.calls: list[str] = []
        self.start_error: Exception | None = None

    def reload(self) -> None:
        look = self.poll_results.pop(0)
        if isinstance(look, Exception):
            raise look
        if look is not None:
            self.status, self.attrs["State"]["ExitCode"] = "exited", look

    def put_archive(self, path: str, _content: bytes) -> None:
        self.calls.append(f"put {path}")

    def start(self) -> None:
        if self.start_error:
            raise self.start_error
        self.calls.append("start")

    def logs(self, **_options: int) -> bytes:
        return b"KVM runs no guest\n"

    def remove(self, **_options: bool) -> None:
        self.calls.append("remove")


class FakeDockerClient:
    """An engine with this executor's container, which makes its twin."""

    def __init__(self, sidecar: FakeContainer) -> None:
        self.containers = self
        self.sidecar = sidecar
        self.options: dict[str, Any] = {}

    def get(self, _container_id: str) -> FakeContainer:
        return FakeContainer()

    def create(self, _image: str, **options: Any) -> FakeContainer:
        self.options = options
        return self.sidecar


@pytest.fixture
def kvm_sidecar(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("twin")
    monkeypatch.setattr(module, "LOOK_S", 0)
    monkeypatch.setattr(module, "_token", bytes)
    monkeypatch.setattr("sys.argv", ["twin.py", EXECUTOR_CONTAINER_ID])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return module


def run_sidecar(
    module: ModuleType, container: FakeContainer, monkeypatch: pytest.MonkeyPatch
) -> int:
    engine = FakeDockerClient(container)
    monkeypatch.setattr(docker, "from_env", lambda: engine)
    code: int = module.main()
    assert engine.options["devices"] == ["/dev/kvm:/dev/kvm:rw"]
    assert engine.options["environment"]["SWARM_RUNNER_TWIN"] == EXECUTOR_CONTAINER_ID
    assert container.calls[-1] == "remove"
    return code


def test_its_exit_code_is_the_executors(
    kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = docker.errors.APIError("the engine is away")
    assert run_sidecar(kvm_sidecar, FakeContainer(None, away, OSError(), 7), monkeypatch) == 7


def test_one_that_somebody_removed_is_not_waited_for(
    kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = docker.errors.NotFound("no such container")
    assert run_sidecar(kvm_sidecar, FakeContainer(None, gone), monkeypatch) == kvm_sidecar.REMOVED
    assert "was removed" in capsys.readouterr().err


def test_a_node_without_kvm(kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    container = FakeContainer()
    container.start_error = docker.errors.APIError("x", explanation="no such device")
    assert run_sidecar(kvm_sidecar, container, monkeypatch) == kvm_sidecar.NO_KVM


def test_a_kvm_that_runs_no_guest_is_told_of(
    kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run_sidecar(kvm_sidecar, FakeContainer(kvm_sidecar.NO_KVM), monkeypatch)
        == kvm_sidecar.NO_KVM
    )
    assert "KVM runs no guest" in capsys.readouterr().err
