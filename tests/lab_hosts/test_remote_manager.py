"""A remote Swarm manager: certificates, and hosts that are not managers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.lab.hosts import certificates
from tests.lab.hosts.layout import nodes
from tests.lab_hosts.conftest import HostsPool


@pytest.fixture
def job_conf(lab_hosts_pool: HostsPool, tmp_path: Path) -> Path:
    file = tmp_path / "job_conf.yml"
    pool = lab_hosts_pool.destination.pool.model_dump(mode="json", exclude_defaults=True)
    runner = {"pool": pool, "token_directory": str(lab_hosts_pool.destination.token_directory)}
    environments = {"swarm": {"runner": "swarm"}}
    file.write_text(
        yaml.safe_dump(
            {"runners": {"swarm": runner}, "execution": {"environments": environments}},
            sort_keys=False,
        )
    )
    return file


def status(job_conf: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `swarm-runner pool status` with these DOCKER_ variables and no others."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")
    }
    command = [sys.executable, "-c", "import swarm_runner.cli as cli; raise SystemExit(cli.main())"]
    return subprocess.run(
        [*command, "pool", "status", "--job-conf", str(job_conf)],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def remote(bundle: Path | str, host: str | None = None) -> dict[str, str]:
    """Return the variables of a client bundle."""
    docker_host = host or nodes()[0].tls_host
    return {"DOCKER_HOST": docker_host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(bundle)}


def test_a_client_bundle_is_sufficient(job_conf: Path) -> None:
    done = status(job_conf, **remote(certificates.client()))
    assert (done.returncode, done.stderr) == (0, "")
    assert "class normal, " in done.stdout


def test_problems_with_certificates_are_reported(job_conf: Path, tmp_path: Path) -> None:
    untrusted = certificates.untrusted_bundle(tmp_path / "untrusted")
    # This client trusts the engine, which does not trust the client.
    rejected = certificates.untrusted_bundle(tmp_path / "rejected")
    (rejected / "ca.pem").write_bytes((certificates.client() / "ca.pem").read_bytes())
    plain = {"DOCKER_HOST": nodes()[0].tls_host}
    for settings, message in (
        (remote(untrusted), "was not issued by the CA in ca.pem"),
        (remote(rejected), "rejected the client certificate, cert.pem in DOCKER_CERT_PATH"),
        (remote(tmp_path / "nowhere"), "requires ca.pem, cert.pem and key.pem"),
        (remote(certificates.client(), "tcp://198.18.77.1:5000"), "The port does not use TLS"),
        (plain, "set DOCKER_TLS_VERIFY=1, and set DOCKER_CERT_PATH"),
    ):
        done = status(job_conf, **settings)
        assert (done.returncode, done.stdout) == (3, ""), settings
        assert message in done.stderr


def test_a_worker_is_reported_as_not_a_manager(job_conf: Path) -> None:
    done = status(job_conf, DOCKER_HOST=nodes()[1].docker_host)
    assert done.returncode == 3
    assert "engine swarm-2 is a Swarm worker; name a manager with DOCKER_HOST" in done.stderr
