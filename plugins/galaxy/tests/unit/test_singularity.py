"""The Docker images of Singularity images."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from swarm_runner_galaxy import singularity
from swarm_runner_galaxy.singularity import docker_image

from unit.conftest import RunnerHarness

CVMFS = "/cvmfs/singularity.galaxyproject.org"
BWA = "bwa:0.7.17--h5bf99c6_8"
MULLED = (
    "mulled-v2-1d9673528d7dd295349af77d8ecfaad41467ae6d:1ca2f7a3a82b59c664168f0ac84876075ccf17e5-0"
)


@pytest.mark.parametrize(
    ("singularity_image", "image"),
    [
        (f"{CVMFS}/all/{BWA}", f"quay.io/biocontainers/{BWA}"),
        (f"{CVMFS}/b/w/{BWA}", f"quay.io/biocontainers/{BWA}"),
        (f"{CVMFS}/all/{MULLED}", f"quay.io/biocontainers/{MULLED}"),
        (f"{CVMFS}/all/{BWA}/", f"quay.io/biocontainers/{BWA}"),
        (f"/galaxy/cache/singularity/mulled/{BWA}.sif", f"quay.io/biocontainers/{BWA}"),
        (f"https://depot.galaxyproject.org/singularity/{BWA}", f"quay.io/biocontainers/{BWA}"),
        (f"{CVMFS}/all/perl:5.26", "perl:5.26"),
        (f"docker://quay.io/biocontainers/{BWA}", f"quay.io/biocontainers/{BWA}"),
        ("docker://centos:7", "centos:7"),
        ("a.sif", None),
        (f"{CVMFS}/all/mine:1.0", None),
        (f"{CVMFS}/all/bwa:0.7.17--h5; rm", None),
        (f"{CVMFS}/all/bwa", None),
        ("", None),
    ],
)
def test_images(singularity_image: str, image: str | None) -> None:
    assert docker_image(singularity_image) == image


def test_the_job_runs_in_the_docker_image_and_the_log_tells_so_once(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    singularity._LOGGED.clear()
    jobs = [harness.job(), harness.job()]
    for job in jobs:
        job.swarm_container = SimpleNamespace(
            container_id=f"{CVMFS}/all/{BWA}", container_type="singularity"
        )
    with caplog.at_level("INFO"):
        harness.queue_jobs(*jobs)
    assert [job.failures for job in jobs] == [[], []]
    images = {ad["DockerImage"] for ad in harness.access_point.queue.values()}
    assert images == {f"quay.io/biocontainers/{BWA}"}
    logged = [record for record in caplog.records if "is replaced by" in record.getMessage()]
    assert len(logged) == 1
    harness.access_point.start(harness.job_id(jobs[0]))
    harness.poll()
    # What Galaxy shows of the job is what ran.
    assert jobs[0].published_containers[0].container_id == f"quay.io/biocontainers/{BWA}"
    assert jobs[0].published_containers[0].container_type == "docker"


def test_the_administrator_says_no(harness: RunnerHarness) -> None:
    job = harness.job(singularity_to_docker="false")
    job.swarm_container = SimpleNamespace(
        container_id=f"{CVMFS}/all/{BWA}", container_type="singularity"
    )
    harness.queue_jobs(job)
    assert "singularity_to_docker is false" in job.failures[0]


def test_an_image_of_unknown_origin_is_refused_with_advice(harness: RunnerHarness) -> None:
    job = harness.job()
    job.swarm_container = SimpleNamespace(container_id="/my/a.sif", container_type="singularity")
    harness.queue_jobs(job)
    assert "of type singularity, /my/a.sif" in job.failures[0]
    assert "docker_container_id_override" in job.failures[0]
