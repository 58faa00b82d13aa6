"""Log records with fields, based on the standard library's logging.

A program that embeds swarm_runner keeps its own logging configuration: every message ends with
its fields as `name=value`. `configure_logging` is for swarm_runner's own programs, and formats
records as text or as one JSON object per line.

Levels: DEBUG for each poll and retry, INFO for each change of a job or a service, WARNING for what
an administrator may have to look into, ERROR for permanent failures. Never log a secret or the
value of an environment variable.
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

    As text, `log.info("Job started", job_id="17.0")` is "Job started job_id=17.0".
    """

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Move the fields to the record, and append them to the message."""
        arguments = {name: kwargs[name] for name in kwargs if name in _LOGGING_ARGUMENTS}
        fields = {name: kwargs[name] for name in kwargs if name not in _LOGGING_ARGUMENTS}
        text = " ".join([str(msg), *(f"{name}={_quote(value)}" for name, value in fields.items())])
        arguments["extra"] = {_FIELDS: fields, _EVENT: str(msg)}
        return text, arguments


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, logger, event, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
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
    """Return the structured logger of a module."""
    return StructuredLogger(logging.getLogger(name))


def configure_logging(
    level: str = "WARNING", *, as_json: bool = False, stream: TextIO | None = None
) -> None:
    """Write swarm_runner's records to a stream (standard error), as text or as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    logger = logging.getLogger("swarm_runner")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _quote(value: object) -> str:
    """Return a value in quotes if it has spaces, quotes, `=` or control characters."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
