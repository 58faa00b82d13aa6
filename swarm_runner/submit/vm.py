"""The submit commands of a virtual machine, beside those that every job has."""

from __future__ import annotations

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.vm import VirtualMachine
from swarm_runner.submit.description import Commands
from swarm_runner.submit.language import classad_string, escape_macros, quote_file_list

# The number of failed starts after which a VM's job is held. HTCondor itself would retry without
# end: after JobShouldRequeue elsewhere, as the executor goes offline, after VMError anywhere.
MAX_VM_STARTS = 2
_FAILED_STARTS = "(NumVacatesByReason.JobShouldRequeue ?: 0) + (NumVacatesByReason.VMError ?: 0)"
VM_START_HOLD_SUBCODE = 6  # our own subcode of that hold


def vm_commands(invocation: Invocation, vm: VirtualMachine) -> Commands:
    """Return the commands in place of a container's: the VM itself, and when to give up."""
    disks = ",".join(
        f"{escape_macros(disk.file if vm.checkpoint else disk.name)}"
        f":{disk.device}:{disk.permission}:{disk.format}"
        for disk in vm.disks
    )
    commands: Commands = [
        ("universe", "vm"),
        ("executable", escape_macros(invocation.tool_id or invocation.key)),
        ("vm_type", vm.type),
        ("vm_memory", str(vm.memory_mb)),
        ("vm_vcpus", str(vm.vcpus)),
        ("vm_disk", disks),
        ("vm_checkpoint", str(vm.checkpoint).lower()),
        ("vm_networking", str(vm.networking).lower()),
    ]
    commands += [
        ("periodic_hold", f"{_FAILED_STARTS} >= {MAX_VM_STARTS}"),
        ("periodic_hold_subcode", str(VM_START_HOLD_SUBCODE)),
        (
            "periodic_hold_reason",
            # Part of the job ad: this text stays as it is.
            classad_string(f"It failed to start {MAX_VM_STARTS} times; `pool status` tells more"),
        ),
    ]
    return commands


def disk_commands(vm: VirtualMachine) -> Commands:
    """Return the commands that transfer disks to the executor and returned files back.

    vm_disk does not transfer its files. Without a list of outputs, HTCondor would return all
    changed files, and overwrite the originals.
    """
    commands: Commands = []
    if vm.transferred_disks:
        commands.append(("transfer_input_files", quote_file_list(vm.transferred_disks)))
    commands += [
        ("should_transfer_files", "YES"),
        ("when_to_transfer_output", "ON_EXIT"),
        ("transfer_output_files", quote_file_list(vm.returned_files)),
    ]
    # HTCondor rejects a name that is mapped to itself as a cycle.
    renamed = [
        f"{name}={escape_macros(new)}" for name, new in vm.returned_files.items() if name != new
    ]
    if renamed:
        commands.append(("transfer_output_remaps", f'"{";".join(renamed)}"'))
    return commands


def marker_commands(vm: VirtualMachine) -> Commands:
    """Return the attributes by which the runner recognizes the VM's success."""
    if vm.success is None:
        return []
    name, value = "My.SwarmRunnerMarkerFile", vm.success.file
    if value is None:
        name, value = "My.SwarmRunnerMarker", vm.success.text or ""
    return [
        (name, classad_string(value)),
        ("My.SwarmRunnerMarked", classad_string(vm.marker_file or "")),
    ]
