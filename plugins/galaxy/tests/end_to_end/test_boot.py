"""A server that does not start says why."""

from __future__ import annotations

from end_to_end.conftest import Site, job_conf
from end_to_end.server import BOOT_LIMIT_S, Galaxy, User


def test_a_wrong_section_stops_the_boot_and_says_which_key(site: Site) -> None:
    user = User.of_tests()
    # It never comes to listen.
    galaxy = Galaxy(site.pool.volume / "wrong", 0, user)
    conf = job_conf(site.pool, user)
    conf["runners"]["swarm"]["lease"] = 60
    galaxy.configure(conf)
    galaxy.start(wait=False)
    try:
        assert galaxy.wait(BOOT_LIMIT_S) != 0
    finally:
        galaxy.stop()
    said = galaxy.log.read_text(errors="replace")
    assert "the section of runner swarm is wrong" in said
    assert "runners.swarm.lease: is not known here; did you mean lease_s?" in said
