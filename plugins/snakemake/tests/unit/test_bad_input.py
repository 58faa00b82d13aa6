"""What Snakemake is told at the door, on its own command line."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake_executor_plugin_swarm_runner import ExecutorSettings
from snakemake_executor_plugin_swarm_runner.target import JOB_CONF_VARIABLE

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
RULE = 'rule one:\n    output: "a"\n    container: "docker://debian"\n'
SNAKEFILE = RULE + '    shell: "touch {output}"\n'


def _run_and_fail(directory: Path, *options: str, umask: int = 0) -> str:
    """What is said by a start that is refused."""
    (directory / "Snakefile").touch()
    if not (directory / "Snakefile").read_text():
        (directory / "Snakefile").write_text(SNAKEFILE)
    done = subprocess.run(
        [SNAKEMAKE, "--executor", "swarm-runner", "--jobs", "2", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != JOB_CONF_VARIABLE}
        | {"XDG_CONFIG_HOME": str(directory / "config")},
        umask=umask,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (directory / "a").exists()
    return done.stderr


@pytest.fixture
def job_conf(tmp_path: Path) -> Path:
    """A pool of which nothing is up; its volume is `volume`."""
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
    """A directory on the volume that jobs may write in."""
    directory = job_conf.parent / "volume" / "workflow"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def test_a_directory_that_the_executors_cannot_see(tmp_path: Path, job_conf: Path) -> None:
    said = _run_and_fail(tmp_path, "--swarm-runner-job-conf", str(job_conf))
    assert f"cannot see the working directory {tmp_path}" in said
    assert f"one of the pool's volumes ({tmp_path / 'volume'})" in said
    assert "--shared-fs-usage none" in said


def test_a_directory_on_a_read_only_volume(job_conf: Path) -> None:
    conf = yaml.safe_load(job_conf.read_text())
    volume = job_conf.parent / "volume"
    conf["runners"]["swarm"]["pool"]["volumes"] = [f"{volume}:ro"]
    job_conf.write_text(yaml.safe_dump(conf))
    said = _run_and_fail(
        _make_workflow_directory(job_conf), "--swarm-runner-job-conf", str(job_conf)
    )
    assert f"{volume / 'workflow'} is on a read-only volume of pool no-such-pool" in said


def test_a_directory_that_jobs_may_not_write_in(job_conf: Path) -> None:
    conf = yaml.safe_load(job_conf.read_text())
    conf["runners"]["swarm"]["pool"]["user"] = {"name": "other", "uid": 4321, "gid": 4321}
    job_conf.write_text(yaml.safe_dump(conf))
    directory = job_conf.parent / "volume" / "mine"
    directory.mkdir()
    directory.chmod(0o755)
    said = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf))
    assert "other (uid 4321), which may not write in" in said
    assert "umask 0" in said
    directory.chmod(0o777)
    said = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf), umask=0o022)
    assert "they could not write in the directories that Snakemake makes" in said


def test_no_pool(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    said = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf))
    assert "Nothing answers at 127.0.0.1:1" in said
    assert "swarm-runner pool up --job-conf FILE" in said
    assert not list((directory / ".snakemake" / "swarm-runner").glob("snakemake-*"))


def test_a_state_directory_that_cannot_be_made(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    (directory / "file").touch()
    options = ["--swarm-runner-state-directory", "file/state"]
    said = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf), *options)
    assert "state_directory: " in said
    assert "Not a directory" in said
    assert not list((directory / ".snakemake" / "swarm-runner").glob("snakemake-*"))


def test_no_job_conf(tmp_path: Path) -> None:
    said = _run_and_fail(tmp_path)
    assert f"cannot see the working directory {tmp_path}" in said
    assert "add a volume in job_conf (`pool: {volumes: [/path]}`) and `swarm-runner" in said
    said = _run_and_fail(tmp_path, "--swarm-runner-destination", "cloud")
    assert "a destination (cloud) is named, but no job_conf that describes it" in said
    missing = tmp_path / "missing.yml"
    said = _run_and_fail(tmp_path, "--swarm-runner-job-conf", str(missing))
    assert f"{missing}: cannot be read" in said


def test_the_file_of_the_last_pool_up(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    remembered = directory / "config" / "swarm-runner" / "job_conf.yml"
    remembered.parent.mkdir(parents=True)
    remembered.symlink_to(job_conf)
    said = _run_and_fail(directory)
    assert f"uses {job_conf}, the file of the last `pool up`" in said
    assert "Nothing answers at 127.0.0.1:1" in said


def test_a_destination_that_does_not_exist(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    options = ["--swarm-runner-job-conf", str(job_conf), "--swarm-runner-destination", "swamp"]
    said = _run_and_fail(directory, *options)
    assert "swamp" in said
    assert "swarm" in said.partition("swamp")[2]


def test_memory_as_text(job_conf: Path) -> None:
    directory = _make_workflow_directory(job_conf)
    text = RULE + '    resources: mem_mb="plenty"\n    shell: "touch {output}"\n'
    (directory / "Snakefile").write_text(text)
    said = _run_and_fail(directory, "--swarm-runner-job-conf", str(job_conf))
    assert "Resource 'mem_mb' must be assigned an int" in said


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


def test_a_start_of_snakemake_pays_little_for_the_plugin() -> None:
    code = (
        "import sys, snakemake_executor_plugin_swarm_runner as plugin; "
        "assert plugin.common_settings.non_local_exec; "
        "print(*{'htcondor2', 'docker', 'pydantic', 'swarm_runner'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"
