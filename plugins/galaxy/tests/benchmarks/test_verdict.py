"""What is made of the figures; that they are measured takes a Galaxy and a pool."""

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
    held="queued: The pool holds this job: to be looked at",
    memory="error: The job used more memory than the 100 MB it asked for and was ended",
    image="error: The image does not exist, or may not be read.",
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


def test_ours_is_judged_for_each_length_and_form_beside_the_better_peer() -> None:
    found = [(one.seconds, one.metadata_mode, one.peer, one.met) for one in ratios(MEASURED)]
    assert found == [
        (0, "in Galaxy's process", "condor", False),
        (120, "in Galaxy's process", "htcondor", True),
        (120, "outside", "condor_outside", True),
    ]
    (said,) = missed_targets(MEASURED, [GOOD_MESSAGES])
    assert said.startswith("jobs of 0 s: handler CPU is 0.75 of condor's")


def test_a_slope_is_by_how_long_the_jobs_lived() -> None:
    of = {one.runner: one for one in slopes(MEASURED)}
    assert of["swarm"].each_second_s == 0
    assert of["condor"].each_second_s == pytest.approx(0.6 / 120)
    assert of["condor"].without_life_s == pytest.approx(0.4 - 20 * 0.6 / 120)
    assert "condor_outside" not in of  # of one length


def test_jobs_that_did_not_end_well_are_told_of() -> None:
    short = dataclasses.replace(metrics("condor", 0, 0.1), ok=9)
    assert list(missed_targets([short], [])) == [
        "only 9 of 10 jobs of 0 s ended well with condor",
    ]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("held", "running"),
        ("held", "error: The pool holds this job"),
        ("memory", "error: Unable to finish job"),
        ("memory", "running"),
        ("image", "error: Job failed"),
        ("image", "queued: The image does not exist"),
    ],
)
def test_a_state_without_the_right_words_is_not_enough(case: str, expected: str) -> None:
    (missing,) = missed_targets([], [dataclasses.replace(GOOD_MESSAGES, **{case: expected})])
    assert missing == f"{case}: the user saw {expected!r}"


def test_rounds_give_their_medians_and_the_worst_of_what_must_not_be() -> None:
    rounds = [metrics("swarm", 0, cpu_s) for cpu_s in (0.1, 0.9, 0.2)]
    rounds[0].ok, rounds[1].files = 8, 2
    rounds[0].children_cpu_s, rounds[1].children_cpu_s = {"metadata": 0.3}, {"metadata": 0.1}
    (middle,) = medians(rounds)
    assert (middle.handler_cpu_s, middle.ok, middle.files) == (0.2, 8, 2)
    assert middle.children_cpu_s == {"metadata": 0.1}


def test_the_tables_have_what_was_measured() -> None:
    shown = StringIO()
    for table in build_tables(
        MEASURED, [GOOD_MESSAGES], list(ratios(MEASURED)), list(slopes(MEASURED))
    ):
        Console(file=shown, width=170).print(table)
    for words in ("sleep for 120 s", "each second", "condor_outside", "missed", "The pool holds"):
        assert words in shown.getvalue()
