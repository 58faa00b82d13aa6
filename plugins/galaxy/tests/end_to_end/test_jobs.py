"""What users and administrators see, on one server: all jobs are started first, then looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from demo.images import Images
from demo.variants import CALL_COMMAND, INDEX_COMMAND
from end_to_end.conftest import Deployment
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.job import JobId

SPECIAL_CHARACTERS = 'it\'s "quoted" $HOME `x` \\n %s ünïcödé 漢字 $(id) ; # & | < > *'
# The tool puts it between single quotes, on the command line.
SHELL_WORD = SPECIAL_CHARACTERS.replace("'", "")
# The whole needs more than the 128 MB that 100 are rounded up to.
OUT_OF_MEMORY_SCRIPT = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); echo survived"
SCRIPTS = {
    "busybox": "busybox | head -1; ls /bin/bash || echo no bash",
    "bare": "true",
    "bare_default": "ls /bin/bash || echo no bash",
    "cores_tool": "echo $GALAXY_SLOTS",
    "oom_schedd_tool": OUT_OF_MEMORY_SCRIPT + "; echo memory=$GALAXY_MEMORY_MB",
    "oom_galaxy_tool": OUT_OF_MEMORY_SCRIPT + "; echo memory=$GALAXY_MEMORY_MB",
    "oom_none_tool": "echo before; echo trouble >&2; " + OUT_OF_MEMORY_SCRIPT,
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
    "tpv_tool": "echo $GALAXY_MEMORY_MB",
    "tpv_large": "echo $GALAXY_SLOTS $GALAXY_MEMORY_MB",
}
COLLECTION_SIZE = 100
# Of HTCondor's JobStatus.
IDLE = 1


@dataclass(frozen=True)
class StartedJobs:
    """The jobs, by what they are to show."""

    deployment: Deployment
    jobs: Mapping[str, str]
    collection_jobs: list[str]

    def wait_for_end(self, name: str) -> dict[str, Any]:
        """The job as it ended."""
        job = self.jobs[name]
        found: dict[str, Any] = self.deployment.client.wait([job])[job]
        return found

    def output(self, name: str) -> str:
        """What a job that ended well has made."""
        job = self.wait_for_end(name)
        assert job["state"] == "ok", (job["tool_stderr"], job["job_messages"], job.get("info"))
        return self.deployment.client.output(job)

    def error_message(self, name: str) -> str:
        """What the user reads at the dataset of a job that did not end well."""
        job = self.wait_for_end(name)
        assert job["state"] == "error"
        dataset = self.deployment.client.get(f"datasets/{job['outputs']['out']['id']}")
        return str(dataset["misc_info"])

    def metrics(self, name: str) -> dict[str, str]:
        """The metrics of a job that has ended."""
        self.wait_for_end(name)
        return self.deployment.client.metrics(self.jobs[name])


@pytest.fixture(scope="module")
def started(deployment: Deployment) -> StartedJobs:
    client = deployment.client
    jobs = {name: client.start(name, text=script) for name, script in SCRIPTS.items()}
    jobs["words"] = client.start("shell", text=f"cat <<'END'\n{SPECIAL_CHARACTERS}\nEND\n")
    jobs["word"] = client.start("shell", text="printf '%s\\n' \"$2\"", word=SHELL_WORD)
    jobs["user"] = client.start("shell", text="id -u; pwd; touch here; ls -ln here | cut -d' ' -f3")
    jobs["code"] = client.start("shell", text="echo so far; echo sorry >&2; exit 7")
    collection = client.collection([f"member {n}" for n in range(COLLECTION_SIZE)])
    batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
    run = client.run("shell", text='cat "$1"', first=batch)
    return StartedJobs(deployment, jobs, [job["id"] for job in run["jobs"]])


def access_point(deployment: Deployment) -> AccessPoint:
    pool = deployment.pool.destination
    return AccessPoint.connect(pool.pool, pool.token_directory)


def external_id(deployment: Deployment, job: str) -> JobId:
    """The job's number in the pool."""
    cluster, proc = deployment.client.job(job)["external_id"].split(".")
    return JobId(int(cluster), int(proc))


def test_quotes_and_unicode(started: StartedJobs) -> None:
    assert started.output("words") == SPECIAL_CHARACTERS + "\n"
    assert started.output("word") == SHELL_WORD + "\n"


def test_runs_as_galaxys_user_in_galaxys_directory(started: StartedJobs) -> None:
    uid = str(started.deployment.pool.destination.pool.user.uid)
    said, directory, owner = started.output("user").splitlines()
    assert (said, owner) == (uid, uid)
    assert directory.startswith(str(started.deployment.galaxy.directory / "data/jobs"))


def test_exit_code_and_streams(started: StartedJobs) -> None:
    job = started.wait_for_end("code")
    assert (job["state"], job["exit_code"]) == ("error", 7)
    assert job["tool_stderr"].strip() == "sorry"


def test_an_image_without_bash_and_python(started: StartedJobs) -> None:
    assert "no bash" in started.output("busybox")
    assert started.metrics("busybox")["container_id"] == "swarm-runner-galaxy/busybox:1"
    assert started.metrics("words")["container_id"] == "debian:trixie"


def test_a_tool_without_a_container(started: StartedJobs) -> None:
    assert "tool bare has no container for destination swarm" in started.error_message("bare")
    assert "no bash" in started.output("bare_default")


def test_several_cores_run_on_big(started: StartedJobs) -> None:
    assert started.output("cores_tool") == "10\n"
    assert started.metrics("cores_tool")["capacity_class"] == "big"
    assert started.metrics("words")["capacity_class"] == "normal"


def test_what_htcondor_measured(started: StartedJobs) -> None:
    measured = started.metrics("words")
    assert float(measured["galaxy_slots"]) == 1
    assert float(measured["galaxy_memory_mb"]) == 128
    assert float(measured["memory_requested_mb"]) == 100
    assert measured["node"]


def test_what_the_jobs_cgroup_and_htcondor_have_measured(started: StartedJobs) -> None:
    assert started.output("measured_tool") == "50000000\n"
    measured = started.metrics("measured_tool")
    # By the first version of cgroups, or the second.
    most = measured.get("memory.max_usage_in_bytes") or measured["memory.peak"]
    assert float(most) > 50e6
    assert float(measured["memory_used_mb"]) > 45
    assert float(measured["execute_s"]) >= 15
    assert float(measured["disk_used_mb"]) < 50
    assert 0 <= float(measured["cpus_used"]) < 2


def test_the_schedd_escalates(started: StartedJobs) -> None:
    assert started.output("oom_schedd_tool") == "survived\nmemory=1536\n"
    measured = started.metrics("oom_schedd_tool")
    assert measured["capacity_class"] == "big"
    assert float(measured["starts"]) == 2


def test_galaxy_escalates(started: StartedJobs) -> None:
    assert started.output("oom_galaxy_tool") == "survived\nmemory=1536\n"
    assert started.metrics("oom_galaxy_tool")["capacity_class"] == "big"
    history = started.deployment.client.get(f"jobs/{started.jobs['oom_galaxy_tool']}", full=True)
    assert history["state"] == "ok"


def test_nobody_escalates(started: StartedJobs) -> None:
    said = started.error_message("oom_none_tool")
    assert "used more memory than the 100 MB it asked for" in said
    assert "request_memory" in said
    assert started.wait_for_end("oom_none_tool")["tool_stderr"].startswith("trouble")


def test_the_time_limit(started: StartedJobs) -> None:
    assert "ran longer than its time limit" in started.error_message("walltime_tool")


def test_the_time_limit_and_a_longer_one(started: StartedJobs) -> None:
    """`walltime_reached` is what Galaxy's resubmit asks for."""
    assert started.output("walltime_again_tool") == "in time\n"


def test_an_image_that_is_not_there(started: StartedJobs) -> None:
    said = started.error_message("no_such_image_tool")
    assert "The image does not exist, or may not be read." in said
    assert "no-such:1" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_image_name_tool", "'No Such Image!' is no image reference"),
        ("zero_memory_tool", "request_memory: is 0 MB, below the least"),
        ("wrong_unit_tool", "request_memory: needs a number with a unit"),
        ("vanilla_tool", "universe: is 'vanilla', a setting of Galaxy's older HTCondor runners"),
        ("no_class_tool", "capacity_class: 'huge' is no class of pool"),
        ("no_fit_tool", "65536 MB memory, 50 MB disk fits no class of pool"),
    ],
)
def test_what_cannot_run_is_told_to_the_user(
    started: StartedJobs, name: str, expected: str
) -> None:
    complaint = started.error_message(name)
    assert expected in complaint
    assert complaint.startswith("This job could not be started: ")
    # And to the administrator.
    assert expected in started.deployment.galaxy.log.read_text()


def test_raw_htcondor_keys(started: StartedJobs) -> None:
    job = started.wait_for_end("raw_tool")
    assert job["state"] == "ok"
    which = external_id(started.deployment, job["id"])
    (ad,) = access_point(started.deployment).history(JobQuery(ids=[which]), ("TestGroup",), limit=1)
    assert ad["TestGroup"] == "a group"


def test_tpv_chooses(started: StartedJobs) -> None:
    assert started.output("tpv_tool") == "128\n"
    assert started.metrics("tpv_tool")["capacity_class"] == "normal"
    slots, memory_mb = started.output("tpv_large").split()
    assert slots == "2"
    assert int(memory_mb) >= 1228
    assert started.metrics("tpv_large")["capacity_class"] == "big"


def test_held_and_released(started: StartedJobs) -> None:
    site, pool = started.deployment, access_point(started.deployment)
    job = site.client.start("aside_tool", text="sleep 15; echo done")
    site.client.wait([job], until_states=["running"])
    which = external_id(site, job)
    assert pool.hold([which], "the administrator looks at it") == 1
    held = site.client.wait([job], until_states=["queued"])[job]
    said = site.client.get(f"datasets/{held['outputs']['out']['id']}")["misc_info"]
    assert said.startswith("The pool holds this job: the administrator looks at it")
    assert pool.release([which], "it may run") == 1
    ended = site.client.wait([job])[job]
    assert site.client.output(ended) == "done\n"


def test_deleted_while_it_runs(started: StartedJobs) -> None:
    site = started.deployment
    job = site.client.start("aside_tool", text="sleep 900")
    site.client.wait([job], until_states=["running"])
    which = external_id(site, job)
    site.client.delete(job)
    _check_deleted(site, job, which)


def test_deleted_while_it_is_held(started: StartedJobs) -> None:
    site, pool = started.deployment, access_point(started.deployment)
    held = site.client.start("aside_tool", text="sleep 900")
    site.client.wait([held], until_states=["running"])
    which = external_id(site, held)
    pool.hold([which], "for good")
    site.client.wait([held], until_states=["queued"])
    site.client.delete(held)
    _check_deleted(site, held, which)


def test_deleted_while_it_is_queued(started: StartedJobs) -> None:
    site, pool = started.deployment, access_point(started.deployment)
    job = site.client.start("waiting_tool", text="true")
    _wait_until(lambda: site.client.job(job)["external_id"])
    which = external_id(site, job)
    (ad,) = pool.jobs(JobQuery(ids=[which]), ("JobStatus",))
    assert (ad["JobStatus"], site.client.job(job)["state"]) == (IDLE, "queued")
    site.client.delete(job)
    _check_deleted(site, job, which)


def test_a_collection_of_a_hundred(started: StartedJobs) -> None:
    ended = started.deployment.client.wait(started.collection_jobs)
    assert {job["state"] for job in ended.values()} == {"ok"}
    made = {started.deployment.client.output(ended[job]) for job in started.collection_jobs}
    assert made == {f"member {n}" for n in range(COLLECTION_SIZE)}


def test_the_lambda_phages_variants(deployment: Deployment) -> None:
    """From upload to the same variants as without Galaxy and the pool."""
    directory = deployment.pool.volume / "direct"
    directory.mkdir()
    images = Images()
    images.run("swarm-runner-demo/data:1", ("cp", "-r", "/data/.", "."), directory)
    names = (("lambda_virus.fa", "fasta"), ("reads_1.fq", "fastq"), ("reads_2.fq", "fastq"))
    genome, first, second = deployment.client.upload(
        *((name, kind, (directory / name).read_bytes()) for name, kind in names)
    )
    aligned = _run_tool(deployment, "lambda_align", genome=genome, first=first, second=second)
    ordered = _run_tool(deployment, "lambda_sort", alignment=aligned)
    called = _run_tool(deployment, "lambda_call", genome=genome, alignment=ordered)
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
    """Run a tool on datasets; the dataset it makes."""
    job = deployment.client.start(
        tool, **{name: {"src": "hda", "id": dataset} for name, dataset in inputs.items()}
    )
    ended = deployment.client.wait([job])[job]
    assert ended["state"] == "ok", ended["tool_stderr"]
    return str(ended["outputs"]["out"]["id"])


def _records(vcf: str) -> list[str]:
    return [line for line in vcf.splitlines() if not line.startswith("#")]


def _check_deleted(deployment: Deployment, job: str, job_id: JobId) -> None:
    """In Galaxy, and out of the pool."""
    pool = access_point(deployment)
    _wait_until(lambda: not pool.jobs(JobQuery(ids=[job_id]), ("ClusterId",)))
    _wait_until(lambda: deployment.client.job(job)["state"] == "deleted")


def _wait_until(condition: Any) -> None:
    Retrying(
        retry=retry_if_result(lambda done: not done),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(60),
    )(condition)
