"""The pool on a real Swarm: what the slides show, and what they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.cli import main
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.provisioner import Provisioner
from swarm_runner.submit.description import group_into_batches
from swarm_runner.submit.translation import translate
from swarm_runner.swarm.client import DockerSwarm
from tests.lab.pool import LabPool, lab_pool

CONDOR_LABEL = "org.htcondorproject"
OWNER_LABEL = "swarm-runner.executor"
NO_CAPACITY = "insufficient resources"


@pytest.fixture
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def restored_lab(lab: LabPool) -> Iterator[LabPool]:
    yield lab
    lab.provisioner.scale({"normal": 2, "big": 1}, timeout_s=120)


def memories(status: PoolStatus) -> list[int | None]:
    return [executor.memory_mb for executor in status.executors]


def container(docker_client: docker.DockerClient, service: str) -> Container:
    mark: dict[str, str | list[str] | bool] = {"label": f"com.docker.swarm.service.name={service}"}
    found: Container = docker_client.containers.list(filters=mark)[0]
    return found


def test_scaling_as_on_the_slides(restored_lab: LabPool) -> None:
    before = restored_lab.provisioner.status()
    assert memories(before) == [1024, 1024, 2048]
    # A schedd keeps a slot for a moment after its last job.
    assert {e.state for e in before.executors} <= {"Unclaimed", "Claimed"}
    after = restored_lab.provisioner.scale({"normal": 5}, timeout_s=120)
    assert memories(after) == [1024] * 5 + [2048]
    kept = {e.task for e in before.executors}
    assert kept <= {e.task for e in after.executors}


def test_a_second_up_changes_nothing(lab: LabPool) -> None:
    before = lab.provisioner.status()
    after = lab.provisioner.up()
    assert [e.task for e in after.executors] == [e.task for e in before.executors]
    assert after.manager == before.manager


def test_up_heals_a_service_removed_by_hand(restored_lab: LabPool) -> None:
    big = restored_lab.destination.pool.service("big")
    DockerSwarm().remove_services([big])
    assert f"service {big} is missing" in restored_lab.provisioner.status().problems
    assert memories(restored_lab.provisioner.up()) == [1024, 1024, 2048]


def test_a_scale_down_waits_for_the_job(restored_lab: LabPool) -> None:
    pool = restored_lab.destination.pool
    made = Path(restored_lab.volume) / "survivor"
    made.unlink(missing_ok=True)
    invocation = Invocation(
        image="debian:trixie",
        shell="sleep 12; echo done",
        stdout="survivor",
        working_directory=str(restored_lab.volume),
        resources={"memory_mb": 100},
    )
    point = AccessPoint.connect(pool, restored_lab.destination.token_directory)
    route = swarm_runner_route(invocation, restored_lab.destination, pool)
    [(batch, _)] = group_into_batches([translate(invocation, route, pool, runner="lab")])
    [job] = point.submit(batch).ids
    running_on(restored_lab, str(job))
    with pytest.raises(PreconditionError, match="--drain"):
        restored_lab.provisioner.down()
    restored_lab.provisioner.scale({"normal": 0}, timeout_s=120)
    assert made.read_text() == "done\n"
    assert made.stat().st_uid == pool.user.uid


def running_on(lab: LabPool, job: str) -> None:
    from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

    waiting = Retrying(
        stop=stop_after_delay(60), wait=wait_fixed(0.5), retry=retry_if_result(lambda got: not got)
    )
    waiting(lambda: job in lab.provisioner.status().jobs)


def test_an_executor_prunes_its_own_containers_alone(
    restored_lab: LabPool, docker_client: docker.DockerClient
) -> None:
    pool = restored_lab.destination.pool
    neighbour = container(docker_client, pool.service("big")).short_id
    marks = {CONDOR_LABEL: "True", "swarm-runner.pool": pool.name}
    ended = docker_client.containers.create(
        "debian:trixie", "true", labels=marks | {OWNER_LABEL: neighbour}
    )
    orphan = docker_client.containers.create(
        "debian:trixie", "true", labels=marks | {OWNER_LABEL: "gone"}
    )
    ended.start()
    ended.wait()
    try:
        restored_lab.provisioner.scale({"normal": 3}, timeout_s=120)
        left = {found.id for found in docker_client.containers.list(all=True)}
        assert ended.id in left  # between exit and inspection, a neighbour's start is harmless
        assert orphan.id not in left
    finally:
        ended.remove(force=True)


def test_the_signing_key_reaches_the_manager_alone(
    lab: LabPool, docker_client: docker.DockerClient
) -> None:
    pool = lab.destination.pool
    executor = container(docker_client, pool.service("big"))
    assert executor.exec_run(["test", "-e", "/etc/condor/passwords.d/POOL"]).exit_code == 1
    assert executor.exec_run(["stat", "-c", "%a %U", "/etc/condor/tokens.d/executor"]).output == (
        b"400 root\n"
    )
    manager = container(docker_client, pool.service())
    assert manager.exec_run(["test", "-s", "/etc/condor/passwords.d/POOL"]).exit_code == 0


def test_an_executors_token_submits_nothing(
    lab: LabPool, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    pool = lab.destination.pool
    executor = container(docker_client, pool.service("big"))
    token = tmp_path / pool.name
    shown = executor.exec_run(["cat", "/etc/condor/tokens.d/executor"]).output
    assert isinstance(shown, bytes)
    token.write_bytes(shown)
    token.chmod(0o600)
    invocation = Invocation(
        image="debian:trixie", command=["true"], working_directory=str(tmp_path)
    )
    route = swarm_runner_route(invocation, lab.destination, pool)
    [(batch, _)] = group_into_batches([translate(invocation, route, pool)])
    # A process of its own: this one's session with the access point has the client's rights.
    script = (
        "import sys; from swarm_runner.condor.access_point import AccessPoint; "
        "from swarm_runner.submit.description import SubmitBatch; "
        "point = AccessPoint(*sys.argv[1:4]); print(len(point.slots())); "
        "point.submit(SubmitBatch.model_validate_json(sys.argv[4]))"
    )
    arguments = [pool.address, pool.name, str(tmp_path), batch.model_dump_json()]
    tried = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert tried.stdout.strip() == "3"  # it may read
    assert tried.returncode == 1
    assert "OutOfReachError" in tried.stderr or "RefusedError" in tried.stderr


def test_an_engine_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, lab: LabPool, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    pool = Pool(name="nowhere")
    point = AccessPoint.connect(lab.destination.pool, lab.destination.token_directory)
    nowhere = Provisioner(pool, DockerSwarm(), point, tmp_path / "token")
    with pytest.raises(UnreachableError, match="DOCKER_HOST"):
        nowhere.up()
    assert not (tmp_path / "token").exists()


def test_what_no_node_has_the_memory_for_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    classes = {
        "normal": {"memory_mb": 256, "replicas": 1},
        "huge": {"memory_mb": 64_000_000, "replicas": 0},
    }
    with lab_pool("swarm-runner-test-huge", 9742, {"classes": classes}) as lab:
        with pytest.raises(
            PreconditionError, match=f"after 10 s still .*huge: 0 of 1 .*{NO_CAPACITY}"
        ):
            lab.provisioner.scale({"huge": 1}, timeout_s=10)
        capsys.readouterr()
        assert main(["pool", "status", "--json", "--job-conf", str(lab.job_conf)]) == 0
        status = json.loads(capsys.readouterr().out)
        [line] = [line for line in status["executors"] if line["capacity_class"] == "huge"]
        assert (line["task_state"], line["node"]) == ("pending", "")
        assert NO_CAPACITY in line["problem"]
        # The others do not wait for it.
        assert lab.provisioner.scale({"normal": 2}, timeout_s=120).ready("normal") == 2
