"""A server that does not boot reports why."""

from __future__ import annotations

from end_to_end.conftest import Deployment, build_job_conf
from end_to_end.server import BOOT_TIMEOUT_S, Galaxy, SystemUser


def test_an_invalid_section_stops_the_boot_and_names_the_key(deployment: Deployment) -> None:
    user = SystemUser.for_tests()
    # It does not get as far as listening.
    galaxy = Galaxy(deployment.pool.volume / "invalid", 0, user)
    conf = build_job_conf(deployment.pool, user)
    conf["runners"]["swarm"]["lease"] = 60
    galaxy.configure(conf)
    galaxy.start(wait=False)
    try:
        assert galaxy.wait(BOOT_TIMEOUT_S) != 0
    finally:
        galaxy.stop()
    log = galaxy.log.read_text(errors="replace")
    assert "the section runners.swarm of the job configuration is invalid" in log
    assert "runners.swarm.lease: is not a valid key; did you mean lease_s?" in log
