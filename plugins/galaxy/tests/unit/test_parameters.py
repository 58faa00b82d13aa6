"""Destination parameters from job_conf.yml and from TPV."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner import (
    DestinationParameters,
    InvalidInputError,
    Pool,
    classify_keys,
    parse_parameters,
)

POOL = Pool()


def parse(**params: Any) -> DestinationParameters:
    return parse_parameters(params, "swarm", POOL)


def diagnostics(**params: Any) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        parse(**params)
    assert {diagnostic.source for diagnostic in caught.value.diagnostics} == {"swarm"}
    return {diagnostic.path: diagnostic.message for diagnostic in caught.value.diagnostics}


def test_defaults() -> None:
    assert parse() == DestinationParameters()
    assert (parse().request_cpus, parse().request_memory, parse().request_disk) == (1, 512, 1024)


def test_tpv_writes_strings() -> None:
    given = parse(
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
    assert parse(request_memory=text).request_memory == amount_mb


@pytest.mark.parametrize("text", ["2 XB", "lots", "-5", "2048 MBB", "1e", "{mem}", True])
def test_memory_with_a_wrong_unit(text: object) -> None:
    assert "such as" in diagnostics(request_memory=text)["request_memory"]


@pytest.mark.parametrize("amount", ["0G", "8M", "0.0005G", "1 KB"])
def test_a_tiny_memory_request_with_a_unit_is_raised(amount: str) -> None:
    """A rule computes memory from the size of the input, which may be nothing."""
    given = parse(request_memory=amount, request_disk=amount)
    assert (given.request_memory, given.request_disk) == (16, 8 if amount == "8M" else 1)


@pytest.mark.parametrize("amount", [0, "0", 8, "8", "8.0"])
def test_a_tiny_memory_request_lacks_its_unit(amount: object) -> None:
    message = diagnostics(request_memory=amount)["request_memory"]
    assert "a container needs at least 16 MB" in message
    assert "if a unit is missing" in message


@pytest.mark.parametrize("number", ["two", "-1.5", -1.5, "0", 0, True, "4097"])
def test_a_wrong_number_of_cpus(number: object) -> None:
    assert "request_cpus" in diagnostics(request_cpus=number)


@pytest.mark.parametrize(
    ("number", "cpus"),
    [("", 1), (None, 1), ("1.5", 2), (1.5, 2), ("3.9999999999999996", 4), ("1500m", 2)],
)
def test_cpus_are_rounded_up(number: object, cpus: int) -> None:
    assert parse(request_cpus=number).request_cpus == cpus


def test_unrelated_keys_are_ignored() -> None:
    given = parse(
        tpv_cores="2",
        docker_enabled="true",
        docker_volumes="$defaults",
        native_specification="--mem 4",
        function="map_tool_to_destination",
        rules_module="tpv.rules",
        max_accepted_cores=4,
        __resubmit_delay_seconds="5",
    )
    assert given == DestinationParameters()


def warnings(**params: Any) -> dict[str, str]:
    """The warnings about keys that have no effect, and never fail a job."""
    assert parse(**params) is not None
    return dict(classify_keys(params, POOL).warnings)


def test_a_typing_error() -> None:
    assert "did you mean request_memory?" in warnings(request_memroy=512)["request_memroy"]


def test_foreign_keys() -> None:
    params = {"submit_request_gpus": 1, "description": "x", "k8s_walltime_limit": 9, "id": "a"}
    ignored = ("submit_request_gpus", "description", "k8s_walltime_limit")
    assert classify_keys(params, POOL) == (ignored, ())


def test_the_universe_of_an_older_runner() -> None:
    assert "docker_enabled: true" in warnings(universe="vanilla")["universe"]
    assert parse(universe="docker") == DestinationParameters()


def test_raw_commands_have_a_prefix() -> None:
    given = parse(**{"htcondor_priority": 5, "htcondor_+Group": '"galaxy"'})
    assert given.raw_commands == {"priority": "5", "My.Group": '"galaxy"'}
    assert "write htcondor_rank" in warnings(rank="Memory")["rank"]
    assert "write htcondor_+Group" in warnings(**{"+Group": "x"})["+Group"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("docker_image", "docker_container_id_override"),
        ("container_image", "each tool names its own image"),
        ("should_transfer_files", "the runner sets itself"),
        ("transfer_input_files", "the runner sets itself"),
        ("getenv", "the runner sets itself"),
        ("environment", "the runner sets itself"),
        ("leave_in_queue", "the runner sets itself"),
        ("hold", "the runner sets itself"),
        ("docker_network_type", "write htcondor_docker_network_type"),
        ("concurrency_limits", "write htcondor_concurrency_limits"),
        ("My.Group", "write htcondor_My.Group"),
    ],
)
def test_keys_of_an_older_runner(key: str, expected: str) -> None:
    assert expected in warnings(**{key: "x"})[key]


def test_requirements_are_added_to_ours() -> None:
    given = parse(htcondor_requirements='Arch == "X86_64"')
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
def test_raw_commands_that_are_reserved_or_invalid(key: str) -> None:
    assert f"htcondor_{key}" in diagnostics(**{f"htcondor_{key}": "x"})


def test_a_raw_value_is_one_line() -> None:
    message = diagnostics(htcondor_priority="1\nqueue 100")
    assert "control character" in message["htcondor_priority"]


def test_keys_of_galaxys_htcondor_runner() -> None:
    assert (
        "configured under runners"
        in warnings(htcondor_collector="cm.example.org")["htcondor_collector"]
    )
    assert "time_limit_s" in warnings(request_walltime="1:00:00")["request_walltime"]


def test_an_unknown_class() -> None:
    message = diagnostics(capacity_class="bigg")["capacity_class"]
    assert "did you mean big?" in message
    assert "normal: 1 cpu, 1024 MB memory" in message


def test_another_pool() -> None:
    assert "uses pool swarm-runner" in warnings(pool="other")["pool"]
    assert parse(pool=POOL.name) == DestinationParameters()


def test_one_owner_of_escalation() -> None:
    assert parse(max_memory="2 GB").schedd_escalates
    assert not parse().schedd_escalates
    assert not parse(escalation="galaxy").schedd_escalates
    assert (
        "remove one of the two" in diagnostics(escalation="galaxy", max_memory="2 GB")["escalation"]
    )
    assert "max_memory" in diagnostics(escalation="schedd")["escalation"]
    assert "'schedd' or 'galaxy'" in diagnostics(escalation="tpv")["escalation"]


def test_less_than_the_request() -> None:
    message = diagnostics(request_memory=1024, max_memory=512)["max_memory"]
    assert message == "is 512 MB, less than request_memory (1024 MB)"


def test_every_problem_at_once() -> None:
    invalid = diagnostics(request_memory="x", request_cpus="y", htcondor_universe="vanilla")
    assert set(invalid) == {"request_memory", "request_cpus", "htcondor_universe"}
