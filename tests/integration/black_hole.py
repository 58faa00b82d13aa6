"""An executor on which every job's command fails at once."""

from __future__ import annotations

from docker.models.containers import Container

from swarm_runner.swarm.execution import execute

_DOCKER = "/usr/local/libexec/swarm-runner/docker"
_SCRIPT = f"""
mv {_DOCKER} {_DOCKER}.real && cat >{_DOCKER} <<'EOF'
#!/bin/sh
[ "$1" = create ] || exec {_DOCKER}.real "$@"
shift; exec {_DOCKER}.real create --entrypoint false "$@"
EOF
chmod 755 {_DOCKER}
"""


def make_black_hole(executor: Container) -> None:
    """Replace what HTCondor runs as `docker` in an executor's container."""
    done = execute(executor, ["sh", "-c", _SCRIPT])
    if done.exit_code:
        raise RuntimeError(f"the executor is no black hole: {done.errors!r}")
