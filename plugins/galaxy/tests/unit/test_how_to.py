"""The examples of docs/how-to/galaxy.md work with the runner, with Galaxy and with TPV."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from galaxy.jobs import JobDestination
from galaxy.jobs.runners.state_handlers import resubmit
from tpv.commands.dryrunner import TPVDryRunner
from tpv.rules import gateway

from swarm_runner import DestinationParameters, Pool, parse_job_conf, parse_parameters
from unit.test_config import boot_runner

DOCUMENT = Path(__file__).parents[4] / "docs/how-to/galaxy.md"
SERVER_DIRECTORY = "/srv/galaxy"


def code_blocks(language: str) -> list[str]:
    """Return the document's code blocks in a language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )


JOB_CONF, GALAXY_YML, TPV_ENVIRONMENT, TPV, *OTHERS = code_blocks("yaml")
DATABASE_ENVIRONMENT, DATABASE_TPV, RESUBMIT = OTHERS


@pytest.fixture
def _reset_tpv_mappers() -> Iterator[None]:
    yield
    gateway.ACTIVE_DESTINATION_MAPPERS = {}


def parse_environments(text: str, suffix: str = "") -> dict[str, dict[str, Any]]:
    conf: dict[str, Any] = yaml.safe_load(text + suffix)
    return dict(conf["execution"]["environments"])


def parse_environment(environment: dict[str, Any], pool: Pool) -> DestinationParameters:
    return parse_parameters(
        {key: value for key, value in environment.items() if key != "runner"}, "x", pool
    )


def test_job_conf(app: Any, volume: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is valid, and Galaxy boots with its section."""
    text = JOB_CONF.replace(SERVER_DIRECTORY, str(volume))
    destination = parse_job_conf(text, "job_conf.yml").destination("swarm")
    monkeypatch.setattr(os, "geteuid", lambda: destination.pool.user.uid)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    section = yaml.safe_load(text)["runners"]["swarm"]
    settings = {key: section[key] for key in section.keys() - {"load", "workers"}}
    (volume / "shared").mkdir()
    runner = boot_runner(app, volume / "shared", **settings)
    assert runner._config.destination.pool.name == "galaxy"
    parameters = parse_environment(parse_environments(text)["swarm"], destination.pool)
    assert (parameters.request_memory, parameters.max_memory) == (512, 4096)
    assert parameters.schedd_escalates


@pytest.mark.parametrize(
    ("tool", "capacity_class", "memory_mb"), [("cat", "normal", 512), ("bwa_mem", "big", 3584)]
)
@pytest.mark.usefixtures("_reset_tpv_mappers")
def test_tpv(tmp_path: Path, tool: str, capacity_class: str, memory_mb: int) -> None:
    pool = parse_job_conf(JOB_CONF, "job_conf.yml").destination("swarm").pool
    job_conf, tpv = tmp_path / "job_conf.yml", tmp_path / "tpv.yml"
    conf = yaml.safe_load(JOB_CONF)
    conf["execution"]["environments"] |= yaml.safe_load(TPV_ENVIRONMENT)
    job_conf.write_text(yaml.safe_dump(conf, sort_keys=False))
    parse_job_conf(job_conf.read_text(), str(job_conf))
    tpv.write_text(TPV)
    runner = TPVDryRunner.from_params(str(job_conf), tool_id=tool, tpv_confs=[str(tpv)])
    chosen, _ = runner.run()
    assert chosen is not None
    assert (chosen.id, chosen.runner) == (f"swarm_{capacity_class}", "swarm")
    parameters = parse_parameters(chosen.params, chosen.id, pool)
    assert parameters.request_memory == memory_mb


def test_resubmit() -> None:
    """The environments are valid, and pass on the parameters that the document names."""
    conf = yaml.safe_load(JOB_CONF)
    conf["execution"]["environments"] |= yaml.safe_load(RESUBMIT)
    destinations = parse_job_conf(yaml.safe_dump(conf, sort_keys=False), "x").destinations
    pool = destinations["swarm"].pool
    environments = yaml.safe_load(RESUBMIT)
    first = environments["swarm"]
    parameters = parse_environment(first, pool)
    assert not parameters.schedd_escalates
    assert parameters.time_limit_s == 3600
    assert [entry["environment"] for entry in first["resubmit"]] == ["swarm_large", "swarm_long"]
    assert set(destinations) >= {"swarm", "swarm_large", "swarm_long"}
    large = resubmit_destination(environments, "memory_limit_reached")
    assert large.pop("id") == "swarm_large"
    parameters = parse_parameters(large, "swarm_large", pool)
    assert (parameters.request_memory, parameters.time_limit_s) == (4096, None)
    long = resubmit_destination(environments, "walltime_reached")
    assert long.pop("id") == "swarm_long"
    parameters = parse_parameters(long, "swarm_long", pool)
    assert (parameters.request_memory, parameters.time_limit_s) == (512, 86400)


def resubmit_destination(
    environments: dict[str, dict[str, Any]], runner_state: str
) -> dict[str, Any]:
    """Return the parameters and the `id` of the destination that Galaxy resubmits the job to."""

    def destination(name: str) -> JobDestination:
        params = dict(environments[name])
        runner, resubmissions = params.pop("runner"), params.pop("resubmit", [])
        return JobDestination(id=name, runner=runner, resubmit=resubmissions, params=params)

    first = destination("swarm")
    job = SimpleNamespace(destination_params=first.params, state_history=[], params={})
    chosen: list[JobDestination] = []
    wrapper = SimpleNamespace(
        job_id=1,
        job_destination=first,
        get_job=lambda: job,
        clear_working_directory=lambda: None,
        set_job_destination=chosen.append,
        # Galaxy 25 asks it for the destination.
        job_runner_mapper=SimpleNamespace(cache_job_destination=lambda found: found),
    )
    state = SimpleNamespace(
        job_wrapper=wrapper, job_destination=first, runner_state=runner_state, job_id="1.0"
    )
    app = SimpleNamespace(job_config=SimpleNamespace(get_destination=destination))
    resubmit.failure(app, SimpleNamespace(mark_as_resubmitted=lambda *_, **__: None), state)
    (second,) = chosen
    return {**second.params, "id": second.id}


def test_galaxy_yml() -> None:
    settings = yaml.safe_load(GALAXY_YML)["galaxy"]
    assert settings["job_config_file"] == f"{SERVER_DIRECTORY}/job_conf.yml"


def test_jobs_write_what_they_need_and_nothing_of_galaxys_own() -> None:
    settings = yaml.safe_load(GALAXY_YML)["galaxy"]
    pool = parse_job_conf(JOB_CONF, "job_conf.yml").destination("swarm").pool
    for key in ("file_path", "job_working_directory"):
        volume = pool.volume_of(settings[key])
        assert volume is not None
        assert not volume.read_only
    own = (settings["config_dir"], settings["data_dir"], f"{SERVER_DIRECTORY}/venv")
    assert [path for path in own if pool.volume_of(path)] == []
