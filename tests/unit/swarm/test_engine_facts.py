from __future__ import annotations

from swarm_runner.swarm.engine_facts import parse_facts

# What Docker 20.10.24 on a manager answers, shortened.
INFO = {
    "Name": "node1",
    "ServerVersion": "20.10.24+dfsg1",
    "MemoryLimit": True,
    "SwapLimit": False,
    "CgroupVersion": "1",
    "DockerRootDir": "/var/lib/docker",
    "SystemTime": "2026-11-29T01:36:32.004749811Z",
    "Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "Error": ""},
}


def test_the_facts_of_an_engine() -> None:
    facts = parse_facts(INFO, {"ApiVersion": "1.41"}, local=True, images=frozenset({"a:1"}))
    assert (facts.name, facts.version, facts.api_version) == ("node1", "20.10.24+dfsg1", (1, 41))
    assert (facts.swarm_state, facts.swarm_manager) == ("active", True)
    assert (facts.memory_limit, facts.swap_limit, facts.cgroup_version) == (True, False, "1")
    assert facts.minimum_api_version == (1, 24)
    assert not facts.rootless
    newer = parse_facts(
        INFO, {"ApiVersion": "1.52", "MinAPIVersion": "1.44"}, local=True, images=frozenset()
    )
    assert newer.minimum_api_version == (1, 44)
    assert facts.time_s is not None
    assert round(facts.time_s) == 1795916192
    assert facts.images == {"a:1"}


def test_an_engine_without_a_swarm_and_a_clock() -> None:
    # A rootless engine's: it has no Swarm here.
    security = ["name=seccomp,profile=default", "name=rootless"]
    info = {"Swarm": {"LocalNodeState": ""}, "SystemTime": "soon", "SecurityOptions": security}
    facts = parse_facts(info, {"ApiVersion": "1.9"}, local=False, images=frozenset())
    assert (facts.swarm_state, facts.swarm_manager, facts.time_s) == ("inactive", False, None)
    assert (facts.memory_limit, facts.api_version, facts.rootless) == (False, (1, 9), True)
