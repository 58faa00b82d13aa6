from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm_runner.condor.connection import classad
from swarm_runner.config.documents import parse_invocations
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import CapacityClass, Destination, Pool, Route
from swarm_runner.model.resources import Resources
from swarm_runner.model.scheduling import Scheduling
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.submit.translation import class_expression, translate, with_defaults
from tests.unit.htcondor_parser import parse_description

GOLDEN = Path(__file__).parents[1] / "golden"
POOL = Pool(
    classes={
        "normal": CapacityClass(memory_mb=1024),
        "big": CapacityClass(memory_mb=2048),
        "huge": CapacityClass(cpus=8, memory_mb=65536, gpus=1),
        "vm": CapacityClass(memory_mb=1024, virtual_machines=1),
    }
)

SLIDES_DOCKER = """
key: slides
image: debian
command: [/bin/cat, /etc/hosts]
stdout: out.$(Process)
stderr: err.$(Process)
resources: {memory: 100M}
repeat: 10
"""
SLIDES_VM = """
key: slides-vm
tool_id: vm_sample_job
vm:
  type: kvm
  memory_mb: 64
  checkpoint: true
  disks: [{file: /data/disk.img, device: vda, permission: w, format: raw, overwrite: true}]
"""


def description(invocation: Invocation, **options: Any) -> Any:
    route = swarm_runner_route(invocation, Destination(pool=POOL), POOL)
    return translate(invocation, route, POOL, **options)


def make_invocation(**fields: Any) -> Invocation:
    return Invocation(**({"key": "k", "image": "debian", "command": ["true"]} | fields))


@pytest.mark.parametrize(
    ("text", "options", "golden"),
    [
        (SLIDES_DOCKER, {}, "slides-docker.sub"),
        (SLIDES_VM, {"log": "simple.vm.log.txt"}, "slides-vm.sub"),
    ],
)
def test_the_slides_descriptions(text: str, options: dict[str, str], golden: str) -> None:
    [invocation] = parse_invocations(text, "slides.yml")
    assert description(invocation, **options).render() == (GOLDEN / golden).read_text()


def test_vmware_is_refused_with_when_htcondor_dropped_it() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_invocations(SLIDES_VM.replace("kvm", "vmware"), "slides.yml")
    assert str(caught.value) == (GOLDEN / "slides-vmware.txt").read_text().strip()


def test_the_process_number_counts_the_invocations_own_jobs() -> None:
    assert description(make_invocation(stdout="out.$(Process)"))["output"] == "out.0"
    assert (
        description(make_invocation(stdout="out.$(Process)", repeat=2))["output"]
        == "out.$(Process)"
    )


def test_the_runner_the_log_and_the_lease_are_written_when_given() -> None:
    text = description(
        make_invocation(tool_id="cat1"), runner="r", log="/x/log", lease_s=300
    ).render()
    for line in (
        'My.SwarmRunnerName = "r"',
        'My.SwarmRunnerTool = "cat1"',
        "log = /x/log",
        "submit_event_notes = k",
        "job_lease_duration = 240",
    ):
        assert f"\n{line}\n" in text
    bare = description(make_invocation()).render()
    for name in ("My.SwarmRunnerName", "My.SwarmRunnerTool", "log =", "job_lease_duration"):
        assert name not in bare


def test_resources_are_requested_as_asked() -> None:
    asked = {
        "cpus": 2,
        "memory_mb": 3000,
        "max_memory_mb": 4000,
        "disk_mb": 50,
        "gpus": 1,
        "time_limit_s": 60,
    }
    written = description(make_invocation(resources=asked))
    assert written["request_cpus"] == "2"
    assert written["request_memory"] == "3000M"
    assert written["retry_request_memory"] == "4000M"
    assert written["request_disk"] == "50M"
    assert written["request_gpus"] == "1"
    assert written["allowed_execute_duration"] == "60"


def test_nothing_is_retried_with_the_memory_it_had() -> None:
    written = description(make_invocation(resources={"memory_mb": 100, "max_memory_mb": 100}))
    assert "retry_request_memory" not in dict(written.commands)


def test_no_outputs_are_none_and_not_everything_new() -> None:
    assert description(make_invocation())["transfer_output_files"] == '""'
    assert parse_description(description(make_invocation(outputs=["a b", "c"]))).files(
        "transfer_output_files"
    ) == [
        "a b",
        "c",
    ]


def test_in_place_nothing_is_transferred() -> None:
    written = dict(
        description(make_invocation(in_place=True, working_directory="/data/x")).commands
    )
    assert written["should_transfer_files"] == "NO"
    assert written["initialdir"] == "/data/x"
    assert "transfer_input_files" not in written
    assert "transfer_output_files" not in written


def test_a_virtual_machines_disks_travel_with_it() -> None:
    disks: list[dict[str, Any]] = [
        {"file": "/data sets/a.img"},
        {"file": "b.img", "device": "vdb", "permission": "w"},
        {"file": "c.img", "device": "vdc", "permission": "w", "returned": "out/c.img"},
        {"file": "d.img", "device": "vdd", "permission": "w", "overwrite": True},
        {"file": "e.img", "device": "vde", "permission": "w", "discard": True},
    ]
    success = {"text": 'a "done" $(x)', "disk": "vdc"}
    vm = {"memory_mb": 64, "disks": disks, "success": success, "networking": True}
    invocation = make_invocation(image=None, command=None, vm=vm)
    written = parse_description(description(invocation))
    assert written["vm_disk"] == (
        "a.img:vda:r:raw,b.img:vdb:w:raw,c.img:vdc:w:raw,d.img:vdd:w:raw,e.img:vde:w:raw"
    )
    sent = ["/data sets/a.img", "b.img", "c.img", "d.img", "e.img"]
    assert written.files("transfer_input_files") == sent
    assert written.files("transfer_output_files") == ["console.txt", "b.img", "c.img", "d.img"]
    assert written["transfer_output_remaps"] == '"b.img=returned-b.img;c.img=out/c.img"'
    assert written["request_memory"] == "64M"
    assert written["vm_networking"] == "true"
    assert written.attribute("My.SwarmRunnerMarker") == 'a "done" $(x)'
    assert written.attribute("My.SwarmRunnerMarked") == "out/c.img"
    vm["success"] = {"file": '/a "b"/c', "disk": "vdc"}
    written = parse_description(description(make_invocation(image=None, command=None, vm=vm)))
    assert written.get("My.SwarmRunnerMarker") is None
    assert written.attribute("My.SwarmRunnerMarkerFile") == '/a "b"/c'


def test_a_checkpoint_leaves_its_disks_where_they_are() -> None:
    disk = {"file": "/data/a.img", "permission": "w", "overwrite": True}
    vm = {"memory_mb": 64, "disks": [disk], "checkpoint": True, "console": "a.log"}
    written = parse_description(description(make_invocation(image=None, command=None, vm=vm)))
    assert written["vm_disk"] == "/data/a.img:vda:w:raw"
    assert written.get("transfer_input_files") is None
    assert written.files("transfer_output_files") == ["console.txt"]
    assert written["transfer_output_remaps"] == '"console.txt=a.log"'


def test_a_destinations_class_is_for_jobs_of_its_kind() -> None:
    vm = make_invocation(image=None, command=None, vm={"memory_mb": 64, "disks": [{"file": "a"}]})
    for name, container, guest in (("big", "big", None), ("vm", None, "vm")):
        destination = Destination(pool=POOL, capacity_class=name)
        assert with_defaults(make_invocation(), destination).capacity_class == container
        assert with_defaults(vm, destination).capacity_class == guest


def test_without_an_image_nothing_is_translated() -> None:
    with pytest.raises(InvalidInputError, match="k: image is missing, and the destination has"):
        description(make_invocation(image=None))


def test_a_destination_gives_what_the_invocation_leaves_out() -> None:
    destination = Destination(
        resources=Resources(cpus=4, memory_mb=2000),
        default_image="alpine",
        capacity_class="huge",
    )
    bare = with_defaults(make_invocation(image=None), destination)
    assert (bare.resources.cpus, bare.resources.memory_mb) == (4, 2000)
    assert (bare.image, bare.capacity_class, bare.key) == ("alpine", "huge", "k")
    own = make_invocation(resources={"memory_mb": 300}, capacity_class="big")
    merged = with_defaults(own, destination)
    assert (merged.resources.cpus, merged.resources.memory_mb) == (4, 300)
    assert (merged.image, merged.capacity_class) == ("debian", "big")
    assert with_defaults(merged, destination) == merged


def test_a_destination_without_defaults_changes_nothing() -> None:
    invocation = make_invocation()
    assert with_defaults(invocation, Destination()) is invocation


@pytest.mark.parametrize(
    ("own", "memory_mb", "max_memory_mb"),
    [
        ({}, 700, 1000),
        ({"memory_mb": 2000}, 2000, None),
        ({"max_memory_mb": 600}, 600, 600),
        ({"max_memory_mb": 3000}, 700, 3000),
    ],
)
def test_a_default_gives_way_to_what_was_asked(
    own: dict[str, int], memory_mb: int, max_memory_mb: int | None
) -> None:
    destination = Destination(resources=Resources(memory_mb=700, max_memory_mb=1000))
    merged = with_defaults(make_invocation(resources=own), destination).resources
    assert (merged.memory_mb, merged.max_memory_mb) == (memory_mb, max_memory_mb)


def test_a_machine_takes_no_image_from_the_destination() -> None:
    vm = make_invocation(image=None, command=None, vm={"memory_mb": 64, "disks": [{"file": "a"}]})
    assert with_defaults(vm, Destination(default_image="alpine")).image is None


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (("normal",), {1: "normal", 65536: "normal"}),
        (("normal", "big"), {1: "normal", 1024: "normal", 1025: "big", 65536: "big"}),
        (("normal", "big", "huge"), {1024: "normal", 1025: "big", 2048: "big", 2049: "huge"}),
        (("big", "huge"), {1: "big", 2048: "big", 2049: "huge"}),
    ],
)
def test_the_class_follows_the_memory_that_the_schedd_asks_for(
    candidates: tuple[str, ...], expected: dict[int, str]
) -> None:
    ad = classad().ClassAd()
    ad["SwarmRunnerClass"] = classad().ExprTree(class_expression(candidates, POOL))
    for memory_mb, capacity_class in expected.items():
        ad["RequestMemory"] = memory_mb
        assert ad.eval("SwarmRunnerClass") == capacity_class


def test_only_an_executor_of_the_class_matches_before_and_after_the_retry() -> None:
    written = parse_description(
        description(make_invocation(resources={"memory_mb": 900, "max_memory_mb": 1800}))
    )
    job = classad().ClassAd()
    job["SwarmRunnerClass"] = classad().ExprTree(written["My.SwarmRunnerClass"])
    job["Requirements"] = classad().ExprTree(written["requirements"])
    matched: dict[int, list[str]] = {}
    for memory_mb in (900, 1800):
        job["RequestMemory"] = memory_mb
        for name in (*POOL.classes, "stranger", None):
            executor = classad().ClassAd({"Requirements": True})
            if name is not None:
                executor["CapacityClass"] = name
            if job.symmetricMatch(executor):
                matched.setdefault(memory_mb, []).append(str(name))
    assert matched == {900: ["normal"], 1800: ["big"]}


def test_account_priority_and_limits() -> None:
    pool = Pool.model_validate({"shares": {"limits": {"matlab": 3}}})
    invocation = Invocation(
        image="debian",
        command=("true",),
        account="Teaching/anna smith@uni.de",
        priority=-7,
        limits={"matlab": 2},
    )
    route = Route(destination="d", capacity_class="normal", candidates=("normal",), reason="")
    commands = dict(translate(invocation, route, pool).commands)
    assert commands["My.SwarmRunnerAccount"] == '"teaching.anna_20smith_40uni_2ede"'
    assert commands["priority"] == "-7"
    assert commands["concurrency_limits"] == "named.matlab:2"
    plain = Invocation(image="debian", command=("true",))
    without = dict(translate(plain, route, pool).commands)
    assert not without.keys() & {"My.SwarmRunnerAccount", "priority", "concurrency_limits"}


def test_groups_and_limits_that_the_pool_does_not_have() -> None:
    groups: dict[str, dict[str, float]] = {"galaxy": {}, "galaxy/teaching": {}}
    pool = Pool.model_validate({"shares": {"groups": groups}})
    route = Route(destination="d", capacity_class="normal", candidates=("normal",), reason="")
    bad: list[tuple[dict[str, Any], str]] = [
        ({"account": "teachers/anna"}, "it has teaching"),
        ({"limits": {"x": 1}}, "'x' is not a limit of the pool; it has none"),
    ]
    for fields, message in bad:
        invocation = Invocation(image="debian", command=("true",), **fields)
        with pytest.raises(InvalidInputError, match=message):
            translate(invocation, route, pool)
    ok = Invocation(image="debian", command=("true",), account="TEACHING/anna")
    assert translate(ok, route, pool)


def test_a_destinations_account_and_priority_are_defaults() -> None:
    scheduling = Scheduling(account="lab/anna", priority=5)
    destination = Destination(scheduling=scheduling)
    plain = with_defaults(Invocation(image="debian", command=("true",)), destination)
    assert (plain.account, plain.priority) == ("lab/anna", 5)
    own = Invocation(image="debian", command=("true",), account="bob", priority=0)
    assert with_defaults(own, destination) == own
