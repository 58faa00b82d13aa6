"""What a job requests of an executor."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from swarm_runner.model.text import FrozenModel
from swarm_runner.model.units import (
    QUANTITY_EXAMPLES,
    QUANTITY_PATTERN,
    add_unit_keys,
    convert_unit_keys,
    integer,
    megabytes_or_count,
    megabytes_or_number,
)

#: The least memory of a request: less is a number whose unit is missing.
MINIMUM_MEMORY_MB = 16


def _check_minimum_memory(value: int) -> int:
    if value < MINIMUM_MEMORY_MB:
        raise PydanticCustomError(
            "quantity",
            "is {amount} MB, but a container needs at least {minimum} MB; if a unit is missing, "
            "write for example {forms}",
            {"amount": value, "minimum": MINIMUM_MEMORY_MB, "forms": QUANTITY_EXAMPLES},
        )
    return value


def _number_or_text(minimum: int, maximum: int) -> WithJsonSchema:
    number = {"type": "number", "minimum": minimum, "maximum": maximum}
    text = {"type": "string", "pattern": f"{QUANTITY_PATTERN}|{_NUMBER_TEXT}"}
    return WithJsonSchema({"anyOf": [number, text]})


_NUMBER_TEXT = r"^ *[0-9]+(\.[0-9]*)? *$"
#: The most memory of a request: 64 TB.
MAXIMUM_MEMORY_MB = 64 * 2**20
#: The most disk space of a request: 64 TB.
MAXIMUM_DISK_MB = 64 * 2**20
_MEMORY = Annotated[
    StrictInt,
    Field(le=MAXIMUM_MEMORY_MB, json_schema_extra={"minimum": MINIMUM_MEMORY_MB}),
    AfterValidator(_check_minimum_memory),
]
_DISK = Annotated[StrictInt, Field(ge=1, le=MAXIMUM_DISK_MB)]
Memory = Annotated[_MEMORY, BeforeValidator(megabytes_or_count)]
Disk = Annotated[_DISK, BeforeValidator(megabytes_or_count)]
MemoryOrText = Annotated[
    _MEMORY,
    BeforeValidator(megabytes_or_number),
    _number_or_text(MINIMUM_MEMORY_MB, MAXIMUM_MEMORY_MB),
]
DiskOrText = Annotated[
    _DISK, BeforeValidator(megabytes_or_number), _number_or_text(1, MAXIMUM_DISK_MB)
]
# Whole numbers of destinations: rules such as TPV write them as texts.
IntegerOrText = Annotated[StrictInt, BeforeValidator(integer)]
UNIT_KEYS = ("memory", "max_memory", "disk")


class Resources(FrozenModel):
    """What one job requests. Memory and disk are in MB of 2**20 bytes, as in HTCondor.

    `memory`, `max_memory` and `disk` take texts with a unit ("1.5 GB") instead of the fields in
    MB. Fields that are not set come from the destination; `model_fields_set` tells which are set.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: add_unit_keys(schema, UNIT_KEYS))

    cpus: StrictInt = Field(1, ge=1, le=4096)
    memory_mb: Memory = Field(512, description="MB; or `memory` with a unit")
    max_memory_mb: Memory | None = Field(
        None, description="MB; after an out-of-memory kill the schedd asks for this much, once"
    )
    disk_mb: Disk = Field(1024, description="MB; or `disk` with a unit")
    gpus: StrictInt = Field(0, ge=0, le=1024)
    time_limit_s: StrictInt | None = Field(
        None, ge=1, le=10 * 365 * 86400, description="seconds of execution, then the job is ended"
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """Return the keys that this model accepts: its fields, and the keys with a unit."""
        return [*cls.model_fields, *UNIT_KEYS]

    @model_validator(mode="before")
    @classmethod
    def _convert_units(cls, data: Any) -> Any:
        return convert_unit_keys(data, UNIT_KEYS)

    def __str__(self) -> str:
        parts = [f"{self.cpus} cpu", f"{self.memory_mb} MB memory", f"{self.disk_mb} MB disk"]
        return ", ".join([*parts, f"{self.gpus} gpu"] if self.gpus else parts)

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.max_memory_mb is not None and self.max_memory_mb < self.memory_mb:
            raise PydanticCustomError(
                "quantity",
                "max_memory_mb ({maximum}) is less than memory_mb ({memory}); raise it, or leave "
                "it out",
                {"maximum": self.max_memory_mb, "memory": self.memory_mb},
            )
        return self
