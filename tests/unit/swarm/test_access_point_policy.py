"""What the access point accepts, evaluated by HTCondor's own ClassAds; no daemon is needed."""

from __future__ import annotations

import os.path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_runner.condor.connection import classad
from tests.unit.swarm.image import load_program

POLICY = load_program("access_point_policy")
VOLUMES = [
    {"path": "/data", "read_only": False},
    {"path": "/r.f", "read_only": True},
    {"path": "/with space", "read_only": False},
]
CONFIGURATION = POLICY.configuration(VOLUMES, "swarm-runner")
GOOD = {
    "JobUniverse": 5,
    "WantDocker": True,
    "DockerImage": "debian:trixie",
    "Iwd": "/home/alice",
    "ShouldTransferFiles": "YES",
    "SwarmRunnerClass": "normal",
    "Owner": "alice",
}


def settings_of(text: str) -> dict[str, str]:
    """Return the settings of a configuration, without blocks."""
    lines = [line for line in text.splitlines() if " = " in line and not line.startswith(" ")]
    return dict(line.split(" = ", 1) for line in lines)


def refusals(ad: dict[str, Any]) -> dict[str, str]:
    """Return the requirements that a job does not meet, and what its user is reported.

    Refused attributes are noted by the transform, which only a schedd runs: see `REFUSED`.
    """
    found = settings_of(CONFIGURATION)
    refused = {name: why for why, names in POLICY.REFUSED.items() for name in names}
    for name in ad:
        if name in refused:
            ad = ad | {"SwarmRunnerRefused": f"{name}: {refused[name]}"}
    job = classad().ClassAd(ad)
    answers = {}
    for name in found["SUBMIT_REQUIREMENT_NAMES"].split(", "):
        scope = classad().ClassAd({"JOB": job})
        scope["Met"] = classad().ExprTree(found[f"SUBMIT_REQUIREMENT_{name}"])
        scope["Reason"] = classad().ExprTree(found[f"SUBMIT_REQUIREMENT_{name}_REASON"])
        if scope.eval("Met") is not True:
            answers[name] = str(scope.eval("Reason"))
    return answers


def test_shares_add_what_an_identity_may_name() -> None:
    shares = {"groups": {"galaxy": {"quota": 1.0, "surplus": True, "priority_factor": None}}}
    found = settings_of(POLICY.configuration(VOLUMES, "swarm-runner", shares))
    assert found["JOB_TRANSFORM_NAMES"].split(", ") == [
        "SwarmRunner",
        "SwarmRunnerOwnLimits",
        "SwarmRunnerAccount",
        "SwarmRunnerGroup",
    ]
    expression = classad().ExprTree(found["SUBMIT_REQUIREMENT_FairShare"])

    def accepted(**ad: str) -> bool:
        scope = classad().ClassAd({"JOB": classad().ClassAd(GOOD | ad)})
        scope["Met"] = expression
        return scope.eval("Met") is True

    own = {"Owner": "galaxy", "SwarmRunnerAccount": "anna"}
    assert accepted(**own, AccountingGroup="galaxy.anna")
    assert not accepted(**own, AccountingGroup="galaxy.bob")
    assert not accepted(**own, AccountingGroup="alice")
    assert not accepted(Owner="bob", SwarmRunnerAccount="anna", AccountingGroup="galaxy.anna")


def test_an_account_of_another_type() -> None:
    assert list(refusals(GOOD | {"SwarmRunnerAccount": 7})) == ["Account", "Types"]


def test_a_good_job_is_accepted() -> None:
    assert refusals(GOOD) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"ShouldTransferFiles": "NO", "Iwd": "/data"},
        {"ShouldTransferFiles": "NO", "Iwd": "/data/alice/run..1"},
        {"ShouldTransferFiles": "NO", "Iwd": "/with space/x"},
        {"UserLog": "/data/.swarm-runner/alice/events.log"},
        {"DockerNetworkType": "none"},
        {"DockerNetworkType": "galaxy_web-1"},
        {"Owner": "swarm-runner", "AccountingGroup": "group_tools.user5"},
        {"AccountingGroup": "nice-user.alice"},
        {"SwarmRunnerKey": "key", "NumHolds": 3, "QDate": 1_800_000_000},
        {
            "JobUniverse": 13,
            "JobVMType": "kvm",
            "VMPARAM_vm_Disk": "/r.f/base.img:vda:r:raw,scratch.qcow2:vdb:w:qcow2",
        },
    ],
)
def test_what_else_is_accepted(change: dict[str, Any]) -> None:
    assert refusals(GOOD | change) == {}


@pytest.mark.parametrize(
    ("change", "requirement", "reported"),
    [
        ({"JobUniverse": 7}, "Universe", "docker and vm universes only"),
        ({"JobUniverse": "5"}, "Universe", "docker and vm universes only"),
        ({"WantDocker": 1}, "Universe", "universe = docker"),
        ({"DockerImage": 17}, "Universe", "docker_image"),
        ({"PreCmd": "/bin/id"}, "Attributes", "a job may not set PreCmd: nothing but the"),
        ({"ContainerServiceNames": "web"}, "Attributes", "no ports of jobs (isolation.ports)"),
        (
            {"SwarmPublishedPorts": "x"},
            "Attributes",
            "SwarmPublishedPorts: the access point itself",
        ),
        ({"OtherJobRemoveRequirements": "true"}, "Attributes", "only their own jobs"),
        ({"DockerNetworkType": "host"}, "Network", "no job gets its node's network"),
        ({"DockerNetworkType": "Host"}, "Network", "no job gets its node's network"),
        ({"DockerNetworkType": "container:web"}, "Network", "the name of a network"),
        ({"DockerNetworkType": 17}, "Network", "the name of a network"),
        ({"SwarmRunnerAccount": "a b"}, "Account", "not an account"),
        ({"SwarmRunnerAccount": "../x"}, "Account", "not an account"),
        ({"SwarmRunnerAccount": "a..b"}, "Account", "not an account"),
        ({"AccountingGroup": "bob"}, "FairShare", "of swarm-runner"),
        ({"AccountingGroup": "nice-user.bob"}, "FairShare", "one fair share each"),
        ({"SwarmRunnerClass": ""}, "CapacityClass", "no capacity class"),
        ({"SwarmRunnerName": 17}, "Types", "wrong type"),
        ({"RequestMemory": "many"}, "Types", "whole numbers"),
        ({"AllowedExecuteDuration": True}, "Types", "whole numbers"),
        ({"ShouldTransferFiles": "IF_NEEDED"}, "Transfer", "should_transfer_files = YES"),
        ({"ShouldTransferFiles": "NO"}, "Transfer", "writable volume of the pool (/data, /with"),
        ({"ShouldTransferFiles": "NO", "Iwd": "/data/../home"}, "Transfer", "writable volume"),
        ({"ShouldTransferFiles": "NO", "Iwd": "/database"}, "Transfer", "writable volume"),
        ({"ShouldTransferFiles": "NO", "Iwd": "/r.f/x"}, "Transfer", "writable volume"),
        ({"ShouldTransferFiles": "NO", "Iwd": "/rxf/x"}, "Transfer", "writable volume"),
        ({"UserLog": "/var/log/x"}, "EventLog", "not on a writable volume"),
        ({"UserLog": "/data/./x"}, "EventLog", "not on a writable volume"),
        (
            {"JobUniverse": 13, "JobVMType": "kvm", "VMPARAM_vm_Disk": "/etc/shadow:vda:r:raw"},
            "Disks",
            "on a volume of the pool",
        ),
        (
            {"JobUniverse": 13, "JobVMType": "kvm", "VMPARAM_vm_Disk": "/data/../x:vda:r:raw"},
            "Disks",
            "on a volume of the pool",
        ),
        (
            {"JobUniverse": 13, "JobVMType": "xen", "VMPARAM_vm_Disk": "a:vda:r:raw"},
            "Disks",
            "of type kvm",
        ),
    ],
)
def test_what_is_refused(change: dict[str, Any], requirement: str, reported: str) -> None:
    found = refusals(GOOD | change)
    assert list(found) == [requirement]
    assert reported in found[requirement]


def test_an_account_of_the_wrong_type_is_refused() -> None:
    assert set(refusals(GOOD | {"SwarmRunnerAccount": 7})) == {"Account", "Types"}


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        ("web", True),
        ("web,api_2", True),
        ("web api", False),
        ("web,", False),
        ("1web", False),
        (",".join("abcdefghi"), False),
        (17, False),
    ],
)
def test_the_names_of_ports_where_they_are_published(names: object, accepted: bool) -> None:
    text = POLICY.configuration(VOLUMES, "swarm-runner", ports=True)
    assert "  if defined MY.ContainerServiceNames\n    EVALSET ContainerServiceNames" in text
    assert 'SET SwarmRunnerRefused "ContainerServiceNames' not in text
    scope = classad().ClassAd({"JOB": classad().ClassAd(GOOD | {"ContainerServiceNames": names})})
    scope["Met"] = classad().ExprTree(settings_of(text)["SUBMIT_REQUIREMENT_Ports"])
    assert (scope.eval("Met") is True) == accepted


def test_who_may_change_what_says_where_ports_are() -> None:
    """The shadow, for the executor's gateway, may not change what is protected."""
    assert "ContainerServiceNames" in POLICY.protected_attributes()
    assert "SwarmPublishedPorts" not in POLICY.protected_attributes()
    assert "SwarmPublishedPorts" in POLICY._transform(ports=True)


PATHS = st.lists(
    st.sampled_from(["data", "..", ".", "home", "r.f", "with space", "", "a", "database"]),
    max_size=5,
).map(lambda parts: "/" + "/".join(parts))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 15),
    st.text("abcHOST:/.*", max_size=6),
    st.sampled_from(["YES", "NO", "host", "HOST", "none", "kvm", "alice", "bob", "swarm-runner"]),
    PATHS,
)
ADS = st.fixed_dictionaries(
    {name: st.just(value) for name, value in GOOD.items() if name != "Iwd"}, optional={}
).flatmap(
    lambda good: st.dictionaries(
        st.sampled_from(
            [*POLICY.LITERAL, *POLICY.RUNNER_ATTRIBUTES, *POLICY.NUMBERS, "SwarmRunnerClass"]
            + [name for names in POLICY.REFUSED.values() for name in names]
        ),
        VALUES,
        max_size=6,
    ).map(lambda changes: good | {"Iwd": "/home"} | changes)
)


def _is_on_a_volume(path: object) -> bool:
    return (
        isinstance(path, str)
        and os.path.normpath(path) == (path.rstrip("/") or "/")
        and path.split("/")[1] in ("data", "with space")
    )


@settings(max_examples=400)
@given(ad=ADS)
def test_what_is_accepted_reaches_no_further_than_a_container(ad: dict[str, Any]) -> None:
    ad = {name: value for name, value in ad.items() if value is not None}
    if refusals(ad):
        return
    assert not any(name in ad for names in POLICY.REFUSED.values() for name in names)
    assert ad["JobUniverse"] in (5, 13)
    assert ad["JobUniverse"] == 13 or ad["WantDocker"] is True
    assert str(ad.get("DockerNetworkType", "none")).lower() != "host"
    assert ad.get("AccountingGroup") is None
    assert ad["ShouldTransferFiles"] == "YES" or _is_on_a_volume(ad["Iwd"])
    assert "UserLog" not in ad or _is_on_a_volume(ad["UserLog"])
    assert all(isinstance(ad[name], str) for name in POLICY.RUNNER_ATTRIBUTES if name in ad)


def test_what_was_checked_cannot_be_changed_later() -> None:
    protected = set(settings_of(CONFIGURATION)["PROTECTED_JOB_ATTRS"].split())
    refused = {name for names in POLICY.REFUSED.values() for name in names}
    # HTCondor itself protects the universe.
    assert protected >= (refused | set(POLICY.LITERAL)) - {"JobUniverse", POLICY.UNPROTECTED}
    assert protected >= {*POLICY.RUNNER_ATTRIBUTES, "SwarmRunnerClass", "SwarmRunnerRefused"}


def test_a_time_limit_is_a_number_that_stays() -> None:
    """An executor that lends relies on it."""
    lines = "  if defined MY.AllowedExecuteDuration\n    EVALSET AllowedExecuteDuration MY."
    assert lines in CONFIGURATION
    assert "AllowedExecuteDuration" in POLICY.protected_attributes()
    assert refusals(GOOD | {"AllowedExecuteDuration": 60}) == {}


def test_a_pool_without_volumes_opens_no_directory() -> None:
    found = settings_of(POLICY.configuration([], "swarm-runner"))
    assert found["LIMIT_DIRECTORY_ACCESS"] == "/nonexistent"
