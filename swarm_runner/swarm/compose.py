"""A pool as a compose file for `docker stack deploy`. Pure.

Source: the compose file reference, version 3 ("deploy", "secrets", "endpoint_mode",
"generic_resources").
"""

from __future__ import annotations

from typing import Any

from swarm_runner.swarm.specs import (
    GPU_RESOURCE,
    NODE_LABEL,
    SIGNING_KEY_PATH,
    STACK_LABEL,
    MountSpec,
    ServiceSpec,
    Stack,
)

_VERSION = "3.8"
_NETWORK = "htcondor"
_ROOT_ONLY = 0o400


def compose(stack: Stack, node: str) -> dict[str, Any]:
    """The document; `node` is the host name of the node that holds the queue.

    Deployed as a stack with the pool's name, it has the names that `pool up` gives. Its secrets are
    there before: `making` says how.
    """
    wishes = [stack.central_manager(), *stack.executors().values()]
    volumes = (stack.spool_volume, stack.scratch_volume)
    secrets = (stack.signing_key, stack.executor_token)
    return {
        "version": _VERSION,
        "services": {_key(wish.name, stack): _service(wish, stack, node) for wish in wishes},
        "networks": {_NETWORK: {"name": stack.network, "driver": "overlay"}},
        "volumes": {_key(name, stack): {"name": name} for name in volumes},
        "secrets": {_key(name, stack): {"name": name, "external": True} for name in secrets},
    }


def setup_comments(stack: Stack) -> str:
    """Comments that say how to make the secrets and how to deploy, in commands of docker's own."""
    pool = stack.pool
    sign = (
        f"docker run --rm -i --entrypoint sh -e _CONDOR_TRUST_DOMAIN={pool.name} "
        f"-e _CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE={SIGNING_KEY_PATH} "
        f"{stack.image} -c 'umask 077; mkdir -p /etc/condor/passwords.d; "
        f"cat >{SIGNING_KEY_PATH}; exec condor_token_create "
        f"-identity executor@{pool.name} -authz ADVERTISE_STARTD -authz ADVERTISE_MASTER "
        "-authz READ"
    )
    lines = (
        f"Pool {pool.name}, made by `swarm-runner pool render`.",
        "Before the first deployment, on a Swarm manager:",
        "",
        "  openssl rand -base64 48 >signing-key; chmod 600 signing-key",
        f"  docker secret create {stack.signing_key} signing-key",
        f"  {sign}' <signing-key | docker secret create {stack.executor_token} -",
        "",
        f"Then, and after every change: docker stack deploy -c THIS_FILE {pool.name}",
        "A client's token is made by `swarm-runner pool up`, with the services in job_conf:",
        "",
        "  pool:",
        "    services:",
        f"      manager: {pool.service()}",
        *(f"      {name}: {pool.service(name)}" for name in pool.classes),
    )
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _key(name: str, stack: Stack) -> str:
    """Docker puts the stack's name before it."""
    return name.removeprefix(f"{stack.pool.name}_")


def _service(spec: ServiceSpec, stack: Stack, node: str) -> dict[str, Any]:
    own = {
        name: value for name, value in spec.labels.items() if name not in (NODE_LABEL, STACK_LABEL)
    }
    alias = {"aliases": [spec.hostname]} if spec.hostname else {}
    service: dict[str, Any] = {
        "image": spec.image,
        "init": True,
        # A dollar is a variable's, and two are one dollar.
        "environment": {name: value.replace("$", "$$") for name, value in spec.environment.items()},
        "labels": own,
        "networks": {_NETWORK: alias},
        "volumes": [_mount(mount, stack) for mount in spec.mounts],
        "secrets": [
            {
                "source": _key(spec.secret.name, stack),
                "target": spec.secret.target,
                "mode": _ROOT_ONLY,
            }
        ],
        "stop_grace_period": f"{spec.stop_grace_s}s",
        "deploy": {
            "replicas": spec.replicas,
            "endpoint_mode": spec.endpoint_mode,
            "labels": own,
            "restart_policy": {"condition": "any", "delay": "2s"},
            "update_config": {
                "parallelism": 1,
                "order": "stop-first",
                "failure_action": "pause",
                "monitor": "10s",
            },
        },
    }
    if spec.hostname is not None:
        service["hostname"] = spec.hostname
    if spec.port is not None:
        port = {"target": spec.port, "published": spec.port, "protocol": "tcp"}
        service["ports"] = [port | {"mode": spec.publish}]
    if spec.node_id is not None:
        service["deploy"]["placement"] = {"constraints": [f"node.hostname == {node}"]}
    if spec.memory_mb is not None:
        reservations: dict[str, Any] = {"memory": f"{spec.memory_mb}M"}
        if spec.gpus:
            gpus = {"kind": GPU_RESOURCE, "value": spec.gpus}
            reservations["generic_resources"] = [{"discrete_resource_spec": gpus}]
        service["deploy"]["resources"] = {"reservations": reservations}
    return service


def _mount(mount: MountSpec, stack: Stack) -> dict[str, Any]:
    source = _key(mount.source, stack) if mount.volume else mount.source
    kind = "volume" if mount.volume else "bind"
    made = {"type": kind, "source": source, "target": mount.target}
    return made | {"read_only": True} if mount.read_only else made
