"""A pool deployed by `docker stack deploy`, with the instructions that `pool render` writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from swarm_runner.cli import factories
from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import Destination, Pool
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, nodes
from tests.lab_hosts.conftest import STATE_DIRECTORY, HostsPool
from tests.polling import TIMEOUT_S, poll_until

NAME = "swarm-runner-git"
POOL = {
    "name": NAME,
    "image": pool_image(),
    "host": nodes()[0].address,
    "port": 9619,
    "volumes": [str(SHARED)],
    "classes": {"normal": {"memory_mb": 128, "replicas": 1}},
}


def sh(command: str, directory: Path, *, check: bool = True) -> bool:
    """Run a shell command against the first host; return whether it succeeded."""
    environment = os.environ | {"DOCKER_HOST": nodes()[0].docker_host}
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        environment.pop(name, None)
    ended = subprocess.run(
        ["/bin/sh", "-euc", command], cwd=directory, env=environment, check=check
    )
    return ended.returncode == 0


@pytest.fixture
def deployed(lab_hosts_pool: HostsPool, tmp_path: Path) -> Iterator[HostsPool]:
    """The deployed stack. Its client names the services in `pool.services`."""
    conf = tmp_path / "job_conf.yml"
    execution = {"environments": {"swarm": {"runner": "swarm"}}}
    conf.write_text(yaml.safe_dump({"runners": {"swarm": {"pool": POOL}}, "execution": execution}))
    rendered = subprocess.run(
        [
            *(sys.executable, "-c", "import swarm_runner.cli as cli; raise SystemExit(cli.main())"),
            *("pool", "render", "--node", nodes()[0].name, "--job-conf", str(conf)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "stack.yml").write_text(rendered)
    setup_comments = [line[4:] for line in rendered.splitlines() if line.startswith("#   ")]
    services = {"manager": f"{NAME}_htcondor", "normal": f"{NAME}_htcondor-executor"}
    pool = Pool.model_validate(POOL | {"services": services})
    destination = Destination(
        pool=pool,
        state_directory=str(STATE_DIRECTORY / "state-git"),
        token_directory=str(STATE_DIRECTORY / "tokens-git.d"),
    )
    provisioner = factories.provisioner(destination, lambda _message: None)
    try:
        commands = ("key=", "openssl", "docker", "rm")
        sh("\n".join(line for line in setup_comments if line.startswith(commands)), tmp_path)
        sh(f"docker stack deploy -c stack.yml {NAME}", tmp_path)
        yield HostsPool(destination, provisioner, lab_hosts_pool.client)
    finally:
        # The network is in use until the services' tasks have ended.
        poll_until(lambda: sh(f"docker stack rm {NAME}", tmp_path, check=False), lambda ok: ok)
        remove = f"docker secret rm {NAME}_htcondor-signing-key {NAME}_htcondor-executor-token"
        # Swarm keeps a secret until the tasks that use it have stopped.
        poll_until(
            lambda: sh(remove, tmp_path),
            lambda _: True,
            retry_on=(subprocess.CalledProcessError,),
        )


def test_a_rendered_stack_is_a_pool(deployed: HostsPool) -> None:
    assert deployed.provisioner.up().ready("normal") == 1
    assert deployed.provisioner.scale({"normal": 2}, timeout_s=TIMEOUT_S).ready("normal") == 2
    with deployed.job_batch() as batch:
        batch.submit([1, 1])
        batch.finish()
        assert batch.start_counts() == batch.end_counts() == [1, 1]
    with pytest.raises(PreconditionError, match="was not created by `pool up`"):
        deployed.provisioner.down(force=True)
