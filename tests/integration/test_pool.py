"""The pool on a real Swarm."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.provisioner import Provisioner
from swarm_runner.submit.description import group_into_batches
from swarm_runner.submit.translation import translate
from swarm_runner.swarm.client import DockerSwarm
from swarm_runner.swarm.execution import execute
from tests.integration.conftest import service_container, write_executors_token
from tests.integration.process_signals import signal_daemon
from tests.integration.shell import CommandShell
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S, poll_until

CONDOR_LABEL = "org.htcondorproject"
OWNER_LABEL = "swarm-runner.executor"
NO_CAPACITY = "insufficient resources"


@pytest.fixture
def restored_lab(lab: LabPool) -> Iterator[LabPool]:
    yield lab
    lab.provisioner.scale({"normal": 2, "big": 1}, timeout_s=TIMEOUT_S)


def memories(status: PoolStatus) -> list[int | None]:
    return [executor.memory_mb for executor in status.executors]


def wait_for_memories(lab: LabPool, expected: list[int]) -> PoolStatus:
    return poll_until(lab.provisioner.status, lambda status: memories(status) == expected)


def test_scaling_as_on_the_slides(restored_lab: LabPool) -> None:
    before = wait_for_memories(restored_lab, [1024, 1024, 2048])
    # The schedd keeps its claim on a slot for a moment after its last job.
    assert {e.state for e in before.executors} <= {"Unclaimed", "Claimed"}
    after = restored_lab.provisioner.scale({"normal": 5}, timeout_s=TIMEOUT_S)
    assert memories(after) == [1024] * 5 + [2048]
    assert {e.task for e in before.executors} <= {e.task for e in after.executors}


def test_a_second_up_changes_nothing(lab: LabPool) -> None:
    before = lab.provisioner.status()
    after = lab.provisioner.up()
    assert [e.task for e in after.executors] == [e.task for e in before.executors]
    assert after.manager == before.manager


def test_up_heals_a_service_removed_by_hand(restored_lab: LabPool) -> None:
    big = restored_lab.destination.pool.service("big")
    DockerSwarm().remove_services([big])
    poll_until(
        restored_lab.provisioner.status,
        lambda status: f"service {big} is missing" in status.problems,
    )
    assert restored_lab.provisioner.up().ready("big") == 1
    wait_for_memories(restored_lab, [1024, 1024, 2048])


def test_a_scale_down_waits_for_the_job(restored_lab: LabPool) -> None:
    pool = restored_lab.destination.pool
    output = Path(restored_lab.volume) / "survivor"
    output.unlink(missing_ok=True)
    invocation = Invocation(
        image="debian:trixie",
        shell="sleep 12; echo done",
        stdout="survivor",
        working_directory=str(restored_lab.volume),
        resources={"memory_mb": 100},
    )
    access_point = PoolQuery.connect(pool, restored_lab.destination.token_directory)
    route = swarm_runner_route(invocation, restored_lab.destination, pool)
    [(batch, _)] = group_into_batches([translate(invocation, route, pool, runner="lab")])
    [job_id] = access_point.submit(batch).ids
    poll_until(restored_lab.provisioner.status, lambda status: str(job_id) in status.jobs)
    with pytest.raises(PreconditionError, match="--drain"):
        restored_lab.provisioner.down()
    restored_lab.provisioner.scale({"normal": 0}, timeout_s=TIMEOUT_S)
    assert output.read_text() == "done\n"
    assert output.stat().st_uid == pool.user.uid


def test_an_executor_prunes_only_containers_without_an_owner(
    restored_lab: LabPool, docker_client: docker.DockerClient
) -> None:
    pool = restored_lab.destination.pool
    neighbour = service_container(docker_client, pool.service("big")).short_id
    labels = {CONDOR_LABEL: "True", "swarm-runner.pool": pool.name}
    owned = docker_client.containers.create(
        "debian:trixie", "true", labels=labels | {OWNER_LABEL: neighbour}
    )
    orphan = docker_client.containers.create(
        "debian:trixie", "true", labels=labels | {OWNER_LABEL: "stopped"}
    )
    # A starter inspects its container after the exit. An executor that starts in between must
    # not remove it.
    owned.start()
    owned.wait()
    try:
        restored_lab.provisioner.scale({"normal": 3}, timeout_s=TIMEOUT_S)
        containers = poll_until(
            lambda: {found.id for found in docker_client.containers.list(all=True)},
            lambda ids: orphan.id not in ids,
        )
        assert owned.id in containers
    finally:
        owned.remove(force=True)


def test_only_the_central_manager_has_the_signing_key(
    lab: LabPool, docker_client: docker.DockerClient
) -> None:
    pool = lab.destination.pool
    executor = service_container(docker_client, pool.service("big"))
    assert executor.exec_run(["test", "-e", "/etc/condor/passwords.d/POOL"]).exit_code == 1
    owner = execute(executor, ["stat", "-c", "%a %U", "/etc/condor/tokens.d/executor"])
    assert owner.output == b"400 root\n"
    manager = service_container(docker_client, pool.service())
    assert manager.exec_run(["test", "-s", "/etc/condor/passwords.d/POOL"]).exit_code == 0


def test_an_executors_token_submits_nothing(lab: LabPool, tmp_path: Path) -> None:
    pool = lab.destination.pool
    write_executors_token(pool, tmp_path)
    invocation = Invocation(
        image="debian:trixie", command=["true"], working_directory=str(tmp_path)
    )
    route = swarm_runner_route(invocation, lab.destination, pool)
    [(batch, _)] = group_into_batches([translate(invocation, route, pool)])
    # In another process: the session of this one with the access point has the client's rights.
    script = (
        "import sys; from swarm_runner.condor.pool_query import PoolQuery; "
        "from swarm_runner.submit.description import SubmitBatch; "
        "query = PoolQuery(*sys.argv[1:4]); "
        "print(len({slot.task for slot in query.slots()})); "
        "query.submit(SubmitBatch.model_validate_json(sys.argv[4]))"
    )
    arguments = [pool.address, pool.name, str(tmp_path), batch.model_dump_json()]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    # It may read, and may not submit.
    assert (done.returncode, done.stdout.strip()) == (1, "3"), done.stderr
    assert "UnreachableError" in done.stderr or "PreconditionError" in done.stderr


def test_an_unreachable_engine(
    monkeypatch: pytest.MonkeyPatch, lab: LabPool, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    pool = Pool(name="nowhere")
    access_point = PoolQuery.connect(lab.destination.pool, lab.destination.token_directory)
    provisioner = Provisioner(pool, DockerSwarm(), access_point, tmp_path / "token")
    with pytest.raises(UnreachableError, match="DOCKER_HOST"):
        provisioner.up()
    assert not (tmp_path / "token").exists()


def test_an_unschedulable_executor_is_reported(tmp_path: Path) -> None:
    classes = {
        "normal": {"memory_mb": 256, "replicas": 1},
        "huge": {"memory_mb": 64_000_000, "replicas": 0},
    }
    with lab_pool("swarm-runner-test-huge", 9742, {"classes": classes}) as lab:
        with pytest.raises(
            PreconditionError, match=f"timed out after 30 s: .*huge: 0 of 1 .*{NO_CAPACITY}"
        ):
            lab.provisioner.scale({"huge": 1}, timeout_s=30)
        status = CommandShell(tmp_path, lab.job_conf, "unused").run("pool", "status", "--json")
        assert status.code == 0, status.err
        [line] = [e for e in status.data["executors"] if e["capacity_class"] == "huge"]
        assert (line["task_state"], line["node"]) == ("pending", "")
        assert NO_CAPACITY in line["problem"]
        # Other classes are scaled regardless.
        assert lab.provisioner.scale({"normal": 2}, timeout_s=TIMEOUT_S).ready("normal") == 2


def test_preen_leaves_the_record_of_tokens(
    lab: LabPool, docker_client: docker.DockerClient
) -> None:
    """HTCondor runs it every day. A revocation must survive it."""
    manager = service_container(docker_client, lab.destination.pool.service())
    spool = "/var/lib/swarm-runner/spool"
    assert manager.exec_run(["touch", f"{spool}/unknown"]).exit_code == 0
    done = execute(manager, ["condor_preen", "-r"])
    assert done.exit_code == 0, done.errors
    left = execute(manager, ["ls", spool]).output
    assert b"swarm-runner-tokens.json\n" in left
    assert b"unknown" not in left


def test_the_manager_watches_its_clock(lab: LabPool, docker_client: docker.DockerClient) -> None:
    """What it does when the clock is set is a fault of `make faults`."""
    manager = service_container(docker_client, lab.destination.pool.service())
    signal_daemon(manager, "clock_watch.py", "CONT")  # raises if it does not run
