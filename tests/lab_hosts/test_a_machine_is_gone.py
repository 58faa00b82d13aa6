"""A machine is gone for good: what docs/operators-guide.md says, typed word for word."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from swarm_runner import Runner
from swarm_runner.errors import SubmitUnresolvedError, UnreachableError
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.swarm.images import ensure_autoscaler_image
from tests.doc_blocks import ROOT, blocks
from tests.faults.pool import provisioner
from tests.lab.hosts.images import pool_image, push
from tests.lab.hosts.layout import REGISTRY, SHARED, node, nodes
from tests.lab.reader import Reader, reader
from tests.lab_hosts.conftest import HostsPool, JobBatch, run_lab_command
from tests.polling import poll_until

pytestmark = pytest.mark.slow
GUIDE = ROOT / "docs" / "operators-guide.md"
NAME, PORT = "swarm-runner-lab-gone", 9724
SPOOL, JOBS = SHARED / f"{NAME}-queue", SHARED / f"{NAME}-jobs"
EXECUTORS, LEASE_S = 4, 60
FIRST, SECOND, THIRD = "swarm-1", "swarm-2", "swarm-3"


@dataclass(frozen=True)
class Operator:
    """Somebody with a shell, the guide and a job_conf."""

    person: Reader
    directory: Path
    stack: contextlib.ExitStack

    def configure(self, **settings: Any) -> None:
        """Write the pool's settings to job_conf."""
        pool = {
            "name": NAME,
            "image": pool_image(),
            "port": PORT,
            "volumes": [str(JOBS)],
            "classes": {"normal": {"memory_mb": 256, "replicas": EXECUTORS, "max_replicas": 6}},
        }
        runner = {"pool": pool | settings, "token_directory": str(self.directory / "tokens.d")}
        content = {
            "runners": {"swarm": runner | {"lease_s": LEASE_S}},
            "execution": {"environments": {"swarm": {"runner": "swarm"}}},
        }
        (self.directory / "job_conf.yml").write_text(yaml.safe_dump(content, sort_keys=False))

    def use_engine(self, host: str) -> None:
        self.person.type(f"export DOCKER_HOST={node(host).docker_host}")

    def follow(self, heading: str, **names: str) -> str:
        """Type the commands of a part of the guide, in which these names stand for others."""
        printed = ""
        for command in commands_of(heading):
            text = command
            for name, value in names.items():
                text = text.replace(name, value)
            printed += self.person.type(text)
        return printed

    def pool(self, client: docker.DockerClient) -> HostsPool:
        """Return the pool as job_conf describes it, through one host's engine."""
        runner = yaml.safe_load((self.directory / "job_conf.yml").read_text())["runners"]["swarm"]
        destination = Destination(
            pool=Pool.model_validate(runner["pool"]),
            lease_s=LEASE_S,
            state_directory=str(self.directory / "state"),
            token_directory=runner["token_directory"],
        )
        manager = self.stack.enter_context(provisioner(destination, client))
        return HostsPool(destination, manager, client, JOBS)


def commands_of(heading: str) -> list[str]:
    """Return the commands between a heading of the guide and the next one."""
    lines = GUIDE.read_text().splitlines()
    begin = lines.index(f"#### {heading}")
    end = next(n for n in range(begin + 1, len(lines)) if lines[n].startswith("#"))
    return [c for b in blocks(GUIDE) if begin < b.line <= end for c in b.commands]


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """An operator of a lab with three Swarm managers, and without a pool."""
    run_lab_command("up", "--tls", "--managers", "3")
    for directory in (SPOOL, JOBS):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    with reader(tmp_path, {}) as person, contextlib.ExitStack() as stack:
        person.type("export SWARM_RUNNER_JOB_CONF=job_conf.yml")
        person.type("unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_CONTEXT")
        try:
            yield Operator(person, tmp_path, stack)
        finally:
            run_lab_command("up", "--tls", "--managers", "3")
            person.type("swarm-runner pool down --force")
            run_lab_command("up", "--tls")


@contextlib.contextmanager
def engine(host: str) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.DockerClient(node(host).docker_host, timeout=60)) as client:
        yield client


def wait_for_executors(pool: HostsPool, without: str) -> PoolStatus:
    """Wait until the pool has all executors, none of them on a host, and no problem."""
    return poll_until(
        lambda: pool.provisioner.status(tokens=True),
        lambda s: (
            s.ready("normal") == EXECUTORS
            and not s.problems
            and without not in {e.node for e in s.executors}
            and not any(without in warning for warning in s.warnings)
        ),
        retry_on=(UnreachableError,),
    )


def submit_when_possible(batch: JobBatch, duration_s: int) -> None:
    number = len(batch.durations_s)

    def attempt() -> bool:
        del batch.durations_s[number:]
        batch.submit([duration_s])
        return True

    poll_until(attempt, retry_on=(UnreachableError, SubmitUnresolvedError))


def test_the_node_of_executors(operator: Operator) -> None:
    operator.use_engine(FIRST)
    operator.configure(host=node(FIRST).address)
    operator.person.type("swarm-runner pool up")
    with engine(FIRST) as client:
        pool = operator.pool(client)
        with pool.job_batch(LEASE_S) as batch:
            batch.submit([45] * EXECUTORS)
            batch.wait_for_running(EXECUTORS)
            run_lab_command("kill", THIRD)
            pool.wait_for_lost(sum(e.node == THIRD for e in pool.provisioner.status().executors))
            operator.follow("Remove the node", NODE=THIRD)
            wait_for_executors(pool, without=THIRD)
            batch.finish()
        assert THIRD not in operator.person.type("docker node ls")


def test_the_node_of_the_queue_with_one_manager(operator: Operator) -> None:
    operator.use_engine(SECOND)
    operator.configure(host=node(SECOND).address)
    operator.person.type("swarm-runner pool up")
    with engine(SECOND) as client, operator.pool(client).job_batch(LEASE_S) as batch:
        batch.submit([60] * EXECUTORS + [1, 1])
        batch.wait_for_running(EXECUTORS)
        operator.person.type("swarm-runner pool backup galaxy.backup")
        run_lab_command("kill", SECOND)
        directory, name = batch.directory, batch.runner.name
    operator.use_engine(FIRST)
    operator.configure(host=node(FIRST).address)
    operator.follow("Restore the queue on another node")
    operator.follow("Remove the node", NODE=SECOND)
    with engine(FIRST) as client:
        pool = operator.pool(client)
        wait_for_executors(pool, without=SECOND)
        with Runner(pool.destination, name=name) as runner:
            again = JobBatch(runner, directory, batch.durations_s)
            assert len(again.finish()) == EXECUTORS + 2
            assert all(again.end_counts()), again.report()


def test_the_node_of_one_of_several_managers(operator: Operator) -> None:
    operator.use_engine(THIRD)
    settings = {"managers": 2, "spool": str(SPOOL)}
    operator.configure(hosts=[node(SECOND).address, node(THIRD).address], **settings)
    operator.person.type("swarm-runner pool up")
    with engine(THIRD) as client, operator.pool(client).job_batch(LEASE_S) as batch:
        batch.submit([60] * EXECUTORS)
        batch.wait_for_running(EXECUTORS)
        run_lab_command("kill", SECOND)
        operator.configure(hosts=[node(FIRST).address, node(THIRD).address], **settings)
        operator.follow("Replace one of several managers")
        operator.follow("Remove the node", NODE=SECOND)
        submit_when_possible(batch, 2)
        batch.finish()
        status = wait_for_executors(operator.pool(client), without=SECOND)
        assert {task.node for task in status.managers if not task.stopping} == {FIRST, THIRD}


def test_the_leader_of_the_swarm(operator: Operator) -> None:
    with engine(FIRST) as client:
        leader = leader_of(client)
    home, other = (host.name for host in nodes() if host.name != leader)
    operator.use_engine(home)
    operator.configure(host=node(home).address)
    operator.person.type("swarm-runner pool up")
    with engine(home) as client:
        pool = operator.pool(client)
        with pool.job_batch(LEASE_S) as batch:
            batch.submit([30] * EXECUTORS)
            batch.wait_for_running(EXECUTORS)
            run_lab_command("kill", leader)
            operator.person.type("swarm-runner pool scale normal=3")  # waits for the election
            operator.follow("Remove the node", NODE=leader)
            operator.person.type(f"docker node promote {other}")
            operator.person.type("swarm-runner pool scale normal=4")
            batch.finish()


def test_most_managers_of_the_swarm(operator: Operator) -> None:
    operator.use_engine(FIRST)
    operator.configure(host=node(FIRST).address)
    operator.person.type("swarm-runner pool up")
    with engine(FIRST) as client:
        pool = operator.pool(client)
        with pool.job_batch(LEASE_S) as batch:
            batch.submit([45] * EXECUTORS)
            batch.wait_for_running(EXECUTORS)
            run_lab_command("kill", SECOND)
            run_lab_command("kill", THIRD)
            submit_when_possible(batch, 2)
            operator.follow("Form the Swarm again", ADDRESS=node(FIRST).address, NODE=SECOND)
            operator.person.type(f"docker node rm --force {THIRD}")
            operator.person.type("swarm-runner pool scale normal=3")
            batch.finish()


def test_the_node_of_the_autoscaler(operator: Operator) -> None:
    operator.use_engine(FIRST)
    with engine(FIRST) as client:
        built = ensure_autoscaler_image(client, None, pool_image(), print)
        image = f"{REGISTRY}/{built}"
        push(client, built, image, print)
        operator.configure(host=node(FIRST).address, autoscaler_image=image)
        operator.person.type("swarm-runner pool up --autoscale")
        pool = operator.pool(client)
        lost = poll_until(lambda: autoscaler_node(pool), bool)
        assert lost != FIRST  # which has the queue
        run_lab_command("kill", lost)
        assert poll_until(lambda: autoscaler_node(pool), lambda name: name not in ("", lost))
        operator.follow("Remove the node", NODE=lost)
        wait_for_executors(pool, without=lost)
        with pool.job_batch(LEASE_S) as batch:
            # Until its ad expires, a job may be matched to an executor that is gone, and waits.
            batch.submit([150] * (EXECUTORS + 1))
            batch.wait_for_running(EXECUTORS + 1)
            batch.finish()


def autoscaler_node(pool: HostsPool) -> str:
    """Return the name of the node on which the autoscaler runs; nothing if it runs on none."""
    task = pool.provisioner.status().autoscaler
    return task.node if task is not None and task.state == "running" and not task.lost else ""


def leader_of(client: docker.DockerClient) -> str:
    """Return the name of the Swarm's leader."""
    [name] = [
        found.attrs["Description"]["Hostname"]
        for found in client.nodes.list()
        if found.attrs.get("ManagerStatus", {}).get("Leader")
    ]
    return str(name)


def test_the_host_of_the_workflow_engine(operator: Operator, tmp_path: Path) -> None:
    """Another host has a copy of the state directory and of the token."""
    operator.use_engine(FIRST)
    operator.configure(host=node(FIRST).address)
    operator.person.type("swarm-runner pool up")
    with engine(FIRST) as client:
        pool = operator.pool(client)
        with pool.job_batch() as batch:
            batch.submit([20] * EXECUTORS)
            batch.wait_for_running(EXECUTORS)
            name = batch.runner.name
        elsewhere = {}
        for setting in ("state_directory", "token_directory"):
            source = Path(str(getattr(pool.destination, setting)))
            elsewhere[setting] = str(shutil.copytree(source, tmp_path / "elsewhere" / source.name))
            shutil.rmtree(source)
        destination = pool.destination.model_copy(update=elsewhere)
        with Runner(destination, name=name) as runner:
            again = JobBatch(runner, batch.directory, batch.durations_s)
            assert len(again.finish()) == EXECUTORS
            assert again.start_counts() == again.end_counts() == [1] * EXECUTORS
        shutil.copytree(elsewhere["token_directory"], str(pool.destination.token_directory))
