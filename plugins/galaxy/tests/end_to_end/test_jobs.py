"""Jobs of all kinds on one server. All jobs start first; the tests examine them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from end_to_end.conftest import Deployment
from swarm_runner import AccessPoint, JobId, JobQuery, JobStatus
from swarm_runner.demo.images import Images
from swarm_runner.demo.variants import CALL_COMMAND, INDEX_COMMAND

SPECIAL_CHARACTERS = 'it\'s "quoted" $HOME `x` \\n %s ünïcödé 漢字 $(id) ; # & | < > *'
# The tool puts this between single quotes on its command line.
SHELL_WORD = SPECIAL_CHARACTERS.replace("'", "")
# The variable needs more than 128 MB, to which HTCondor rounds up the requested 100 MB.
OUT_OF_MEMORY_SCRIPT = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); echo survived"
SCRIPTS = {
    "busybox": "busybox | head -1; ls /bin/bash || echo no bash",
    "bare": "true",
    "bare_default": "ls /bin/bash || echo no bash",
    "cores_tool": "echo $GALAXY_SLOTS",
    "oom_schedd_tool": OUT_OF_MEMORY_SCRIPT + "; echo memory=$GALAXY_MEMORY_MB",
    "oom_galaxy_tool": OUT_OF_MEMORY_SCRIPT + "; echo memory=$GALAXY_MEMORY_MB",
    "oom_none_tool": "echo before; echo problem >&2; " + OUT_OF_MEMORY_SCRIPT,
    "walltime_tool": "echo before; sleep 120",
    "walltime_again_tool": "sleep 8; echo in time",
    "measured_tool": "x=$(head -c 50000000 /dev/zero | tr '\\0' a); sleep 15; echo ${#x}",
    "no_such_image_tool": "true",
    "no_image_name_tool": "true",
    "zero_memory_tool": "true",
    "wrong_unit_tool": "true",
    "vanilla_tool": "true",
    "no_class_tool": "true",
    "no_fit_tool": "true",
    "raw_tool": "true",
    "outside_tool": "echo one; echo two",
    "tpv_tool": "echo $GALAXY_MEMORY_MB",
    "tpv_large": "echo $GALAXY_SLOTS $GALAXY_MEMORY_MB",
}
COLLECTION_SIZE = 100


@dataclass(frozen=True)
class StartedJobs:
    """The started jobs, by the tool or the feature that they test."""

    deployment: Deployment
    jobs: Mapping[str, str]
    collection_jobs: list[str]

    def wait_for_end(self, name: str) -> dict[str, Any]:
        """Return the job's details after its end."""
        job = self.jobs[name]
        return dict(self.deployment.client.wait([job])[job])

    def output(self, name: str) -> str:
        """Return the output of a job that succeeded."""
        job = self.wait_for_end(name)
        assert job["state"] == "ok", (job["tool_stderr"], job["job_messages"], job.get("info"))
        return self.deployment.client.output(job)

    def error_message(self, name: str) -> str:
        """Return the message that the user sees at the dataset of a job that failed."""
        job = self.wait_for_end(name)
        assert job["state"] == "error"
        return _info(self.deployment, job)

    def metrics(self, name: str) -> dict[str, str]:
        """Return the metrics of a job that has ended."""
        self.wait_for_end(name)
        return self.deployment.client.metrics(self.jobs[name])


@pytest.fixture(scope="module")
def started(deployment: Deployment) -> StartedJobs:
    client = deployment.client
    jobs = {name: client.start(name, text=script) for name, script in SCRIPTS.items()}
    jobs["special_characters"] = client.start(
        "shell", text=f"cat <<'END'\n{SPECIAL_CHARACTERS}\nEND\n"
    )
    jobs["word"] = client.start("shell", text="printf '%s\\n' \"$2\"", word=SHELL_WORD)
    jobs["user"] = client.start("shell", text="id -u; pwd; touch here; ls -ln here | cut -d' ' -f3")
    jobs["home"] = client.start(
        "shell",
        text='echo "$HOME"; cd "$HOME"; touch mine /tmp/mine; stat -c %u mine /tmp/mine',
    )
    jobs["code"] = client.start("shell", text="echo so far; echo sorry >&2; exit 7")
    jobs["long"] = client.start("shell", text="seq 20000")
    collection = client.collection([f"member {n}" for n in range(COLLECTION_SIZE)])
    batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
    run = client.run("shell", text='cat "$1"', first=batch)
    return StartedJobs(deployment, jobs, [job["id"] for job in run["jobs"]])


def access_point(deployment: Deployment) -> AccessPoint:
    pool = deployment.pool.destination
    return AccessPoint.connect(pool.pool, pool.token_directory)


def external_id(deployment: Deployment, job: str) -> JobId:
    """Return the job's ID in the pool."""
    cluster, proc = deployment.client.job(job)["external_id"].split(".")
    return JobId(int(cluster), int(proc))


def test_quotes_and_unicode(started: StartedJobs) -> None:
    assert started.output("special_characters") == SPECIAL_CHARACTERS + "\n"
    assert started.output("word") == SHELL_WORD + "\n"


def test_runs_as_galaxys_user_in_galaxys_directory(started: StartedJobs) -> None:
    uid = str(started.deployment.pool.destination.pool.user.uid)
    job_uid, directory, owner = started.output("user").splitlines()
    assert (job_uid, owner) == (uid, uid)
    assert directory.startswith(str(started.deployment.galaxy.directory / "data/jobs"))


def test_home_is_the_jobs_own(started: StartedJobs) -> None:
    """Galaxy sets HOME in the job's script; `/tmp` is the job's, too."""
    uid = str(started.deployment.pool.destination.pool.user.uid)
    home, *owners = started.output("home").splitlines()
    assert home.startswith(str(started.deployment.galaxy.directory / "data/jobs"))
    assert owners == [uid, uid]


def test_exit_code_and_streams(started: StartedJobs) -> None:
    job = started.wait_for_end("code")
    assert (job["state"], job["exit_code"]) == ("error", 7)
    assert job["tool_stderr"].strip() == "sorry"


def test_an_image_without_bash_and_python(started: StartedJobs) -> None:
    assert "no bash" in started.output("busybox")
    assert started.metrics("busybox")["container_id"] == "swarm-runner-galaxy/busybox:1"
    assert started.metrics("special_characters")["container_id"] == "debian:trixie"


def test_a_tool_without_a_container(started: StartedJobs) -> None:
    assert "tool bare has no container for destination swarm" in started.error_message("bare")
    assert "no bash" in started.output("bare_default")


@pytest.mark.parametrize(("name", "lines"), [("word", 1), ("outside_tool", 2), ("long", 20_000)])
def test_metadata_is_set(started: StartedJobs, name: str, lines: int) -> None:
    """By Galaxy itself for a small text, and outside of its process otherwise."""
    job = started.wait_for_end(name)
    dataset = started.deployment.client.get(f"datasets/{job['outputs']['out']['id']}")
    assert (dataset["state"], dataset["metadata_data_lines"]) == ("ok", lines)


def test_several_cores_run_on_big(started: StartedJobs) -> None:
    assert started.output("cores_tool") == "10\n"
    assert started.metrics("cores_tool")["capacity_class"] == "big"
    assert started.metrics("special_characters")["capacity_class"] == "normal"


def test_what_htcondor_measured(started: StartedJobs) -> None:
    metrics = started.metrics("special_characters")
    assert float(metrics["galaxy_slots"]) == 1
    assert float(metrics["galaxy_memory_mb"]) == 128
    assert float(metrics["memory_requested_mb"]) == 100
    assert metrics["node"]


def test_usage_by_cgroup_and_by_htcondor(started: StartedJobs) -> None:
    assert started.output("measured_tool") == "50000000\n"
    metrics = started.metrics("measured_tool")
    # cgroup version 1, or version 2.
    peak = metrics.get("memory.max_usage_in_bytes") or metrics["memory.peak"]
    assert float(peak) > 50e6
    assert float(metrics["memory_used_mb"]) > 45
    assert float(metrics["execute_s"]) >= 15
    assert float(metrics["disk_used_mb"]) < 50
    assert 0 <= float(metrics["cpus_used"]) < 2


def test_the_schedd_escalates(started: StartedJobs) -> None:
    assert started.output("oom_schedd_tool") == "survived\nmemory=1536\n"
    metrics = started.metrics("oom_schedd_tool")
    assert metrics["capacity_class"] == "big"
    assert float(metrics["starts"]) == 2


def test_galaxy_escalates(started: StartedJobs) -> None:
    assert started.output("oom_galaxy_tool") == "survived\nmemory=1536\n"
    assert started.metrics("oom_galaxy_tool")["capacity_class"] == "big"
    history = started.deployment.client.get(f"jobs/{started.jobs['oom_galaxy_tool']}", full=True)
    assert history["state"] == "ok"


def test_no_escalation(started: StartedJobs) -> None:
    message = started.error_message("oom_none_tool")
    assert "used more memory than the 100 MB it requested" in message
    assert "request_memory" in message
    assert started.wait_for_end("oom_none_tool")["tool_stderr"].startswith("problem")


def test_the_time_limit(started: StartedJobs) -> None:
    assert "ran longer than its time limit" in started.error_message("walltime_tool")


def test_the_time_limit_and_a_longer_one(started: StartedJobs) -> None:
    """Galaxy's resubmit uses the runner state `walltime_reached`."""
    assert started.output("walltime_again_tool") == "in time\n"


def test_an_image_that_does_not_exist(started: StartedJobs) -> None:
    message = started.error_message("no_such_image_tool")
    assert "The image does not exist, or access to it is denied." in message
    assert "no-such:1" in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_image_name_tool", "'No Such Image!' is not a valid image reference"),
        ("zero_memory_tool", "request_memory: is 0 MB, but a container needs at least"),
        ("wrong_unit_tool", "request_memory: needs MB as a number, or a number with a unit"),
        ("no_class_tool", "capacity_class: 'huge' is not a class of pool"),
        ("no_fit_tool", "65536 MB memory, 50 MB disk fits no class of pool"),
    ],
)
def test_invalid_jobs_fail_with_a_message(started: StartedJobs, name: str, expected: str) -> None:
    message = started.error_message(name)
    assert expected in message
    assert message.startswith("This job could not be started: ")
    # The administrator sees it in the log.
    assert expected in started.deployment.galaxy.log.read_text()


def test_a_key_of_another_runner_is_ignored(started: StartedJobs) -> None:
    assert started.wait_for_end("vanilla_tool")["state"] == "ok"
    assert "every job runs in a container" in started.deployment.galaxy.log.read_text()


def test_raw_htcondor_keys(started: StartedJobs) -> None:
    job = started.wait_for_end("raw_tool")
    assert job["state"] == "ok"
    job_id = external_id(started.deployment, job["id"])
    (ad,) = access_point(started.deployment).history(
        JobQuery(ids=[job_id]), ("TestGroup",), limit=1
    )
    assert ad["TestGroup"] == "a group"


def test_tpv_chooses(started: StartedJobs) -> None:
    assert started.output("tpv_tool") == "128\n"
    assert started.metrics("tpv_tool")["capacity_class"] == "normal"
    slots, memory_mb = started.output("tpv_large").split()
    assert slots == "2"
    assert int(memory_mb) >= 1228
    assert started.metrics("tpv_large")["capacity_class"] == "big"


def test_held_and_released(started: StartedJobs) -> None:
    deployment, pool = started.deployment, access_point(started.deployment)
    job = deployment.client.start("aside_tool", text="sleep 15; echo done")
    deployment.client.wait([job], until_states=["running"])
    job_id = external_id(deployment, job)
    assert pool.hold([job_id], "for maintenance") == 1
    held = deployment.client.wait([job], until_states=["queued"])[job]
    # The pool may report that the job left its slot before it reports that it is held.
    _wait_until(lambda: "The pool holds this job: for maintenance" in _info(deployment, held))
    assert pool.release([job_id], "maintenance is over") == 1
    ended = deployment.client.wait([job])[job]
    assert deployment.client.output(ended) == "done\n"


def test_held_before_it_starts(started: StartedJobs) -> None:
    deployment, pool = started.deployment, access_point(started.deployment)
    job = deployment.client.start("waiting_tool", text="true")
    _wait_until(lambda: deployment.client.job(job)["external_id"])
    pool.hold([external_id(deployment, job)], "for maintenance")
    held = deployment.client.job(job)
    _wait_until(lambda: "The pool holds this job: for maintenance" in _info(deployment, held))
    deployment.client.delete(job)


def test_deleted_while_it_runs(started: StartedJobs) -> None:
    deployment = started.deployment
    job = deployment.client.start("aside_tool", text="sleep 900")
    deployment.client.wait([job], until_states=["running"])
    job_id = external_id(deployment, job)
    deployment.client.delete(job)
    _check_deleted(deployment, job, job_id)


def test_deleted_while_it_is_held(started: StartedJobs) -> None:
    deployment, pool = started.deployment, access_point(started.deployment)
    held = deployment.client.start("aside_tool", text="sleep 900")
    deployment.client.wait([held], until_states=["running"])
    job_id = external_id(deployment, held)
    pool.hold([job_id], "for maintenance")
    deployment.client.wait([held], until_states=["queued"])
    deployment.client.delete(held)
    _check_deleted(deployment, held, job_id)


def test_deleted_while_it_is_queued(started: StartedJobs) -> None:
    deployment, pool = started.deployment, access_point(started.deployment)
    job = deployment.client.start("waiting_tool", text="true")
    _wait_until(lambda: deployment.client.job(job)["external_id"])
    job_id = external_id(deployment, job)
    (ad,) = pool.jobs(JobQuery(ids=[job_id]), ("JobStatus",))
    assert (ad["JobStatus"], deployment.client.job(job)["state"]) == (JobStatus.IDLE, "queued")
    deployment.client.delete(job)
    _check_deleted(deployment, job, job_id)


def test_a_collection_of_a_hundred(started: StartedJobs) -> None:
    ended = started.deployment.client.wait(started.collection_jobs)
    assert {job["state"] for job in ended.values()} == {"ok"}
    outputs = {started.deployment.client.output(ended[job]) for job in started.collection_jobs}
    assert outputs == {f"member {n}" for n in range(COLLECTION_SIZE)}


def test_the_lambda_phages_variants(deployment: Deployment) -> None:
    """A workflow finds the same variants as its commands without Galaxy and the pool."""
    directory = deployment.pool.volume / "direct"
    directory.mkdir()
    images = Images()
    images.run("swarm-runner-demo/data:1", ("cp", "-r", "/data/.", "."), directory)
    names = (("lambda_virus.fa", "fasta"), ("reads_1.fq", "fastq"), ("reads_2.fq", "fastq"))
    genome, first, second = deployment.client.upload(
        *((name, kind, (directory / name).read_bytes()) for name, kind in names)
    )
    aligned = _run_tool(deployment, "lambda_align", genome=genome, first=first, second=second)
    sorted_alignment = _run_tool(deployment, "lambda_sort", alignment=aligned)
    called = _run_tool(deployment, "lambda_call", genome=genome, alignment=sorted_alignment)
    align = ("bowtie2", "-x", "lambda", "-1", "reads_1.fq", "-2", "reads_2.fq", "-S", "direct.sam")
    for tool, command in (
        ("bowtie2", INDEX_COMMAND),
        ("bowtie2", align),
        ("samtools", ("samtools", "sort", "-o", "direct.bam", "direct.sam")),
        ("bcftools", ("/bin/sh", "-ec", CALL_COMMAND.format("direct"))),
    ):
        images.run(f"swarm-runner-demo/{tool}:1", command, directory)
    expected = _records((directory / "direct.vcf").read_text())
    assert expected
    assert _records(deployment.client.content(called)) == expected


def _run_tool(deployment: Deployment, tool: str, **inputs: str) -> str:
    """Run a tool on datasets. Return the ID of its output."""
    job = deployment.client.start(
        tool, **{name: {"src": "hda", "id": dataset} for name, dataset in inputs.items()}
    )
    ended = deployment.client.wait([job])[job]
    assert ended["state"] == "ok", ended["tool_stderr"]
    return str(ended["outputs"]["out"]["id"])


def _records(vcf: str) -> list[str]:
    return [line for line in vcf.splitlines() if not line.startswith("#")]


def _check_deleted(deployment: Deployment, job: str, job_id: JobId) -> None:
    """Wait until a job is deleted in Galaxy and removed from the pool."""
    pool = access_point(deployment)
    _wait_until(lambda: not pool.jobs(JobQuery(ids=[job_id]), ("ClusterId",)))
    _wait_until(lambda: deployment.client.job(job)["state"] == "deleted")


def _info(deployment: Deployment, job: dict[str, Any]) -> str:
    """Return what the user reads at a job's dataset."""
    return str(deployment.client.get(f"datasets/{job['outputs']['out']['id']}")["misc_info"])


def _wait_until(condition: Any) -> None:
    Retrying(
        retry=retry_if_result(lambda done: not done),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(60),
    )(condition)
