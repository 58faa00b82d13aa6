"""A server that does not start says why."""

from __future__ import annotations

from end_to_end.conftest import Deployment, build_job_conf
from end_to_end.server import BOOT_TIMEOUT_S, Galaxy, SystemUser


def test_a_wrong_section_stops_the_boot_and_says_which_key(deployment: Deployment) -> None:
    user = SystemUser.for_tests()
    # It never comes to listen.
    galaxy = Galaxy(deployment.pool.volume / "wrong", 0, user)
    conf = build_job_conf(deployment.pool, user)
    conf["runners"]["swarm"]["lease"] = 60
    galaxy.configure(conf)
    galaxy.start(wait=False)
    try:
        assert galaxy.wait(BOOT_TIMEOUT_S) != 0
    finally:
        galaxy.stop()
    said = galaxy.log.read_text(errors="replace")
    assert "the section of runner swarm is wrong" in said
    assert "runners.swarm.lease: is not known here; did you mean lease_s?" in said
