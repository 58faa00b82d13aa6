"""The guest's disk: Debian 13, this repository, its requirements and the images of the tests."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.lab.engines.engine import SuiteEngine
from tests.lab.engines.images import provide
from tests.lab.engines.kinds import EngineKind
from tests.lab.engines.suite import ENGINE_PACKAGES, Suite
from tests.lab.hosts.commands import run

REPOSITORY = Path(__file__).parents[3]
ROOT = REPOSITORY / ".state" / "guest"
DISK = ROOT / "disk.img"
SIZE = "6G"
_SERVICE = ROOT / "srv"
_PACKAGES = (*ENGINE_PACKAGES, "iproute2", "linux-image-amd64", "python3", "python3-venv", "udev")
SUITE = Suite("trixie", "guest", _PACKAGES)
# An engine on this machine unpacks the images. In the guest that would take ten minutes.
_IMAGES = EngineKind("guest-images", 9, Suite("trixie"))
_REQUIREMENTS = ("pytest", "hypothesis", "pyyaml")

# mke2fs copies what it finds, through mounts.
_FILL = """
root=$1 service=$2 images=$3 disk=$4 size=$5
mount --bind "$service" "$root/srv"
mkdir -p "$root/var/lib/docker"
mount --bind "$images" "$root/var/lib/docker"
exec nice mke2fs -q -F -t ext4 -d "$root" "$disk" "$size"
"""


def create(tests: str, environment: dict[str, str], progress: Callable[[str], None]) -> None:
    """Write a new disk that runs these tests. Raises RuntimeError if a step fails."""
    SUITE.create()
    _copy_repository()
    lines = [f"export {name}={value!r}\n" for name, value in environment.items()]
    (_SERVICE / "environment").write_text("".join([f"TESTS={tests!r}\n", *lines]))
    if not (_SERVICE / "venv" / "bin" / "pytest").exists():
        progress("installing the guest's Python packages")
        _create_environment()
    images = _images(progress)
    progress(f"writing {DISK.relative_to(REPOSITORY)}")
    DISK.unlink(missing_ok=True)
    arguments = (str(SUITE.directory), str(_SERVICE), str(images), str(DISK), SIZE)
    run("unshare", "--mount", "--propagation", "slave", "sh", "-euc", _FILL, "sh", *arguments)


def kernel() -> tuple[Path, Path]:
    """Return the guest's kernel and its initial file system."""
    boot = SUITE.directory / "boot"
    return max(boot.glob("vmlinuz-*")), max(boot.glob("initrd.img-*"))


def read(path: str) -> str:
    """Return a file of the disk, of a guest that has been switched off. Empty if there is none."""
    command = ["debugfs", "-R", f"cat {path}", str(DISK)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _copy_repository() -> None:
    repository = _SERVICE / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir(parents=True)
    for name in ("swarm_runner", "tests", "plugins/simulation", "setup.cfg", "pyproject.toml"):
        source, target = REPOSITORY / name, repository / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for name in ("README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, repository)
    shutil.copy(Path(__file__).parent / "init", _SERVICE / "init")


def _create_environment() -> None:
    requirements = " ".join((*_REQUIREMENTS, "/srv/repository"))
    script = (
        "python3 -m venv /srv/venv && "
        f"/srv/venv/bin/pip install --quiet --no-cache-dir {requirements} && "
        "/srv/venv/bin/pip uninstall --quiet --yes swarm-runner"
    )
    if SUITE.run(["sh", "-euc", script], {_SERVICE: "/srv", REPOSITORY: str(REPOSITORY)}):
        raise RuntimeError("the guest's Python packages could not be installed")


def _images(progress: Callable[[str], None]) -> Path:
    """Return a directory of Docker's with the images of the tests."""
    engine = SuiteEngine(_IMAGES)
    try:
        engine.start()
        provide(engine, progress)
    finally:
        engine.stop()
    data = _IMAGES.directory / "data"
    for name in ("network", "swarm", "containers"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(data / name)
    return data
