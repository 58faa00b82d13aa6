"""From where an executor fetches: URLs, redirects' targets and addresses."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from source_policy import (
    DeniedError,
    Source,
    check_address,
    configuration,
    find_source,
    own_networks,
    parse_sources,
    parse_url,
)

from swarm_runner.model.pool import Pool
from swarm_runner.model.sources import InputUrl, source_problems
from swarm_runner.swarm.specs import Stack

PUBLIC = Source("https", "h.org", 443, "/")
PRIVATE = Source("https", "h.org", 443, "/", private=True)
OVERLAY = [ipaddress.ip_network("10.0.8.0/21"), ipaddress.ip_network("172.18.0.0/16")]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "169.254.169.254", "224.0.0.1", "255.255.255.255"),
        "0.0.0.0",  # noqa: S104
        *("100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "ff02::1", "fec0::1", "fd00:ec2::254"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("2002:7f00:1::", "::127.0.0.1", "2001:db8::1"),
        *("10.0.8.9", "10.0.15.254", "172.18.0.1", "::ffff:10.0.8.9", "64:ff9b::a00:809"),
    ],
)
@pytest.mark.parametrize("source", [PUBLIC, PRIVATE])
def test_addresses_that_nobody_gets(address: str, source: Source) -> None:
    with pytest.raises(DeniedError):
        check_address(address, source, OVERLAY)


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "192.168.1.1", "172.16.0.1", "fd12::1", "::ffff:10.1.2.3"]
)
def test_private_addresses_need_a_source_that_says_so(address: str) -> None:
    check_address(address, PRIVATE, OVERLAY)
    with pytest.raises(DeniedError, match="private: true"):
        check_address(address, PUBLIC, OVERLAY)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_public_addresses(address: str) -> None:
    check_address(address, PUBLIC, OVERLAY)


def test_the_networks_of_a_container() -> None:
    # /proc/net/route and /proc/net/if_inet6 of an executor with two networks
    routes = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth1\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0008000A\t00000000\t0001\t0\t0\t0\t00F8FFFF\t0\t0\t0\n"
        "eth1\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    addresses = (
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fd000000000000000000000000000002 02 40 00 80     eth0\n"
    )
    assert set(own_networks(routes, addresses)) == {
        *OVERLAY,
        ipaddress.ip_network("::1/128"),
        ipaddress.ip_network("fd00::/64"),
    }
    own_networks("Iface\n", "")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h.org/a",
        "https://u:secret@h.org/a",
        "https://h.org/../a",
        "https://h.org/%2e%2e/a",
        "https://h.org/..%5ca",
        "https:/h.org",
        "https://h.org\\@evil.org/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(DeniedError) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_the_most_specific_source_decides() -> None:
    sources = (
        Source("https", "org", 443, "/", wildcard=True, authorization="wide"),
        Source("https", "h.org", 443, "/", authorization="host"),
        Source("https", "h.org", 443, "/deep", authorization="deep"),
    )
    for url, expected in (
        ("https://x.org/deep/a", "wide"),
        ("https://h.org/a", "host"),
        ("https://h.org/deep/a?x", "deep"),
    ):
        assert find_source(parse_url(url), sources).authorization == expected
    with pytest.raises(DeniedError, match=r"https://x\.com/a is not below any"):
        find_source(parse_url("https://x.com/a?secret"), sources)


urls = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["https", "http", "HTTPS"]),
    st.sampled_from(["h.org", "x.h.org", "H.ORG", "evilh.org", "10.1.2.3", "[fd12::1]", "h.org.x"]),
    st.sampled_from(["", ":443", ":80", ":8443"]),
    st.text(alphabet="ab/.%2eE?-", max_size=12),
)
prefixes = st.sampled_from(
    [
        "https://h.org",
        "https://*.h.org/a",
        "http://h.org:8443/a/",
        "https://10.1.2.3/a",
        "https://[fd12::1]",
    ]
)


@given(urls, prefixes)
def test_the_door_and_the_executor_agree(url: str, prefix: str) -> None:
    pool = Pool.model_validate({"sources": [prefix]})
    try:
        item = InputUrl.model_validate({"source": url, "name": "x"})
    except ValidationError:
        return
    environment = Stack(pool=pool, image="i", node_id="n").executors()["normal"].environment
    try:
        find_source(parse_url(item.source), parse_sources(environment["SWARM_RUNNER_SOURCES"]))
        allowed = True
    except DeniedError:
        allowed = False
    assert allowed is (not list(source_problems([item], pool.sources)))


def read(configured: str) -> dict[str, str]:
    return dict(line.split(" = ") for line in configured.replace(" =\n", " = \n").splitlines())


def in_htcondor(text: str, directory: Path) -> str:
    """Return the plugins that HTCondor itself reads from a configuration."""
    file = directory / "condor_config"
    file.write_text(text)
    script = "import htcondor2; print(htcondor2.param.get('FILETRANSFER_PLUGINS', 'none'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"CONDOR_CONFIG": str(file), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_what_htcondor_reads(tmp_path: Path) -> None:
    def environment(role: str, **source: object) -> dict[str, str]:
        values = {"scheme": "https", "host": "h.org", "port": 443, "path": "/"} | source
        return {"SWARM_RUNNER_ROLE": role, "SWARM_RUNNER_SOURCES": json.dumps([values])}

    assert configuration({"SWARM_RUNNER_ROLE": "executor"}) == ""
    plain = read(configuration(environment("executor")))
    assert plain["ENABLE_URL_TRANSFERS"] == "True"
    assert plain["FILETRANSFER_PLUGINS"] == "/usr/local/libexec/swarm-runner/url_plugin.py"
    assert plain["RUN_FILETRANSFER_PLUGINS_WITH_ROOT"] == "False"
    assert plain["STARTER_DISABLE_USER_SUPPLIED_TRANSFER_PLUGINS"] == "True"
    with_secret = read(configuration(environment("executor", authorization="/run/secrets/x")))
    assert with_secret["RUN_FILETRANSFER_PLUGINS_WITH_ROOT"] == "True"
    manager = configuration(environment("manager", authorization="/run/secrets/x"))
    assert read(manager) == {"ENABLE_URL_TRANSFERS": "True", "FILETRANSFER_PLUGINS": ""}
    # An empty list, and not HTCondor's default, which has its own plugins.
    assert in_htcondor(manager, tmp_path) == "none"
    assert in_htcondor("", tmp_path) != "none"
