"""The wheels and sdists: complete, reproducible, and enough without this repository."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePath

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from swarm_runner import __version__
from tests.lab.distributions import build_all, build_one

ROOT = Path(__file__).parents[2]
CORE, GALAXY, SNAKEMAKE, SIMULATION = (
    "swarm_runner",
    "swarm_runner_galaxy",
    "snakemake_executor_plugin_swarm_runner",
    "swarm_runner_simulation",
)
ALL = (CORE, GALAXY, SNAKEMAKE, SIMULATION)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    build_all(directory)
    return directory


def wheel(dist: Path, name: str) -> Path:
    return dist / f"{name}-{__version__}-py3-none-any.whl"


def test_every_distribution_has_a_wheel_and_an_sdist_of_one_version(dist: Path) -> None:
    expected = {wheel(dist, name).name for name in ALL}
    expected |= {f"{name}-{__version__}.tar.gz" for name in ALL}
    assert {file.name for file in dist.iterdir()} == expected


def test_two_builds_are_the_same_bytes(
    dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    before = os.umask(0o077)
    try:
        build_all(tmp_path)
    finally:
        os.umask(before)
    differing = [
        file.name
        for file in dist.iterdir()
        if file.read_bytes() != (tmp_path / file.name).read_bytes()
    ]
    assert differing == []


def test_another_date_gives_other_bytes(dist: Path, tmp_path: Path) -> None:
    sdist, _ = build_one(PurePath("plugins/simulation"), tmp_path, 1_700_000_000)
    with tarfile.open(sdist) as archive:
        assert {member.mtime for member in archive} == {1_700_000_000}
    assert sdist.read_bytes() != (dist / sdist.name).read_bytes()


@pytest.mark.parametrize("name", ALL)
def test_a_wheel_has_its_types_its_license_and_no_tests(dist: Path, name: str) -> None:
    files = zipfile.ZipFile(wheel(dist, name)).namelist()
    assert f"{name}/py.typed" in files
    assert f"{name}-{__version__}.dist-info/licenses/LICENSE" in files
    assert {file.split("/")[0] for file in files} == {name, f"{name}-{__version__}.dist-info"}
    assert [file for file in files if "test_" in file or "conftest" in file] == []


def test_the_core_s_wheel_has_the_sources_of_the_images_and_of_the_page(dist: Path) -> None:
    files = set(zipfile.ZipFile(wheel(dist, CORE)).namelist())
    for directory in (
        *("swarm_runner/swarm/image", "swarm_runner/swarm/autoscaler"),
        *("swarm_runner/page/static", "swarm_runner/page/templates"),
    ):
        sources = [path for path in (ROOT / directory).iterdir() if path.is_file()]
        assert {str(path.relative_to(ROOT)) for path in sources} <= files


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheels of the core and the simulation, and what they require."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    interpreter = venv / "bin" / "python"
    subprocess.run(
        [
            *(str(interpreter), "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", str(wheel(dist, CORE)), str(wheel(dist, SIMULATION))),
        ],
        check=True,
    )
    return interpreter


def run(python: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)}  # no PYTHONPATH
    return subprocess.run(
        [str(python), *command],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def test_the_library_s_example_runs_on_the_fake_pool(python: Path, tmp_path: Path) -> None:
    (example,) = PYTHON.findall((ROOT / "docs" / "reference" / "testing.md").read_text())
    (function,) = [
        node.name for node in ast.parse(example).body if isinstance(node, ast.FunctionDef)
    ]
    program = tmp_path / "example.py"
    program.write_text(
        f"{example}\n\nfrom pathlib import Path\nimport swarm_runner\n"
        f"{function}(Path({str(tmp_path)!r}))\nprint(swarm_runner.__file__)\n"
    )
    done = run(python, "-W", "error", str(program), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_relative_to(python.parents[1])


def test_the_command_works_from_the_wheel(python: Path, tmp_path: Path) -> None:
    command = str(python.with_name("swarm-runner"))
    version = run(python, command, "--version", cwd=tmp_path)
    assert version.stdout == f"swarm-runner {__version__}\n"
    (tmp_path / "job_conf.yml").write_text("runners: {swarm: {pool: {}}}\n")
    valid = run(python, command, "validate", "job_conf.yml", cwd=tmp_path)
    assert (valid.returncode, valid.stderr) == (0, "job_conf.yml is valid.\n")
    simulated = run(
        python, command, "pool", "simulate", "steady", "--jobs", "50", "--alone", cwd=tmp_path
    )
    assert simulated.returncode == 0, simulated.stderr
    assert "50 jobs" in simulated.stdout


def test_an_environment_of_the_wheels_is_consistent(python: Path, tmp_path: Path) -> None:
    done = run(python, "-m", "pip", "check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [GALAXY, SNAKEMAKE, SIMULATION])
def test_a_plugin_requires_this_version_of_the_core_and_no_later_one(dist: Path, name: str) -> None:
    metadata = f"{name}-{__version__}.dist-info/METADATA"
    text = zipfile.ZipFile(wheel(dist, name)).read(metadata).decode()
    (required,) = re.findall(r"^Requires-Dist: swarm-runner(?! *;)(\S*)$", text, re.MULTILINE)
    assert Version(__version__) in SpecifierSet(required)
    assert Version("1.0") not in SpecifierSet(required)
