"""Inputs of a megabyte are answered within seconds, whatever is wrong with them.

An idle machine needs less than two. The limit is for one that runs something else on each core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from swarm_runner.config.documents import parse_invocations
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.errors import InvalidInputError

SIZE = 1_000_000
TIMEOUT_S = 5.0
ENVIRONMENT = "execution: {environments: {e: {runner: s}}}\n"
POOL = "runners:\n  s:\n    pool:\n"
CLASSES = ENVIRONMENT + POOL + "      classes:\n"
SWARM = "runners: {s: {pool: {}}}\nexecution:\n  environments:\n"


def repeated(line: str, head: str = "", tail: str = "", size: int = SIZE) -> str:
    """As many lines, with their numbers, as make a text of that size."""
    count = size // len(line.format(99_999))
    return head + "".join(line.format(number) for number in range(count)) + tail


def answer_time_s(parse: Callable[[str, str], Any], text: str) -> float:
    began = time.process_time()
    try:
        parse(text, "x.yml")
    except InvalidInputError as error:
        assert error.diagnostics  # noqa: PT017  both answers are right
    return time.process_time() - began


IN_ENVIRONMENT = SWARM + "    e:\n      runner: s\n"
JOB_CONFS = {
    "unknown keys of an environment": repeated("      k{}: 1\n", IN_ENVIRONMENT),
    "unknown keys of a pool": repeated("      k{}: 1\n", ENVIRONMENT + POOL),
    "slips": repeated("      request_memor{}: 1\n", IN_ENVIRONMENT),
    "environments": repeated("    e{}: {{runner: s}}\n", SWARM),
    "unknown runners": repeated("    e{0}: {{runner: s{0}}}\n", SWARM),
    "classes": repeated("        c{0}: {{memory_mb: 1{0}}}\n", CLASSES),
    "wrong classes": repeated("        c{0}: {{memory_mb: 1}}\n", CLASSES),
    "volumes": repeated("      - /data{}\n", f"{ENVIRONMENT}{POOL}      volumes:\n"),
    "a deep volume": ENVIRONMENT + "runners: {s: {pool: {volumes: [/" + "a/" * 500_000 + "a]}}}",
    "services": repeated("        c{}: x\n", f"{ENVIRONMENT}{POOL}      services:\n"),
    "a number to the base of 60": f"{ENVIRONMENT}runners: {{s: {{lease_s: 1{':59' * 330_000}}}}}",
    "a float to the base of 60": f"{ENVIRONMENT}runners: {{s: {{lease_s: 1{':59' * 300}.5}}}}",
    "deep lists": "[" * SIZE,
    "deep mappings": "{a: " * (SIZE // 4),
    "deep block lists": "- " * (SIZE // 2),
    "deep keys": "? " * (SIZE // 2),
    "deep indentation": "".join(f"{' ' * level}a:\n" for level in range(1500)),
    "deep JSON": "[" * (SIZE // 2) + "]" * (SIZE // 2),
    "merges": "a: &a {x: 1}\nb: {<<: [" + ",".join(["*a"] * (SIZE // 3)) + "]}\n",
}
INVOCATIONS = {
    "unknown keys": repeated("k{}: 1\n", "command: [x]\n"),
    "invocations with one key": repeated("- {{command: [x], image: a, key: k}}\n"),
    "commas in inputs": repeated("- 'a,'\n", "command: [x]\nimage: a\ninputs:\n"),
    "outputs outside": repeated("- '../a'\n", "command: [x]\nimage: a\noutputs:\n"),
    "dollars": f"image: a\ncommand: ['{'$(' * (SIZE // 2)}']",
    **{
        f"an image of {part}": f"command: [x]\nimage: {part * (SIZE // len(part))}"
        for part in ("a", "a-", "a.", "a/", "a_", "-")
    },
}


@pytest.mark.parametrize("kind", JOB_CONFS)
def test_a_job_conf(kind: str) -> None:
    assert answer_time_s(parse_job_conf, JOB_CONFS[kind]) < TIMEOUT_S


@pytest.mark.parametrize("kind", INVOCATIONS)
def test_invocations(kind: str) -> None:
    assert answer_time_s(parse_invocations, INVOCATIONS[kind]) < TIMEOUT_S


@pytest.mark.parametrize("line", ["      k{}: 1\n", "      request_memor{}: 1\n"])
def test_the_time_grows_with_the_size_and_not_faster(line: str) -> None:
    head = SWARM + "    e:\n      runner: s\n"
    small, large = (repeated(line, head, size=size) for size in (250_000, 1_000_000))
    times = [min(answer_time_s(parse_job_conf, text) for _ in range(3)) for text in (small, large)]
    # Quadratic growth would be sixteenfold.
    assert times[1] < 8 * times[0]
