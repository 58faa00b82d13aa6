"""The translation of an invocation and its route to a submit description."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.isolation import ContainerOptions, gateway_environment
from swarm_runner.model.pool import NODE_LOSS_DETECTION_S, Destination, Pool, Route
from swarm_runner.model.resources import Resources
from swarm_runner.model.sources import STAGED_INPUTS, plugin_data, transfer_list
from swarm_runner.model.text import PROCESS_MACRO
from swarm_runner.model.wrapper import PROCESS_VARIABLE, output_directories
from swarm_runner.submit.description import Commands, SubmitDescription
from swarm_runner.submit.language import (
    classad_string,
    classad_value,
    escape_macros,
    escape_path,
    quote_arguments,
    quote_environment,
    quote_file_list,
)
from swarm_runner.submit.ports import port_commands
from swarm_runner.submit.scheduling import loan_requirement, scheduling_commands
from swarm_runner.submit.vm import disk_commands, marker_commands, vm_commands

#: A job runs in its own class; `loan_requirement` adds those that lend. A plugin that amends
#: `requirements` must begin with this.
CLASS_REQUIREMENT = "TARGET.CapacityClass =?= MY.SwarmRunnerClass"


def translate(
    invocation: Invocation,
    route: Route,
    pool: Pool,
    *,
    runner: str | None = None,
    log: str | None = None,
    lease_s: int | None = None,
) -> SubmitDescription:
    """Translate one invocation.

    `runner` is the name of the submitting runner in the job ad, `log` the event log's path on the
    access point, and `lease_s` the seconds after which a job on a lost node runs again.

    Raises InvalidInputError if the invocation has no image (`with_defaults` adds the destination's
    default), or names a group or a limit that the pool does not have.
    """
    vm = invocation.vm
    commands: Commands = vm_commands(invocation, vm) if vm else _container_commands(invocation)
    commands += _file_commands(invocation)
    if log is not None:
        # The note writes the key to the event log, which then suffices to identify the job.
        commands += [
            ("log", escape_path(log)),
            ("submit_event_notes", escape_macros(invocation.key)),
            ("ulog_execute_attrs", "CapacityClass,SwarmNode,SwarmTaskId"),
        ]
    commands += [*_resource_commands(invocation), *scheduling_commands(invocation, pool)]
    commands += port_commands(invocation, route, pool)
    if lease_s is not None:
        commands.append(
            ("job_lease_duration", str(lease_s - min(NODE_LOSS_DETECTION_S, lease_s // 3)))
        )
    commands += [
        ("requirements", CLASS_REQUIREMENT + loan_requirement(invocation, pool)),
        ("My.SwarmRunnerClass", class_expression(route.candidates, pool)),
        ("My.SwarmRunnerKey", classad_string(invocation.key)),
    ]
    if runner is not None:
        commands.append(("My.SwarmRunnerName", classad_string(runner)))
    commands += marker_commands(vm) if vm else []
    if invocation.tool_id is not None:
        commands.append(("My.SwarmRunnerTool", classad_string(invocation.tool_id)))
    for name, value in invocation.attributes.items():
        commands.append((f"My.{name}", classad_value(value)))
    return SubmitDescription.build(commands, invocation.repeat)


def with_defaults(invocation: Invocation, destination: Destination) -> Invocation:
    """Return the invocation with the destination's defaults for what it does not set."""
    changes = invocation.with_scheduling_defaults(destination.scheduling)
    if destination.resources is not None:
        changes["resources"] = _merge_resources(invocation.resources, destination.resources)
    if invocation.image is None and invocation.vm is None and destination.default_image:
        changes["image"] = destination.default_image
    if destination.container_options is not None and invocation.vm is None:
        own = invocation.container_options or ContainerOptions()
        changes["container_options"] = own.with_defaults(destination.container_options)
    default_class = destination.class_for(vm=invocation.vm is not None)
    if invocation.capacity_class is None and default_class is not None:
        changes["capacity_class"] = default_class
    return invocation.model_copy(update=changes) if changes else invocation


def _merge_resources(requested: Resources, defaults: Resources) -> Resources:
    own = {name: getattr(requested, name) for name in requested.model_fields_set}
    amounts = {name: getattr(defaults, name) for name in defaults.model_fields_set} | own
    maximum, memory = amounts.get("max_memory_mb"), amounts.get("memory_mb", requested.memory_mb)
    if maximum is not None and maximum < memory:
        # The invocation's own value takes precedence over a default.
        if "max_memory_mb" in own:
            amounts["memory_mb"] = maximum
        else:
            del amounts["max_memory_mb"]
    return Resources(**amounts)


def class_expression(candidates: Sequence[str], pool: Pool) -> str:
    """Return the class as an expression over the job's request.

    The schedd raises RequestMemory by itself (retry_request_memory, HTCondor >= 25.2.1). The
    expression then gives the next class, without a runner.
    """
    *smaller, expression = (classad_string(name) for name in candidates)
    for name, quoted in zip(reversed(candidates[:-1]), reversed(smaller), strict=True):
        limit = pool.classes[name].memory_mb
        expression = f"ifThenElse(RequestMemory <= {limit}, {quoted}, {expression})"
    return expression


def _container_commands(invocation: Invocation) -> Commands:
    if invocation.image is None:
        message = "image is missing, and the destination has no default; name a container image"
        raise InvalidInputError([Diagnostic(message, key=invocation.key)])
    program, *arguments = invocation.launch_argv
    commands: Commands = [
        ("universe", "docker"),
        ("docker_image", escape_macros(invocation.image)),
        ("executable", escape_macros(program)),
        ("transfer_executable", "false"),
        ("arguments", quote_arguments(arguments)),
    ]
    variables = gateway_environment(invocation.launch_environment, invocation.container_options)
    environment = quote_environment(variables)
    if invocation.repeat > 1 and (invocation.outputs or invocation.in_place):
        # After the quoted variables, and unquoted: HTCondor expands the macro.
        environment = f'"{environment[1:-1]} {PROCESS_VARIABLE}={PROCESS_MACRO}"'
    if environment != '""':
        commands.append(("environment", environment))
    return commands


def _file_commands(invocation: Invocation) -> Commands:
    commands: Commands = []
    if invocation.working_directory is not None:
        commands.append(("initialdir", escape_macros(invocation.working_directory)))
    streams = (invocation.stdin, invocation.stdout, invocation.stderr)
    for name, stream in zip(("input", "output", "error"), streams, strict=True):
        if stream is not None:
            # The number among the invocation's own jobs. HTCondor's $(Process) is something else
            # for a single job, which shares its cluster with other invocations.
            path = stream if invocation.repeat > 1 else stream.replace(PROCESS_MACRO, "0")
            if name == "input" and ".." in path.split("/"):
                # HTCondor transfers stdin like an input, but keeps no directories of this one.
                directory = invocation.working_directory or "/"
                path = posixpath.normpath(posixpath.join(directory, path))
            commands.append((name, escape_path(path)))
    if invocation.in_place:
        return [*commands, ("should_transfer_files", "NO")]
    if invocation.vm is not None:
        return [*commands, *disk_commands(invocation.vm)]
    commands += [("should_transfer_files", "YES"), ("when_to_transfer_output", "ON_EXIT")]
    staged = STAGED_INPUTS if invocation.needs_staging else None
    if files := transfer_list(invocation.inputs, staged):
        commands.append(("transfer_input_files", quote_file_list(files)))
    if data := plugin_data(invocation.inputs):
        commands.append(("My.PluginData", classad_string(data)))
    outputs: Sequence[str] = invocation.output_names
    if invocation.moves_outputs:
        # With a slash at the end, HTCondor transfers what the directory contains. It would keep
        # the directory's own name if it preserved relative paths.
        outputs = [f"{name}/" for name in output_directories(outputs)]
    # An empty list means no files; without a list HTCondor transfers all new files.
    commands.append(("transfer_output_files", quote_file_list(outputs, escape_path)))
    commands.append(("preserve_relative_paths", str(not invocation.moves_outputs).lower()))
    return commands


def _resource_commands(invocation: Invocation) -> Commands:
    required = invocation.required_resources
    commands: Commands = [
        ("request_cpus", str(required.cpus)),
        ("request_memory", f"{required.memory_mb}M"),
        ("request_disk", f"{required.disk_mb}M"),
    ]
    if required.gpus:
        commands.append(("request_gpus", str(required.gpus)))
    if required.max_memory_mb is not None and required.max_memory_mb > required.memory_mb:
        commands.append(("retry_request_memory", f"{required.max_memory_mb}M"))
    if required.time_limit_s is not None:
        commands.append(("allowed_execute_duration", str(required.time_limit_s)))
    return commands
