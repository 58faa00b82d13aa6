"""Runs an executor in a second container with /dev/kvm: Swarm gives its services no devices.

The first container, which Swarm started, creates the sidecar with its own network, mounts, token
and environment, forwards signals to it and waits for its exit. The sidecar runs the same entry
point.
"""

import contextlib
import io
import os
import signal
import sys
import tarfile
import time
from typing import Any

import docker

# Holds the first container's ID; the entry point removes sidecars whose first container is gone.
SIDECAR_LABEL = "swarm-runner.twin-of"
SIDECAR_ENV = "SWARM_RUNNER_TWIN"
TOKEN_PATH = "/etc/condor/tokens.d/executor"  # noqa: S105 - a path
NO_KVM_EXIT_CODE = 3  # the node has no KVM, or its KVM cannot run a guest
REMOVED_EXIT_CODE = 1  # the sidecar was removed; Swarm replaces the task
POLL_INTERVAL_S = 1.0


def main() -> int:
    """Run the sidecar of the container named in the first argument; return its exit code."""
    container_id = sys.argv[1]
    client = docker.from_env()
    sidecar: Any = None
    try:
        sidecar = client.containers.create(
            client.containers.get(container_id).attrs["Image"],
            environment=dict(os.environ) | {SIDECAR_ENV: container_id},
            devices=["/dev/kvm:/dev/kvm:rw"],
            network_mode=f"container:{container_id}",
            volumes_from=[container_id],
            labels={SIDECAR_LABEL: container_id},
            init=True,
        )
        sidecar.put_archive("/", _token_archive())
        try:
            sidecar.start()
        except docker.errors.APIError as error:
            sys.stderr.write(f"swarm-runner: KVM is not available: {error.explanation}\n")
            return NO_KVM_EXIT_CODE
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: _forward_signal(sidecar, received))
        code = _wait_for_exit(sidecar)
        if code == NO_KVM_EXIT_CODE:
            # The reason is in the sidecar's log, which is removed with it.
            with contextlib.suppress(docker.errors.APIError):
                sys.stderr.write(sidecar.logs(tail=5).decode(errors="replace"))
        return code
    finally:
        if sidecar is not None:
            with contextlib.suppress(docker.errors.NotFound):
                sidecar.remove(force=True)


def _token_archive() -> bytes:
    """Return a tar archive of the token: another container cannot mount a Swarm secret."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(TOKEN_PATH)
    return stream.getvalue()


def _forward_signal(sidecar: Any, signal_number: int) -> None:
    with contextlib.suppress(docker.errors.APIError):
        sidecar.kill(signal=signal_number)


def _wait_for_exit(sidecar: Any) -> int:
    while True:
        time.sleep(POLL_INTERVAL_S)
        try:
            sidecar.reload()
        except docker.errors.NotFound:
            sys.stderr.write("swarm-runner: the KVM sidecar was removed\n")
            return REMOVED_EXIT_CODE
        except (docker.errors.APIError, OSError):
            continue  # a short outage of the engine must not stop the executor
        if sidecar.status in ("exited", "dead"):
            return int(sidecar.attrs["State"]["ExitCode"])


if __name__ == "__main__":
    sys.exit(main())
