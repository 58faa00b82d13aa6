"""An executor with VMs runs in its own container or in a KVM sidecar."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import docker
import pytest

from swarm_runner.condor.connection import htcondor
from swarm_runner.model.htcondor import MAX_JOBS_PER_SUBMISSION
from tests.unit.swarm.image import load_program, read_config

SERVE_EXIT_CODE = 17


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("entrypoint")
    monkeypatch.setattr(docker, "from_env", lambda: None)
    monkeypatch.setattr(module, "CONFIG_DIRECTORY", tmp_path / "config.d")
    monkeypatch.setattr(module, "SHARE_DIRECTORY", tmp_path)
    monkeypatch.setattr(module, "KVM_DEVICE", tmp_path / "kvm")
    (tmp_path / "config.d").mkdir()
    for name in ("vm.conf", "lending.conf"):
        (tmp_path / name).touch()
    monkeypatch.setattr(module.Executor, "_serve", lambda _: SERVE_EXIT_CODE)
    monkeypatch.setattr(module, "run_libvirtd", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for name in ("TWIN", "VIRTUAL_MACHINES", "LEND_MAX_S"):
        monkeypatch.delenv(f"SWARM_RUNNER_{name}", raising=False)
    return module


def run(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, *, sidecar: int = 3, prepared: int = 0
) -> tuple[int, list[str]]:
    """Run the executor with programs that exit with these codes; return its code and theirs."""
    programs: list[str] = []

    def popen(command: list[str]) -> Any:
        programs.append(Path(command[1]).name)
        return SimpleNamespace(wait=lambda: sidecar)

    def prepare(command: list[str], **_options: Any) -> Any:
        programs.append(Path(command[1]).name)
        return SimpleNamespace(returncode=prepared)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(subprocess, "run", prepare)
    return module.Executor().run(), programs


def test_without_vms_nothing_else_runs(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, [])
    assert not list(entrypoint.CONFIG_DIRECTORY.iterdir())


def test_an_executor_of_a_class_that_lends(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_LEND_MAX_S", "60")
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, [])
    # HTCondor reads the files of this directory in the order of their names.
    assert [path.name for path in entrypoint.CONFIG_DIRECTORY.iterdir()] == ["lending.conf"]
    assert min("lending.conf", "executor.conf") == "executor.conf"


@pytest.mark.parametrize("emulate", ["True", "False"])
def test_an_executor_with_vms_runs_in_a_sidecar(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, emulate: str
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_VIRTUAL_MACHINES", "1")
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", emulate)
    assert run(entrypoint, monkeypatch, sidecar=0) == (0, ["kvm_sidecar.py"])
    # Without KVM, it continues in its own container, with emulation or without VMs.
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, ["kvm_sidecar.py", "hypervisor.py"])
    assert (entrypoint.CONFIG_DIRECTORY / "vm.conf").exists()


def test_the_sidecar_requires_kvm_and_starts_no_other_sidecar(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_VIRTUAL_MACHINES", "1")
    monkeypatch.setenv("SWARM_RUNNER_TWIN", "0123456789ab")
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, ["hypervisor.py"])
    assert run(entrypoint, monkeypatch, prepared=3) == (3, ["hypervisor.py"])


def test_all_programs_agree_on_the_exit_code_and_names(entrypoint: ModuleType) -> None:
    sidecar, hypervisor = load_program("kvm_sidecar"), load_program("hypervisor")
    assert entrypoint.NO_KVM_EXIT_CODE == 3
    assert sidecar.NO_KVM_EXIT_CODE == hypervisor.NO_KVM_EXIT_CODE == entrypoint.NO_KVM_EXIT_CODE
    assert sidecar.SIDECAR_LABEL == entrypoint.SIDECAR_LABEL
    assert sidecar.SIDECAR_ENV == hypervisor.SIDECAR_ENV
    assert load_program("guest").VIRTUALIZATION_FILE == hypervisor.VIRTUALIZATION_FILE


def test_all_programs_agree_on_the_log_directory() -> None:
    htcondor()  # must be imported without a configuration
    assert read_config("LOG", "LOCK", "RUN") == [str(load_program("entrypoint").LOG_DIRECTORY)] * 3
    assert load_program("guest").VM_GAHP_LOG.parent == load_program("entrypoint").LOG_DIRECTORY


@pytest.mark.parametrize("allowed", [resource.RLIM_INFINITY, 20_000, 1_048_576])
def test_enough_open_files_need_no_configuration(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, allowed))
    assert entrypoint.limit_open_files() == ""


def test_a_daemon_asks_for_no_more_open_files_than_the_engine_allows(
    entrypoint: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 12_000))
    assert entrypoint.limit_open_files().splitlines() == [
        "COLLECTOR_MAX_FILE_DESCRIPTORS = 10240",
        "SCHEDD_MAX_FILE_DESCRIPTORS = 12000",
        "SHARED_PORT_MAX_FILE_DESCRIPTORS = 12000",
    ]
    assert "the engine allows 12000 open files" in capsys.readouterr().err


def test_the_open_files_are_htcondors_own(entrypoint: ModuleType) -> None:
    for daemon, wanted in entrypoint.OPEN_FILES.items():
        assert int(htcondor().param[f"{daemon}_MAX_FILE_DESCRIPTORS"]) == wanted


def test_the_limits_of_the_queue() -> None:
    names = ("MAX_JOBS_PER_SUBMISSION", "MAX_JOBS_PER_OWNER", "MAX_CONCURRENT_UPLOADS_PER_USER")
    submission, owner, uploads = read_config(*names, role="manager")
    assert int(submission) == MAX_JOBS_PER_SUBMISSION
    assert int(owner) >= 1_000_000
    memory_mb, running = read_config("DETECTED_MEMORY", "MAX_JOBS_RUNNING", role="manager")
    assert int(running) == min(20_000, int(memory_mb) // 3)
    # A single user may fill the transfer queue: HTCondor would give one user 20 matches in a cycle.
    assert uploads == read_config("MAX_CONCURRENT_UPLOADS", role="manager")[0]


class ListingEngine:
    """An engine that lists containers; an inspection of one would fail the test."""

    def __init__(self, containers: dict[str, dict[str, str]], running: list[str]) -> None:
        self.api = self
        self._labels, self._running = containers, running
        self.removed: list[str] = []

    def containers(
        self,
        *,
        all: bool = False,  # noqa: A002
        filters: dict[str, list[str]] | None = None,
    ) -> list[dict[str, Any]]:
        if not all:
            return [{"Id": f"{name:0<64}", "Labels": {}} for name in self._running]
        wanted = [label.partition("=") for label in (filters or {}).get("label", [])]
        return [
            {"Id": name, "Labels": labels}
            for name, labels in self._labels.items()
            if all_labels(labels, wanted)
        ]

    def remove_container(self, container: str, **_options: Any) -> None:
        self.removed.append(container)


def all_labels(labels: dict[str, str], wanted: list[tuple[str, str, str]]) -> bool:
    return all(
        name in labels and (not equals or labels[name] == value) for name, equals, value in wanted
    )


def test_leftovers_are_found_without_inspecting_the_nodes_containers(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, gone = "a" * 12, "b" * 12
    jobs = {f"job-{owner[0]}": owner for owner in (here, gone)}
    containers = {
        name: {"swarm-runner.pool": "galaxy", entrypoint.OWNER_LABEL: owner}
        for name, owner in jobs.items()
    }
    containers["other"] = {"swarm-runner.pool": "other", entrypoint.OWNER_LABEL: gone + "x"}
    containers["twin-a"], containers["twin-b"] = (
        {entrypoint.SIDECAR_LABEL: owner} for owner in (here, gone)
    )
    scratch = tmp_path / "scratch"
    for name in (here, gone, entrypoint.IMAGES_DIRECTORY):
        (scratch / name).mkdir(parents=True)
    monkeypatch.setattr(entrypoint, "SCRATCH_DIRECTORY", scratch)
    monkeypatch.setenv("SWARM_RUNNER_POOL", "galaxy")
    engine = ListingEngine(containers, [here])
    monkeypatch.setattr(docker, "from_env", lambda: engine)
    entrypoint.Executor()._clear_leftovers()
    assert engine.removed == ["job-b", "twin-b"]
    assert sorted(path.name for path in scratch.iterdir()) == [entrypoint.IMAGES_DIRECTORY, here]


def test_a_name_server_that_does_not_answer_is_not_waited_for_long(
    entrypoint: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.11\noptions ndots:0\n")
    monkeypatch.setattr(entrypoint, "RESOLVER", resolver)
    entrypoint.shorten_dns_waits()
    assert resolver.read_text().splitlines() == [
        "nameserver 127.0.0.11",
        "options ndots:0",
        "options timeout:1 attempts:2",
    ]
    monkeypatch.setattr(entrypoint, "RESOLVER", tmp_path / "none" / "resolv.conf")
    entrypoint.shorten_dns_waits()
