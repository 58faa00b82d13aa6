"""`pool up --monitoring` on a real Swarm, with Debian's Prometheus as the image.

The commands are those of docs/how-to/watch.md.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from swarm_runner import metrics
from swarm_runner.cli import factories
from tests.integration.shell import CommandShell
from tests.integration.watched_pool import PROMETHEUS, get, query
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

NAME, PORT, PROMETHEUS_PORT = "swarm-runner-monitored", 9768, 9767
IMAGE = "swarm-runner-test-prometheus:debian"
ADDRESS = f"127.0.0.1:{PROMETHEUS_PORT}"
DASHBOARD = Path(metrics.__file__).parent / "monitoring" / "grafana-dashboard.json"
# Grafana puts in four intervals of the scrape, at least.
VARIABLES = {"$pool": NAME, "$__rate_interval": "5m"}
# None of this happens in the test: the quantile of no observation is no number.
WITHOUT_A_NUMBER = {"Start of an executor, 95th percentile", "Problems"}
DOCKERFILE = b"""\
FROM debian:trixie
RUN mkdir /prometheus && chown nobody /prometheus
COPY prometheus /bin/prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus"]
"""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """Build an image like Prometheus's own, which no registry here has."""
    assert PROMETHEUS.exists(), f"there is no {PROMETHEUS}; run `make promtool`"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(PROMETHEUS, "prometheus")
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(DOCKERFILE)
        archive.addfile(entry, io.BytesIO(DOCKERFILE))
    context.seek(0)
    client = docker.from_env()
    client.images.build(fileobj=context, custom_context=True, tag=IMAGE, rm=True)
    yield IMAGE
    client.close()


@pytest.fixture(scope="module")
def pool(image: str) -> Iterator[LabPool]:
    settings = {
        "classes": {"normal": {"cpus": 1, "memory_mb": 512, "replicas": 1}},
        "monitoring": {"prometheus_image": image, "prometheus_port": PROMETHEUS_PORT},
    }
    with lab_pool(NAME, PORT, settings) as lab:
        yield lab


def panels() -> Iterator[tuple[str, str]]:
    """Return the title of each panel of the dashboard with each of its expressions."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression
            yield panel["title"], expression


def without_a_number() -> set[str]:
    """Return the panels with an expression that Prometheus has no number for."""
    return {
        title for title, expression in panels() if all(map(math.isnan, query(ADDRESS, expression)))
    }


def test_prometheus_reads_the_pool_and_evaluates_the_rules(pool: LabPool, tmp_path: Path) -> None:
    shell = CommandShell(tmp_path, pool.job_conf, NAME)
    brought_up = shell.run("pool", "up", "--monitoring")
    assert brought_up.code == 0, brought_up.err
    swarm = factories.swarm(pool.destination.pool)
    assert {pool.destination.pool.observer, pool.destination.pool.prometheus} <= swarm.services(
        NAME
    ).keys()

    assert poll_until(lambda: query(ADDRESS, 'up{job="swarm-runner"} == 1')) == [1]
    label = f'{{pool="{NAME}"}}'
    poll_until(lambda: query(ADDRESS, f"swarm_runner_build_info{label}"))
    executors = f'swarm_runner_executors{{pool="{NAME}",class="normal",state="idle"}} == 1'
    assert poll_until(lambda: query(ADDRESS, executors)) == [1]
    (free,) = poll_until(lambda: query(ADDRESS, f"swarm_runner_disk_free_bytes{label}"))
    (size,) = query(ADDRESS, f"swarm_runner_disk_size_bytes{label}")
    assert 0 < free < size

    # Every panel of the dashboard shows something, once a job has ended.
    # HTCondor measures no job of a few seconds.
    job = {"key": "sleeps", "image": "debian:trixie", "command": ["sleep", "20"]}
    shell.write("job.yml", job | {"resources": {"memory": "100M", "disk": "10M"}})
    ended = shell.run_for_runner("submit", "job.yml", "--wait")
    assert ended.code == 0, ended.err
    poll_until(without_a_number, lambda titles: titles <= WITHOUT_A_NUMBER)
    match = urllib.parse.urlencode({"match[]": "swarm_runner_build_info"})
    assert get(ADDRESS, f"label/pool/values?{match}") == [NAME]

    (group,) = get(ADDRESS, "rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    assert len(group["rules"]) == 12

    removed = shell.run("pool", "up", "--no-monitoring")
    assert removed.code == 0, removed.err
    remaining = swarm.services(NAME).keys()
    assert not {pool.destination.pool.observer, pool.destination.pool.prometheus} & remaining
    assert swarm.configs(NAME) == set()
