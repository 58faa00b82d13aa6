"""`python -m tests.lab.ssh`: run tests on this machine's engine, which they reach by ssh.

The server is Debian's, in a root of its own and on a loopback port. Its only key is made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.lab.engines.suite import Suite

REPOSITORY = Path(__file__).parents[2]
STATE = REPOSITORY / ".state" / "ssh"
# It starts `docker system dial-stdio` for each connection.
SUITE = Suite("trixie", "ssh", ("ca-certificates", "docker-cli", "openssh-server"))
ADDRESS, PORT = "127.0.0.1", 9762
ENGINE = f"ssh://root@{ADDRESS}:{PORT}"
# What leads the tests to the engine, and the tests.
RUNS: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = (
    ({}, ("tests/smoke",)),  # the current docker context
    (
        {"DOCKER_HOST": ENGINE},
        ("tests/contract/test_swarm.py", "tests/integration/test_running_jobs.py"),
    ),
)
_START_TIMEOUT_S = 30
_CONTEXT = "lab-ssh"
_HOME = STATE / "home"
_SERVER = STATE / "server"
# The machine's /run is here in the server's root, which needs a /run of its own.
_RUN = "/mnt"
_SERVER_CONFIG = f"""\
Port {PORT}
ListenAddress {ADDRESS}
HostKey /srv/host_key
AuthorizedKeysFile /srv/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
SetEnv DOCKER_HOST=unix://{_RUN}/docker.sock
"""


def main() -> int:
    """Run the tests. Return 1 if one of them failed."""
    try:
        SUITE.create()
        _write_files()
        with _server():
            codes = [
                subprocess.run(
                    [sys.executable, "-m", "pytest", *tests],
                    env=_environment() | variables,
                    check=False,
                ).returncode
                for variables, tests in RUNS
            ]
        return int(any(codes))
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"ssh: {error}\n")
        return 1


def _write_files() -> None:
    """Write the server's settings, both keys, and the home of its user."""
    ssh, docker = _HOME / ".ssh", _HOME / ".docker"
    context = docker / "contexts" / "meta" / hashlib.sha256(_CONTEXT.encode()).hexdigest()
    for directory in (ssh, context, _SERVER, SUITE.directory / "run" / "sshd"):
        directory.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "user_key"):
        if not (_SERVER / name).exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/srv/{name}"]
            if SUITE.run(command, _mounts()):
                raise RuntimeError("ssh-keygen failed")
    (_SERVER / "sshd_config").write_text(_SERVER_CONFIG)
    public = (_SERVER / "host_key.pub").read_text()
    (ssh / "known_hosts").write_text(f"[{ADDRESS}]:{PORT} {public}")
    (ssh / "config").write_text(f"Host {ADDRESS}\n    IdentityFile {_SERVER / 'user_key'}\n")
    endpoint = {"Host": ENGINE, "SkipTLSVerify": False}
    meta = {"Name": _CONTEXT, "Metadata": {}, "Endpoints": {"docker": endpoint}}
    (context / "meta.json").write_text(json.dumps(meta))
    (docker / "config.json").write_text(json.dumps({"currentContext": _CONTEXT}))


@contextlib.contextmanager
def _server() -> Iterator[None]:
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", "/srv/sshd_config"]
    with (
        (STATE / "sshd.log").open("w") as log,
        subprocess.Popen(SUITE.command(command, _mounts()), stdout=log, stderr=log) as process,
    ):
        try:
            Retrying(
                retry=retry_if_exception_type(OSError),
                stop=stop_after_delay(_START_TIMEOUT_S),
                reraise=True,
                wait=wait_fixed(0.2),
            )(lambda: socket.create_connection((ADDRESS, PORT)).close())
            yield
        finally:
            process.terminate()


def _mounts() -> dict[Path, str]:
    return {_SERVER: "/srv", Path("/run"): _RUN, REPOSITORY: str(REPOSITORY)}


def _environment() -> dict[str, str]:
    names = ("DOCKER_HOST", "DOCKER_CONTEXT", "SSH_AUTH_SOCK")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return kept | {"HOME": str(_HOME), "DOCKER_CONFIG": str(_HOME / ".docker")}


if __name__ == "__main__":
    sys.exit(main())
