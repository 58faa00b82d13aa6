"""A Debian release in a directory, made by debootstrap from the release's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.base_image import KEYRING, MIRROR, SCRIPTS
from tests.lab.hosts.commands import run

ROOT = Path(__file__).parents[3] / ".state" / "suites"
# What an engine needs, and python3 for those that run tests inside.
ENGINE_PACKAGES = ("ca-certificates", "docker.io", "iptables", "kmod", "procps")
PYTHON_PACKAGES = ("ca-certificates", "gcc", "git", "libc6-dev", "python3", "python3-venv")
_NEEDS = ("debootstrap", "debian-archive-keyring")

# Mounts, and then the command in place of the shell. All of it ends with the mount namespace.
_ENTER = """
root=$1 directory=$2 count=$3; shift 3
for path in /proc /sys /dev; do mount --rbind "$path" "$root$path"; done
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# A machine may trust more authorities than Debian does, for its way to the package index.
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -e "$certificates" ] || cp "$certificates" "$root$certificates"
while [ "$count" -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2; count=$((count - 1))
done
exec chroot "$root" env -C "$directory" PIP_CERT="$certificates" SSL_CERT_FILE="$certificates" "$@"
"""


@dataclass(frozen=True, slots=True)
class Suite:
    """A release, by its code name, with packages in addition to the essential ones.

    `purpose` tells two directories of one release apart.
    """

    name: str
    purpose: str = "engine"
    packages: tuple[str, ...] = ENGINE_PACKAGES

    @property
    def directory(self) -> Path:
        """The root directory of the release."""
        return ROOT / f"{self.name}-{self.purpose}"

    def create(self) -> None:
        """Make the directory, unless it is complete. Raises RuntimeError if a package fails."""
        stamp = self.directory / "etc" / "swarm-runner-packages"
        current = " ".join(self.packages)
        if stamp.exists() and stamp.read_text() == current:
            return
        if not (shutil.which("debootstrap") and KEYRING.exists()):
            run("apt-get", "-qq", "update")
            run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qqy", "install", *_NEEDS)
        mirror = os.environ.get("DEBIAN_MIRROR", MIRROR)
        sys.stderr.write(f"suite: installing {self.name} from {mirror} (a minute or two)\n")
        self.remove()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        # An older debootstrap has no script for the release. All of Debian's use the same one.
        script = [] if (SCRIPTS / self.name).exists() else [str(SCRIPTS / "sid")]
        options = [
            "--variant=minbase",
            f"--keyring={KEYRING}",
            f"--include={','.join(self.packages)}",
        ]
        command = ["nice", "debootstrap", *options, self.name, str(self.directory), mirror, *script]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            log = self.directory / "debootstrap" / "debootstrap.log"
            text = log.read_text(errors="replace") if log.exists() else done.stdout + done.stderr
            tail = text.splitlines()[-8:]
            raise RuntimeError("\n".join([f"debootstrap of {self.name} failed:", *tail]))
        stamp.write_text(current)

    def run(self, command: Sequence[str], mounts: Mapping[Path, str]) -> int:
        """Run a command as `command` says. Return its exit code."""
        return subprocess.run(self.command(command, mounts), check=False).returncode

    def command(self, command: Sequence[str], mounts: Mapping[Path, str]) -> list[str]:
        """Return what runs a command as root in the directory, in one process.

        `mounts` are directories of this machine, by their paths in the release. The command gets
        this machine's network, and the repository as its working directory.
        """
        pairs = [text for source, target in mounts.items() for text in (str(source), target)]
        enter = ["unshare", "--mount", "--propagation", "slave", "sh", "-euc", _ENTER, "sh"]
        return [*enter, str(self.directory), str(Path.cwd()), str(len(mounts)), *pairs, *command]

    def remove(self) -> None:
        """Remove the directory. Nothing may be mounted in it."""
        if self.directory.exists():
            run("rm", "-rf", "--one-file-system", str(self.directory))
