"""One engine: a root, a network namespace, a /run and a cgroup of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.lab.engines import network
from tests.lab.engines.kinds import EngineKind
from tests.lab.hosts.commands import run
from tests.lab.hosts.engine_daemon import EngineDaemon
from tests.lab.hosts.network import NAMESPACES
from tests.lab.pool import STATE_DIRECTORY as POOLS

_STOP_TIMEOUT_S = 30
_REPOSITORY = Path(__file__).parents[3]
# Directories in which tests make what containers mount: they have the same paths in the root.
_SHARED = (_REPOSITORY, POOLS, Path("/tmp"), Path("/var/tmp"))  # noqa: S108

# The outer mount namespace is the tests': the machine's files, with this engine's /run and with
# directories for its pools alone. The inner one is the engine's, with the root of its release. In a
# plain chroot the engine cannot unpack images: pivot_root makes the root a mount of its own.
_START_SCRIPT = """
namespace=$1; shift
exec nsenter --net="$namespace" unshare --mount --propagation slave sh -euc '
    directory=$1 root=$2 pools=$3 inner=$4; shift 4
    mount --bind "$directory/run" /run
    mount --bind "$directory/pools" "$pools"
    # What a test mounts there arrives in the inner namespace, as on any host.
    mount --make-shared "$pools"
    echo $$ >/run/holder.pid
    unshare --mount --propagation slave sh -euc "$inner" sh "$root" "$directory" "$@"
' sh "$@"
"""
_INNER_SCRIPT = """
root=$1 directory=$2; shift 2
mount --bind "$root" "$root"
mount --make-private "$root"
for path in /proc /sys /dev; do mount --rbind "$path" "$root$path"; done
# Not recursively: the root itself is in one of them.
for path in "$@"; do
    mkdir -p "$root$path"
    mount --bind "$path" "$root$path"
done
mount --bind /run "$root/run"
mkdir -p "$root/var/lib/docker" "$root/old"
mount --bind "$directory/data" "$root/var/lib/docker"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cd "$root"
pivot_root . old
umount -l /old
exec dockerd --config-file /run/daemon.json
"""


class SuiteEngine(EngineDaemon):
    """The engine of a kind. Only one of each kind can run on a machine."""

    def __init__(self, kind: EngineKind) -> None:
        self.kind = kind
        self._run = kind.directory / "run"
        socket = self._run / "docker.sock"
        super().__init__(
            kind.name, kind.namespace, f"unix://{socket}", kind.directory / "dockerd.log"
        )

    def start(self) -> None:
        """Start the engine, unless it responds.

        Raises RuntimeError if it does not start; the message has the end of its log.
        """
        if self.is_reachable():
            return
        self.kill()
        self.kind.suite.create()
        for name in ("data", "run", "pools"):
            (self.kind.directory / name).mkdir(parents=True, exist_ok=True)
        for stale in self._run.glob("*"):
            run("rm", "-rf", "--one-file-system", str(stale))
        POOLS.mkdir(parents=True, exist_ok=True)
        (self._run / "daemon.json").write_text(json.dumps(self._settings(), indent=2))
        network.attach(self.kind)
        self._launch(
            _START_SCRIPT,
            str(NAMESPACES / self.kind.namespace),
            str(self.kind.directory),
            str(self.kind.suite.directory),
            str(POOLS),
            _INNER_SCRIPT,
            *(str(path) for path in _SHARED if path.is_dir()),
            environment=self.kind.environment,
        )

    def stop(self) -> None:
        """Stop the engine and remove its network. Its images stay."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._run / "docker.pid").read_text()), signal.SIGTERM)
            stop = stop_after_delay(_STOP_TIMEOUT_S)
            with contextlib.suppress(RetryError):
                Retrying(retry=retry_if_result(bool), wait=wait_fixed(0.3), stop=stop)(
                    (self._run / "docker.pid").exists
                )
        self.kill()
        network.detach(self.kind)

    def remove(self) -> None:
        """Stop the engine, and remove its images and everything else of it."""
        self.stop()
        if self.kind.directory.exists():
            run("rm", "-rf", "--one-file-system", str(self.kind.directory))

    def run(self, command: Sequence[str]) -> int:
        """Run a command on the engine's network, with its /run. Return the exit code."""
        environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
        arguments = [
            *("nsenter", f"--target={(self._run / 'holder.pid').read_text().strip()}"),
            *("--net", "--mount", f"--wd={Path.cwd()}", *command),
        ]
        return subprocess.run(arguments, env=environment, check=False).returncode

    def _settings(self) -> dict[str, object]:
        return {
            "hosts": ["unix:///run/docker.sock"],
            "pidfile": "/run/docker.pid",
            "exec-root": "/run/docker",
            "cgroup-parent": f"/{self.kind.namespace}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            **self.kind.settings,
        }
