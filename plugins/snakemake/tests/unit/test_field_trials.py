"""Field trials of rules and their resources. See docs/field-trials.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner import SubmitBatch, SubmitResult
from tests.unit.conftest import WorkflowHarness

CLASSES = {"normal": {"cpus": 4, "memory_mb": 1024}, "big": {"cpus": 4, "memory_mb": 2048}}
RULE = """
{header}
rule one:
    output: 'a'
    {container}
    {directives}
    shell: {shell!r}
"""


SAMPLES = Path(__file__).parents[4] / "tests" / "unit" / "field_trials"


def _cases() -> Iterator[Any]:
    for file in sorted(SAMPLES.glob("*.yml")):
        for sample in yaml.safe_load(file.read_text(encoding="utf-8")):
            for position, case in enumerate(sample.get("cases", ())):
                if "snakemake" in case:
                    yield pytest.param(case, id=f"{sample['number']}-{position}")


@pytest.mark.parametrize("case", list(_cases()))
def test_rule(
    case: dict[str, Any], harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[dict[str, str]] = []
    submit = harness.access_point.submit

    def record(batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        jobs.extend(batch.common | row for row in batch.rows or [{}])
        return submit(batch, spool=spool)

    monkeypatch.setattr(harness.access_point, "submit", record)
    conf = yaml.safe_load(harness.job_conf.read_text())
    conf["runners"]["swarm"]["pool"]["classes"] = CLASSES
    harness.job_conf.write_text(yaml.safe_dump(conf, sort_keys=False))
    for name, value in case.get("environ", {}).items():
        monkeypatch.setenv(name, value)
    (harness.volume / "in").write_text("input\n")
    container = case.get("container", "docker://debian")
    snakefile = RULE.format(
        header=case.get("header", ""),
        container=f"container: {container!r}" if container else "",
        directives=case["snakemake"],
        shell=case.get("shell", "touch {output}"),
    )
    target = case.get("target", "a")
    code, log = harness.run(snakefile + case.get("more", ""), *_options(case, target))
    if "refused" in case:
        assert code == 1
        assert not jobs
        assert [text for text in case["refused"] if text not in log] == [], log
        return
    assert code == 0, log
    _check(case, jobs[0] if jobs else {}, log)
    if "jobs" in case:
        assert len(jobs) == case["jobs"]
    for name, content in case.get("files", {}).items():
        assert (harness.volume / name).read_text() == content
    for name in case.get("absent", ()):
        assert not (harness.volume / name).exists()


def _options(case: dict[str, Any], target: str) -> list[str]:
    # --default-resources takes all arguments up to the next option, so that the target is first.
    return [target, *map(str, case.get("options", ()))]


def _check(case: dict[str, Any], commands: dict[str, str], log: str) -> None:
    for name, value in case.get("expect", {}).items():
        assert commands.get(name) == value, log
    for name, fragment in case.get("contains", {}).items():
        assert fragment in commands[name]
    for name, fragment in case.get("lacks", {}).items():
        assert fragment not in commands[name]
    for fragment in case.get("log", ()):
        assert any(fragment in line and "swarm-runner" in line for line in log.splitlines()), log
    for name, value in case.get("never", {}).items():
        # Something else, or a sentence about it.
        assert commands.get(name) != value or _explained(log), log


def _explained(log: str) -> bool:
    return any("swarm-runner: rule" in line and "because" in line for line in log.splitlines())
