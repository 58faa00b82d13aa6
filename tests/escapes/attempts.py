"""The attempts, as data. Add a row to the list of its kind.

In texts, `{volume}` is the pool's volume, `{pool}` its name, `{host}` and `{port}` the central
manager's address, `{job}` a running job of another identity, and `{outside}` a directory of the
node that is not on the volume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Submit:
    """A job that the access point must refuse, with a text in its answer.

    `commands` replace those of a job that it accepts; None removes one.
    """

    what: str
    commands: dict[str, str | None]
    reported: str


@dataclass(frozen=True)
class Action:
    """What the holder of a token must not be able to do.

    `token`: of whom: `other` (a second user, who may submit), `reader`, `executor`, `owner` (of the
    job) or `revoked`.
    """

    what: str
    token: str
    action: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Official:
    """An invocation that the library itself must refuse, before anything is sent."""

    what: str
    fields: dict[str, Any]
    reported: str


@dataclass(frozen=True)
class InJob:
    """What a job must not reach. The shell script prints ESCAPED if it did.

    `invocation` are fields of the invocation that runs it, `reported` what its output must contain.
    `gateway`: only the executor's gateway can refuse it; without one, the table says so.
    """

    what: str
    script: str
    reported: str = ""
    invocation: dict[str, Any] = field(default_factory=dict)
    gateway: bool = False


@dataclass(frozen=True)
class Run:
    """A job by a raw client that the access point cannot tell from a good one.

    It must not leave `escaped` in the file `{evidence}` on the volume.
    """

    what: str
    commands: dict[str, str]
    script: str
    gateway: bool = False


_DOCKER_ONLY = "docker and vm universes only"

SUBMITS = (
    Submit("the node's network", {"My.DockerNetworkType": '"host"'}, "DockerNetworkType"),
    Submit("another container's network", {"My.DockerNetworkType": '"container:x"'}, "network"),
    Submit("published ports", {"My.ContainerServiceNames": '"web"'}, "ContainerServiceNames"),
    Submit(
        "a published port, as HTCondor's manual has it",
        {"container_service_names": "web", "web_container_port": "22"},
        "isolation.ports",
    ),
    Submit(
        "a forged place of its ports",
        {"My.SwarmPublishedPorts": '"x|web=80=22@10.0.0.1"'},
        "SwarmPublishedPorts",
    ),
    Submit("mounts", {"My.MountUnderScratch": '"/../../../etc"'}, "MountUnderScratch"),
    Submit(
        "a program in the manager",
        {"universe": "scheduler", "executable": "/usr/bin/id", "transfer_executable": "false"},
        _DOCKER_ONLY,
    ),
    Submit("a local job", {"universe": "local", "executable": "/usr/bin/id"}, _DOCKER_ONLY),
    Submit("a program in the executor", {"universe": "vanilla"}, _DOCKER_ONLY),
    Submit("a parallel job", {"universe": "parallel", "machine_count": "1"}, _DOCKER_ONLY),
    Submit("a grid job", {"universe": "grid", "grid_resource": "condor a b"}, _DOCKER_ONLY),
    Submit(
        "a universe that changes",
        {"My.JobUniverse": "ifThenElse(JobStatus == 2, 5, 7)"},
        _DOCKER_ONLY,
    ),
    Submit(
        "docker for START, not for the starter",
        {"My.WantDocker": "TARGET.Cpus =!= undefined"},
        _DOCKER_ONLY,
    ),
    Submit("docker as a text", {"My.WantDocker": '"true"'}, _DOCKER_ONLY),
    Submit("another container runtime", {"My.WantContainer": "true"}, "WantContainer"),
    Submit("a program before the job", {"My.PreCmd": '"/bin/id"'}, "PreCmd"),
    Submit("a program after the job", {"My.PostCmd": '"/bin/id"'}, "PostCmd"),
    Submit(
        "a transfer plugin of its own", {"My.TransferPlugins": '"x=/bin/id"'}, "TransferPlugins"
    ),
    Submit("a hook", {"My.HookKeyword": '"GUEST"'}, "HookKeyword"),
    Submit("chirp: files of the manager", {"My.WantIOProxy": "true"}, "WantIOProxy"),
    Submit("another working directory", {"My.RemoteIwd": '"/"'}, "RemoteIwd"),
    Submit("another account", {"My.RunAsOwner": "false"}, "RunAsOwner"),
    Submit("another group", {"My.JobPrimaryUnixGroup": '"docker"'}, "JobPrimaryUnixGroup"),
    Submit("others' jobs, removed with this", {"My.OtherJobRemoveRequirements": '"true"'}, "Other"),
    Submit("another's fair share", {"accounting_group_user": "alice"}, "one fair share"),
    Submit("another owner", {"My.Owner": '"alice"'}, "not permitted"),
    Submit("a forged executor", {"My.MachineAttrSwarmTaskId0": '"x"'}, "MachineAttrSwarmTaskId0"),
    Submit("a forged destination of outputs", {"My.SUBMIT_Iwd": '"/home"'}, "SUBMIT_Iwd"),
    Submit("no capacity class", {"My.SwarmRunnerClass": "undefined"}, "no capacity class"),
    Submit("a key that is a number", {"My.SwarmRunnerKey": "17"}, "wrong type"),
    Submit("a count that is a text", {"My.NumHolds": '"many"'}, "wrong type"),
    Submit(
        "the node's /home, for writing",
        {"initialdir": "/home", "should_transfer_files": "NO", "when_to_transfer_output": None},
        "writable volume",
    ),
    Submit(
        "a directory out of the volume",
        {
            "initialdir": "{volume}/..",
            "should_transfer_files": "NO",
            "when_to_transfer_output": None,
        },
        "writable volume",
    ),
    Submit(
        "no transfer where none is needed",
        {"should_transfer_files": "IF_NEEDED"},
        "should_transfer_files",
    ),
    Submit("a log in the manager", {"log": "/var/lib/swarm-runner/spool/x"}, "event log"),
    Submit(
        "an executor's token as a disk",
        {
            "universe": "vm",
            "vm_type": "kvm",
            "vm_memory": "64",
            "vm_disk": "/etc/condor/tokens.d/executor:vda:r:raw",
            "docker_image": None,
        },
        "volume of the pool",
    ),
)

ACTIONS = (
    *(
        Action(
            f"{action.lower()} another's job", "other", "change", {"action": action, "job": "{job}"}
        )
        for action in ("Remove", "Hold", "Vacate", "Suspend", "RemoveX")
    ),
    Action(
        "edit another's job",
        "other",
        "edit",
        {"job": "{job}", "attribute": "RequestCpus", "value": "2"},
    ),
    *(
        Action(
            f"change {attribute} of one's own job later",
            "owner",
            "edit",
            {"job": "{job}", "attribute": attribute, "value": value},
        )
        for attribute, value in (
            ("DockerNetworkType", '"host"'),
            ("WantDocker", "false"),
            ("Iwd", '"/home"'),
            ("ShouldTransferFiles", '"NO"'),
            ("OtherJobRemoveRequirements", '"true"'),
            ("SwarmRunnerKey", '"another"'),
            ("JobUniverse", "7"),
            ("Owner", '"root"'),
        )
    ),
    Action("move another's job away", "other", "export", {"job": "{job}", "directory": "{volume}"}),
    Action("create an account", "other", "enable_user", {"user": "root@{pool}"}),
    Action("shut another user out", "other", "disable_user", {"user": "alice@{pool}"}),
    Action("change a fair share", "other", "priority", {"user": "alice@{pool}"}),
    Action("stop the manager", "other", "command", {"daemon": "Schedd", "command": "OffFast"}),
    Action("reconfigure", "other", "command", {"daemon": "Collector", "command": "Reconfig"}),
    Action(
        "change a setting", "other", "configure", {"name": "START_LOCAL_UNIVERSE", "value": "1"}
    ),
    Action("advertise a slot", "other", "advertise", {"kind": "Machine", "name": "slot1@x"}),
    Action("advertise a schedd", "other", "advertise", {"kind": "Scheduler", "name": "x"}),
    Action("submit with a token that may read", "reader", "submit", {"commands": None}),
    Action(
        "remove with a token that may read",
        "reader",
        "change",
        {"action": "Remove", "job": "{job}"},
    ),
    Action("submit with an executor's token", "executor", "submit", {"commands": None}),
    Action(
        "read a job's environment with an executor's token",
        "executor",
        "read",
        {"attribute": "Environment", "job": "{job}"},
    ),
    Action(
        "advertise a schedd with an executor's token",
        "executor",
        "advertise",
        {"kind": "Scheduler", "name": "x"},
    ),
    Action("submit with a revoked token", "revoked", "submit", {"commands": None}),
    Action(
        "read with a revoked token",
        "revoked",
        "read",
        {"attribute": "Environment", "job": "{job}"},
    ),
)

OFFICIAL = (
    *(
        Official(f"attributes: {name}", {"attributes": {name: value}}, "cannot be set")
        for name, value in (
            ("DockerNetworkType", "host"),
            ("JobUniverse", 7),
            ("Cmd", "/bin/id"),
            ("Iwd", "/home"),
            ("ShouldTransferFiles", "NO"),
            ("TransferInput", "/etc/shadow"),
            ("TransferOutputRemaps", "a=/b"),
            ("UserLog", "/etc/x"),
            ("WantDocker", False),
            ("requestmemory", 1),
            ("SwarmRunnerKey", "x"),
            ("MachineAttrSwarmNode0", "x"),
        )
    ),
    Official(
        "a disk that rewrites outputs",
        {
            "image": None,
            "shell": None,
            "vm": {"memory_mb": 64, "disks": [{"file": "a;console.txt=/home/u/.bashrc;b"}]},
        },
        "separates",
    ),
    Official(
        "in place, on the node's /home",
        {"working_directory": "/home", "in_place": True},
        "which in_place requires",
    ),
    Official(
        "in place, above the volume",
        {"working_directory": "{volume}/..", "in_place": True},
        "which in_place requires",
    ),
    Official("options of docker as an image", {"image": "--privileged"}, "image"),
    Official("options of docker after the image", {"image": "debian --privileged"}, "image"),
    Official(
        "submit commands in the image's name", {"image": "debian\nuniverse = scheduler"}, "image"
    ),
    Official("an output out of the directory", {"outputs": ["../../x"]}, "outputs"),
    Official(
        "a link, planted in an input directory",
        {"working_directory": "{planted}", "inputs": ["results"]},
        "out of the working directory",
    ),
)

_FORGE = (
    "for log in {volume}/.swarm-runner/*/events*.log; do "
    "printf '%b' '{text}' >>\"$log\" && echo wrote; done"
)


def _forge(*lines: str) -> str:
    """Return the script that appends an event to every event log on the volume."""
    return _FORGE.replace("{text}", "\\n".join([*lines, "...", ""]))


_EXPECT = "echo ESCAPED || echo contained"
IN_JOBS = (
    InJob("run as root", '[ "$(id -u)" = 0 ] && echo ESCAPED || id -u'),
    InJob("become root", f"su -c id root </dev/null 2>&1 | grep -q uid=0 && {_EXPECT}"),
    InJob(
        "new privileges", f"grep -q 'NoNewPrivs:.*1' /proc/self/status || {_EXPECT}; echo checked"
    ),
    InJob(
        "capabilities in effect",
        "grep -q 'CapEff:.*0000000000000000' /proc/self/status || echo ESCAPED; echo checked",
    ),
    InJob("mount a file system", f"mount -t tmpfs none /mnt 2>&1 && {_EXPECT}"),
    InJob("make a device", f"mknod /tmp/disk b 8 0 2>&1 && {_EXPECT}"),
    InJob("a user namespace", f"unshare --user --map-root-user true 2>&1 && {_EXPECT}"),
    InJob("change the kernel", f"echo 1 2>/dev/null >/proc/sys/kernel/panic && {_EXPECT}"),
    InJob("the engine's socket", f"ls /run/docker.sock /var/run/docker.sock 2>&1 && {_EXPECT}"),
    InJob("the executor's token", f"cat /etc/condor/tokens.d/executor 2>&1 && {_EXPECT}"),
    InJob("the submitter's token", f"cat {{tokens}}/* 2>&1 && {_EXPECT}"),
    InJob(
        "other jobs' scratch directories",
        "n=$(ls -d /var/lib/swarm-runner/scratch/dir_* 2>/dev/null | wc -l); "
        '[ "$n" -gt 1 ] && echo ESCAPED || echo "$n directories"',
    ),
    InJob("a directory of the node", f"ls {{outside}} 2>&1 && {_EXPECT}"),
    InJob(
        "the host's processes",
        '[ "$(ls -d /proc/[0-9]* | wc -l)" -gt 30 ] && echo ESCAPED || echo few',
    ),
    InJob(
        "forge the end of another job",
        _forge(
            "005 ({number}) 2030-01-01 00:00:00 Job terminated.",
            "\\t(1) Normal termination (return value 0)",
        ),
        "wrote",
    ),
    InJob(
        "forge the removal of another job",
        _forge("009 ({number}) 2030-01-01 00:00:00 Job was aborted.", "\\tby nobody"),
        "wrote",
    ),
    InJob(
        "forge a hold, which would remove another job",
        _forge(
            "012 ({number}) 2030-01-01 00:00:00 Job was held.",
            "\\tno such image",
            "\\tCode 35 Subcode 0",
        ),
        "wrote",
    ),
    InJob("noise in the event log", _forge("\\0377\\0376 nonsense", "(((") + "", "wrote"),
    InJob(
        "capabilities in the bounding set",
        "grep -q 'CapBnd:.*0000000000000000' /proc/self/status || echo ESCAPED; echo checked",
        gateway=True,
    ),
    InJob(
        "any number of processes",
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | "
        "grep -q '^[0-9]' || echo ESCAPED",
        gateway=True,
    ),
    InJob(
        "the central manager's port",
        f"timeout 5 bash -c 'exec 3<>/dev/tcp/{{host}}/{{port}}' 2>&1 && {_EXPECT}",
        gateway=True,
    ),
)

RUNS = (
    Run(
        "the node's network, when the job runs",
        {"My.DockerNetworkType": 'ifThenElse(JobStatus == 2, "host", undefined)'},
        "[ -e /sys/class/net/docker0 ] && echo escaped >{evidence}",
    ),
    Run(
        "a link on the volume that leads out, in place",
        {"initialdir": "{volume}/escapes/link", "should_transfer_files": "NO"},
        "[ -e {volume}/escapes/link/secret ] && echo escaped >{evidence}",
        gateway=True,
    ),
    Run(
        "another's directory as the working directory of a transfer",
        {
            "initialdir": "{outside}",
            "should_transfer_files": "YES",
            "transfer_input_files": "secret",
        },
        "[ -e secret ] && echo escaped >{evidence}",
    ),
    Run(
        "a file of the manager as an input",
        {"transfer_input_files": "/etc/condor/passwords.d/POOL"},
        "ls >{evidence}; [ -s POOL ] && echo escaped >>{evidence}",
    ),
    Run(
        "a file of the manager as the output",
        {"output": "/etc/condor/config.d/evil.conf"},
        "echo START_LOCAL_UNIVERSE=True",
    ),
)
