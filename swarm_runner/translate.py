"""Invocation + Route -> SubmitDescription. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from swarm_runner.errors import Fault, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.machine import VirtualMachine
from swarm_runner.model.pool import GIVING_UP_S, Destination, Pool, Route
from swarm_runner.model.resources import Resources
from swarm_runner.model.submit import (
    SubmitDescription,
    classad_value,
    environment,
    files,
    literal,
    path,
    string,
    words,
)
from swarm_runner.model.text import PROCESS

Commands = list[tuple[str, str]]
# A job runs in its own class alone. A plugin that amends `requirements` begins with this.
IN_ITS_CLASS = "TARGET.CapacityClass =?= MY.SwarmRunnerClass"
# So often a guest may fail to start before its job ends. The first of HTCondor's reasons
# switches the executor's virtual machines off; after the other it would try again without end.
GUEST_TRIES = 2
_FAILED_STARTS = "(NumVacatesByReason.JobShouldRequeue ?: 0) + (NumVacatesByReason.VMError ?: 0)"
GUEST_HOLD = 6  # the subcode of the hold that says so


def translate(
    invocation: Invocation,
    route: Route,
    pool: Pool,
    *,
    runner: str | None = None,
    log: str | None = None,
    lease_s: int | None = None,
) -> SubmitDescription:
    """The submit description of one invocation.

    `runner` names the submitting runner in the job ad, `log` is the event log's path on the
    access point, `lease_s` says after how many seconds without its node the job runs again.
    Raises InvalidInputError when the invocation names no image; `with_defaults` gives it the
    destination's.
    """
    commands: Commands = (
        _virtual_machine(invocation, invocation.vm)
        if invocation.vm is not None
        else _container(invocation)
    )
    commands += _files(invocation)
    if log is not None:
        # The note carries the key into the event log, which alone then tells who is who.
        commands += [
            ("log", path(log)),
            ("submit_event_notes", literal(invocation.key)),
            ("ulog_execute_attrs", "CapacityClass,SwarmNode,SwarmTaskId"),
        ]
    commands += _resources(invocation)
    if lease_s is not None:
        commands.append(("job_lease_duration", str(lease_s - min(GIVING_UP_S, lease_s // 3))))
    commands += [
        ("requirements", IN_ITS_CLASS),
        ("My.SwarmRunnerClass", class_expression(route.candidates, pool)),
        ("My.SwarmRunnerKey", string(invocation.key)),
    ]
    if runner is not None:
        commands.append(("My.SwarmRunnerName", string(runner)))
    if invocation.vm is not None and invocation.vm.success is not None:
        success = invocation.vm.success
        if success.file is None:
            commands.append(("My.SwarmRunnerMarker", string(success.text or "")))
        else:
            commands.append(("My.SwarmRunnerMarkerFile", string(success.file)))
        commands.append(("My.SwarmRunnerMarked", string(invocation.vm.marked_file or "")))
    if invocation.tool_id is not None:
        commands.append(("My.SwarmRunnerTool", string(invocation.tool_id)))
    for name, value in invocation.attributes.items():
        commands.append((f"My.{name}", classad_value(value)))
    return SubmitDescription.of(commands, invocation.repeat)


def with_defaults(invocation: Invocation, destination: Destination) -> Invocation:
    """The invocation with the destination's values for what it does not set itself."""
    changes: dict[str, object] = {}
    if destination.resources is not None:
        changes["resources"] = _merged(invocation.resources, destination.resources)
    if invocation.image is None and invocation.vm is None and destination.default_image:
        changes["image"] = destination.default_image
    default_class = destination.class_for(machine=invocation.vm is not None)
    if invocation.capacity_class is None and default_class is not None:
        changes["capacity_class"] = default_class
    return invocation.model_copy(update=changes) if changes else invocation


def _merged(own: Resources, default: Resources) -> Resources:
    ours = {name: getattr(own, name) for name in own.model_fields_set}
    theirs = {name: getattr(default, name) for name in default.model_fields_set}
    amounts = theirs | ours
    most, memory = amounts.get("max_memory_mb"), amounts.get("memory_mb", own.memory_mb)
    if most is not None and most < memory:
        # A default gives way to what the invocation says.
        if "max_memory_mb" in ours:
            amounts["memory_mb"] = most
        else:
            del amounts["max_memory_mb"]
    return Resources(**amounts)


def class_expression(candidates: Sequence[str], pool: Pool) -> str:
    """The class as an expression over the job's requests, so that it follows a memory retry.

    The schedd raises RequestMemory by itself (retry_request_memory, HTCondor >= 25.2.1); the
    expression then names the next class with no runner alive.
    """
    *smaller, expression = (string(name) for name in candidates)
    for name, quoted in zip(reversed(candidates[:-1]), reversed(smaller), strict=True):
        limit = pool.classes[name].memory_mb
        expression = f"ifThenElse(RequestMemory <= {limit}, {quoted}, {expression})"
    return expression


def _container(invocation: Invocation) -> Commands:
    if invocation.image is None:
        message = "image is missing, and the destination names none: name the container image"
        raise InvalidInputError([Fault(invocation.key, message)])
    program, *arguments = invocation.argv
    commands: Commands = [
        ("universe", "docker"),
        ("docker_image", literal(invocation.image)),
        ("executable", literal(program)),
        ("transfer_executable", "false"),
        ("arguments", words(arguments)),
    ]
    if invocation.environment:
        commands.append(("environment", environment(invocation.environment)))
    return commands


def _virtual_machine(invocation: Invocation, machine: VirtualMachine) -> Commands:
    disks = ",".join(
        f"{literal(disk.file if machine.checkpoint else disk.name)}"
        f":{disk.device}:{disk.permission}:{disk.format}"
        for disk in machine.disks
    )
    commands: Commands = [
        ("universe", "vm"),
        ("executable", literal(invocation.tool_id or invocation.key)),
        ("vm_type", machine.type),
        ("vm_memory", str(machine.memory_mb)),
        ("vm_vcpus", str(machine.vcpus)),
        ("vm_disk", disks),
        ("vm_checkpoint", str(machine.checkpoint).lower()),
        ("vm_networking", str(machine.networking).lower()),
    ]
    commands += [
        ("periodic_hold", f"{_FAILED_STARTS} >= {GUEST_TRIES}"),
        ("periodic_hold_subcode", str(GUEST_HOLD)),
        (
            "periodic_hold_reason",
            string(f"It failed to start {GUEST_TRIES} times; `pool status` tells more"),
        ),
    ]
    if machine.type == "xen":
        commands.append(("xen_kernel", "included"))  # the disk's own
    return commands


def _files(invocation: Invocation) -> Commands:
    commands: Commands = []
    if invocation.working_directory is not None:
        commands.append(("initialdir", literal(invocation.working_directory)))
    streams = (invocation.stdin, invocation.stdout, invocation.stderr)
    for name, stream in zip(("input", "output", "error"), streams, strict=True):
        if stream is not None:
            # Its number among the invocation's own jobs: alone, it shares a cluster with others'.
            own = stream if invocation.repeat > 1 else stream.replace(PROCESS, "0")
            commands.append((name, path(own)))
    if invocation.in_place:
        return [*commands, ("should_transfer_files", "NO")]
    if invocation.vm is not None:
        # vm_disk does not imply its files. Without names for what comes back, that would be all
        # that has changed, under the name of the file that it is a copy of.
        returned = invocation.vm.comes_back
        if invocation.vm.copied:
            commands.append(("transfer_input_files", files(invocation.vm.copied)))
        commands += [
            ("should_transfer_files", "YES"),
            ("when_to_transfer_output", "ON_EXIT"),
            ("transfer_output_files", files(returned)),
        ]
        # A name that becomes itself is a cycle to HTCondor.
        renamed = [f"{name}={literal(new)}" for name, new in returned.items() if name != new]
        if renamed:
            commands.append(("transfer_output_remaps", f'"{";".join(renamed)}"'))
        return commands
    commands += [("should_transfer_files", "YES"), ("when_to_transfer_output", "ON_EXIT")]
    if invocation.inputs:
        commands.append(("transfer_input_files", files(invocation.inputs)))
    # Empty means "nothing", absent would mean "everything new".
    commands.append(("transfer_output_files", files(invocation.outputs)))
    commands.append(("preserve_relative_paths", "true"))
    return commands


def _resources(invocation: Invocation) -> Commands:
    asked, machine = invocation.resources, invocation.vm
    cpus = asked.cpus if machine is None else max(asked.cpus, machine.vcpus)
    memory_mb = asked.memory_mb if machine is None else machine.memory_mb
    commands: Commands = [("request_cpus", str(cpus)), ("request_memory", f"{memory_mb}M")]
    commands.append(("request_disk", f"{asked.disk_mb}M"))
    if asked.gpus:
        commands.append(("request_gpus", str(asked.gpus)))
    if machine is None and asked.max_memory_mb is not None and asked.max_memory_mb > memory_mb:
        commands.append(("retry_request_memory", f"{asked.max_memory_mb}M"))
    if asked.time_limit_s is not None:
        commands.append(("allowed_execute_duration", str(asked.time_limit_s)))
    return commands
