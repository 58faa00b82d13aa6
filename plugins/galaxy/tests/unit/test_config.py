"""An invalid runner section stops Galaxy's boot, with a message that names the key."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy.exceptions import ConfigurationError
from galaxy.jobs import JobConfiguration

LOAD = "swarm_runner_galaxy.runner:SwarmJobRunner"
UID = 1000


def boot_runner(app: Any, volume: Path, **settings: Any) -> Any:
    """Load the runner as Galaxy does when it boots."""
    plugin = {"id": "swarm", "load": LOAD, "workers": 1, "kwds": settings}
    config = SimpleNamespace(
        server_name="main",
        jobs_directory=str(volume / "jobs"),
        file_path=str(volume / "objects"),
        database_connection="sqlite:///:memory:",
        id_secret="secret",  # noqa: S106
        job_config_file=None,
        job_runner_monitor_sleep=1.0,
        redact_email_in_job_name=False,
    )
    galaxy = SimpleNamespace(
        config=config,
        job_config=SimpleNamespace(runner_plugins=[plugin]),
        model=app.model,
        job_metrics=app.job_metrics,
    )
    job_configuration = SimpleNamespace(
        app=galaxy, handler_runner_plugins={}, runner_plugins=[plugin]
    )
    return JobConfiguration.get_job_runner_plugins(job_configuration, "main")["swarm"]


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: UID)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_valid_section(app: Any, volume: Path) -> None:
    runner = boot_runner(
        app, volume, name="galaxy-main", lease_s=300, pool={"volumes": [str(volume)]}
    )
    assert runner._config.name == "galaxy-main"
    assert runner._config.destination.lease_s == 300


def test_the_name_is_the_same_after_a_restart(app: Any, volume: Path) -> None:
    names = {
        boot_runner(app, volume, pool={"volumes": [str(volume)]})._config.name for _ in range(2)
    }
    (name,) = names
    assert name.startswith("galaxy-")
    assert name.endswith("-swarm")
    assert "secret" not in name


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, "runners.swarm.pool: is missing"),
        ({"pool": {}, "lease": 60}, "lease: is not a valid key; did you mean lease_s?"),
        ({"pool": {}, "lease_s": "long"}, "lease_s: needs a whole number"),
        ({"pool": {"classes": {"big": {}}}}, "classes.big.memory_mb: is missing"),
        ({"pool": {}}, "runners.swarm.pool.volumes: does not contain Galaxy's jobs_directory"),
        ({"pool": {"user": {"uid": 7}}}, "runners.swarm.pool.user.uid: is 7, but Galaxy runs as"),
        ({"pool": {}, "name": "a b"}, "name"),
    ],
)
def test_an_invalid_section(app: Any, volume: Path, section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        boot_runner(app, volume, **section)
    assert expected in str(caught.value)
    assert "Galaxy does not start" in str(caught.value)


def test_galaxy_as_root(app: Any, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="Galaxy runs as root"):
        boot_runner(app, volume, pool={"volumes": [str(volume)]})


@pytest.mark.parametrize(
    ("attribute", "text", "expected"),
    [
        (
            "job_config_file",
            "runners:\n  swarm:\n    load: {}\n    lease_s: 1\n",
            r"file\.yml:4:5: runners\.swarm\.lease_s",
        ),
        (
            "config_file",
            "galaxy: {{job_config: {{runners: {{swarm: {{load: '{}', kwds: {{lease_s: 1}}}}}}}}}}",
            r"file\.yml:1:\d+: galaxy\.job_config\.runners\.swarm\.kwds\.lease_s",
        ),
    ],
)
def test_the_file_gives_lines_and_columns(
    tmp_path: Path, attribute: str, text: str, expected: str
) -> None:
    file = tmp_path / "file.yml"
    file.write_text(text.format(LOAD))
    plugin = {"id": "swarm", "load": LOAD, "kwds": {"lease_s": 1}}
    galaxy = SimpleNamespace(
        config=SimpleNamespace(**{attribute: str(file)}),
        job_config=SimpleNamespace(runner_plugins=[plugin]),
    )
    from swarm_runner_galaxy.config import RunnerConfig

    with pytest.raises(ConfigurationError, match=expected):
        RunnerConfig(galaxy, {"lease_s": 1})
