"""The evaluation of results. Measuring them requires a Galaxy and a pool."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.metrics import Metrics, UserMessages, medians
from benchmarks.tables import build_tables
from benchmarks.verdict import missed_targets, ratios, slopes

GOOD_MESSAGES = UserMessages(
    "swarm",
    held="queued: The pool holds this job: for inspection",
    memory="error: The job used more memory than the 100 MB it requested and was stopped",
    image="error: The image does not exist, or access to it is denied.",
)


def metrics(runner: str, seconds: int, cpu_s: float, life_s: float = 0) -> Metrics:
    return Metrics(runner, seconds, jobs=10, ok=10, handler_cpu_s=cpu_s, life_s=life_s)


MEASURED = [
    metrics("swarm", 0, 0.3, 20),
    metrics("condor", 0, 0.4, 20),
    metrics("htcondor", 0, 0.5, 20),
    metrics("swarm", 120, 0.3, 140),
    metrics("condor", 120, 1.0, 140),
    metrics("htcondor", 120, 0.8, 140),
    metrics("condor_outside", 120, 16, 140),
]


def test_the_runner_is_compared_with_the_better_peer_for_each_length_and_metadata_mode() -> None:
    results = [(r.seconds, r.metadata_mode, r.peer, r.met) for r in ratios(MEASURED)]
    assert results == [
        (0, "in Galaxy's process", "condor", False),
        (120, "in Galaxy's process", "htcondor", True),
        (120, "outside", "condor_outside", True),
    ]
    (message,) = missed_targets(MEASURED, [GOOD_MESSAGES])
    assert message.startswith("jobs of 0 s: handler CPU is 0.75 of condor's")


def test_a_slope_is_by_the_lifetime_of_the_jobs() -> None:
    by_runner = {slope.runner: slope for slope in slopes(MEASURED)}
    assert by_runner["swarm"].each_second_s == 0
    assert by_runner["condor"].each_second_s == pytest.approx(0.6 / 120)
    assert by_runner["condor"].without_life_s == pytest.approx(0.4 - 20 * 0.6 / 120)
    assert "condor_outside" not in by_runner  # measured for one length only


def test_failed_jobs_are_reported() -> None:
    short = dataclasses.replace(metrics("condor", 0, 0.1), ok=9)
    assert list(missed_targets([short], [])) == [
        "only 9 of 10 jobs of 0 s succeeded with condor",
    ]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("held", "running"),
        ("held", "error: The pool holds this job"),
        ("memory", "error: Unable to finish job"),
        ("memory", "running"),
        ("image", "error: Job failed"),
        ("image", "queued: The image does not exist"),
    ],
)
def test_a_state_without_the_expected_message_is_a_missed_target(case: str, expected: str) -> None:
    (message,) = missed_targets([], [dataclasses.replace(GOOD_MESSAGES, **{case: expected})])
    assert message == f"{case}: the user saw {expected!r}"


def test_rounds_give_medians_and_the_worst_counts() -> None:
    rounds = [metrics("swarm", 0, cpu_s) for cpu_s in (0.1, 0.9, 0.2)]
    rounds[0].ok, rounds[1].files = 8, 2
    rounds[0].children_cpu_s, rounds[1].children_cpu_s = {"metadata": 0.3}, {"metadata": 0.1}
    (median,) = medians(rounds)
    assert (median.handler_cpu_s, median.ok, median.files) == (0.2, 8, 2)
    assert median.children_cpu_s == {"metadata": 0.1}


def test_the_tables_contain_the_results() -> None:
    output = StringIO()
    for table in build_tables(
        MEASURED, [GOOD_MESSAGES], list(ratios(MEASURED)), list(slopes(MEASURED))
    ):
        Console(file=output, width=170).print(table)
    for text in ("sleep for 120 s", "each second", "condor_outside", "missed", "The pool holds"):
        assert text in output.getvalue()
