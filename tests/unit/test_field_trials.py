"""Field trials of the configuration and of invocations. The plugins' tests have their own part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner import Destination, InvalidInputError, JobConf, parse_job_conf
from swarm_runner.cli.offline import translate_all
from swarm_runner.config.documents import parse_invocations
from tests.unit.field_trials import KINDS, assert_warnings, cases_of, load_samples
from tests.unit.field_trials.__main__ import DOCUMENT, render

POOL = {"classes": {"normal": {"cpus": 8, "memory_mb": 64_000, "gpus": 1}}}
LOCAL = {"load": "galaxy.jobs.runners.local:LocalJobRunner", "workers": 4}
SWARM = {"load": "swarm_runner_galaxy.runner:SwarmJobRunner", "pool": POOL}
READERS = ("job_conf", "text", "environment", "runner", "pool")


def _job_conf_text(case: dict[str, Any]) -> str:
    """Return the job_conf of a case, or one around the section that the case contains."""
    if "text" in case:
        return str(case["text"])
    if "job_conf" in case:
        return yaml.safe_dump(case["job_conf"], sort_keys=False)
    runner = SWARM | case.get("runner", {})
    if "pool" in case:
        runner["pool"] = {"classes": POOL["classes"]} | case["pool"]
    environment = {"runner": "swarm"} | case.get("environment", {})
    return yaml.safe_dump(
        {
            "runners": {"local": LOCAL, "swarm": runner},
            "execution": {"default": "swarm", "environments": {"swarm": environment}},
        },
        sort_keys=False,
    )


def _summary(configuration: JobConf) -> dict[str, Any]:
    """Return what a case may expect of a job_conf."""
    summary: dict[str, Any] = {
        "destinations": list(configuration.destinations),
        "default": configuration.default,
    }
    for destination in configuration.destinations.values():
        pool, resources = destination.pool, destination.resources
        summary |= {
            "resources": resources.model_dump(exclude_unset=True) if resources else {},
            "volumes": [
                f"{volume.path}:ro" if volume.read_only else volume.path for volume in pool.volumes
            ],
            "classes": {name: size.model_dump() for name, size in pool.classes.items()},
            "class_order": list(pool.classes),
            "address": pool.address,
            "image": pool.image,
        }
    return summary


def _contains(found: Any, expected: Any) -> bool:
    """Return whether every expected key has the expected value, at any depth."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(key in found and _contains(found[key], expected[key]) for key in expected)
    return bool(found == expected)


def _assert_refused(case: dict[str, Any], error: InvalidInputError) -> None:
    assert [text for text in case["refused"] if text not in str(error)] == [], str(error)
    if "diagnostics" in case:
        assert len(error.diagnostics) == case["diagnostics"], str(error)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in cases_of(*READERS)])
def test_job_conf(case: dict[str, Any]) -> None:
    text = _job_conf_text(case)
    if "refused" in case:
        with pytest.raises(InvalidInputError) as caught:
            parse_job_conf(text, "job_conf.yml")
        _assert_refused(case, caught.value)
        return
    configuration = parse_job_conf(text, "job_conf.yml")
    summary = _summary(configuration)
    assert _contains(summary, case.get("expect", {})), summary
    assert_warnings(case, [str(warning) for warning in configuration.warnings])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases_of("invocation")]
)
def test_invocation(case: dict[str, Any]) -> None:
    given = {"image": "debian", "command": ["true"], "working_directory": "/data/work"}
    given |= {"key": "sample", **case["invocation"]}
    given = {key: value for key, value in given.items() if value is not None}
    text = yaml.safe_dump(given, sort_keys=False)
    destination = Destination.model_validate({"pool": POOL})
    if "refused" in case:
        with pytest.raises(InvalidInputError) as caught:
            translate_all(parse_invocations(text, "jobs.yml"), destination)
        _assert_refused(case, caught.value)
        return
    try:
        (translation,) = translate_all(parse_invocations(text, "jobs.yml"), destination)
    except InvalidInputError:
        if "never" not in case:
            raise
        return  # a true refusal is as good as the right translation
    commands = dict(translation.description.commands)
    assert _contains(commands, case.get("expect", {})), commands
    for name, literal in case.get("never", {}).items():
        assert commands.get(name) != literal


def test_each_sample_is_complete() -> None:
    samples = load_samples()
    assert len({sample.number for sample in samples}) == len(samples)
    for sample in samples:
        assert bool(sample.cases or sample.tests) or sample.open, sample.number
        assert re.fullmatch(r"[\w.-]+/[\w.-]+(?:#\d+|: [^ ]+)", sample.source), sample.source
    assert {sample.kind for sample in samples} == set(KINDS.values())


def test_tests_that_hold_a_sample_exist() -> None:
    root = Path(__file__).parents[2]
    for sample in load_samples():
        for test in sample.tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), test


def test_the_page_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(load_samples())
