"""Traces from text: CSV with a header, JSON lines, or a YAML list of the same keys."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from swarm_runner.config.validation import parse, validate
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.resources import MINIMUM_MEMORY_MB
from swarm_runner.model.scaling import ResourceAmounts
from swarm_runner.model.text import FrozenModel, Name, did_you_mean
from swarm_runner_simulation.trace import Trace

# More would not fit into memory.
MAX_JOBS = 20_000_000
_MAX_DIAGNOSTICS = 20
_CENTURY_S = 100 * 365 * 86_400.0


class Arrival(FrozenModel):
    """One line of a trace: `count` alike jobs that arrive together, and how long each runs."""

    model_config = ConfigDict(populate_by_name=True)

    time_s: float = Field(ge=0, le=_CENTURY_S)
    duration_s: float = Field(ge=0, le=_CENTURY_S)
    cpus: int = Field(1, ge=1, le=4096)
    memory_mb: int = Field(512, ge=MINIMUM_MEMORY_MB)
    disk_mb: int = Field(0, ge=0)
    gpus: int = Field(0, ge=0)
    count: int = Field(1, ge=1, le=MAX_JOBS)
    capacity_class: Name | None = Field(None, alias="class")


_KEYS = [field.alias or name for name, field in Arrival.model_fields.items()]


def read_trace(text: str, source: str) -> Trace:
    """The trace of a text; a name that ends in .yml, .yaml, .jsonl or .json says which kind it is.

    Raises InvalidInputError with the first faults, each with its line.
    """
    trace = Trace(source)
    for arrival in _arrivals(text, source):
        if len(trace) + arrival.count > MAX_JOBS:
            raise InvalidInputError([Diagnostic(f"has more than {MAX_JOBS} jobs", source=source)])
        shape = ResourceAmounts.model_construct(
            cpus=arrival.cpus,
            memory_mb=arrival.memory_mb,
            disk_mb=arrival.disk_mb,
            gpus=arrival.gpus,
        )
        number = trace.intern_shape(shape, arrival.capacity_class)
        trace.add(arrival.time_s, arrival.duration_s, number, arrival.count)
        trace.length_s = max(trace.length_s, arrival.time_s)
    if not len(trace):
        raise InvalidInputError(
            [Diagnostic(f"has no arrivals; each has {', '.join(_KEYS)}", source=source)]
        )
    return trace


def _arrivals(text: str, source: str) -> Iterator[Arrival]:
    if source.endswith((".yml", ".yaml")):
        document = parse(text, source)
        if not isinstance(document.data, list):
            raise InvalidInputError([Diagnostic("needs a list of arrivals", source=source)])
        for place in range(len(document.data)):
            yield validate(Arrival, document, (place,))
    elif source.endswith((".jsonl", ".json")):
        yield from _validate_lines(_json_lines(text, source), source)
    else:
        yield from _validate_lines(_csv_lines(text, source), source)


def _json_lines(text: str, source: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                message = f"is no JSON: {error}. Each line is one arrival"
                raise InvalidInputError(
                    [Diagnostic(message, source=source, line=number)]
                ) from error


def _csv_lines(text: str, source: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    unknown = [name for name in rows.fieldnames or () if name not in _KEYS]
    if unknown or not rows.fieldnames:
        raise InvalidInputError(
            [
                Diagnostic(
                    f"{name!r} is no column{did_you_mean(name, _KEYS)}", source=source, line=1
                )
                for name in unknown
            ]
            or [
                Diagnostic(
                    f"is empty; the first line names columns of {', '.join(_KEYS)}", source=source
                )
            ]
        )
    try:
        for row in rows:
            # Cells beyond the header come under the key None.
            yield rows.line_num, {key or "more cells": cell for key, cell in row.items() if cell}
    except csv.Error as error:
        raise InvalidInputError(
            [Diagnostic(str(error), source=source, line=rows.line_num)]
        ) from error


def _validate_lines(lines: Iterable[tuple[int, Any]], source: str) -> Iterator[Arrival]:
    faults: list[Diagnostic] = []
    for number, line in lines:
        try:
            arrival = Arrival.model_validate(line)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                where = ".".join(str(part) for part in detail["loc"])
                faults.append(
                    Diagnostic(f"{where} {detail['msg']}".strip(), source=source, line=number)
                )
            if len(faults) >= _MAX_DIAGNOSTICS:
                break
        else:
            if not faults:
                yield arrival
    if faults:
        raise InvalidInputError(faults)
