"""The contract of the Swarm port, for the fake Swarm and a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from swarm_runner.errors import ConflictError, PreconditionError
from swarm_runner.model.pool import CapacityClass, Network, Pool
from swarm_runner.model.pool_status import TaskState
from swarm_runner.provisioner.subnets import choose_subnet
from swarm_runner.swarm.client import DockerSwarm
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, ConfigSpec, Stack
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(
    name="swarm-runner-contract",
    port=9747,
    classes={"normal": CapacityClass(memory_mb=64, replicas=1)},
)


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    retry = Retrying(
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(0.2),
        retry=retry_if_result(lambda result: not result),
    )
    retry(condition)


def remove(swarm: Swarm, stack: Stack) -> None:
    swarm.remove_services(list(swarm.services(POOL.name)))
    retry = Retrying(
        stop=stop_after_delay(90),
        wait=wait_fixed(0.5),
        retry=retry_if_exception_type(PreconditionError),
    )
    retry(swarm.remove_pool_resources, POOL.name, [stack.spool_volume, stack.scratch_volume])


@pytest.fixture(params=["fake", "real"])
def swarm(request: pytest.FixtureRequest) -> Iterator[Swarm]:
    if request.param == "fake":
        yield FakeSwarm()
        return
    real = DockerSwarm()
    initialised = not real.docker_engine().swarm
    if initialised:
        real.initialise("127.0.0.1")
    yield real
    if initialised and real.initialised_here():
        real.leave()


@pytest.fixture
def stack(swarm: Swarm) -> Iterator[Stack]:
    """Yield the stack of POOL, with its network and secrets."""
    image = swarm.pool_image(None, lambda _message: None)
    stack = Stack(pool=POOL, image=image, node_id=swarm.docker_engine().node_id)
    remove(swarm, stack)
    subnet = choose_subnet(Network(prefix=26), swarm.address_space())
    swarm.create_network(stack.network, stack.labels, str(subnet))
    for secret in (stack.signing_key, stack.executor_token):
        swarm.create_secret(secret, b"a secret", stack.labels)
    yield stack
    remove(swarm, stack)


def running(swarm: Swarm, service: str) -> list[TaskState]:
    tasks = swarm.tasks(POOL.name)
    return [t for t in tasks if t.service == service and t.state == "running" and not t.stopping]


def test_the_engine_is_a_swarm_manager(swarm: Swarm) -> None:
    engine = swarm.docker_engine()
    assert engine.swarm
    assert engine.swarm_manager
    assert engine.node_id
    assert engine.nodes >= 1
    assert engine.memory_limit


def test_the_nodes_of_the_swarm(swarm: Swarm) -> None:
    engine = swarm.docker_engine()
    nodes = {node.id: node for node in swarm.nodes()}
    own = nodes[engine.node_id]
    assert (own.name, own.engine_version) == (engine.name, engine.version)
    assert own.architecture == "x86_64"
    assert len(nodes) == engine.nodes


def test_an_unknown_pool_has_no_objects(swarm: Swarm) -> None:
    assert swarm.services("swarm-runner-nowhere") == {}
    assert swarm.tasks("swarm-runner-nowhere") == []
    assert swarm.networks("swarm-runner-nowhere") == set()
    assert swarm.secrets("swarm-runner-nowhere") == set()
    assert swarm.exec_in_service("swarm-runner-nowhere_htcondor", ["true"]) is None
    swarm.remove_services(["swarm-runner-nowhere_htcondor"])
    swarm.remove_pool_resources("swarm-runner-nowhere", ["swarm-runner-nowhere"])


def test_networks_and_secrets_of_a_pool(swarm: Swarm, stack: Stack) -> None:
    assert swarm.networks(POOL.name) == {stack.network}
    subnet = swarm.network_subnet(stack.network)
    assert subnet.endswith("/26")
    space = swarm.address_space()
    assert (stack.network, subnet) in space.used
    assert space.pools
    assert swarm.network_subnet("swarm-runner-nowhere") == ""
    assert swarm.secrets(POOL.name) == {stack.signing_key, stack.executor_token}


def test_a_config_is_a_file_of_the_service_that_names_it(swarm: Swarm, stack: Stack) -> None:
    name, path = f"{POOL.name}_htcondor-test", "/etc/swarm-runner-test.yml"
    assert swarm.configs(POOL.name) == set()
    swarm.create_config(name, b"a: 1\n", stack.labels)
    with pytest.raises((PreconditionError, ConflictError)):
        swarm.create_config(name, b"a: 2\n", stack.labels)
    spec = stack.central_manager().model_copy(
        update={"configs": (ConfigSpec(name=name, target=path),)}
    )
    swarm.create_service(spec)
    assert swarm.configs(POOL.name) == {name}
    with pytest.raises(PreconditionError, match="in use"):
        swarm.remove_configs([name])
    swarm.remove_services([spec.name])
    wait_until(lambda: not swarm.services(POOL.name))
    swarm.remove_configs([name, "swarm-runner-nowhere"])
    assert swarm.configs(POOL.name) == set()


def test_create_scale_update_and_remove_a_service(swarm: Swarm, stack: Stack) -> None:
    spec = stack.central_manager()
    swarm.create_service(spec)
    state = swarm.services(POOL.name)[spec.name]
    assert (state.replicas, state.image) == (1, stack.image)
    assert state.labels[SPEC_DIGEST_LABEL] == spec.digest()
    assert state.labels["com.docker.stack.namespace"] == POOL.name
    wait_until(lambda: len(running(swarm, spec.name)) == 1)
    first = running(swarm, spec.name)[0]
    assert (first.slot, bool(first.node), bool(first.container)) == (1, True, True)
    token = swarm.exec_in_service(spec.name, ["condor_token_create", "-identity", f"a@{POOL.name}"])
    assert token is not None
    assert token.count(b".") == 2

    # Swarm itself changes a service after its creation.
    state = swarm.services(POOL.name)[spec.name]
    swarm.scale_service(spec.name, 0, state.version)
    with pytest.raises(ConflictError):
        swarm.scale_service(spec.name, 2, state.version)
    wait_until(lambda: not running(swarm, spec.name))
    changed = stack.central_manager().model_copy(update={"stop_grace_s": 30})
    swarm.update_service(changed)
    state = swarm.services(POOL.name)[spec.name]
    assert state.replicas == 0  # an update does not change the count
    assert state.labels[SPEC_DIGEST_LABEL] == changed.digest() != spec.digest()

    swarm.remove_services([spec.name])
    assert swarm.services(POOL.name) == {}


def test_a_failed_update_pauses_and_is_restored(swarm: Swarm, stack: Stack) -> None:
    spec = stack.central_manager()
    swarm.create_service(spec)
    wait_until(lambda: len(running(swarm, spec.name)) == 1)
    [task] = running(swarm, spec.name)
    assert task.spec_digest == spec.digest()
    previous = swarm.service_spec(spec.name)

    broken = spec.model_copy(update={"image": "swarm-runner-contract-nowhere:1"})
    if isinstance(swarm, FakeSwarm):
        swarm.start_errors[broken.image] = "No such image"
    swarm.update_service(broken, update_delay_s=3600)
    wait_until(lambda: swarm.services(POOL.name)[spec.name].updating)

    def failed() -> list[TaskState]:
        return [t for t in swarm.tasks(POOL.name) if t.failed and t.spec_digest == broken.digest()]

    wait_until(lambda: bool(failed()) and swarm.services(POOL.name)[spec.name].updating)
    assert "No such image" in failed()[0].error

    swarm.restore_service(spec.name, previous)
    state = swarm.services(POOL.name)[spec.name]
    assert (state.image, state.replicas) == (spec.image, 1)
    assert state.labels[SPEC_DIGEST_LABEL] == spec.digest()
    wait_until(lambda: [t.spec_digest for t in running(swarm, spec.name)] == [spec.digest()])


def test_the_spec_of_a_missing_service(swarm: Swarm) -> None:
    with pytest.raises(PreconditionError):
        swarm.service_spec("swarm-runner-nowhere_htcondor")


def test_resources_in_use_are_not_removed(swarm: Swarm, stack: Stack) -> None:
    swarm.create_service(stack.central_manager())
    wait_until(lambda: len(running(swarm, POOL.service())) == 1)
    with pytest.raises(PreconditionError):
        swarm.remove_pool_resources(POOL.name, [stack.spool_volume])


def test_a_service_name_is_unique(swarm: Swarm, stack: Stack) -> None:
    spec = stack.central_manager()
    swarm.create_service(spec)
    with pytest.raises(PreconditionError):
        swarm.create_service(spec)


def test_scaling_a_missing_service(swarm: Swarm) -> None:
    with pytest.raises(PreconditionError):
        swarm.scale_service("swarm-runner-nowhere_htcondor", 2)


def test_volumes_are_removed_on_every_node(swarm: Swarm, stack: Stack) -> None:
    spec = stack.central_manager()
    swarm.create_service(spec)
    wait_until(lambda: len(running(swarm, spec.name)) == 1)
    swarm.remove_services([spec.name])
    wait_until(lambda: not swarm.tasks(POOL.name))
    assert swarm.remove_volumes(POOL.name, stack.image, [stack.spool_volume, "no-such"]) == []


@pytest.mark.parametrize("swarm", ["real"], indirect=True)
def test_a_pool_without_executors_has_no_images(swarm: Swarm, stack: Stack) -> None:
    result = swarm.manage_job_images(stack, ["prune", "0"], 60)
    assert (result.unfinished_hosts, result.lines) == ([], [])
