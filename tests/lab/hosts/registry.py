"""A private registry on the machine's end of the bridge: Debian's docker-registry, plain HTTP."""

from __future__ import annotations

import shutil
from pathlib import Path

import requests
import yaml
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.lab.hosts.cgroup import Cgroup
from tests.lab.hosts.commands import run
from tests.lab.hosts.layout import REGISTRY, REGISTRY_CGROUP, ROOT

DIRECTORY = ROOT / "registry"
PACKAGE = "docker-registry"
START_TIMEOUT_S = 20
_START_SCRIPT = """
log=$1 program=$2 config=$3; shift 3
for entrance; do echo $$ >"$entrance"; done
exec >>"$log" 2>&1 </dev/null
exec "$program" serve "$config"
"""


def start() -> bool:
    """Start the registry, unless it answers; whether it was started. Raises RuntimeError."""
    cgroup = Cgroup(REGISTRY_CGROUP)
    if cgroup.pids() and is_reachable():
        return False
    cgroup.kill()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    config, log = DIRECTORY / "config.yml", DIRECTORY / "log"
    config.write_text(
        yaml.safe_dump(
            {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": str(DIRECTORY / "data")}},
                "http": {"addr": REGISTRY},
            }
        )
    )
    places = (str(log), _program(), str(config))
    run("setsid", "--fork", "sh", "-euc", _START_SCRIPT, "sh", *places, *map(str, cgroup.create()))
    try:
        Retrying(
            retry=retry_if_result(lambda answer: not answer),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(START_TIMEOUT_S),
        )(is_reachable)
    except RetryError as error:
        raise RuntimeError(f"the registry does not answer at {REGISTRY}; see {log}") from error
    return True


def stop() -> None:
    """Kill it."""
    Cgroup(REGISTRY_CGROUP).kill()


def is_reachable() -> bool:
    """Whether it does."""
    try:
        return requests.get(f"http://{REGISTRY}/v2/", timeout=5).ok
    except requests.RequestException:
        return False


def has_image(reference: str) -> bool:
    """Whether it has the image, named as in `host:port/name:tag`."""
    name, _, tag = reference.removeprefix(f"{REGISTRY}/").rpartition(":")
    accepted = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    url = f"http://{REGISTRY}/v2/{name}/manifests/{tag}"
    return requests.head(url, headers=accepted, timeout=5).ok


def _program() -> str:
    """The one that is installed, or the package's, unpacked: installing it would start another."""
    installed = shutil.which(PACKAGE)
    if installed:
        return installed
    program = DIRECTORY / "package" / "usr" / "bin" / PACKAGE
    if not program.exists():
        download = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE)
        try:
            run(*download, cwd=str(DIRECTORY))
        except RuntimeError:  # the lists of packages are old, or there are none
            run("apt-get", "-qq", "update")
            run(*download, cwd=str(DIRECTORY))
        newest = max(DIRECTORY.glob("*.deb"), key=_modified_at)
        run("dpkg-deb", "-x", str(newest), str(DIRECTORY / "package"))
    return str(program)


def _modified_at(file: Path) -> float:
    return file.stat().st_mtime
