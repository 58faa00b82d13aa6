"""The errors of invalid settings and directories, on Snakemake's command line."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake_executor_plugin_swarm_runner import ExecutorSettings
from snakemake_executor_plugin_swarm_runner.executor import MINIMUM_SNAKEMAKE, check_snakemake
from snakemake_executor_plugin_swarm_runner.target import JOB_CONF_VARIABLE
from snakemake_interface_common.exceptions import WorkflowError

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
RULE = 'rule one:\n    output: "a"\n    container: "docker://debian"\n'
SNAKEFILE = RULE + '    shell: "touch {output}"\n'


def _run_and_fail(directory: Path, *options: str, umask: int = 0) -> str:
    """Start a workflow that the plugin rejects, and return its log."""
    (directory / "Snakefile").touch()
    if not (directory / "Snakefile").read_text():
        (directory / "Snakefile").write_text(SNAKEFILE)
    result = subprocess.run(
        [SNAKEMAKE, "--executor", "swarm-runner", "--jobs", "2", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != JOB_CONF_VARIABLE}
        | {"XDG_CONFIG_HOME": str(directory / "config")},
        umask=umask,
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not (directory / "a").exists()
    return result.stderr


@pytest.mark.parametrize("version", ["9.6.2", "9.19.0", "8.30.0", "9"])
def test_an_old_snakemake_is_refused(version: str) -> None:
    with pytest.raises(WorkflowError, match=r"needs 9\.20 or newer; run `pip install"):
        check_snakemake(version)


def test_the_minimum_is_that_of_the_extra() -> None:
    check_snakemake("9.20.0")
    check_snakemake("10.0")
    minimum = ".".join(map(str, MINIMUM_SNAKEMAKE))
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()
    assert f"snakemake >= {minimum}, < 10\n" in setup


@pytest.fixture
def job_conf(tmp_path: Path) -> Path:
    """A pool that does not exist, with the volume `volume`."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    pool = {"name": "no-such-pool", "port": 1, "volumes": [str(volume)]}
    runner = {"pool": pool, "token_directory": str(tmp_path / "tokens")}
    conf = {
        "runners": {"swarm": runner},
        "execution": {"environments": {"swarm": {"runner": "swarm"}}},
    }
    file = tmp_path / "job_conf.yml"
    file.write_text(yaml.safe_dump(conf))
    return file


def _make_workflow_directory(job_conf: Path) -> Path:
    """Create a directory on the volume that jobs may write to."""
    directory = job_conf.parent / "volume" / "workflow"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def test_a_directory_that_the_executors_cannot_see(tmp_path: Path, job_conf: Path) -> None:
    log = _run_and_fail(tmp_path, "--swarm-runner-job-conf", str(job_conf))
    assert f"cannot see the working directory {tmp_path}" in log
    assert f"one of the pool's volumes ({tmp_path / 'volume'})" in log
    assert "--shared-fs-usage none" in log


def test_a_directory_on_a_read_only_volume(job_conf: Path) -> None:
    conf = yaml.safe_load(job_conf.read_text())
    volume = job_conf.parent / "volume"
    conf["runners"]["swarm"]["pool"]["volumes"] = [f"{volume}:ro"]
    job_conf.write_text(yaml.safe_dump(conf))
    log = _run_and_fail(
        _make_workflow_directory(job_conf), "--swarm-runner-job-conf", str(job_conf)
    )
    assert f"{volume / 'workflow'} is on a read-only volume of pool no-such-pool" in log


def test_a_directory_that_jobs_may_not_write_to(job_conf: Path) -> None:
    conf = yaml.safe_load(job_conf.read_text())
    conf["runners"]["swarm"]["pool"]["user"] = {"name": "other", "uid": 4321, "gid": 4321}
    job_conf.write_text(yaml.safe_dump(conf))
    directory = job_conf.parent / "volume" / "own"
    directory.mkdir()
    directory.chmod(0o755)
    log = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf))
    assert "other (uid 4321), which may not write to" in log
    assert "un Snakemake as user other (uid 4321), in a directory of that user" in log
    assert "777" not in log
    directory.chmod(0o777)
    log = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf), umask=0o022)
    assert "They could not write to the directories that Snakemake creates" in log


def test_no_pool(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    log = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf))
    assert "Nothing answers at 127.0.0.1:1" in log
    assert "swarm-runner pool up --job-conf FILE" in log
    assert not list((directory / ".snakemake" / "swarm-runner").glob("snakemake-*"))


def test_a_state_directory_that_cannot_be_created(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    (directory / "file").touch()
    options = ["--swarm-runner-state-directory", "file/state"]
    log = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf), *options)
    assert "state_directory: " in log
    assert "a link or a file is where a directory is expected" in log
    assert not list((directory / ".snakemake" / "swarm-runner").glob("snakemake-*"))


def test_no_job_conf(tmp_path: Path) -> None:
    log = _run_and_fail(tmp_path)
    assert f"cannot see the working directory {tmp_path}" in log
    assert "add a volume in job_conf (`pool: {volumes: [/path]}`) and run `swarm-runner" in log
    log = _run_and_fail(tmp_path, "--swarm-runner-destination", "cloud")
    assert "the destination 'cloud' was set without a job_conf file that describes it" in log
    missing = tmp_path / "missing.yml"
    log = _run_and_fail(tmp_path, "--swarm-runner-job-conf", str(missing))
    assert f"{missing}: cannot be read" in log


def test_the_file_of_the_most_recent_pool_up(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    current_config = directory / "config" / "swarm-runner" / "job_conf.yml"
    current_config.parent.mkdir(parents=True)
    current_config.symlink_to(job_conf)
    log = _run_and_fail(directory)
    assert f"using {job_conf}, the file of the most recent `swarm-runner pool up`" in log
    assert "Nothing answers at 127.0.0.1:1" in log


def test_a_destination_that_does_not_exist(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    options = ["--swarm-runner-job-conf", str(job_conf), "--swarm-runner-destination", "swamp"]
    log = _run_and_fail(directory, *options)
    assert "swamp" in log
    assert "swarm" in log.partition("swamp")[2]


def test_memory_as_text(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    text = RULE + '    resources: mem_mb="plenty"\n    shell: "touch {output}"\n'
    (directory / "Snakefile").write_text(text)
    log = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf))
    assert "Resource 'mem_mb' must be assigned an int" in log


def test_a_lease_that_is_too_short(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    options = ["--swarm-runner-job-conf", str(job_conf), "--swarm-runner-lease-s", "5"]
    assert "lease_s: Input should be greater than or equal to 60" in _run_and_fail(
        directory, *options
    )


def test_every_setting_has_a_help_and_a_default() -> None:
    for setting in dataclasses.fields(ExecutorSettings):
        assert setting.metadata["help"].endswith(".")
        assert setting.default is not dataclasses.MISSING


def test_importing_the_plugin_loads_no_large_module() -> None:
    code = (
        "import sys, snakemake_executor_plugin_swarm_runner as plugin; "
        "assert plugin.common_settings.non_local_exec; "
        "print(*{'htcondor2', 'docker', 'pydantic', 'swarm_runner'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == "\n"
