"""An executor's second container, which has the node's KVM: Swarm gives its services no devices.

The first one, Swarm's, hands it its network, its mounts and its token, passes signals on and waits
for its end. It runs the same entry point.
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

SIDECAR_LABEL = (
    "swarm-runner.twin-of"  # the entry point removes those whose first container is gone
)
SIDECAR_ENV = "SWARM_RUNNER_TWIN"
TOKEN_PATH = "/etc/condor/tokens.d/executor"  # noqa: S105  its place
NO_KVM_EXIT_CODE = 3  # the exit code that says that there is no KVM, or none that runs a guest
REMOVED_EXIT_CODE = 1  # the exit code when somebody else removed it: Swarm starts anew
POLL_INTERVAL_S = 1.0


def main() -> int:
    """Run the twin of the container whose id is the first argument; its exit code."""
    own = sys.argv[1]
    engine = docker.from_env()
    twin: Any = None
    try:
        twin = engine.containers.create(
            engine.containers.get(own).attrs["Image"],
            environment=dict(os.environ) | {SIDECAR_ENV: own},
            devices=["/dev/kvm:/dev/kvm:rw"],
            network_mode=f"container:{own}",
            volumes_from=[own],
            labels={SIDECAR_LABEL: own},
            init=True,
        )
        twin.put_archive("/", _token_archive())
        try:
            twin.start()
        except docker.errors.APIError as error:
            sys.stderr.write(f"swarm-runner: no KVM on this node: {error.explanation}\n")
            return NO_KVM_EXIT_CODE
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda got, _frame: _forward_signal(twin, got))
        code = _wait_for_exit(twin)
        if code == NO_KVM_EXIT_CODE:
            # Why, its log tells, which goes with it.
            with contextlib.suppress(docker.errors.APIError):
                sys.stderr.write(twin.logs(tail=5).decode(errors="replace"))
        return code
    finally:
        if twin is not None:
            with contextlib.suppress(docker.errors.NotFound):
                twin.remove(force=True)


def _token_archive() -> bytes:
    """Swarm's secrets are mounts that no other container can have."""
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
            sys.stderr.write("swarm-runner: the container that has the KVM was removed\n")
            return REMOVED_EXIT_CODE
        except (docker.errors.APIError, OSError):
            continue  # an engine that is away for a moment must not end the executor
        if sidecar.status in ("exited", "dead"):
            return int(sidecar.attrs["State"]["ExitCode"])


if __name__ == "__main__":
    sys.exit(main())
