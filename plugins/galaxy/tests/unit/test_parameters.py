"""Destination parameters, from job_conf.yml and as TPV hands them over."""

from __future__ import annotations

from typing import Any

import pytest
from swarm_runner_galaxy.parameters import Parameters, parse_parameters

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.pool import Pool

POOL = Pool()


def parsed(**params: Any) -> Parameters:
    return parse_parameters(params, "swarm", POOL)


def diagnostics(**params: Any) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        parsed(**params)
    return {
        fault.location.removeprefix("swarm: "): fault.message for fault in caught.value.diagnostics
    }


def test_what_is_not_said_has_a_default() -> None:
    assert parsed() == Parameters()
    assert (parsed().request_cpus, parsed().request_memory, parsed().request_disk) == (1, 512, 1024)


def test_tpv_writes_texts() -> None:
    given = parsed(
        request_cpus="4",
        request_memory="2048",
        max_memory="4096.0",
        request_disk="10 GB",
        request_gpus="0",
        time_limit_s="3600.0",
    )
    assert given.resources.model_dump() == {
        "cpus": 4,
        "memory_mb": 2048,
        "max_memory_mb": 4096,
        "disk_mb": 10240,
        "gpus": 0,
        "time_limit_s": 3600,
    }


@pytest.mark.parametrize(
    ("text", "amount_mb"),
    [(2048, 2048), ("2048", 2048), ("1536.2", 1537), (1536.5, 1537), ("2 GB", 2048), ("512M", 512)],
)
def test_memory(text: object, amount_mb: int) -> None:
    assert parsed(request_memory=text).request_memory == amount_mb


@pytest.mark.parametrize("text", ["2 XB", "lots", "-5", "2048 MBB", "1e3", "{mem}", True])
def test_memory_with_a_wrong_unit(text: object) -> None:
    assert "such as" in diagnostics(request_memory=text)["request_memory"]


@pytest.mark.parametrize("amount", [0, "0", 8, "8", "8.0", "8M"])
def test_so_little_memory_lacks_its_unit(amount: object) -> None:
    said = diagnostics(request_memory=amount)["request_memory"]
    assert "below the least that runs a container (16 MB)" in said
    assert "without a unit means MB" in said


@pytest.mark.parametrize("number", ["two", "1.5", 1.5, "", None, "0", 0, True])
def test_cpus(number: object) -> None:
    if number in ("", None):
        assert parsed(request_cpus=number).request_cpus == 1
    else:
        assert "request_cpus" in diagnostics(request_cpus=number)


def test_foreign_keys_are_passed_over() -> None:
    given = parsed(
        tpv_cores="2",
        docker_enabled="true",
        docker_volumes="$defaults",
        native_specification="--mem 4",
        function="map_tool_to_destination",
        rules_module="tpv.rules",
        max_accepted_cores=4,
        __resubmit_delay_seconds="5",
    )
    assert given == Parameters()


def test_a_slip_of_the_pen() -> None:
    assert "did you mean request_memory?" in diagnostics(request_memroy=512)["request_memroy"]


def test_a_universe_that_was_left_over() -> None:
    said = diagnostics(universe="vanilla")["universe"]
    assert "remove the line" in said
    assert "docker_enabled: true" in said
    assert parsed(universe="docker") == Parameters()


def test_raw_commands_have_a_prefix() -> None:
    given = parsed(**{"htcondor_priority": 5, "htcondor_+Group": '"galaxy"'})
    assert given.raw_commands == {"priority": "5", "My.Group": '"galaxy"'}
    assert "write htcondor_rank" in diagnostics(rank="Memory")["rank"]
    assert "write htcondor_+Group" in diagnostics(**{"+Group": "x"})["+Group"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("docker_image", "docker_container_id_override"),
        ("container_image", "each tool brings its own image"),
        ("should_transfer_files", "remove the line"),
        ("transfer_input_files", "remove the line"),
        ("getenv", "remove the line"),
        ("environment", "remove the line"),
        ("leave_in_queue", "remove the line"),
        ("hold", "remove the line"),
        ("docker_network_type", "write htcondor_docker_network_type"),
        ("concurrency_limits", "write htcondor_concurrency_limits"),
        ("My.Group", "write htcondor_My.Group"),
    ],
)
def test_what_was_left_over_from_an_older_runner(key: str, expected: str) -> None:
    assert expected in diagnostics(**{key: "x"})[key]


def test_requirements_are_added_to_ours() -> None:
    given = parsed(htcondor_requirements='Arch == "X86_64"')
    assert given.raw_commands == {
        "requirements": '(TARGET.CapacityClass =?= MY.SwarmRunnerClass) && (Arch == "X86_64")'
    }


@pytest.mark.parametrize(
    "key",
    [
        *("universe", "docker_image", "request_memory", "Executable", "log", "+SwarmRunnerKey"),
        *("+UserLog", "+RequestMemory", "My.Iwd", "UserLog", "RequestMemory", "my.dockerimage"),
        *("include", "queue", "if", "hold", "+LeaveJobInQueue", "+Requirements", "a b"),
        *("+GalaxyJobId", "transfer_input_files", "+TransferInput", "+Env", "+JobLeaseDuration"),
    ],
)
def test_raw_commands_that_are_not_the_administrators(key: str) -> None:
    assert f"htcondor_{key}" in diagnostics(**{f"htcondor_{key}": "x"})


def test_a_raw_value_is_one_line() -> None:
    said = diagnostics(htcondor_priority="1\nqueue 100")
    assert "control character" in said["htcondor_priority"]


def test_of_the_htcondor_runner() -> None:
    assert "under runners" in diagnostics(htcondor_collector="cm.example.org")["htcondor_collector"]
    assert "time_limit_s" in diagnostics(request_walltime="1:00:00")["request_walltime"]


def test_an_unknown_class() -> None:
    said = diagnostics(capacity_class="bigg")["capacity_class"]
    assert "did you mean big?" in said
    assert "normal: 1 cpu, 1024 MB memory" in said


def test_another_pool() -> None:
    assert "named under runners" in diagnostics(pool="other")["pool"]
    assert parsed(pool=POOL.name) == Parameters()


def test_one_owner_of_escalation() -> None:
    assert parsed(max_memory="2 GB").schedd_escalates
    assert not parsed().schedd_escalates
    assert not parsed(escalation="galaxy").schedd_escalates
    assert (
        "remove one of the two" in diagnostics(escalation="galaxy", max_memory="2 GB")["escalation"]
    )
    assert "max_memory" in diagnostics(escalation="schedd")["escalation"]
    assert "'schedd' or 'galaxy'" in diagnostics(escalation="tpv")["escalation"]


def test_less_than_the_request() -> None:
    said = diagnostics(request_memory=1024, max_memory=512)["max_memory"]
    assert said == "is 512 MB, less than request_memory (1024 MB)"


def test_every_fault_at_once() -> None:
    assert set(diagnostics(request_memory="x", request_cpus="y", universe="vanilla")) == {
        "request_memory",
        "request_cpus",
        "universe",
    }
