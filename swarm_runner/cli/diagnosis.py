"""What `swarm-runner doctor` finds in the facts of an engine, a host and a pool. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm_runner.condor.daemons import Daemon, TokenClaims
    from swarm_runner.model.pool import Pool
    from swarm_runner.model.pool_status import SwarmNode
    from swarm_runner.swarm.engine_facts import EngineFacts

# Docker 20.10: a Swarm's global jobs, with which `pool down` removes volumes.
MINIMUM_API_VERSION = (1, 41)
# The newest that the executors' gateway speaks (swarm/image/gateway_engine.py).
NEWEST_API_VERSION = (1, 51)
# The schedd's retry_request_memory; clients need less.
MINIMUM_HTCONDOR = (25, 2, 1)
MINIMUM_BINDINGS = (25, 0, 14)
# The major version that the project is tried with.
HTCONDOR_MAJOR = 25
LITTLE_DISK_MB, NO_DISK_MB = 10_240, 2_048
MAX_CLOCK_DIFFERENCE_S = 60
# Daemons send their ads every five minutes: the newest one of a pool is not much older.
MAX_AD_AGE_S = 900


class Severity(StrEnum):
    """What a finding means for jobs."""

    OK = "ok"
    WARNING = "warning"
    """Works, but somebody should know."""
    FAILED = "failed"
    """Does not work."""
    UNREACHABLE = "unreachable"
    """Does not answer, so that nothing more is known."""
    INVALID = "invalid"
    """The configuration is invalid."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check: what was found and, unless it is in order, what to do."""

    check: str
    severity: Severity
    message: str
    advice: str = ""


def check_engine(docker_engine: EngineFacts) -> Iterator[Finding]:
    """Check an engine's version, its kernel, and its role in a Swarm."""
    if docker_engine.api_version < MINIMUM_API_VERSION:
        yield Finding(
            "engine",
            Severity.FAILED,
            f"Docker {docker_engine.version} on {docker_engine.name} is older than 20.10",
            "Upgrade the Docker engine",
        )
    elif docker_engine.minimum_api_version > NEWEST_API_VERSION:
        yield Finding(
            "engine",
            Severity.FAILED,
            f"Docker {docker_engine.version} on {docker_engine.name} speaks its API from version "
            f"{_dotted(docker_engine.minimum_api_version)} on, and the executors know it up to "
            f"{_dotted(NEWEST_API_VERSION)}",
            "Upgrade swarm-runner, then the pool: `swarm-runner pool upgrade`",
        )
    elif docker_engine.rootless:
        yield Finding(
            "engine",
            Severity.FAILED,
            f"Docker on {docker_engine.name} runs without root (rootless mode), where no container "
            "can join Swarm's overlay networks",
            "Use an engine that root runs",
        )
    else:
        yield Finding(
            "engine", Severity.OK, f"Docker {docker_engine.version} on {docker_engine.name} answers"
        )
    yield _check_swarm(docker_engine)
    yield _check_memory(docker_engine)


def _check_swarm(docker_engine: EngineFacts) -> Finding:
    reason = f" ({docker_engine.swarm_error})" if docker_engine.swarm_error else ""
    states = {
        "inactive": (
            Severity.WARNING,
            "The engine is not part of a Swarm",
            "`swarm-runner pool up --init` creates one, `docker swarm join` joins one",
        ),
        "locked": (
            Severity.FAILED,
            "The Swarm is locked: this manager was restarted and has no key",
            "Run `docker swarm unlock`; `docker swarm unlock-key` on another manager shows the key",
        ),
        "pending": (
            Severity.FAILED,
            f"The engine is joining a Swarm{reason}",
            "Wait a minute. If it stays so, check that the managers' port 2377 is reachable",
        ),
        "error": (
            Severity.FAILED,
            f"The engine's Swarm has failed{reason}",
            "Check the engine's log. `docker swarm leave --force` and joining again resets it",
        ),
    }
    if docker_engine.swarm_state != "active":
        return Finding("swarm", *states.get(docker_engine.swarm_state, states["error"]))
    if not docker_engine.swarm_manager:
        return Finding(
            "swarm",
            Severity.FAILED,
            "The engine is a worker of its Swarm, which cannot manage services",
            "Run the pool's commands on a manager, or set DOCKER_HOST to one; or run "
            "`docker node promote` there. Submitting needs no engine: `doctor --client`",
        )
    return Finding("swarm", Severity.OK, "The engine is a manager of an active Swarm")


def _check_memory(docker_engine: EngineFacts) -> Finding:
    version = f"cgroup v{docker_engine.cgroup_version}"
    if not docker_engine.memory_limit:
        return Finding(
            "memory limits",
            Severity.FAILED,
            f"The kernel does not limit the memory of containers ({version}): a job could use all "
            "memory of its node",
            "Boot with the kernel's parameters `cgroup_enable=memory swapaccount=1`",
        )
    if not docker_engine.swap_limit:
        return Finding(
            "memory limits",
            Severity.WARNING,
            f"The kernel limits memory but not swap ({version}): a job above its memory swaps",
            "Boot with the kernel's parameter `swapaccount=1`, or switch swap off",
        )
    return Finding("memory limits", Severity.OK, f"The kernel limits memory and swap ({version})")


def check_nodes(nodes: Collection[SwarmNode], own_id: str) -> Iterator[Finding]:
    """Check the engines and the architectures of a Swarm's nodes."""
    from swarm_runner.provisioner.nodes import describe_engines, node_warnings

    for warning in node_warnings(nodes, own_id):
        sentence, _, advice = warning.partition(": ")
        yield Finding("nodes", Severity.FAILED, _capitalized(sentence), _capitalized(advice))
    if len({node.engine_version for node in nodes}) > 1:
        yield Finding(
            "nodes",
            Severity.WARNING,
            f"The Swarm's nodes have different versions of Docker: {describe_engines(nodes)}",
            "Bring them to one version; each executor speaks the API of its own node's engine, so "
            "that jobs run meanwhile",
        )


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def check_disk(what: str, directory: str, free_mb: int | None) -> Finding:
    """Check the free space of a directory; None if it cannot be determined."""
    if free_mb is None:
        advice = "Look with `df`"
        return Finding(
            "disk", Severity.WARNING, f"The free space of {directory} is unknown", advice
        )
    message = f"{free_mb:,} MB are free in {directory} ({what})"
    if free_mb < NO_DISK_MB:
        advice = "Free space: images, containers and the queue cannot be written"
        return Finding("disk", Severity.FAILED, message, f"{advice}. See `docker system df`")
    if free_mb < LITTLE_DISK_MB:
        advice = "Free space before large images are pulled. See `docker system df`"
        return Finding("disk", Severity.WARNING, message, advice)
    return Finding("disk", Severity.OK, message)


def check_network(docker_engine: EngineFacts, image: str, *, has_route: bool | None) -> Finding:
    """Check that the pool image is there or can be fetched.

    `has_route` says whether this host has a default route; None if that is unknown.
    """
    if image in docker_engine.images:
        return Finding("image", Severity.OK, f"The engine has the pool image {image}")
    message = f"The engine does not have the pool image {image}, which `pool up` pulls or builds"
    if has_route is False:
        return Finding(
            "image",
            Severity.FAILED,
            f"{message}, and this host has no default route",
            "Connect the host to a network, or copy the image to it: `docker save` on another "
            "host, `docker load` here",
        )
    return Finding("image", Severity.OK, message)


def check_engine_clock(docker_engine: EngineFacts, now_s: float) -> Iterator[Finding]:
    """Compare this host's clock with that of an engine on another host."""
    if docker_engine.time_s is None or docker_engine.local:
        return
    yield _check_clock(now_s - docker_engine.time_s, f"the engine {docker_engine.name}")


def _check_clock(difference_s: float, other: str) -> Finding:
    if abs(difference_s) <= MAX_CLOCK_DIFFERENCE_S:
        return Finding("clock", Severity.OK, f"This host's clock agrees with that of {other}")
    direction = "ahead of" if difference_s > 0 else "behind"
    return Finding(
        "clock",
        Severity.FAILED,
        f"This host's clock is {abs(difference_s):,.0f} s {direction} that of {other}",
        "Synchronise the clocks (`timedatectl set-ntp true`): tokens and leases depend on them",
    )


def check_pool_clock(daemons: Iterable[Daemon], now_s: float) -> Finding:
    """Compare this host's clock with the ads of a pool's daemons.

    An ad is up to five minutes old, so a clock that is ahead is found only beyond that.
    """
    central = [daemon for daemon in daemons if daemon.kind != "Machine"]
    times = [time for daemon in central for time in (daemon.sent_s, daemon.received_s) if time]
    if not times:
        advice = "Compare `date` here and on the pool's nodes"
        return Finding("clock", Severity.WARNING, "The pool's time is unknown", advice)
    age_s = now_s - max(times)
    return _check_clock(age_s if age_s < 0 or age_s > MAX_AD_AGE_S else 0, "the pool")


def check_node_clocks(daemons: Iterable[Daemon]) -> Iterator[Finding]:
    """Compare the clocks of the executors' nodes with the collector's, by the ads of the startds.

    An ad arrives within a second or two of being sent.
    """
    for daemon in daemons:
        if daemon.kind != "Machine" or daemon.sent_s is None or daemon.received_s is None:
            continue
        ahead_s = daemon.sent_s - daemon.received_s
        if abs(ahead_s) > MAX_CLOCK_DIFFERENCE_S:
            direction = "ahead of" if ahead_s > 0 else "behind"
            yield Finding(
                "clock",
                Severity.FAILED,
                f"The clock of node {daemon.name} is {abs(ahead_s):,.0f} s {direction} that of the "
                "central manager's node",
                "Synchronise the clocks (`timedatectl set-ntp true`): tokens and leases depend on "
                "them",
            )


def check_token(
    pool: Pool, problem: str | None, claims: TokenClaims | None, now_s: float
) -> Finding:
    """Check a token, as far as it can be checked without the pool that signed it.

    `problem` says why it cannot be used: it is missing, unreadable or expired.
    """
    if problem or claims is None:
        message = (problem or "the token cannot be read").partition("; ")[0]
        return Finding("token", Severity.FAILED, message[0].upper() + message[1:], _RENEWAL_ADVICE)
    if claims.issuer is not None and claims.issuer != pool.name:
        return Finding(
            "token",
            Severity.FAILED,
            f"The token is of pool {claims.issuer}, not of {pool.name}",
            _RENEWAL_ADVICE,
        )
    if claims.issued_s is not None and claims.issued_s > now_s + MAX_CLOCK_DIFFERENCE_S:
        return Finding(
            "token",
            Severity.FAILED,
            f"The token was issued {claims.issued_s - now_s:,.0f} s in the future",
            "Synchronise this host's clock with the pool's: `timedatectl set-ntp true`",
        )
    return Finding("token", Severity.OK, f"There is a token for pool {pool.name}")


_RENEWAL_ADVICE = (
    "Run `swarm-runner pool up` on a Swarm manager. On another host, copy the token that it wrote "
    "there, and keep its mode 0600"
)


def check_services(
    pool: Pool, services: Collection[str], networks: Collection[str], secrets: Collection[str]
) -> Finding:
    """Check that a pool is complete, or absent without a rest."""
    expected = {pool.service(name) for name in (None, *pool.classes)}
    missing = sorted(expected - set(services))
    if not missing:
        return Finding("services", Severity.OK, f"All services of pool {pool.name} exist")
    if services:
        return Finding(
            "services",
            Severity.FAILED,
            f"Pool {pool.name} is incomplete: {', '.join(missing)} missing",
            "`swarm-runner pool up` creates what is missing; `pool down` removes the rest",
        )
    if rest := [*sorted(networks), *sorted(secrets)]:
        return Finding(
            "services",
            Severity.FAILED,
            f"Pool {pool.name} was removed incompletely: {', '.join(rest)} remain",
            "`swarm-runner pool down` removes them; `swarm-runner pool up` uses them again",
        )
    advice = "Run `swarm-runner pool up`"
    return Finding("services", Severity.WARNING, f"Pool {pool.name} does not exist", advice)


def check_daemons(pool: Pool, daemons: Collection[Daemon]) -> Iterator[Finding]:
    """Check the schedd and the versions of a pool that answered."""
    schedds = [daemon for daemon in daemons if daemon.kind == "Scheduler"]
    if not schedds:
        yield Finding(
            "schedd",
            Severity.FAILED,
            f"No schedd of pool {pool.name} is advertised",
            "It may be starting: try again in a minute, then see `swarm-runner pool status`",
        )
    for schedd in schedds:
        yield Finding("schedd", Severity.OK, f"The schedd {schedd.name} answers at {pool.address}")
        yield _check_htcondor("the pool", schedd.version, MINIMUM_HTCONDOR)


def check_versions(versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """Check the distributions installed here; None is one that is not installed."""
    own = versions.get("swarm-runner")
    for name, version in versions.items():
        if name == "htcondor":
            yield _check_htcondor("the bindings", version or "", MINIMUM_BINDINGS)
        elif name.startswith("swarm-runner-") and version is not None and version != own:
            yield Finding(
                "versions",
                Severity.FAILED,
                f"{name} is {version}, but swarm-runner is {own}",
                f"Install both in one version: `pip install swarm-runner=={own} {name}=={own}`",
            )
        elif version is not None:
            yield Finding("versions", Severity.OK, f"{name} {version}")


def _check_htcondor(what: str, version: str, minimum: tuple[int, ...]) -> Finding:
    parts = tuple(int(part) for part in version.split(".") if part.isdigit())
    if parts < minimum:
        return Finding(
            "versions",
            Severity.FAILED,
            f"HTCondor of {what} is {version or 'unknown'}, older than {_dotted(minimum)}",
            "Upgrade: `pip install --upgrade htcondor` for the bindings, `swarm-runner pool "
            "upgrade` for the pool",
        )
    if parts[0] != HTCONDOR_MAJOR:
        return Finding(
            "versions",
            Severity.WARNING,
            f"HTCondor of {what} is {version}, and swarm-runner was tried with {HTCONDOR_MAJOR}",
            f"Use HTCondor {HTCONDOR_MAJOR} on both sides (`pip install 'htcondor<"
            f"{HTCONDOR_MAJOR + 1}'`), or a newer swarm-runner",
        )
    return Finding("versions", Severity.OK, f"HTCondor of {what} is {version}")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
