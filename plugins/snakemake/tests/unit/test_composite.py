"""The scripts of groups, benchmarks and shadow directories, in the shells that images have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.benchmark import BenchmarkRecord
from snakemake_executor_plugin_swarm_runner.benchmark import HEADER
from snakemake_executor_plugin_swarm_runner.composite import (
    ShadowSettings,
    Step,
    are_too_long,
    composite_script,
)
from snakemake_executor_plugin_swarm_runner.job_command import TEMP_DIRECTORY

SHELLS = {"dash": ["dash"], "bash": ["bash"], "posix": ["bash", "--posix"], "busybox": ["sh"]}


class File(str):
    """A file of a job, with its flags."""

    flags: dict[str, bool]
    is_directory = False

    def __new__(cls, name: str) -> File:
        file = super().__new__(cls, name)
        file.flags = {}
        return file


def _job(name: str, output: str, **fields: Any) -> Any:
    facts = {
        "rule": SimpleNamespace(name=name, shadow_depth=fields.get("shadow")),
        "input": [File(file) for file in fields.get("input", ())],
        "output": [File(output)],
        "log": [],
        "touch_output": [],
        "threads": 2,
        "resources": {"shell_exec": "sh"},
        "benchmark": fields.get("benchmark"),
        "benchmark_repeats": fields.get("repeats"),
        "is_shadow": "shadow" in fields,
    }
    return SimpleNamespace(**facts)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], str | None]:
    """The command of a shell, and the PATH with its tools, if it brings its own."""
    command = SHELLS[request.param]
    program = "busybox" if request.param == "busybox" else command[0]
    path = shutil.which(program)
    assert path is not None, f"install {program}, as `make snakemake-venv` does"
    if program != "busybox":
        return command, None
    tools = tmp_path / "tools"
    tools.mkdir()
    subprocess.run([path, "--install", "-s", tools], check=True)
    return [str(tools / "sh")], str(tools)


def _run(
    shell: tuple[list[str], str | None], workdir: Path, *steps: tuple[Any, str]
) -> subprocess.CompletedProcess[str]:
    (workdir / ".snakemake" / "shadow").mkdir(parents=True, exist_ok=True)
    settings = ShadowSettings(str(workdir / ".snakemake" / "shadow"), keep_failed=False)
    script = composite_script(
        [Step(job, command, TEMP_DIRECTORY) for job, command in steps], "key", workdir, settings
    )
    assert script.shell == "sh"
    command, path = shell
    return subprocess.run(
        [*command, "-c", script.text],
        cwd=workdir,
        env={"PATH": path or "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    directory = tmp_path / "it's a [work] directory"
    directory.mkdir()
    (directory / "in").mkdir()
    (directory / "in" / "a b").write_text("given\n")
    (directory / ".hidden").touch()
    return directory


def test_a_benchmark(shell: tuple[list[str], str | None], workdir: Path) -> None:
    job = _job("one", "out", benchmark="one's.tsv", repeats=2)
    # Memory of a grandchild, and processor time of children that have ended.
    command = (
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; "
        "(head -c 20000000 /dev/zero | tail -c 20000000; sleep 1) >/dev/null; echo x >>out"
    )
    done = _run(shell, workdir, (job, command))
    assert (done.returncode, done.stderr) == (0, "")
    assert (workdir / "out").read_text() == "x\nx\n"
    header, *rows = (workdir / "one's.tsv").read_text().splitlines()
    assert header == HEADER == "\t".join(BenchmarkRecord.get_header())
    assert len(rows) == 2
    for row in rows:
        values = dict(zip(header.split("\t"), row.split("\t"), strict=True))
        assert 1 <= float(values["s"]) < 60
        assert values["h:m:s"].startswith("0:00:")
        assert 0 < float(values["cpu_time"]) < float(values["s"]) * 4
        assert 0 < float(values["max_pss"]) <= float(values["max_rss"])


@pytest.mark.parametrize("depth", ["minimal", "copy-minimal", "shallow", "full"])
def test_a_shadow_directory(shell: tuple[list[str], str | None], workdir: Path, depth: str) -> None:
    job = _job("one", "out put", shadow=depth, input=("in/a b",))
    done = _run(shell, workdir, (job, "cat 'in/a b' >'out put'; touch left; test ! -e lost"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (workdir / "out put").read_text() == "given\n"
    assert sorted(path.name for path in workdir.iterdir()) == [
        ".hidden",
        ".snakemake",
        "in",
        "out put",
    ]
    assert not list((workdir / ".snakemake" / "shadow").iterdir())


def test_a_link_into_the_shadow_directory_becomes_relative(
    shell: tuple[list[str], str | None], workdir: Path
) -> None:
    job = _job("one", "link", shadow="minimal", input=("in/a b",))
    done = _run(shell, workdir, (job, 'ln -s "$PWD/in/a b" link'))
    assert (done.returncode, done.stderr) == (0, "")
    assert (workdir / "link").read_text() == "given\n"


def test_a_group_stops_at_the_first_failure(
    shell: tuple[list[str], str | None], workdir: Path
) -> None:
    first, second, third = (_job(name, name) for name in ("a", "b", "c"))
    done = _run(
        shell, workdir, (first, "echo $OMP_NUM_THREADS >a"), (second, "exit 9"), (third, "")
    )
    assert done.returncode == 9
    assert done.stderr == "Rule b failed with exit code 9.\n"
    assert (workdir / "a").read_text() == "2\n"
    assert not (workdir / "c").exists()


def test_what_one_job_of_a_group_changes_does_not_reach_the_next(
    shell: tuple[list[str], str | None], workdir: Path
) -> None:
    steps = ((_job("a", "a"), "cd in; X=1; touch ../a"), (_job("b", "b"), 'echo "${X-}" >b'))
    done = _run(shell, workdir, *steps)
    assert (done.returncode, done.stderr) == (0, "")
    assert (workdir / "b").read_text() == "\n"


def test_a_command_that_no_shell_takes_as_an_argument_is_too_long() -> None:
    assert not are_too_long([Step(None, "x" * 1000, TEMP_DIRECTORY)])
    assert are_too_long([Step(None, "x" * 130_000, TEMP_DIRECTORY)])
