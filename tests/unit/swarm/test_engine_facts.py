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
    assert facts.time_s is not None
    assert round(facts.time_s) == 1795916192
    assert facts.images == {"a:1"}


def test_an_engine_without_a_swarm_and_a_clock() -> None:
    info = {"Swarm": {"LocalNodeState": ""}, "SystemTime": "soon"}
    facts = parse_facts(info, {"ApiVersion": "1.9"}, local=False, images=frozenset())
    assert (facts.swarm_state, facts.swarm_manager, facts.time_s) == ("inactive", False, None)
    assert (facts.memory_limit, facts.api_version) == (False, (1, 9))
