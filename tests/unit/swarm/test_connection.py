from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from swarm_runner.errors import UnreachableError
from swarm_runner.swarm.client import DockerSwarm
from swarm_runner.swarm.engine_api import host_of

VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def write_context(directory: Path, name: str, host: str) -> None:
    location = directory / "contexts" / "meta" / sha256(name.encode()).hexdigest()
    location.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    meta = {"Name": name, "Metadata": {}, "Endpoints": endpoints}
    (location / "meta.json").write_text(json.dumps(meta))


def test_docker_host_takes_precedence_over_a_context(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(docker_config, "other", "tcp://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1.*port=1\b"):
        DockerSwarm().docker_engine()


@pytest.mark.parametrize("address", ["tcp://a:b", "tcp://[::1", "tcp://a:99999"])
def test_invalid_docker_host(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    assert docker_config.is_dir()
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(UnreachableError, match="DOCKER_HOST"):
        DockerSwarm().docker_engine()


def test_docker_context_selects_the_engine(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(docker_config, "lab", "tcp://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1.*port=9\b"):
        DockerSwarm().docker_engine()


def test_current_context_selects_the_engine(docker_config: Path) -> None:
    write_context(docker_config, "lab", "tcp://127.0.0.1:9")
    (docker_config / "config.json").write_text(json.dumps({"currentContext": "lab"}))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1.*port=9\b"):
        DockerSwarm().docker_engine()


def test_a_context_that_does_not_exist(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert docker_config.is_dir()
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(UnreachableError, match="nowhere"):
        DockerSwarm().docker_engine()


def test_missing_certificate_files(docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(docker_config / "nowhere"))
    with pytest.raises(UnreachableError, match="TLS"):
        DockerSwarm().docker_engine()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http+docker://localhost", ""),
        ("https://far.example.org:2376", "far.example.org"),
        ("http+docker://ssh", "far.example.org"),
    ],
)
def test_the_host_of_an_engine(url: str, host: str) -> None:
    adapter = SimpleNamespace(ssh_host="me@far.example.org:2222")
    assert host_of(SimpleNamespace(base_url=url, get_adapter=lambda _url: adapter)) == host
