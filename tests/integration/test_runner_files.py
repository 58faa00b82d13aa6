"""Arguments, environment variables and files reach a job unchanged, and its files come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.model.job import Job
from tests.integration.conftest import LabHarness
from tests.polling import TIMEOUT_S, poll_until

AWKWARD = [
    "",
    " ",
    "two  words ",
    "it's",
    'say "yes"',
    "''",
    '""',
    "$(X)",
    "$ENV(HOME)",
    "$$(Machine)",
    "$$([1 + 1])",
    "$HOME $$ $",
    "include command : touch /tmp/owned",
    "queue 500",
    "a\\b\\",
    "*?[a]{b,c}",
    "; rm -rf / #",
    "größe 漢字 🧬 \u200d",
    "-x",
    "%s\\0",
    "a,b=c",
    "x" * 100_000,
]


def _assert_succeeded(jobs: list[Job]) -> None:
    assert [job.outcome.message for job in jobs if job.outcome and not job.outcome.ok] == []
    assert all(job.state.ended for job in jobs)


def test_arguments_and_environment(harness: LabHarness) -> None:
    variables = {f"V{number}": text for number, text in enumerate(AWKWARD[:-1])}
    batch = [
        harness.invocation("argv", command=["/usr/bin/printf", "%s\\0", *AWKWARD], stdout="argv"),
        harness.invocation(
            "env", command=["/usr/bin/env", "-0"], environment=variables, stdout="env"
        ),
        harness.invocation(
            "shell", 'printf \'%s\' "$V3" "it\'s"', environment=variables, stdout="sh"
        ),
        *(
            harness.invocation(
                f"single-{number}", command=["/usr/bin/printf", "%s", text], stdout=str(n)
            )
            for n, number in enumerate(range(3, 10))
            for text in [AWKWARD[number]]
        ),
    ]
    with harness.runner() as runner:
        _assert_succeeded(runner.wait(runner.submit(batch), TIMEOUT_S))
    argv = (harness.directory / "argv").read_bytes().decode().split("\0")
    assert argv == [*AWKWARD, ""]
    lines = (harness.directory / "env").read_bytes().decode().split("\0")
    found = dict(line.split("=", 1) for line in lines if line)
    assert {name: found.get(name) for name in variables} == variables
    assert (harness.directory / "sh").read_text() == "it'sit's"
    assert [(harness.directory / str(n)).read_text() for n in range(7)] == AWKWARD[3:10]


def _create_inputs(directory: Path) -> None:
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "with space").write_text("deep\n")
    (directory / "größe").write_text("unicode\n")
    (directory / "dollar$(X)").write_text("dollar\n")


def _run_batch(harness: LabHarness, key: str, directory: Path) -> None:
    shell = (
        "mkdir -p out/deep; cat deep/er/* größe 'dollar$(X)' > out/deep/all; "
        "echo output; echo complaint >&2; echo '$(Process)' > 'out/name with space'"
    )
    with harness.runner() as runner:
        submitted = runner.submit(
            [
                harness.invocation(
                    f"{key}-{number}",
                    f"{shell}; echo {number} > number-{number}",
                    working_directory=str(directory),
                    inputs=["deep/er/with space", "größe", "dollar$(X)"],
                    outputs=["out/deep/all", "out/name with space", f"number-{number}"],
                    stdout=f"log/{number}.out",
                    stderr=f"log/{number}.err",
                )
                for number in range(3)
            ]
        )
        finished = runner.wait(submitted, TIMEOUT_S)
        _assert_succeeded(finished)
    assert (directory / "out" / "deep" / "all").read_text() == "deep\nunicode\ndollar\n"
    assert (directory / "out" / "name with space").read_text() == "$(Process)\n"
    for number in range(3):
        assert (directory / f"number-{number}").read_text() == f"{number}\n"
        assert (directory / "log" / f"{number}.out").read_text() == "output\n"
        assert (directory / "log" / f"{number}.err").read_text() == "complaint\n"


def test_files_on_a_volume(harness: LabHarness) -> None:
    _create_inputs(harness.directory)
    _run_batch(harness, "volume", harness.directory)
    user = harness.destination.pool.user
    written = (harness.directory / "out" / "deep" / "all").stat()
    assert (written.st_uid, written.st_gid) == (user.uid, user.gid)


def test_files_that_are_not_visible_to_the_access_point(
    harness: LabHarness, tmp_path: Path
) -> None:
    _create_inputs(tmp_path)
    _run_batch(harness, "spool", tmp_path)
    written = (tmp_path / "out" / "deep" / "all").stat()
    assert written.st_uid == tmp_path.stat().st_uid
    with harness.runner() as restarted:
        assert {job.state.ended for job in restarted.recover()} == {True}
    # The schedd removes the jobs from the queue once their outputs are retrieved.
    poll_until(harness.queued_ids, lambda ids: not ids)


def test_standard_input(harness: LabHarness, tmp_path: Path) -> None:
    with harness.runner() as runner:
        jobs = []
        for name, directory in (("volume", harness.directory), ("spool", tmp_path)):
            (directory / "standard").write_text("from standard input\n" * 1000)
            fields = {"stdin": "standard", "working_directory": str(directory), "stdout": "out"}
            jobs += runner.submit([harness.invocation(name, "cat", **fields)])
        jobs += runner.submit([harness.invocation("none", "cat", stdout="empty")])
        _assert_succeeded(runner.wait(jobs, TIMEOUT_S))
    for directory in (harness.directory, tmp_path):
        assert (directory / "out").read_text() == "from standard input\n" * 1000
    assert (harness.directory / "empty").read_text() == ""


def test_only_declared_outputs_are_returned(harness: LabHarness, tmp_path: Path) -> None:
    with harness.runner() as runner:
        for number, directory in enumerate((harness.directory, tmp_path)):
            (directory / "in").write_text("in")
            jobs = runner.submit(
                [
                    harness.invocation(
                        f"scratch-{number}",
                        "echo x > scratch; mkdir d; echo y > d/e; echo output",
                        inputs=["in"],
                        stdout="out",
                        working_directory=str(directory),
                    )
                ]
            )
            _assert_succeeded(runner.wait(jobs, TIMEOUT_S))
            assert (directory / "out").read_text() == "output\n"
            assert not (directory / "scratch").exists()
            assert not (directory / "d").exists()


@pytest.mark.parametrize("kind", ["directory", "large"])
def test_directories_and_large_files_as_inputs(
    harness: LabHarness, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "d").mkdir()
    size = 20_000_000 if kind == "large" else 10
    (tmp_path / "d" / "f").write_bytes(b"x" * size)
    name = "d" if kind == "directory" else "d/f"
    with harness.runner() as runner:
        jobs = runner.submit(
            [
                harness.invocation(
                    kind,
                    "wc -c < d/f",
                    inputs=[name],
                    stdout="size",
                    working_directory=str(tmp_path),
                )
            ]
        )
        _assert_succeeded(runner.wait(jobs, TIMEOUT_S))
    assert int((tmp_path / "size").read_text()) == size
