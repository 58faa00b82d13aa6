"""Shares on a real pool of six executors: turns, groups, ceilings, limits; who may name whom; and a
seventh, of a class that lends it.

What `explain` says of a turn is in docs/how-to/shares.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.provisioner.credentials import write_token
from swarm_runner.runner import Runner
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

EXECUTORS, JOB_S, LEND_MAX_S = 6, 8, 60
ANNA, BOB, CAROL = "teaching/anna smith@uni.de", "bob", "carol"
SETTINGS = {
    "classes": {
        "normal": {"cpus": 1, "memory_mb": 128, "replicas": EXECUTORS},
        "shelf": {
            "cpus": 1,
            "memory_mb": 192,
            "replicas": 0,
            "min_replicas": 0,
            "constraints": ["node.labels.shelf == none such"],
        },
        "big": {"cpus": 2, "memory_mb": 256, "replicas": 1, "lend_max_s": LEND_MAX_S},
    },
    "shares": {
        "turn_s": JOB_S,
        "groups": {"galaxy": {"quota": 0.9}, "galaxy/teaching": {"quota": 0.5}},
        "users": {"galaxy/carol": {"ceiling": 2}},
        "jobs_per_tool": {"bwa_mem": 1},
        "limits": {"matlab": 3},
    },
}


@dataclass(frozen=True, slots=True)
class Shared:
    """The pool, and the directories of tokens by identity."""

    lab: LabPool
    tokens: dict[str, Path]

    def runner(self, identity: str, name: str) -> Runner:
        changes = {"token_directory": str(self.tokens[identity]), "state_directory": None}
        return Runner(self.lab.destination.model_copy(update=changes), name=name)

    def access_point(self, identity: str) -> AccessPoint:
        return AccessPoint.connect(self.lab.destination.pool, str(self.tokens[identity]))

    def submit_raw(self, identity: str, changes: dict[str, str]) -> tuple[bool, str]:
        """Submit a held job as a client that does not use the library."""
        commands = {
            "universe": "docker",
            "docker_image": "debian:trixie",
            "executable": "/bin/true",
            "transfer_executable": "false",
            "should_transfer_files": "YES",
            "request_memory": "32M",
            "request_disk": "10M",
            "hold": "true",
            "My.SwarmRunnerClass": '"normal"',
        }
        pool = self.lab.destination.pool
        arguments = [str(self.tokens[identity]), pool.name, pool.address, "submit"]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.escapes.raw_client", *arguments),
                json.dumps({"commands": commands | changes}),
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
        answer = json.loads(done.stdout)
        return answer["done"], answer["reported"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with lab_pool("swarm-runner-shares", 9731, SETTINGS) as lab:
        tokens = {}
        for name in ("galaxy", "alice"):
            directory = tmp_path_factory.mktemp(name)
            _, text = lab.provisioner.create_token(name, "submit", 86_400)
            write_token(directory / lab.destination.pool.name, text)
            tokens[name] = directory
        yield Shared(lab, tokens)


def invocation(shared: Shared, key: str, seconds: int, **fields: Any) -> Invocation:
    return Invocation(
        key=key,
        image="debian:trixie",
        command=("sleep", str(seconds)),
        working_directory=str(shared.lab.volume),
        **{"resources": {"memory_mb": 32, "disk_mb": 10}} | fields,
    )


def starts(access_point: AccessPoint, name: str, since_s: float) -> list[Ad]:
    """Return the jobs of a runner that have started since, in the order of their starts."""
    query, projection = JobQuery(runner_name=name), ("JobStartDate", "AccountingGroup", "QDate")
    ads = [*access_point.jobs(query, projection), *access_point.history(query, projection)]
    return sorted(
        (ad for ad in ads if ad.get("JobStartDate", 0) >= since_s),
        key=lambda ad: ad["JobStartDate"],
    )


def test_ten_jobs_behind_a_thousand_wait_no_longer_than_an_even_share(shared: Shared) -> None:
    """An even share: every second start is one of the user who came later."""
    access_point = shared.access_point("galaxy")
    with shared.runner("galaxy", "turns") as runner:
        many = invocation(shared, "many", JOB_S, account="anna@uni.de", repeat=1000)
        (first, *_) = runner.submit([many])
        poll_until(lambda: len(running(access_point, "turns")) == EXECUTORS)
        time.sleep(JOB_S / 2)
        submitted_s = time.time()
        few = runner.submit([invocation(shared, f"few-{n}", JOB_S, account=BOB) for n in range(10)])
        explanation = str(poll_until(lambda: runner.explain(few[-1]), lambda e: "turn" in str(e)))
        runner.wait(few, timeout_s=300)
        seen = starts(access_point, "turns", submitted_s)
        access_point.remove([JobId(first.id.cluster, n) for n in range(1000)], "the test is over")
    bobs = [ad["JobStartDate"] for ad in seen if ad["AccountingGroup"] == "galaxy.bob"]
    even = [ad["JobStartDate"] for ad in seen][: 2 * len(bobs)][::2]
    waited, fair = (fmean(times) - submitted_s for times in (bobs, even))
    print(f"{waited:.1f} s, an even share {fair:.1f} s: {waited / fair:.2f}")  # noqa: T201
    print(explanation)  # noqa: T201
    assert len(bobs) == 10
    assert waited / fair <= 1.2
    assert "galaxy/bob" in explanation


def running(access_point: AccessPoint, name: str) -> Sequence[Ad]:
    ads = access_point.jobs(JobQuery(runner_name=name), ("JobStatus", "AccountingGroup"))
    return [ad for ad in ads if ad.get("JobStatus") == 2]


@pytest.mark.parametrize(
    ("name", "fields", "most"),
    [
        ("ceiling", {"account": CAROL}, 2),  # of three jobs
        ("tool", {"account": BOB, "tool_id": "toolshed.g2.bx.psu.edu/repos/x/bwa/bwa_mem/0.7"}, 1),
        ("licence", {"account": BOB, "limits": {"matlab": 2}}, 1),
    ],
)
def test_a_limit_is_kept_while_executors_are_free(
    shared: Shared, name: str, fields: dict[str, Any], most: int
) -> None:
    with shared.runner("galaxy", name) as runner:
        jobs = runner.submit([invocation(shared, f"{name}-{n}", 6, **fields) for n in range(3)])
        runner.wait(jobs, timeout_s=180)
    query = JobQuery(ids=[job.id for job in jobs])
    projection = ("JobCurrentStartExecutingDate", "CompletionDate")
    ads = poll_until(
        lambda: shared.access_point("galaxy").history(query, projection),
        lambda ads: len(ads) == len(jobs),
    )
    runs = [(ad["JobCurrentStartExecutingDate"], ad["CompletionDate"]) for ad in ads]
    at_once = [sum(begin <= time_s < end for begin, end in runs) for time_s, _ in runs]
    assert max(at_once) == most


@pytest.mark.parametrize(
    ("identity", "commands", "group"),
    [
        ("galaxy", {"My.SwarmRunnerAccount": '"alice"'}, "galaxy.alice"),
        ("galaxy", {"My.SwarmRunnerAccount": "Owner"}, "galaxy.galaxy"),  # its value
        ("galaxy", {}, "galaxy.galaxy"),
        ("alice", {"My.SwarmRunnerAccount": '"galaxy.bob"'}, None),
        ("alice", {}, None),
    ],
)
def test_an_identity_names_users_below_its_own_name(
    shared: Shared, identity: str, commands: dict[str, str], group: str | None
) -> None:
    done, job = shared.submit_raw(identity, commands)
    assert done, job
    access_point, job_id = shared.access_point(identity), JobId(*map(int, job.split(".")))
    (ad,) = access_point.jobs(JobQuery(ids=[job_id]), ["AccountingGroup"])
    access_point.remove([job_id], "seen")
    assert ad.get("AccountingGroup") == group


@pytest.mark.parametrize(
    ("identity", "commands", "reported"),
    [
        ("galaxy", {"accounting_group_user": "alice"}, "one fair share"),
        ("galaxy", {"accounting_group": "alice", "accounting_group_user": "x"}, "one fair share"),
        ("galaxy", {"My.AccountingGroup": '"galaxy.teaching.anna"'}, "one fair share"),
        ("galaxy", {"My.SwarmRunnerAccount": '"../alice"'}, "not an account"),
        ("galaxy", {"My.SwarmRunnerAccount": "17"}, "not an account"),
        ("alice", {"accounting_group_user": "galaxy.bob"}, "one fair share"),
        ("alice", {"My.AccountingGroup": '"galaxy.bob"'}, "one fair share"),
        ("alice", {"concurrency_limits": "user.galaxy__bob:1000"}, "only the pool sets"),
        ("alice", {"concurrency_limits": "x, TOOL.t0"}, "only the pool sets"),
    ],
)
def test_an_identity_names_nobody_else(
    shared: Shared, identity: str, commands: dict[str, str], reported: str
) -> None:
    done, answer = shared.submit_raw(identity, commands)
    assert not done, answer
    assert reported in answer


def test_a_job_cannot_change_its_account_later(shared: Shared) -> None:
    done, job = shared.submit_raw("galaxy", {"My.SwarmRunnerAccount": '"bob"'})
    assert done, job
    pool = shared.lab.destination.pool
    for attribute in ("AccountingGroup", "SwarmRunnerAccount", "ConcurrencyLimits"):
        arguments = [str(shared.tokens["galaxy"]), pool.name, pool.address, "edit"]
        edit = {"job": job, "attribute": attribute, "value": '"alice"'}
        command = [sys.executable, "-m", "tests.escapes.raw_client", *arguments]
        found = subprocess.run(
            [*command, json.dumps(edit)], stdout=subprocess.PIPE, check=True
        ).stdout
        assert json.loads(found)["done"] is False, attribute
    shared.access_point("galaxy").remove([JobId(*map(int, job.split(".")))], "seen")


def test_a_constraint_that_no_node_satisfies(shared: Shared) -> None:
    provisioner = shared.lab.provisioner
    with pytest.raises(PreconditionError, match=r"no suitable node|not satisfied"):
        provisioner.scale({"shelf": 1}, timeout_s=20)
    problems = [str(executor.problem) for executor in provisioner.status().executors]
    assert any("constraints not satisfied" in problem for problem in problems), problems
    provisioner.scale({"shelf": 0}, timeout_s=60)


def test_a_label_routes_a_job_to_its_class(shared: Shared) -> None:
    access_point = shared.access_point("galaxy")
    labelled = invocation(shared, "labelled", 1, node_labels={"shelf": "none such"})
    with shared.runner("galaxy", "labels") as runner:
        (job,) = runner.submit([labelled])
        (ad,) = access_point.jobs(JobQuery(ids=[job.id]), ["SwarmRunnerClass"])
        access_point.remove([job.id], "seen")
        assert ad["SwarmRunnerClass"] == "shelf"
        other = invocation(shared, "other", 1, node_labels={"shelf": "upper"})
        with pytest.raises(InvalidInputError, match="shelf: shelf=none such"):
            runner.submit([other])


def test_a_class_lends_its_free_executor_to_short_jobs(shared: Shared) -> None:
    """Two short jobs run there together, then the big one that waits, before other short ones."""
    access_point = shared.access_point("galaxy")
    with shared.runner("galaxy", "lending") as runner:
        runner.submit([invocation(shared, f"busy-{n}", 600) for n in range(EXECUTORS)])
        poll_until(lambda: len(running(access_point, "lending")) == EXECUTORS)
        short = [sized(shared, f"short-{n}", LEND_MAX_S) for n in range(4)]
        runner.submit([sized(shared, "too-long", LEND_MAX_S + 1), *short])
        poll_until(lambda: len(running(access_point, "lending")) == EXECUTORS + 2)
        whole = {"cpus": 2, "memory_mb": 200, "disk_mb": 10}
        own = runner.submit([invocation(shared, "own", 1, resources=whole)])
        runner.wait(own, timeout_s=300)
        query, names = JobQuery(runner_name="lending"), ("SwarmRunnerKey", "NumJobStarts")
        queued = access_point.jobs(query, ("ClusterId", "ProcId", "JobStatus", *names))
        access_point.remove([JobId(ad["ClusterId"], ad["ProcId"]) for ad in queued], "seen")
    idle = [ad["SwarmRunnerKey"] for ad in queued if ad["JobStatus"] == 1]
    assert len(idle) == 3
    assert "too-long" in idle
    times = ("JobCurrentStartExecutingDate", "CompletionDate")
    projection = (*names, *times, "MachineAttrCapacityClass0")

    def find_ended() -> list[Ad]:
        return [ad for ad in access_point.history(query, projection) if ad.get("CompletionDate")]

    ended = poll_until(find_ended, lambda ads: len(ads) == 3)
    first, second, last = sorted(ended, key=lambda ad: ad["JobCurrentStartExecutingDate"])
    assert {(ad["MachineAttrCapacityClass0"], ad["NumJobStarts"]) for ad in ended} == {("big", 1)}
    assert second["JobCurrentStartExecutingDate"] < first["CompletionDate"]
    assert last["SwarmRunnerKey"] == "own"


def sized(shared: Shared, key: str, time_limit_s: int) -> Invocation:
    """Return a job of a few seconds that may take longer."""
    resources = {"memory_mb": 32, "disk_mb": 10, "time_limit_s": time_limit_s}
    return invocation(shared, key, 6, resources=resources)
