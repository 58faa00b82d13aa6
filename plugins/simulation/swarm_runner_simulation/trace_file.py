"""Reads traces: CSV with a header, JSON lines, or a YAML list with the same keys."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from swarm_runner.config.validation import parse_document, validate_document
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.resources import MINIMUM_MEMORY_MB
from swarm_runner.model.scaling import ResourceAmounts
from swarm_runner.model.text import FrozenModel, Name, did_you_mean
from swarm_runner_simulation.trace import Trace

# More jobs would not fit into memory.
MAX_JOBS = 20_000_000
_MAX_DIAGNOSTICS = 20
_CENTURY_S = 100 * 365 * 86_400.0


class Arrival(FrozenModel):
    """One line of a trace: `count` equal jobs that arrive together and run for `duration_s`."""

    model_config = ConfigDict(populate_by_name=True)

    time_s: float = Field(ge=0, le=_CENTURY_S)
    duration_s: float = Field(ge=0, le=_CENTURY_S)
    cpus: int = Field(1, ge=1, le=4096)
    memory_mb: int = Field(512, ge=MINIMUM_MEMORY_MB)
    disk_mb: int = Field(0, ge=0)
    gpus: int = Field(0, ge=0)
    count: int = Field(1, ge=1, le=MAX_JOBS)
    capacity_class: Name | None = Field(None, alias="class")
    user: str = Field("", max_length=100)


_KEYS = [field.alias or name for name, field in Arrival.model_fields.items()]


def read_trace(text: str, source: str) -> Trace:
    """Return the trace in a text; `source` is its name, whose suffix selects the format.

    .yml and .yaml are YAML, .jsonl and .json are JSON lines, everything else is CSV.
    Raises InvalidInputError with the first problems, each with its line.
    """
    trace = Trace(source)
    for arrival in _arrivals(text, source):
        if len(trace) + arrival.count > MAX_JOBS:
            raise _error(f"has more than {MAX_JOBS} jobs; split the trace", source)
        request = ResourceAmounts.model_construct(
            cpus=arrival.cpus,
            memory_mb=arrival.memory_mb,
            disk_mb=arrival.disk_mb,
            gpus=arrival.gpus,
        )
        request_id = trace.intern_request(request, arrival.capacity_class, arrival.user)
        trace.add(arrival.time_s, arrival.duration_s, request_id, arrival.count)
        trace.length_s = max(trace.length_s, arrival.time_s)
    if not len(trace):
        raise _error(f"has no arrivals; the keys of an arrival are {', '.join(_KEYS)}", source)
    return trace


def _arrivals(text: str, source: str) -> Iterator[Arrival]:
    if source.endswith((".yml", ".yaml")):
        document = parse_document(text, source)
        if not isinstance(document.data, list):
            raise _error("must be a list of arrivals", source)
        for index in range(len(document.data)):
            yield validate_document(Arrival, document, (index,))
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
                message = f"is not valid JSON: {error}. Write one arrival per line"
                raise _error(message, source, number) from error


def _csv_lines(text: str, source: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if not rows.fieldnames:
        raise _error(f"is empty; write a header with columns of {', '.join(_KEYS)}", source)
    unknown = [name for name in rows.fieldnames if name not in _KEYS]
    if unknown:
        raise InvalidInputError(
            Diagnostic(
                f"{name!r} is not a column{did_you_mean(name, _KEYS)}", source=source, line=1
            )
            for name in unknown
        )
    try:
        for row in rows:
            # DictReader puts cells beyond the header under the key None.
            yield rows.line_num, {key or "more cells": cell for key, cell in row.items() if cell}
    except csv.Error as error:
        raise _error(f"is not valid CSV: {error}", source, rows.line_num) from error


def _error(message: str, source: str, line: int | None = None) -> InvalidInputError:
    return InvalidInputError([Diagnostic(message, source=source, line=line)])


def _validate_lines(lines: Iterable[tuple[int, Any]], source: str) -> Iterator[Arrival]:
    diagnostics: list[Diagnostic] = []
    for number, line in lines:
        try:
            arrival = Arrival.model_validate(line)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path = ".".join(str(part) for part in detail["loc"])
                diagnostics.append(
                    Diagnostic(f"{path} {detail['msg']}".strip(), source=source, line=number)
                )
            if len(diagnostics) >= _MAX_DIAGNOSTICS:
                break
        else:
            if not diagnostics:
                yield arrival
    if diagnostics:
        raise InvalidInputError(diagnostics)
