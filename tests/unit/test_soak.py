"""What `make soak` calls growth."""

from __future__ import annotations

import pytest

from tests.faults.soak import Sample, growths


def samples(*, before: float, after: float, what: str = "memory") -> list[Sample]:
    """Samples of every 20 s of half an hour."""
    return [
        Sample(time_s, {("manager condor_schedd", what): before if time_s < 1210 else after})
        for time_s in range(20, 1821, 20)
    ]


@pytest.mark.parametrize(
    ("what", "before", "after", "excessive"),
    [
        ("memory", 40_000.0, 41_900.0, False),
        ("memory", 40_000.0, 42_100.0, True),
        # Six percent, and less than a megabyte.
        ("memory", 10_000.0, 10_600.0, False),
        ("descriptors", 100.0, 104.0, False),
        ("descriptors", 100.0, 106.0, True),
        ("descriptors", 10.0, 12.0, False),
        ("threads", 4.0, 6.0, True),
    ],
)
def test_growth_of_five_percent_counts(
    what: str, before: float, after: float, *, excessive: bool
) -> None:
    [growth] = growths(samples(before=before, after=after, what=what))
    assert (growth.before, growth.after) == (before, after)
    assert growth.excessive is excessive


def test_the_first_ten_minutes_do_not_count() -> None:
    found = [Sample(100, {("runner", "threads"): 99})] + [
        Sample(time_s, {("runner", "threads"): 5}) for time_s in range(620, 1821, 20)
    ]
    assert [growth.before for growth in growths(found)] == [5]


def test_what_a_fault_opens_while_it_lasts_does_not_count() -> None:
    found = samples(before=49, after=49, what="descriptors")
    for sample in found[-20:]:
        sample.values["manager condor_schedd", "descriptors"] = 56
    [growth] = growths(found)
    assert (growth.before, growth.after) == (49, 49)


def test_a_process_that_was_there_for_a_moment_tells_nothing() -> None:
    found = samples(before=1, after=1)
    found[-1].values["manager sh", "memory"] = 50_000
    assert [growth.owner for growth in growths(found)] == ["manager condor_schedd"]


def test_files_have_a_limit_instead() -> None:
    key = ("executor /dev/shm/condor", "MB")
    for after, excessive in ((39.0, False), (41.0, True)):
        found = [Sample(t, {key: 1.0 if t < 1210 else after}) for t in range(20, 1821, 20)]
        [growth] = growths(found)
        assert growth.excessive is excessive
