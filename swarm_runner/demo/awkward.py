"""(c) Arguments, environment variables, inputs and outputs that are hard to quote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from swarm_runner import Invocation, Job
from swarm_runner.demo.part import Part, expect, failed_jobs

# One line, because a submit description allows no other. Each text is written as a netstring.
REPORT_SCRIPT = (
    'open my $report, ">:raw", "report" or die $!; '
    'printf {$report} "%d:%s,", length, $_ for @ARGV; print {$report} "\\n"; '
    'printf {$report} "%s=%d:%s,", $_, length $ENV{$_}, $ENV{$_} '
    "for sort grep {/^DEMO_/} keys %ENV; "
    'open my $in, "<:raw", $ENV{DEMO_FILE} or die $!; '
    'open my $out, ">:raw", "$ENV{DEMO_FILE}.copy" or die $!; '
    "print {$out} <$in>; close $out or die $!; close $report or die $!"
)

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "spaces": ("two words", "  before and after  ", " "),
    "nothing": ("", "", "after two that are empty", ""),
    "single quotes": ("it's", "''", "'quoted'", "'"),
    "double quotes": ('say "so"', '""', '"quoted"', '"', "\"'\"'"),
    "dollars $(X)": ("$HOME", "$(X)", "$ENV(HOME)", "$$(Machine)", "$$", "$", "$(DOLLAR)"),
    "backslashes": ("\\", "a\\b", "C:\\directory\\", "\\\\n", "\\'", '\\"'),
    "Ünïcödé 日本語 🧬": ("naïve café", "日本語", "🧬", "e\u0301", "\u202eright to left", "\ufeff"),
    "submit language": (
        "queue 500",
        "include command : /bin/false",
        "requirements = false",
        '+Owner = "root"',
        "# no comment",
        "@=end",
    ),
    "shell & its ; friends": (
        "*",
        "?",
        "~",
        "`id`",
        "$(id)",
        "a;b|c&d>e<f",
        "-n",
        "--",
        "%s%n",
        "!!",
    ),
    "much": ("x'\"$ \\ " * 14_000,),
}


class AwkwardArguments(Part):
    """Ten invocations that report the arguments and environment they received."""

    letter = "c"
    title = "awkward arguments"

    def __init__(self, run: str, directory: Path) -> None:
        super().__init__(run)
        self._directory = directory
        for number, name in enumerate(ARGUMENTS):
            job_directory = directory / str(number)
            job_directory.mkdir(parents=True)
            (job_directory / name).write_bytes(_file_content(number))

    @override
    def initial_invocations(self) -> list[Invocation]:
        return [
            Invocation(
                key=self.key(str(number)),
                tool_id="perl",
                image="debian:trixie",
                command=("/usr/bin/perl", "-e", REPORT_SCRIPT, "--", *texts),
                environment=_environment(name, texts),
                working_directory=str(self._directory / str(number)),
                inputs=(name,),
                outputs=("report", f"{name}.copy"),
            )
            for number, (name, texts) in enumerate(ARGUMENTS.items())
        ]

    @override
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        problems = failed_jobs(jobs)
        problems += expect(
            f"{len(jobs)} of {len(ARGUMENTS)} jobs ran", unless=len(jobs) == len(ARGUMENTS)
        )
        for number, (name, texts) in enumerate(ARGUMENTS.items()):
            directory = self._directory / str(number)
            report, copy = directory / "report", directory / f"{name}.copy"
            problems += expect(
                f"{name}: the job received other arguments or environment variables",
                unless=report.exists() and report.read_bytes() == _expected_report(name, texts),
            )
            problems += expect(
                f"{name}: the returned file differs",
                unless=copy.exists() and copy.read_bytes() == _file_content(number),
            )
        return problems


def _environment(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"DEMO_{number}": text for number, text in enumerate(texts)} | {"DEMO_FILE": name}


def _expected_report(name: str, texts: Sequence[str]) -> bytes:
    """Return what REPORT_SCRIPT writes if it receives everything unchanged."""
    arguments = b"".join(_netstring(text) for text in texts)
    environment = sorted(_environment(name, texts).items())
    return (
        arguments
        + b"\n"
        + b"".join(f"{key}=".encode() + _netstring(text) for key, text in environment)
    )


def _netstring(text: str) -> bytes:
    raw = text.encode()
    return b"%d:%s," % (len(raw), raw)


def _file_content(number: int) -> bytes:
    """Return every byte value, without a newline at the end."""
    return bytes(range(256)) * (number + 1)
