"""Log records with fields, over the standard library's logging.

A program that embeds swarm_runner keeps its own logging: every message ends with its fields as
`name=value`, whatever formats it. `configure_logging` is for programs of ours: one formatter, for
people or as one JSON object a line.

Levels: DEBUG for each poll and retry, INFO for each change of a job or a service, WARNING for what
an administrator may have to look at, ERROR for what failed for good. Never log a secret or the
value of a job's environment variable.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

_LOGGING_ARGUMENTS = frozenset({"exc_info", "stack_info", "stacklevel"})
_FIELDS, _EVENT = "swarm_runner_fields", "swarm_runner_event"


class StructuredLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose keyword arguments are the record's fields.

    `log.info("Job started", job_id="17.0")` reads "Job started job_id=17.0" as text.
    """

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Move the fields into the record, and their text into the message."""
        arguments = {name: kwargs[name] for name in kwargs if name in _LOGGING_ARGUMENTS}
        fields = {name: kwargs[name] for name in kwargs if name not in _LOGGING_ARGUMENTS}
        text = " ".join([str(msg), *(f"{name}={_quote(value)}" for name, value in fields.items())])
        arguments["extra"] = {_FIELDS: fields, _EVENT: str(msg)}
        return text, arguments


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, _EVENT, None) or record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def get_logger(name: str) -> StructuredLogger:
    """The structured logger of a module."""
    return StructuredLogger(logging.getLogger(name))


def configure_logging(
    level: str = "WARNING", *, as_json: bool = False, stream: TextIO | None = None
) -> None:
    """Send swarm_runner's records to a stream (standard error), as text or as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    logger = logging.getLogger("swarm_runner")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _quote(value: object) -> str:
    """A value without spaces as it is; any other, and one with control characters, in quotes."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
