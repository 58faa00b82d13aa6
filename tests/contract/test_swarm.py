"""One suite over the fake Swarm and a real one."""

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
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import TaskState
from swarm_runner.swarm.client import DockerSwarm
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, Stack
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(
    name="swarm-runner-contract",
    port=9749,
    classes={"normal": CapacityClass(memory_mb=64, replicas=1)},
)


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    waiting = Retrying(
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(0.2),
        retry=retry_if_result(lambda got: not got),
    )
    waiting(condition)


def remove(swarm: Swarm, stack: Stack) -> None:
    swarm.remove_services(list(swarm.services(POOL.name)))
    waiting = Retrying(
        stop=stop_after_delay(90),
        wait=wait_fixed(0.5),
        retry=retry_if_exception_type(PreconditionError),
    )
    waiting(swarm.remove_pool_resources, POOL.name, [stack.spool_volume, stack.scratch_volume])


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
    """The contract's pool, with its network and secrets made."""
    image = swarm.pool_image(None, lambda _message: None)
    stack = Stack(pool=POOL, image=image, node_id=swarm.docker_engine().node_id)
    remove(swarm, stack)
    swarm.create_network(stack.network, stack.labels)
    for secret in (stack.signing_key, stack.executor_token):
        swarm.create_secret(secret, b"a secret", stack.labels)
    yield stack
    remove(swarm, stack)


def running(swarm: Swarm, service: str) -> list[TaskState]:
    tasks = swarm.tasks(POOL.name)
    return [t for t in tasks if t.service == service and t.state == "running" and not t.stopping]


def test_the_engine_is_a_manager(swarm: Swarm) -> None:
    engine = swarm.docker_engine()
    assert engine.swarm
    assert engine.swarm_manager
    assert engine.node_id
    assert engine.nodes >= 1


def test_nothing_is_there_before_it_is_made(swarm: Swarm) -> None:
    assert swarm.services("swarm-runner-nowhere") == {}
    assert swarm.tasks("swarm-runner-nowhere") == []
    assert swarm.networks("swarm-runner-nowhere") == set()
    assert swarm.secrets("swarm-runner-nowhere") == set()
    assert swarm.exec_in_service("swarm-runner-nowhere_htcondor", ["true"]) is None
    swarm.remove_services(["swarm-runner-nowhere_htcondor"])
    swarm.remove_pool_resources("swarm-runner-nowhere", ["swarm-runner-nowhere"])


def test_network_and_secrets_are_the_pools(swarm: Swarm, stack: Stack) -> None:
    assert swarm.networks(POOL.name) == {stack.network}
    assert swarm.secrets(POOL.name) == {stack.signing_key, stack.executor_token}


def test_a_service_is_made_scaled_updated_and_removed(swarm: Swarm, stack: Stack) -> None:
    wish = stack.central_manager()
    swarm.create_service(wish)
    state = swarm.services(POOL.name)[wish.name]
    assert (state.replicas, state.image) == (1, stack.image)
    assert state.labels[SPEC_DIGEST_LABEL] == wish.digest()
    assert state.labels["com.docker.stack.namespace"] == POOL.name
    wait_until(lambda: len(running(swarm, wish.name)) == 1)
    first = running(swarm, wish.name)[0]
    assert (first.slot, bool(first.node), bool(first.container)) == (1, True, True)
    token = swarm.exec_in_service(wish.name, ["condor_token_create", "-identity", f"a@{POOL.name}"])
    assert token is not None
    assert token.count(b".") == 2

    # Swarm itself has changed the service since it was made.
    state = swarm.services(POOL.name)[wish.name]
    swarm.scale_service(wish.name, 0, state.version)
    with pytest.raises(ConflictError):
        swarm.scale_service(wish.name, 2, state.version)
    wait_until(lambda: not running(swarm, wish.name))
    changed = stack.central_manager().model_copy(update={"stop_grace_s": 30})
    swarm.update_service(changed)
    state = swarm.services(POOL.name)[wish.name]
    assert state.replicas == 0  # an update keeps the count
    assert state.labels[SPEC_DIGEST_LABEL] == changed.digest() != wish.digest()

    swarm.remove_services([wish.name])
    assert swarm.services(POOL.name) == {}


def test_an_update_that_fails_stops_and_is_restored(swarm: Swarm, stack: Stack) -> None:
    wish = stack.central_manager()
    swarm.create_service(wish)
    wait_until(lambda: len(running(swarm, wish.name)) == 1)
    [task] = running(swarm, wish.name)
    assert task.wish == wish.digest()
    former = swarm.service_spec(wish.name)

    broken = wish.model_copy(update={"image": "swarm-runner-contract-nowhere:1"})
    if isinstance(swarm, FakeSwarm):
        swarm.start_errors[broken.image] = "No such image"
    swarm.update_service(broken, update_delay_s=3600)
    wait_until(lambda: swarm.services(POOL.name)[wish.name].updating)

    def failed() -> list[TaskState]:
        return [t for t in swarm.tasks(POOL.name) if t.failed and t.wish == broken.digest()]

    wait_until(lambda: bool(failed()) and swarm.services(POOL.name)[wish.name].updating)
    assert "No such image" in failed()[0].error

    swarm.restore_service(wish.name, former)
    state = swarm.services(POOL.name)[wish.name]
    assert (state.image, state.replicas) == (wish.image, 1)
    assert state.labels[SPEC_DIGEST_LABEL] == wish.digest()
    wait_until(lambda: [t.wish for t in running(swarm, wish.name)] == [wish.digest()])


def test_the_spec_of_what_is_not_there(swarm: Swarm) -> None:
    with pytest.raises(PreconditionError):
        swarm.service_spec("swarm-runner-nowhere_htcondor")


def test_what_is_in_use_is_not_removed(swarm: Swarm, stack: Stack) -> None:
    swarm.create_service(stack.central_manager())
    wait_until(lambda: len(running(swarm, POOL.service())) == 1)
    with pytest.raises(PreconditionError):
        swarm.remove_pool_resources(POOL.name, [stack.spool_volume])


def test_a_name_is_given_once(swarm: Swarm, stack: Stack) -> None:
    wish = stack.central_manager()
    swarm.create_service(wish)
    with pytest.raises(PreconditionError):
        swarm.create_service(wish)


def test_scaling_what_is_not_there_is_refused(swarm: Swarm) -> None:
    with pytest.raises(PreconditionError):
        swarm.scale_service("swarm-runner-nowhere_htcondor", 2)
