"""A real Galaxy: one process with SQLite, in a directory on a pool volume, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import requests
import yaml
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

MASTER_KEY = "the-test-servers-bootstrap-key"
BOOT_TIMEOUT_S = 240
STOP_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 120
TOOLS = Path(__file__).with_name("tools")


@dataclass(frozen=True)
class SystemUser:
    """The user that Galaxy and its jobs run as. HTCondor does not run containers as root.

    `groups`: other groups of Galaxy, if root runs the tests.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def for_tests(cls) -> SystemUser:
        """Return the user that runs the tests, or uid 1000 if that is root."""
        uid, gid = os.geteuid(), os.getegid()
        return cls("galaxy", uid, gid) if uid else cls("galaxy", 1000, 1000)

    def chown(self, directory: Path) -> None:
        """Make this user the owner of a directory and its contents."""
        if os.geteuid() == 0:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, self.uid, self.gid)

    def wrap_command(self, command: list[str]) -> list[str]:
        """Return a command line that runs a command as this user.

        It allows the command to read all files: only root may be able to read the interpreter and
        the repository.
        """
        if os.geteuid() == self.uid:
            return command
        groups = ",".join(map(str, self.groups))
        return [
            *("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}"),
            f"--groups={groups}" if groups else "--clear-groups",
            *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
            *command,
        ]


class ToolDefinition(Protocol):
    """A tool that a test defines."""

    @property
    def id(self) -> str:
        """The tool's ID."""

    @property
    def xml(self) -> str:
        """The tool's definition in Galaxy's XML."""


class Galaxy:
    """A Galaxy server in a directory of its own."""

    def __init__(self, directory: Path, port: int, user: SystemUser) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "galaxy.log"
        # Added to the environment of every server.
        self.extra_environment: dict[str, str] = {}
        self._port = port
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def configure(
        self, job_conf: Mapping[str, Any], tools: Iterable[ToolDefinition] = (), **settings: Any
    ) -> None:
        """Write the configuration, with these tools and those of the lambda phage example."""
        shutil.copytree(TOOLS, self.directory / "tools")
        for tool in tools:
            self._write(f"tools/{tool.id}.xml", tool.xml)
        names = sorted(file.name for file in (self.directory / "tools").glob("*.xml"))
        tool_tags = "".join(f'<tool file="{self.directory}/tools/{name}"/>' for name in names)
        builtin = '<tool file="data_source/upload.xml"/>'
        self._write("tool_conf.xml", f"<toolbox>{builtin}{tool_tags}</toolbox>")
        self._write("job_conf.yml", yaml.safe_dump(dict(job_conf), sort_keys=False))
        self._write("galaxy.yml", yaml.safe_dump({"galaxy": self._settings() | settings}))
        self._user.chown(self.directory)

    def start(self, wait: bool = True) -> None:
        """Start the server, and wait until it responds. Raise RuntimeError if it ends instead."""
        command = [
            str(Path(sys.executable).with_name("galaxy-web")),
            *("-c", str(self.directory / "galaxy.yml"), "-b", f"127.0.0.1:{self._port}"),
        ]
        self._process = self._spawn(command)
        if wait:
            self._wait_until_ready()

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as Galaxy's user, in Galaxy's directory."""
        return subprocess.run(
            self._user.wrap_command(command),
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    @property
    def database(self) -> Path:
        """The database file."""
        return self.directory / "data/galaxy.sqlite"

    @property
    def pid(self) -> int:
        """The server's process ID."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Stop the server as an administrator does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Kill the server and its children, as a crash of the host does."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None

    def wait(self, timeout_s: float) -> int:
        """Wait until the server ends by itself. Return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def _spawn(
        self, command: list[str], prefix: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a process of the server, whose output goes to the log.

        `prefix` is a command that runs as the tests' user, and becomes the process.
        """
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*prefix, *self._user.wrap_command(command)],
                cwd=self.directory,
                env=self._environment() | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @retry(
        retry=retry_if_exception_type((requests.ConnectionError, requests.HTTPError)),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(BOOT_TIMEOUT_S),
        reraise=True,
    )
    def _wait_until_ready(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            log_end = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"Galaxy ended while it booted:\n{log_end}")
        requests.get(f"{self.url}/api/version", timeout=10).raise_for_status()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "PYTHONUNBUFFERED": "1",
            **{name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ},
            **self.extra_environment,
        }

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def _settings(self) -> dict[str, Any]:
        home = self.directory
        return {
            "config_dir": str(home),
            "data_dir": str(home / "data"),
            "file_path": str(home / "data/objects"),
            "job_working_directory": str(home / "data/jobs"),
            "new_file_path": str(home / "data/tmp"),
            "database_connection": f"sqlite:///{self.database}?isolation_level=IMMEDIATE",
            "id_secret": "the test server's secret",
            "tool_config_file": str(home / "tool_conf.xml"),
            "job_config_file": str(home / "job_conf.yml"),
            "bootstrap_admin_api_key": MASTER_KEY,
            "admin_users": "admin@example.org",
            "enable_celery_tasks": False,
            "conda_auto_init": False,
            "conda_auto_install": False,
            "enable_mulled_containers": False,
            "check_upload_content": False,
            "static_enabled": False,
            "job_runner_monitor_sleep": 0.2,
            "job_handler_monitor_sleep": 0.2,
            "cleanup_job": "onsuccess",
            "allow_user_deletion": False,
        }
