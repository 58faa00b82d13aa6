from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner.model.invocation import MAXIMUM_ARGUMENT_BYTES, Invocation
from swarm_runner.model.resources import Resources
from swarm_runner.model.wrapper import has_control_characters
from tests.strategies import CONTROL_CHARACTERS


def make_invocation(**fields: Any) -> Invocation:
    return Invocation(**({"image": "debian", "command": ["true"]} | fields))


def validation_messages(**fields: Any) -> dict[str, str]:
    """The messages by field."""
    with pytest.raises(ValidationError) as caught:
        make_invocation(**fields)
    errors = caught.value.errors()
    return {".".join(str(part) for part in error["loc"]): error["msg"] for error in errors}


def test_a_key_is_made_when_absent_and_differs() -> None:
    assert make_invocation().key != make_invocation().key
    assert make_invocation(key="fastqc-17").key == "fastqc-17"


@pytest.mark.parametrize("key", ["", " a", "a b", "-a", "a\n", "$(X)", "x" * 201, "a'b", "é"])
def test_a_key_is_plain_text(key: str) -> None:
    assert (
        "not a valid key" in validation_messages(key=key)["key"]
        or "control" in validation_messages(key=key)["key"]
    )


def test_a_shell_line_runs_in_bin_sh() -> None:
    assert make_invocation(command=None, shell="echo 'a' > b").argv == (
        "/bin/sh",
        "-c",
        "echo 'a' > b",
    )


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"command": []}, "command", "is empty"),
        ({"command": [""]}, "command", "is empty"),
        ({"command": ["  ", "x"]}, "command", "is empty"),
        ({"command": None}, "command", "give either command (a list) or shell"),
        ({"shell": "true"}, "command", "give either command"),
        ({"command": None, "shell": " "}, "shell", "is empty"),
        ({"image": ""}, "image", "is empty; name a container image"),
        ({"image": "a b"}, "image", "not a valid image reference"),
        ({"image": "-debian"}, "image", "not a valid image reference"),
        ({"image": "--privileged"}, "image", "not a valid image reference"),
        ({"image": "Debian"}, "image", "not a valid image reference"),
        ({"image": " debian"}, "image", "not a valid image reference"),
        ({"image": "debian\n"}, "image", "control character"),
        ({"image": "$(X)"}, "image", "not a valid image reference"),
        ({"image": "oras://debian"}, "image", "not a valid image reference"),
        ({"inputs": ["ftp://x/y"]}, "inputs.0", "scheme"),
        ({"inputs": [""]}, "inputs.0", "is empty"),
        ({"inputs": {"a": ""}}, "inputs.0.source", "is empty"),
        ({"inputs": {"/a": "b"}}, "inputs.0.name", "outside the job's directory"),
        ({"inputs": [{"source": "a"}]}, "inputs.0.name", "Field required"),
        ({"outputs": ["/etc/passwd"]}, "outputs.0", "outside the job's directory"),
        ({"outputs": ["../x"]}, "outputs.0", "outside the job's directory"),
        ({"environment": {"A": "\0"}}, "environment.A", "U+0000"),
        ({"environment": {"A.B": "1\n2"}}, "environment", "a shell sets no such name"),
        ({"stdout": "$$(Machine)"}, "stdout", "when it matches"),
        ({"stdout": "$(DOLLAR)"}, "stdout", "cannot represent"),
        ({"working_directory": "here"}, "working_directory", "not an absolute path"),
        ({"working_directory": "/a\\b"}, "working_directory", "backslash"),
        ({"in_place": True}, "working_directory", "in_place requires one"),
        (
            {"in_place": True, "working_directory": "/d", "inputs": ["x"]},
            "inputs",
            "transfers no files; remove it",
        ),
        ({"in_place": "yes"}, "in_place", "boolean"),
        (
            {"environment": {"A B": "x"}},
            "environment",
            "not a valid name of an environment variable",
        ),
        ({"environment": {"": "x"}}, "environment", "not a valid name of an environment variable"),
        ({"environment": {"A": 1}}, "environment.A", "string"),
        ({"attributes": {"a b": 1}}, "attributes", "not a valid ClassAd attribute name"),
        ({"attributes": {"Requirements": "true"}}, "attributes", "cannot be set"),
        ({"attributes": {"swarmrunnerkey": "x"}}, "attributes", "cannot be set"),
        ({"attributes": {"A": "$$(Machine)"}}, "attributes.A", "cannot represent"),
        ({"attributes": {"A": float("nan")}}, "attributes.A", "64 bits"),
        ({"attributes": {"A": 2**63}}, "attributes.A", "64 bits"),
        ({"attributes": {"A": None}}, "attributes.A", "must be a text"),
        ({"attributes": {"A": [1]}}, "attributes.A", "must be a text"),
        ({"repeat": 0}, "repeat", "greater than or equal to 1"),
        ({"repeat": 10**9}, "repeat", "less than or equal to"),
        ({"capacity_class": "Big!"}, "capacity_class", "not a valid name"),
        ({"unknown": 1}, "unknown", "Extra inputs"),
    ],
)
def test_what_cannot_run_is_refused_by_name(fields: dict[str, Any], where: str, says: str) -> None:
    assert says in validation_messages(**fields)[where]


def test_all_problems_are_reported_at_once() -> None:
    messages = validation_messages(
        image="a b", command=["x\0"], repeat=-1, resources={"cpus": 0, "memory": "8"}
    )
    assert sorted(messages) == [
        "command.0",
        "image",
        "repeat",
        "resources.cpus",
        "resources.memory_mb",
    ]
    messages = validation_messages(in_place=True, inputs=["a"], outputs=["/b"], command=None)
    assert sorted(messages) == ["outputs.0"]
    messages = validation_messages(in_place=True, inputs=["a"], outputs=["b"], command=None)
    assert sorted(messages) == ["command", "inputs", "outputs", "working_directory"]


FIELDS_OF_TEXT: dict[str, Callable[[str], dict[str, Any]]] = {
    "key": lambda text: {"key": f"a{text}"},
    "tool_id": lambda text: {"tool_id": f"a{text}"},
    "image": lambda text: {"image": f"a{text}"},
    "command.0": lambda text: {"command": [f"a{text}"]},
    "command.1": lambda text: {"command": ["a", text]},
    "shell": lambda text: {"command": None, "shell": f"a{text}"},
    "environment.A": lambda text: {"environment": {"A": text}},
    "environment": lambda text: {"environment": {f"A{text}": "x"}},
    "working_directory": lambda text: {"working_directory": f"/a{text}b"},
    "inputs.0": lambda text: {"inputs": [f"a{text}b"]},
    "outputs.0": lambda text: {"outputs": [f"a{text}b"]},
    "stdin": lambda text: {"stdin": f"a{text}b"},
    "stdout": lambda text: {"stdout": f"a{text}b"},
    "stderr": lambda text: {"stderr": f"a{text}b"},
    "attributes.A": lambda text: {"attributes": {"A": text}},
    "attributes": lambda text: {"attributes": {f"A{text}": "x"}},
    "capacity_class": lambda text: {"capacity_class": f"a{text}"},
    "resources.memory_mb": lambda text: {"resources": {"memory": f"512M{text}"}},
    "resources.max_memory_mb": lambda text: {"resources": {"max_memory": f"{text}1GB"}},
    "resources.disk_mb": lambda text: {"resources": {"disk": f"1{text}GB"}},
}


PROCESS_TEXTS = {"command.0", "command.1", "shell", "environment.A"}


@pytest.mark.parametrize("field", sorted(PROCESS_TEXTS))
@pytest.mark.parametrize("character", CONTROL_CHARACTERS)
def test_the_shell_wrapper_carries_control_characters(field: str, character: str) -> None:
    fields = FIELDS_OF_TEXT[field](character)
    if character in "\0\ud800\udfff":
        assert set(validation_messages(**fields)) == {field}
    else:
        assert not any(map(has_control_characters, make_invocation(**fields).launch_argv))


@pytest.mark.parametrize("field", sorted(FIELDS_OF_TEXT.keys() - PROCESS_TEXTS))
@pytest.mark.parametrize("character", CONTROL_CHARACTERS)
def test_no_other_field_takes_a_control_character(field: str, character: str) -> None:
    assert set(validation_messages(**FIELDS_OF_TEXT[field](character))) == {field}


def test_a_control_character_is_reported_with_its_position() -> None:
    message = validation_messages(outputs=["a", "b\x1fc"])["outputs.1"]
    assert message.startswith("contains a control character (U+001F) at position 1")


@pytest.mark.parametrize("character", ["\u00a0", "\u2028", "\u200b", "\ufeff", "é", "𝄞", "'", "$"])
def test_other_characters_are_taken_in_every_argument_and_variable(character: str) -> None:
    invocation = make_invocation(command=["a", character], environment={"A": character})
    assert invocation.argv[1] == invocation.environment["A"] == character


def test_one_argument_of_100_kilobytes_is_taken() -> None:
    assert len(make_invocation(command=["a", "x" * 100_000]).argv[1]) == 100_000


@pytest.mark.parametrize(
    "arguments",
    [["x" * (MAXIMUM_ARGUMENT_BYTES + 1)], ["é" * 70_000], ["x" * 100_000] * 16],
    ids=["one byte too many", "bytes, not characters", "all together"],
)
def test_more_than_linux_takes_is_refused(arguments: list[str]) -> None:
    assert (
        "put the text in an input file" in validation_messages(command=["a", *arguments])["command"]
    )


def test_a_shell_line_is_one_argument() -> None:
    line = "x" * (MAXIMUM_ARGUMENT_BYTES + 1)
    assert "too long" in validation_messages(command=None, shell=line)["shell"]


def vm_section(**fields: Any) -> dict[str, Any]:
    disks = [{"file": "disk.img", "device": "vda", "permission": "w"}]
    vm = {"type": "kvm", "memory_mb": 64, "disks": disks} | fields
    return {"image": None, "command": None, "vm": vm}


def test_a_virtual_machine_has_no_command() -> None:
    vm = make_invocation(**vm_section()).vm
    assert vm is not None
    assert vm.disks[0].file == "disk.img"
    messages = validation_messages(**vm_section() | {"image": "debian", "command": ["x"]})
    assert sorted(messages) == ["command", "image"]
    excluded = {"environment": {"A": "1"}, "outputs": ["x"], "stdin": "y", "repeat": 2}
    assert sorted(validation_messages(**vm_section() | excluded)) == sorted(excluded)


def test_a_writable_disk_comes_back_beside_its_original() -> None:
    vm = make_invocation(**vm_section()).vm
    assert vm is not None
    assert vm.returned_files == {"console.txt": "console.txt", "disk.img": "returned-disk.img"}
    assert vm.marker_file is None


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"type": "vmware"}, "vm.type", "HTCondor dropped it with version 10.1"),
        ({"type": "virtualbox"}, "vm.type", "write type: kvm"),
        ({"type": "xen"}, "vm.type", "'xen' is not supported; write type: kvm"),
        ({"disks": []}, "vm.disks", "at least 1"),
        ({"checkpoint": True}, "vm.disks.0.file", "absolute path on a pool volume"),
        ({"checkpoint": True, "networking": True}, "vm.networking", "combined with checkpoint"),
        ({"disks": [{"file": "a:b"}]}, "vm.disks.0.file", "contains :"),
        ({"disks": [{"file": "a;x=/b/c"}]}, "vm.disks.0.file", "contains ; ="),
        ({"disks": [{"file": "a", "device": "sda:w"}]}, "vm.disks.0.device", "pattern"),
        ({"memory_mb": 1}, "vm.memory_mb", "greater than or equal to 16"),
        ({"disks": [{"file": "a b"}]}, "vm.disks.0.file", "not a valid name of a disk's file"),
        (
            {"disks": [{"file": "console.txt"}]},
            "vm.disks.0.file",
            "not a valid name of a disk's file",
        ),
        ({"disks": [{"file": "a", "device": "vdz9"}]}, "vm.disks.0.device", "pattern"),
        ({"disks": [{"file": "a", "device": "sda"}]}, "vm.disks.0.permission", "permission: w"),
        ({"disks": [{"file": "a", "device": "hdb"}]}, "vm.disks.0.permission", "hdb is IDE"),
        (
            {"disks": [{"file": "a", "device": "hde", "permission": "w"}]},
            "vm.disks.0.device",
            "IDE has only hda to hdd",
        ),
        ({"disks": [{"file": "a", "format": "vmdk"}]}, "vm.disks.0.format", "'raw' or 'qcow2'"),
        ({"disks": [{"file": "a", "returned": "b"}]}, "vm.disks.0.returned", "permission: w"),
        (
            {"disks": [{"file": "a", "permission": "w", "overwrite": True, "discard": True}]},
            "vm.disks.0.discard",
            "contradicts overwrite",
        ),
        (
            {"disks": [{"file": "a", "permission": "w", "returned": "../a"}]},
            "vm.disks.0.returned",
            "outside the working directory",
        ),
        (
            {"disks": [{"file": "x/a"}, {"file": "y/a"}]},
            "vm.disks.1.device",
            "also the device of another disk",
        ),
        (
            {"disks": [{"file": "x/a"}, {"file": "y/a", "device": "vdb"}]},
            "vm.disks.1.file",
            "also the name of another disk's file",
        ),
        (
            {"disks": [{"file": "a", "permission": "w", "returned": "console.txt"}]},
            "vm.disks.0.returned",
            "also returned to console.txt",
        ),
        (
            {"disks": [{"file": "a", "permission": "w", "returned": "./console.txt"}]},
            "vm.disks.0.returned",
            "also returned to console.txt",
        ),
        ({"console": "/tmp/c"}, "vm.console", "outside the working directory"),  # noqa: S108
        ({"console": "a;b"}, "vm.console", "one of ; = "),
        ({"success": {"text": " "}}, "vm.success.text", "must be a text of 1 to"),
        ({"success": {"text": "x", "disk": "vdb"}}, "vm.success.disk", "returned are: vda"),
        ({"success": {"disk": "vda"}}, "vm.success", "give either text, or file and disk"),
        (
            {"success": {"text": "x", "file": "/x"}},
            "vm.success",
            "give either text, or file and disk",
        ),
        ({"success": {"file": "/x"}}, "vm.success.disk", "name the device"),
        ({"success": {"file": "x", "disk": "vda"}}, "vm.success.file", "not an absolute path"),
        ({"success": {"file": "/x/", "disk": "vda"}}, "vm.success.file", "not an absolute path"),
        (
            {
                "disks": [{"file": "a", "permission": "w", "format": "qcow2"}],
                "success": {"text": "x", "disk": "vda"},
            },
            "vm.success.disk",
            "vda is not raw",
        ),
        (
            {"checkpoint": True, "disks": [{"file": "/v/a", "permission": "w"}]},
            "vm.disks.0.overwrite",
            "must be true with checkpoint",
        ),
    ],
)
def test_a_wrong_virtual_machine_is_refused(fields: dict[str, Any], where: str, says: str) -> None:
    assert says in validation_messages(**vm_section(**fields))[where]


def test_it_is_frozen_through_and_through() -> None:
    invocation = make_invocation(environment={"A": "1"}, attributes={"B": 2})
    with pytest.raises(ValidationError, match="frozen"):
        invocation.repeat = 2  # type: ignore[misc]
    for mapping in (invocation.environment, invocation.attributes):
        with pytest.raises(TypeError, match="frozen"):
            mapping["A"] = "2"
        with pytest.raises(TypeError, match="frozen"):
            mapping.update(A="2")


def test_it_is_copied_pickled_and_written_as_json() -> None:
    invocation = make_invocation(
        environment={"A": "é☃"}, attributes={"B": 2.5, "C": True}, resources={"memory": "1GB"}
    )
    assert copy.deepcopy(invocation) == pickle.loads(pickle.dumps(invocation)) == invocation  # noqa: S301
    text = invocation.model_dump_json(exclude_unset=True)
    again = Invocation.model_validate_json(text)
    assert again == invocation.model_copy(update={"key": again.key})
    assert again.resources.model_fields_set == {"memory_mb"}


def test_resources_default_to_a_small_job() -> None:
    assert make_invocation().resources == Resources(cpus=1, memory_mb=512, disk_mb=1024, gpus=0)


def test_the_scheme_of_an_image_of_docker_is_dropped() -> None:
    assert make_invocation(image="docker://debian:trixie").image == "debian:trixie"
    assert make_invocation(image="docker:cli").image == "docker:cli"


@pytest.mark.parametrize("field", ["stdin", "stdout", "stderr", "outputs"])
@pytest.mark.parametrize(
    "macro", ["$(Cluster)", "$(ClusterId)", "$(ProcId)", "$(process)", "$(Step)", "$(ItemIndex)"]
)
def test_macros_of_submit_files_are_refused(field: str, macro: str) -> None:
    name = f"job.{macro}.$(Process)"
    value: Any = [name] if field == "outputs" else name
    message = next(iter(validation_messages(**{field: value}).values()))
    assert f"contains {macro}, which only a submit file has" in message
    assert "the one macro here is $(Process)" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [("PATH", "$PATH:/opt/bin"), ("PATH", "/a:${PATH}"), ("LD_LIBRARY_PATH", "$LD_LIBRARY_PATH")],
)
def test_a_variable_that_refers_to_itself_is_refused(name: str, value: str) -> None:
    message = validation_messages(environment={name: value})["environment"]
    assert f"{name} refers to itself" in message
    assert f"set it in `shell`: export {name}=..." in message


@pytest.mark.parametrize("value", ["$HOME/bin", "$PATHS", "$(PATH)", "PATH", "a$", "$1"])
def test_other_dollars_in_variables_are_literal(value: str) -> None:
    assert make_invocation(environment={"PATH": value}).environment == {"PATH": value}
