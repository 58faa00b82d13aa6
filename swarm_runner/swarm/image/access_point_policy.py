"""What the access point accepts in a submit, as HTCondor configuration.

A job ad is a set of expressions, which daemons evaluate at different times and places: one that is
harmless when the schedd checks it may be something else when the starter reads it. A transform
therefore first replaces what the executor acts on by its value. Submit requirements then check the
values, and nobody may change them later (PROTECTED_JOB_ATTRS).

Sources: HTCondor manual, "Schedd Job Transforms" and "Submit Requirements"; HTCondor 25.14's
qmgmt.cpp (`CheckTransaction` transforms first, then checks).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import fair_shares

# Attributes that a job may not have, and why: the message says so.
REFUSED = {
    "the pool decides about mounts and logins": ("MountUnderScratch", "DockerSendCredentials"),
    "this pool publishes no ports of jobs (isolation.ports)": ("ContainerServiceNames",),
    "jobs of this pool run in docker containers": (
        "WantContainer",
        "WantDockerImage",
        "WantSIF",
        "WantSandboxImage",
        "SingularityImage",
    ),
    "nothing but the container runs for a job": (
        "PreCmd",
        "PostCmd",
        "TransferPlugins",
        "HookKeyword",
        "WantIOProxy",
        "WantRemoteIO",
        "OutputDestination",
        "CheckpointDestination",
    ),
    "the pool decides where and as whom a job runs": (
        "RemoteIwd",
        "RunAsOwner",
        "JobPrimaryUnixGroup",
        "LimitDirectoryAccess",
        "x509userproxy",
        "DAGManNodesLog",
    ),
    # HTCondor removes the jobs that it selects without asking whose they are (`removeOtherJobs` in
    # schedd.cpp).
    "each user removes only their own jobs": ("OtherJobRemoveRequirements",),
    "the access point itself sets it": (
        "MachineAttrCapacityClass0",
        "MachineAttrSwarmTaskId0",
        "MachineAttrSwarmNode0",
        "SUBMIT_Iwd",
        "StageInFinish",
        "StageOutFinish",
        "SwarmPublishedPorts",
    ),
}
# Where ports are published, jobs may name those that they want. The executor's gateway compares
# them with the job's container options.
PORTS = "ContainerServiceNames"
# The gateway of a job's executor sets it, through the job's shadow, which may not change what is
# protected.
UNPROTECTED = "SwarmPublishedPorts"
# What the executor or a runner acts on.
LITERAL = (
    "JobUniverse",
    "WantDocker",
    "DockerImage",
    "ContainerImage",
    "DockerNetworkType",
    "AccountingGroup",
    "AcctGroup",
    "AcctGroupUser",
    "ConcurrencyLimits",
    "Cmd",
    "Iwd",
    "ShouldTransferFiles",
    "UserLog",
    "JobVMType",
    "VMPARAM_vm_Disk",
    "PluginData",
    "AllowedExecuteDuration",
)
# The attributes of a runner, all of them strings.
RUNNER_ATTRIBUTES = (
    "SwarmRunnerKey",
    "SwarmRunnerName",
    "SwarmRunnerTool",
    "SwarmRunnerAccount",
    "SwarmRunnerHost",
    "SwarmRunnerMarker",
    "SwarmRunnerMarkerFile",
    "SwarmRunnerMarked",
)
# Others that tracking reads, and that a submit sets.
NUMBERS = (
    "QDate",
    "CompletionDate",
    "NumJobStarts",
    "NumHolds",
    "EnteredCurrentStatus",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "AllowedExecuteDuration",
)
# Where the transform notes a refused attribute.
_REFUSAL = fair_shares.REFUSAL
_NETWORK = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_PORT_NAME = r"[A-Za-z][A-Za-z0-9_]{0,31}"
_PORT_NAMES = f"^{_PORT_NAME}(,{_PORT_NAME}){{0,7}}$"
_DISK = r"[^:,;=]+:(vd|sd|hd)[a-z]:[rw](:(raw|qcow2))?"


def from_environment(environment: Mapping[str, str]) -> str:
    """Return the configuration for the pool that the manager's environment describes."""
    volumes = json.loads(environment["SWARM_RUNNER_VOLUMES"])
    shares = fair_shares.from_environment(environment)
    user, ports = environment["SWARM_RUNNER_USER_NAME"], "SWARM_RUNNER_PORTS" in environment
    return configuration(volumes, user, shares, ports=ports)


def configuration(
    volumes: list[dict[str, object]],
    pool_user: str,
    shares: Mapping[str, Any] | None = None,
    *,
    ports: bool = False,
) -> str:
    """Return the configuration for a pool with these volumes (`path` and `read_only` of each).

    `pool_user` is the identity of the pool's own token, `shares` what fair_shares.py reads, and
    `ports` whether any of the pool's executors publishes ports of jobs.
    """
    shares = shares or {}
    paths = [str(volume["path"]) for volume in volumes]
    writable = [str(volume["path"]) for volume in volumes if not volume["read_only"]]
    requirements = _requirements(paths, writable, pool_user, fair_shares.is_own_account(shares))
    transforms = [_transform(ports=ports), *fair_shares.transforms(shares, pool_user)]
    names = [transform.partition("\n")[0] for transform in transforms]
    lines = ["JOB_TRANSFORM_NAMES = " + ", ".join(names)]
    for name, transform in zip(names, transforms, strict=True):
        lines += [f"JOB_TRANSFORM_{name} @=end", transform.partition("\n")[2], "@end"]
    lines.append("SUBMIT_REQUIREMENT_NAMES = " + ", ".join(requirements))
    for name, (expression, reason) in requirements.items():
        lines.append(f"SUBMIT_REQUIREMENT_{name} = {expression}")
        lines.append(f"SUBMIT_REQUIREMENT_{name}_REASON = {reason}")
    lines.append("PROTECTED_JOB_ATTRS = " + " ".join(protected_attributes()))
    # The shadow reads and writes files of a job nowhere else, except in the job's own spool
    # directory. The list is separated by spaces, and an empty one would allow every directory.
    limits = [re.sub(r"\s", "*", path) for path in paths] or ["/nonexistent"]
    lines.append("LIMIT_DIRECTORY_ACCESS = " + ", ".join(limits))
    return "\n".join([*lines, ""])


def protected_attributes() -> list[str]:
    """Return the attributes that nobody may change after the submit."""
    refused = [name for names in REFUSED.values() for name in names]
    literal = [name for name in LITERAL if name != "JobUniverse"]  # HTCondor protects it
    names = [*refused, *literal, *RUNNER_ATTRIBUTES, "SwarmRunnerClass", _REFUSAL]
    return [name for name in names if name != UNPROTECTED]


def _transform(*, ports: bool) -> str:
    """Return the transform that notes what is refused, with its name on the first line."""
    lines = ["SwarmRunner", f"  DELETE {_REFUSAL}"]
    literal = [*LITERAL, *RUNNER_ATTRIBUTES]
    for why, names in REFUSED.items():
        for name in names:
            if ports and name == PORTS:
                literal.append(name)
                continue
            text = _string(f"{name}: {why}")
            lines += [f"  if defined MY.{name}", f"    SET {_REFUSAL} {text}", "  endif"]
    for name in literal:
        lines += [f"  if defined MY.{name}", f"    EVALSET {name} MY.{name}", "  endif"]
    return "\n".join(lines)


def _requirements(
    paths: list[str], writable: list[str], pool_user: str, own_account: str
) -> dict[str, tuple[str, str]]:
    """Return each requirement's expression and the expression of its reason."""
    return {
        "Universe": (
            (
                "(JOB.JobUniverse =?= 5 && JOB.WantDocker =?= true && isString(JOB.DockerImage)) "
                "|| JOB.JobUniverse =?= 13"
            ),
            _string(
                "this pool runs jobs of the docker and vm universes only: submit with universe = "
                "docker and a docker_image"
            ),
        ),
        "Attributes": (
            f"JOB.{_REFUSAL} =?= undefined",
            f"strcat({_string('a job may not set ')}, JOB.{_REFUSAL})",
        ),
        "Network": (
            (
                "JOB.DockerNetworkType =?= undefined || (isString(JOB.DockerNetworkType) "
                f"&& regexp({_string(_NETWORK)}, JOB.DockerNetworkType) "
                '&& toLower(JOB.DockerNetworkType) =!= "host")'
            ),
            _string(
                "docker_network_type (DockerNetworkType) is the name of a network, such as none; "
                "no job gets its node's network (host)"
            ),
        ),
        "Ports": (
            (
                f"JOB.{PORTS} =?= undefined || (isString(JOB.{PORTS}) "
                f"&& regexp({_string(_PORT_NAMES)}, JOB.{PORTS}))"
            ),
            _string(
                "container_service_names (ContainerServiceNames) are up to eight names of letters, "
                "digits and _, with commas between them"
            ),
        ),
        "Account": (
            (
                "JOB.SwarmRunnerAccount =?= undefined || (isString(JOB.SwarmRunnerAccount) && "
                f"regexp({_string(fair_shares.ACCOUNT_PATTERN)}, JOB.SwarmRunnerAccount))"
            ),
            _string("SwarmRunnerAccount is not an account as swarm-runner writes it"),
        ),
        # Each new name is another submitter, with a fair share of its own. A workflow engine with
        # the pool's own token divides that by its users.
        "FairShare": (
            (
                f"JOB.AccountingGroup =?= undefined || JOB.Owner =?= {_string(pool_user)} "
                '|| JOB.AccountingGroup =?= strcat("nice-user.", JOB.Owner) '
                f"|| {own_account}"
            ),
            _string(
                "accounting_group and accounting_group_user (AccountingGroup) need the pool's own "
                f"token, of {pool_user}: other identities have one fair share each, and name "
                "users below it by `account`, if pool.shares has a group of their name"
            ),
        ),
        "CapacityClass": (
            'isString(JOB.SwarmRunnerClass) && JOB.SwarmRunnerClass =!= ""',
            _string(
                "the job names no capacity class: submit it with swarm-runner, or set "
                "My.SwarmRunnerClass"
            ),
        ),
        "Types": (
            " && ".join(
                f"(JOB.{name} =?= undefined || {test}(JOB.{name}))"
                for test, names in (("isString", RUNNER_ATTRIBUTES), ("isInteger", NUMBERS))
                for name in names
            ),
            _string(
                "an attribute has the wrong type: those of SwarmRunner are strings, and counts, "
                "dates and requests are whole numbers"
            ),
        ),
        "Transfer": (
            (
                'JOB.ShouldTransferFiles =?= "YES" || (JOB.ShouldTransferFiles =?= "NO" && '
                f"{_is_below('JOB.Iwd', writable)})"
            ),
            _string(
                "a job either transfers its files (should_transfer_files = YES), or runs in a "
                f"directory on a writable volume of the pool ({', '.join(writable) or 'none'})"
            ),
        ),
        "EventLog": (
            f"JOB.UserLog =?= undefined || {_is_below('JOB.UserLog', writable)}",
            _string(
                "the event log (log) is not on a writable volume of the pool "
                f"({', '.join(writable) or 'none'})"
            ),
        ),
        "Disks": (
            (
                "JOB.JobUniverse =!= 13 || (isString(JOB.VMPARAM_vm_Disk) && regexp("
                f"{_string(_disks_pattern(paths))}, JOB.VMPARAM_vm_Disk) && !regexp("
                f'{_string(_DOT_PART)}, JOB.VMPARAM_vm_Disk) && JOB.JobVMType =?= "kvm")'
            ),
            _string(
                "a virtual machine is of type kvm, and its disks are transferred files or on a "
                "volume of the pool"
            ),
        ),
    }


_DOT_PART = r"(^|[/,])\.\.?([/:]|$)"


def _is_below(attribute: str, directories: list[str]) -> str:
    """Return the expression that a path is below one of the directories, by its name."""
    if not directories:
        return "false"
    pattern = f"^({'|'.join(map(re.escape, directories))})(/|$)"
    return (
        f"(isString({attribute}) && regexp({_string(pattern)}, {attribute}) "
        f"&& !regexp({_string(_DOT_PART)}, {attribute}))"
    )


def _disks_pattern(paths: list[str]) -> str:
    """Return the pattern of a vm_disk whose files are bare names, or below one of the paths."""
    below = "|".join(f"{re.escape(path)}/" for path in paths)
    start = f"({below}|(?!/))" if below else "(?!/)"
    return f"^{start}{_DISK}(,{start}{_DISK})*$"


def _string(text: str) -> str:
    """Return a ClassAd string; configuration expands dollars, and a $ ends only a pattern."""
    return json.dumps(text, ensure_ascii=False).replace("$(", "$(DOLLAR)(")
