"""Several managers of one pool: nodes that may hold its job queue, on a spool that they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from swarm_runner.model.text import Text
from swarm_runner.model.volumes import is_below

if TYPE_CHECKING:
    from swarm_runner.model.pool import Pool

MAX_MANAGERS = 5
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
_MAX_PORT = 65535


def _manager_host(value: str) -> str:
    host, colon, port = value.partition(":")
    valid_port = not colon or (port.isascii() and port.isdigit() and 1 <= int(port) <= _MAX_PORT)
    if not host or set(host) - _HOST_CHARACTERS or not valid_port:
        raise PydanticCustomError(
            "manager_host",
            "{value} is not the address of a manager; write HOST, an IPv4 address, or either with "
            ":PORT",
            {"value": repr(value)},
        )
    return value


ManagerHost = Annotated[Text, AfterValidator(_manager_host)]


def split_host(value: str, default_port: int) -> tuple[str, int]:
    """Return the host and the port of a manager's address."""
    host, _, port = value.partition(":")
    return host, int(port) if port else default_port


def several_managers_diagnostics(pool: Pool) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place and the fault of each setting about several managers."""
    if pool.managers == 1:
        for name in ("hosts", "spool"):
            if getattr(pool, name):
                yield (name,), "applies with several managers; set managers to 2 or 3, or remove it"
        return
    if pool.spool is None:
        message = (
            f"is {pool.managers}, but there is no spool: the job queue must be on a volume that "
            "the managers' nodes share. Set spool to a directory that all of them have at this "
            "path (NFS version 4, CephFS), or leave managers out and use `pool backup`"
        )
        yield ("managers",), message
    if len(pool.hosts) != pool.managers:
        yield (
            ("hosts",),
            f"must have the addresses of all {pool.managers} managers, not {len(pool.hosts)}",
        )
    if len(set(pool.manager_addresses)) != len(pool.hosts):
        yield ("hosts",), "has an address twice"
    if "host" in pool.model_fields_set:
        yield ("host",), "does not apply with several managers; name their addresses in hosts"
    if pool.network.publish == "ingress" or pool.network.endpoint_mode == "vip":
        message = (
            "must be {endpoint_mode: dnsrr, publish: host} with several managers: each of them "
            "has an address of its own"
        )
        yield ("network",), message
    for volume in pool.volumes:
        if pool.spool and (is_below(pool.spool, volume.path) or is_below(volume.path, pool.spool)):
            message = (
                f"{pool.spool} and the volume {volume.path} overlap: jobs would see the queue. "
                "Use another directory"
            )
            yield ("spool",), message
