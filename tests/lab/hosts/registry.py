"""A private registry at the machine's address on the bridge: Debian's docker-registry over HTTP."""

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
START_TIMEOUT_S = 120
_START_SCRIPT = """
log=$1 program=$2 config=$3; shift 3
for procs_file; do echo $$ >"$procs_file"; done
exec >>"$log" 2>&1 </dev/null
exec "$program" serve "$config"
"""


def start() -> bool:
    """Start the registry, unless it responds. Return whether it was started.

    Raises RuntimeError if it does not respond after the start.
    """
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
    arguments = (str(log), _program(), str(config), *map(str, cgroup.create()))
    run("setsid", "--fork", "sh", "-euc", _START_SCRIPT, "sh", *arguments)
    try:
        Retrying(
            retry=retry_if_result(lambda reachable: not reachable),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(START_TIMEOUT_S),
        )(is_reachable)
    except RetryError as error:
        raise RuntimeError(f"the registry does not respond at {REGISTRY}; see {log}") from error
    return True


def stop() -> None:
    """Kill the registry."""
    Cgroup(REGISTRY_CGROUP).kill()


def is_reachable() -> bool:
    """Return whether the registry responds."""
    try:
        return requests.get(f"http://{REGISTRY}/v2/", timeout=5).ok
    except requests.RequestException:
        return False


def has_image(reference: str) -> bool:
    """Return whether the registry has an image, named `host:port/name:tag`."""
    name, _, tag = reference.removeprefix(f"{REGISTRY}/").rpartition(":")
    accepted = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    url = f"http://{REGISTRY}/v2/{name}/manifests/{tag}"
    return requests.head(url, headers=accepted, timeout=5).ok


def _program() -> str:
    """Return the installed program, or that of the unpacked package.

    Installing the package would start a second registry.
    """
    installed = shutil.which(PACKAGE)
    if installed:
        return installed
    program = DIRECTORY / "package" / "usr" / "bin" / PACKAGE
    if not program.exists():
        download = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE)
        try:
            run(*download, cwd=str(DIRECTORY))
        except RuntimeError:  # the package lists are outdated or missing
            run("apt-get", "-qq", "update")
            run(*download, cwd=str(DIRECTORY))
        newest = max(DIRECTORY.glob("*.deb"), key=_modified_at)
        run("dpkg-deb", "-x", str(newest), str(DIRECTORY / "package"))
    return str(program)


def _modified_at(file: Path) -> float:
    return file.stat().st_mtime
