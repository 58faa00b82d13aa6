"""(c) Arguments, environment, inputs and outputs that quoting goes wrong with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from demo.part import Part, expect, failed_jobs
from swarm_runner import Invocation, Job

# One line, because a submit description has no other kind. Each text is told with its length.
REPORT_SCRIPT = (
    'open my $told, ">:raw", "told" or die $!; '
    'printf {$told} "%d:%s,", length, $_ for @ARGV; print {$told} "\\n"; '
    'printf {$told} "%s=%d:%s,", $_, length $ENV{$_}, $ENV{$_} for sort grep {/^DEMO_/} keys %ENV; '
    'open my $in, "<:raw", $ENV{DEMO_FILE} or die $!; '
    'open my $out, ">:raw", "$ENV{DEMO_FILE}.copy" or die $!; '
    "print {$out} <$in>; close $out or die $!; close $told or die $!"
)

TEXTS: dict[str, tuple[str, ...]] = {
    "spaces": ("two words", "  before and after  ", " "),
    "nothing": ("", "", "after two that are empty", ""),
    "single quotes": ("it's", "''", "'quoted'", "'"),
    "double quotes": ('say "so"', '""', '"quoted"', '"', "\"'\"'"),
    "dollars $(Process)": ("$HOME", "$(X)", "$ENV(HOME)", "$$(Machine)", "$$", "$", "$(DOLLAR)"),
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
    """Ten invocations that tell what reached them."""

    letter = "c"
    title = "awkward arguments"

    def __init__(self, run: str, directory: Path) -> None:
        super().__init__(run)
        self._directory = directory
        for number, name in enumerate(TEXTS):
            there = directory / str(number)
            there.mkdir(parents=True)
            (there / name).write_bytes(_file_content(number))

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
                outputs=("told", f"{name}.copy"),
            )
            for number, (name, texts) in enumerate(TEXTS.items())
        ]

    @override
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        faults = failed_jobs(jobs)
        faults += expect(f"{len(jobs)} of {len(TEXTS)} ran", unless=len(jobs) == len(TEXTS))
        for number, (name, texts) in enumerate(TEXTS.items()):
            there = self._directory / str(number)
            told, copy = there / "told", there / f"{name}.copy"
            faults += expect(
                f"{name}: arguments or environment came out changed",
                unless=told.exists() and told.read_bytes() == _expected_report(name, texts),
            )
            faults += expect(
                f"{name}: the file came back changed",
                unless=copy.exists() and copy.read_bytes() == _file_content(number),
            )
        return faults


def _environment(name: str, texts: Sequence[str]) -> dict[str, str]:
    return {f"DEMO_{number}": text for number, text in enumerate(texts)} | {"DEMO_FILE": name}


def _expected_report(name: str, texts: Sequence[str]) -> bytes:
    """What TELL writes when all is well."""
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
    """Every byte value, and no newline at the end."""
    return bytes(range(256)) * (number + 1)
