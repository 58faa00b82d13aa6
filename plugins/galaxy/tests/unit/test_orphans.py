"""Jobs in the pool that Galaxy's database does or does not have."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from swarm_runner_galaxy import orphans as orphans_module
from swarm_runner_galaxy.orphans import GalaxyJob, find_orphans
from typer.testing import CliRunner

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 (Galaxy's times have no zone)
KEY = "17-20260102T030405.000678-1"


def ad(key: str = KEY) -> dict[str, object]:
    return {"ClusterId": 4, "ProcId": 2, "SwarmRunnerKey": key, "SwarmRunnerTool": "cat1"}


@pytest.mark.parametrize("state", ["queued", "running", "new", "resubmitted"])
@pytest.mark.parametrize("external_id", [None, "4.2"])
def test_jobs_that_galaxy_tracks_or_will_adopt(state: str, external_id: str | None) -> None:
    assert find_orphans([ad()], {17: GalaxyJob(state, CREATED, external_id)}) == []


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({}, "Galaxy's database has no such job"),
        ({17: GalaxyJob("deleted", CREATED, "4.2")}, "the job is deleted in Galaxy"),
        ({17: GalaxyJob("running", CREATED, "9.0")}, "Galaxy tracks 9.0 for this job"),
        (
            {17: GalaxyJob("running", CREATED.replace(year=2025), "4.2")},
            "Galaxy's database has no such job",
        ),
    ],
)
def test_jobs_that_galaxy_does_not_need(known: dict[int, GalaxyJob], why: str) -> None:
    (orphan,) = find_orphans([ad()], known)
    assert (orphan.job, orphan.tool, orphan.why) == ("4.2", "cat1", why)


def test_markup_and_control_characters_are_shown_as_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    orphan = orphans_module.Orphan("4.2", KEY, "[/b]\x1b[2J", "[red]why")
    monkeypatch.setattr(orphans_module, "_load_galaxy_config", lambda _: None)
    monkeypatch.setattr(orphans_module, "_runner_targets", lambda *_: [None])
    monkeypatch.setattr(orphans_module, "_find_in_pool", lambda *_: [orphan])
    arguments = ["orphans", "-c", str(tmp_path / "g.yml"), "--job-conf", str(tmp_path / "j.yml")]
    result = CliRunner().invoke(orphans_module.app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.exception
    assert "[/b]\\x1b[2J" in result.output
    assert "[red]why" in result.output
