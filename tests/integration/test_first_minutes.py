"""README.md's quick start: from the wheel alone to ten jobs, with pipx, outside of the clone.

docs/tutorial.md installs the wheel in the same way.
`make test-docs`. At most five commands and, with the pool image on the engine, three minutes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path, PurePath

import docker
import pytest

from swarm_runner.swarm.images import BUILD_TIMEOUT_S, ensure_pool_image
from tests.doc_blocks import ROOT, SHELL, blocks
from tests.lab.distributions import build_one, source_date
from tests.lab.pool import lab_files
from tests.lab.reader import reader

pytestmark = pytest.mark.guides
NAME, PORT = "swarm-runner-test-first", 9743
CLASSES = {"normal": {"memory_mb": 1024, "replicas": 2}, "big": {"memory_mb": 2048, "replicas": 1}}
MAX_COMMANDS, MAX_DURATION_S = 5, 180


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The wheel as `make dist` builds it, and the images as an earlier run leaves them."""
    client = docker.from_env(timeout=BUILD_TIMEOUT_S)
    ensure_pool_image(client, None, lambda _message: None)
    client.close()
    output = tmp_path / "dist"
    output.mkdir()
    _, wheel = build_one(PurePath(), output, source_date())
    return wheel


def test_a_stranger_has_ten_jobs_in_three_minutes(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_conf, _ = lab_files(NAME, PORT, {"classes": CLASSES})
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name, directory in (("PIPX_HOME", "pipx"), ("PIPX_BIN_DIR", "bin")):
        monkeypatch.setenv(name, str(home / directory))
    (block,) = (
        block
        for block in blocks(ROOT / "README.md")
        if block.language == SHELL and block.content.startswith("pipx ")
    )
    assert len(block.commands) <= MAX_COMMANDS
    replaced = {
        "pipx install dist/swarm_runner-*.whl": f"{sys.executable} -m pipx install {wheel}",
        # A pool of its own, beside that of a demonstration which may be running here.
        "swarm-runner demo ": f"swarm-runner demo --job-conf {job_conf} ",
        # Each question's default.
        "swarm-runner init ": "yes '' | swarm-runner init ",
    }
    with reader(home, replaced) as person:
        # The command of the wheel, and not the one beside the tests' Python.
        person.type(f"PATH={home}/bin:/usr/sbin:/usr/bin:/sbin:/bin; hash -r")
        started = time.monotonic()
        try:
            printed = [person.type(person.read(command)) for command in block.commands]
            duration_s = time.monotonic() - started
            where = person.type("readlink -f $(command -v swarm-runner)").strip()
        finally:
            person.type(f"swarm-runner demo --job-conf {job_conf} --down")
    assert Path(where).is_relative_to(home / "pipx")
    (demonstration,) = (text for text in printed if "Everything ended as expected." in text)
    assert "10" in demonstration
    assert (home / "job_conf.yml").is_file()
    sys.stderr.write(f"from the wheel to ten jobs: {duration_s:.0f} s\n")
    assert duration_s <= MAX_DURATION_S
