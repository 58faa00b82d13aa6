"""What the runner submits, and what it rejects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError, UnreachableError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination, Pool, Route
from tests.unit.runner.conftest import RunnerHarness


def test_jobs_are_returned_in_the_order_of_their_invocations(harness: RunnerHarness) -> None:
    batch = [
        harness.invocation("a"),
        harness.invocation("b", repeat=3),
        harness.invocation("c", environment={"X": "1"}),
        harness.invocation("d"),
    ]
    with harness.runner() as runner:
        jobs = runner.submit(batch)
    assert [job.key for job in jobs] == ["a", "b", "b", "b", "c", "d"]
    assert len({job.id for job in jobs}) == 6
    assert harness.access_point.calls["submit"] == 3
    ads = harness.access_point.queue
    assert [ads[job.id]["SwarmRunnerKey"] for job in jobs] == [job.key for job in jobs]
    assert {ad["SwarmRunnerName"] for ad in ads.values()} == {"tests"}


def test_no_invocations_make_no_jobs(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        assert runner.submit([]) == []
        assert list(runner.watch()) == []
        assert runner.wait() == []
    assert harness.access_point.calls["submit"] == 0


def test_a_thousand_similar_invocations_are_one_transaction(harness: RunnerHarness) -> None:
    batch = [
        harness.invocation(f"k{n}", command=["echo", str(n)], resources={"memory_mb": 100 + n % 7})
        for n in range(1000)
    ]
    with harness.runner() as runner:
        assert [job.key for job in runner.submit(batch)] == [invocation.key for invocation in batch]
    assert harness.access_point.calls["submit"] == 1


def test_nothing_is_submitted_if_one_of_a_hundred_invocations_is_invalid(
    harness: RunnerHarness,
) -> None:
    batch = [harness.invocation(f"k{n}") for n in range(100)]
    batch[7] = harness.invocation("k7", inputs=["nowhere.txt"])
    batch[40] = harness.invocation("k40", resources={"memory_mb": 100_000})
    batch[41] = harness.invocation("k41", capacity_class="huge")
    batch[99] = harness.invocation("k98")
    with harness.runner() as runner:
        with pytest.raises(InvalidInputError) as caught:
            runner.submit(batch)
        assert runner.jobs() == []
    messages = {item.location: item.message for item in caught.value.diagnostics}
    assert messages["k7: inputs"] == f"{harness.volume}/nowhere.txt does not exist"
    assert "normal: 1 cpu, 1024 MB memory" in messages["k40"]
    assert "huge" in messages["k41"]
    assert messages["k98: key"] == "is used twice in this batch; give each invocation its own key"
    assert len(messages) == 4
    assert harness.access_point.calls["submit"] == 0
    assert harness.access_point.queue == {}


def test_a_missing_image(harness: RunnerHarness) -> None:
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="image is missing"):
        runner.submit([harness.invocation("a", image=None)])


def test_defaults_of_the_destination(harness: RunnerHarness) -> None:
    from swarm_runner.model.resources import Resources

    changes = {"default_image": "alpine:3", "resources": Resources(memory_mb=700)}
    harness.destination = harness.destination.model_copy(update=changes)
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("a", image=None)])
    ad = harness.access_point.queue[job.id]
    assert (ad["DockerImage"], ad["RequestMemory"]) == ("alpine:3", 700)


def test_a_plugin_routes_and_amends(harness: RunnerHarness) -> None:
    class Plugin:
        @hookimpl
        def swarm_runner_route(
            self, invocation: Invocation, destination: Destination, pool: Pool
        ) -> Route | None:
            if invocation.tool_id != "assembler":
                return None
            assert pool == destination.pool
            return Route(
                destination=destination.name,
                capacity_class="big",
                candidates=("big",),
                reason="assemblers need much memory",
            )

        @hookimpl
        def swarm_runner_amend_submit(
            self, invocation: Invocation, route: Route
        ) -> Mapping[str, str]:
            return {"My.Group": f'"{invocation.tool_id} on {route.capacity_class}"'}

    with harness.runner(plugins=[Plugin()]) as runner:
        assembler, cat = runner.submit(
            [harness.invocation(tool_id="assembler"), harness.invocation(tool_id="cat")]
        )
    ads = harness.access_point.queue
    assert ads[assembler.id]["SwarmRunnerClass"] == "big"
    assert ads[assembler.id]["Group"] == "assembler on big"
    assert ads[cat.id]["Group"] == "cat on normal"


def test_the_amendment_of_a_later_plugin_wins(harness: RunnerHarness) -> None:
    class Amends:
        def __init__(self, value: str) -> None:
            self.value = value

        @hookimpl
        def swarm_runner_amend_submit(self) -> Mapping[str, str]:
            return {"My.Value": f'"{self.value}"'}

    with harness.runner(plugins=[Amends("first"), Amends("last")]) as runner:
        (job,) = runner.submit([harness.invocation()])
    assert harness.access_point.queue[job.id]["Value"] == "last"


def test_an_access_point_that_is_unreachable_from_the_start(harness: RunnerHarness) -> None:
    harness.access_point.reachable = False
    with harness.runner() as runner, pytest.raises(UnreachableError):
        runner.submit([harness.invocation()])


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-x", "a" * 101])
def test_invalid_runner_names(harness: RunnerHarness, name: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a valid runner name"):
        harness.runner(name)


def test_in_place_outside_the_volumes_is_rejected(harness: RunnerHarness) -> None:
    with (
        harness.runner() as runner,
        pytest.raises(InvalidInputError, match="is not on a pool volume"),
    ):
        runner.submit([harness.invocation(working_directory=str(harness.home), in_place=True)])


def test_in_place_on_a_read_only_volume_is_rejected(harness: RunnerHarness) -> None:
    (volume,) = harness.destination.pool.volumes
    read_only = volume.model_copy(update={"read_only": True})
    pool = harness.destination.pool.model_copy(update={"volumes": (read_only,)})
    harness.destination = harness.destination.model_copy(update={"pool": pool})
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="read-only volume"):
        runner.submit([harness.invocation(in_place=True)])


def test_a_missing_working_directory(harness: RunnerHarness) -> None:
    missing = str(harness.volume / "missing")
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="is not a directory"):
        runner.submit([harness.invocation(working_directory=missing)])


def test_a_job_without_files_starts_in_the_root_directory(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(harness.home)
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(working_directory=None)])
    assert harness.access_point.queue[job.id]["Iwd"] == "/"


def test_the_current_directory_is_the_default_working_directory(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = harness.volume / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(working_directory=None, stdout="out")])
        harness.access_point.start(job.id)
        harness.access_point.finish(job.id, outputs={"stdout": b"hello"})
    assert (below / "out").read_bytes() == b"hello"


def test_files_are_spooled_if_the_volume_is_not_mounted_here(harness: RunnerHarness) -> None:
    pool = harness.destination.pool.model_copy(
        update={"volumes": Pool.model_validate({"volumes": ["/not/mounted"]}).volumes}
    )
    harness.destination = harness.destination.model_copy(update={"pool": pool})
    with harness.runner() as runner:
        assert runner.event_log is None
        (job,) = runner.submit([harness.invocation(stdout="out")])
    assert "SUBMIT_Iwd" in harness.access_point.queue[job.id]


def test_a_directory_whose_name_starts_like_a_volumes_is_not_on_it(harness: RunnerHarness) -> None:
    neighbour = Path(f"{harness.volume}-2")
    neighbour.mkdir()
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(working_directory=str(neighbour), stdout="o")])
    assert "SUBMIT_Iwd" in harness.access_point.queue[job.id]
    assert isinstance(job.id, JobId)


def test_a_line_break_from_a_plugin_is_rejected(harness: RunnerHarness) -> None:
    class Breaks:
        @hookimpl
        def swarm_runner_amend_submit(self) -> Mapping[str, str]:
            return {"output": "a\nqueue 500"}

    rejected = pytest.raises(InvalidInputError, match=r"k: plugin .*amend.*control character")
    with harness.runner(plugins=[Breaks()]) as runner, rejected:
        runner.submit([harness.invocation("k")])
    assert harness.access_point.calls["submit"] == 0


def test_a_current_directory_that_htcondor_cannot_represent(
    harness: RunnerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a\nb"
    odd.mkdir()
    monkeypatch.chdir(odd)
    rejected = pytest.raises(InvalidInputError, match=r"the current directory .*control character")
    with harness.runner() as runner:
        with rejected:
            runner.submit([harness.invocation("k", working_directory=None, stdout="out")])
        assert runner.submit([harness.invocation("no-files", working_directory=None)])
