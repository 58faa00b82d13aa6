"""The KVM sidecar, as the first container runs it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import docker
import pytest

from tests.unit.swarm.image import load_program

EXECUTOR_CONTAINER_ID = "0123456789ab"


class FakeContainer:
    """A container that raises an error, runs on or exits with a code at each poll."""

    def __init__(self, *poll_results: object) -> None:
        self.poll_results = list(poll_results)
        self.attrs: dict[str, Any] = {"Image": "sha256:1", "State": {"ExitCode": None}}
        self.status = "running"
        self.calls: list[str] = []
        self.start_error: Exception | None = None

    def reload(self) -> None:
        result = self.poll_results.pop(0)
        if isinstance(result, Exception):
            raise result
        if result is not None:
            self.status, self.attrs["State"]["ExitCode"] = "exited", result

    def put_archive(self, path: str, _content: bytes) -> None:
        self.calls.append(f"put {path}")

    def start(self) -> None:
        if self.start_error:
            raise self.start_error
        self.calls.append("start")

    def logs(self, **_options: int) -> bytes:
        return b"KVM cannot run a guest\n"

    def remove(self, **_options: bool) -> None:
        self.calls.append("remove")


class FakeDockerClient:
    """An engine that has the executor's container and creates the sidecar."""

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
    module = load_program("kvm_sidecar")
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 0)
    monkeypatch.setattr(module, "_token_archive", bytes)
    monkeypatch.setattr("sys.argv", ["kvm_sidecar.py", EXECUTOR_CONTAINER_ID])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return module


def run_sidecar(
    module: ModuleType, container: FakeContainer, monkeypatch: pytest.MonkeyPatch
) -> int:
    client = FakeDockerClient(container)
    monkeypatch.setattr(docker, "from_env", lambda: client)
    code: int = module.main()
    assert client.options["devices"] == ["/dev/kvm:/dev/kvm:rw"]
    assert client.options["environment"]["SWARM_RUNNER_TWIN"] == EXECUTOR_CONTAINER_ID
    assert container.calls[-1] == "remove"
    return code


def test_the_exit_code_is_returned(
    kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = docker.errors.APIError("the engine is unreachable")
    assert run_sidecar(kvm_sidecar, FakeContainer(None, outage, OSError(), 7), monkeypatch) == 7


def test_a_removed_sidecar_ends_the_wait(
    kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = docker.errors.NotFound("no such container")
    code = run_sidecar(kvm_sidecar, FakeContainer(None, error), monkeypatch)
    assert code == kvm_sidecar.REMOVED_EXIT_CODE
    assert "was removed" in capsys.readouterr().err


def test_a_node_without_kvm(kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    container = FakeContainer()
    container.start_error = docker.errors.APIError("x", explanation="no such device")
    code = run_sidecar(kvm_sidecar, container, monkeypatch)
    assert code == kvm_sidecar.NO_KVM_EXIT_CODE


def test_a_kvm_that_cannot_run_a_guest_is_reported(
    kvm_sidecar: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    container = FakeContainer(kvm_sidecar.NO_KVM_EXIT_CODE)
    code = run_sidecar(kvm_sidecar, container, monkeypatch)
    assert code == kvm_sidecar.NO_KVM_EXIT_CODE
    assert "KVM cannot run a guest" in capsys.readouterr().err
