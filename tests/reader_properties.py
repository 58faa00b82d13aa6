"""What holds for every text: the reader answers, soon, and the command and Galaxy alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from swarm_runner.config.destination_parameters import classify_keys, parse_parameters
from swarm_runner.config.documents import parse_invocations
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.pool import Pool
from swarm_runner.model.text import printable
from tests.config_strategies import Generator

POOL = Pool()
# Ordinary texts take a millisecond. CPU time: a busy machine must not fail a test.
TIMEOUT_S = 2.0


def answer(parse: Callable[[], Any]) -> Any:
    """Return what a reader returns, or None if it refuses; any other exception is a fault."""
    refusal, result = None, None
    began = time.process_time()
    try:
        result = parse()
    except InvalidInputError as error:
        refusal = error
    assert time.process_time() - began < TIMEOUT_S
    if refusal is not None:
        assert refusal.diagnostics
        assert "\x1b" not in printable(str(refusal))
    return result


def check_job_conf(generator: Generator) -> None:
    text = generator.dumped(generator.job_conf())
    conf = answer(lambda: parse_job_conf(text, "job_conf.yml"))
    if conf is not None:
        assert conf.destinations


def check_destination(generator: Generator) -> None:
    """An environment of a file is judged as the same parameters of a rule are."""
    params = generator.parameters()
    classify_keys(params, POOL)
    parsed = answer(lambda: parse_parameters(params, "d", POOL))
    if parsed is not None and not parsed.max_memory:
        assert parsed.resources.memory_mb == parsed.request_memory
        assert parse_parameters(params | {"foreign": 1}, "d", POOL) == parsed


def check_invocations(generator: Generator) -> None:
    text = generator.dumped(generator.invocations())
    invocations = answer(lambda: parse_invocations(text, "i.yml"))
    assert invocations is None or len(invocations) >= 1


CHECKS = (check_job_conf, check_destination, check_invocations)
