"""What is sent, and what is refused."""

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


def test_jobs_come_back_in_the_order_of_their_invocations(harness: RunnerHarness) -> None:
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


def test_nothing_makes_nothing(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        assert runner.submit([]) == []
        assert list(runner.watch()) == []
        assert runner.wait() == []
    assert harness.access_point.calls["submit"] == 0


def test_a_thousand_of_one_shape_are_one_message(harness: RunnerHarness) -> None:
    batch = [
        harness.invocation(f"k{n}", command=["echo", str(n)], resources={"memory_mb": 100 + n % 7})
        for n in range(1000)
    ]
    with harness.runner() as runner:
        assert [job.key for job in runner.submit(batch)] == [one.key for one in batch]
    assert harness.access_point.calls["submit"] == 1


def test_one_bad_invocation_of_a_hundred_and_nothing_is_sent(harness: RunnerHarness) -> None:
    batch = [harness.invocation(f"k{n}") for n in range(100)]
    batch[7] = harness.invocation("k7", inputs=["nowhere.txt"])
    batch[40] = harness.invocation("k40", resources={"memory_mb": 100_000})
    batch[41] = harness.invocation("k41", capacity_class="huge")
    batch[99] = harness.invocation("k98")
    with harness.runner() as runner:
        with pytest.raises(InvalidInputError) as caught:
            runner.submit(batch)
        assert runner.jobs() == []
    faults = {fault.location: fault.message for fault in caught.value.diagnostics}
    assert faults["k7: inputs"] == f"{harness.volume}/nowhere.txt does not exist"
    assert "normal: 1 cpu, 1024 MB memory" in faults["k40"]
    assert "huge" in faults["k41"]
    assert faults["k98: key"] == "is twice in this batch"
    assert len(faults) == 4
    assert harness.access_point.calls["submit"] == 0
    assert harness.access_point.queue == {}


def test_an_image_that_nobody_names(harness: RunnerHarness) -> None:
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="image is missing"):
        runner.submit([harness.invocation("a", image=None)])


def test_the_destinations_defaults(harness: RunnerHarness) -> None:
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
                reason="assemblers are greedy",
            )

        @hookimpl
        def swarm_runner_amend_submit(
            self, invocation: Invocation, route: Route
        ) -> Mapping[str, str]:
            return {"My.Group": f'"{invocation.tool_id} on {route.capacity_class}"'}

    with harness.runner(plugins=[Plugin()]) as runner:
        one, two = runner.submit(
            [harness.invocation(tool_id="assembler"), harness.invocation(tool_id="cat")]
        )
    ads = harness.access_point.queue
    assert ads[one.id]["SwarmRunnerClass"] == "big"
    assert ads[one.id]["Group"] == "assembler on big"
    assert ads[two.id]["Group"] == "cat on normal"


def test_a_later_plugins_amendment_has_the_last_word(harness: RunnerHarness) -> None:
    class Says:
        def __init__(self, word: str) -> None:
            self.word = word

        @hookimpl
        def swarm_runner_amend_submit(self) -> Mapping[str, str]:
            return {"My.Word": f'"{self.word}"'}

    with harness.runner(plugins=[Says("first"), Says("last")]) as runner:
        (job,) = runner.submit([harness.invocation()])
    assert harness.access_point.queue[job.id]["Word"] == "last"


def test_an_access_point_that_is_away_from_the_start(harness: RunnerHarness) -> None:
    harness.access_point.reachable = False
    with harness.runner() as runner, pytest.raises(UnreachableError):
        runner.submit([harness.invocation()])


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-x", "a" * 101])
def test_names_that_a_runner_cannot_have(harness: RunnerHarness, name: str) -> None:
    with pytest.raises(InvalidInputError, match="no runner's name"):
        harness.runner(name)


def test_in_place_off_the_volumes_is_refused(harness: RunnerHarness) -> None:
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="none of the pool's"):
        runner.submit([harness.invocation(working_directory=str(harness.home), in_place=True)])


def test_in_place_on_a_read_only_volume_is_refused(harness: RunnerHarness) -> None:
    (volume,) = harness.destination.pool.volumes
    kept = volume.model_copy(update={"read_only": True})
    pool = harness.destination.pool.model_copy(update={"volumes": (kept,)})
    harness.destination = harness.destination.model_copy(update={"pool": pool})
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="read-only volume"):
        runner.submit([harness.invocation(in_place=True)])


def test_a_directory_that_is_not_there(harness: RunnerHarness) -> None:
    gone = str(harness.volume / "gone")
    with harness.runner() as runner, pytest.raises(InvalidInputError, match="is no directory here"):
        runner.submit([harness.invocation(working_directory=gone)])


def test_without_files_a_job_needs_no_directory_of_ours(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(harness.home)
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(working_directory=None)])
    assert harness.access_point.queue[job.id]["Iwd"] == "/"


def test_the_callers_directory_is_where_files_are(
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


def test_a_volume_that_is_not_mounted_here_is_no_place_for_files(harness: RunnerHarness) -> None:
    pool = harness.destination.pool.model_copy(
        update={"volumes": Pool.model_validate({"volumes": ["/not/mounted"]}).volumes}
    )
    harness.destination = harness.destination.model_copy(update={"pool": pool})
    with harness.runner() as runner:
        assert runner.event_log is None
        (job,) = runner.submit([harness.invocation(stdout="out")])
    assert "SUBMIT_Iwd" in harness.access_point.queue[job.id]


def test_paths_of_a_volume_are_told_from_their_neighbours(harness: RunnerHarness) -> None:
    neighbour = Path(f"{harness.volume}-2")
    neighbour.mkdir()
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(working_directory=str(neighbour), stdout="o")])
    assert "SUBMIT_Iwd" in harness.access_point.queue[job.id]
    assert isinstance(job.id, JobId)


def test_a_plugins_line_break_is_refused(harness: RunnerHarness) -> None:
    class Breaks:
        @hookimpl
        def swarm_runner_amend_submit(self) -> Mapping[str, str]:
            return {"output": "a\nqueue 500"}

    refused = pytest.raises(InvalidInputError, match=r"plugin amends .*control character")
    with harness.runner(plugins=[Breaks()]) as runner, refused:
        runner.submit([harness.invocation("k")])
    assert harness.access_point.calls["submit"] == 0


def test_a_current_directory_that_htcondor_cannot_name(
    harness: RunnerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a\nb"
    odd.mkdir()
    monkeypatch.chdir(odd)
    refused = pytest.raises(InvalidInputError, match=r"current directory .*control character")
    with harness.runner() as runner:
        with refused:
            runner.submit([harness.invocation("k", working_directory=None, stdout="out")])
        assert runner.submit([harness.invocation("no-files", working_directory=None)])
