"""What a job requests of an executor."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    model_validator,
)

from swarm_runner.model.number_schemas import add_unit_keys, cpus_schema, quantity_schema
from swarm_runner.model.text import FrozenModel, refusal
from swarm_runner.model.units import (
    QUANTITY_EXAMPLES,
    convert_unit_keys,
    megabytes_or_count,
    megabytes_or_number,
    round_up_cpus,
)

#: The least memory of a request: less is a number whose unit is missing.
MINIMUM_MEMORY_MB = 16


def _check_minimum_memory(value: int) -> int:
    if value < MINIMUM_MEMORY_MB:
        raise refusal(
            f"is {value} MB, but a container needs at least {MINIMUM_MEMORY_MB} MB; if a unit is "
            f"missing, write for example {QUANTITY_EXAMPLES}"
        )
    return value


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
    BeforeValidator(partial(megabytes_or_number, minimum_mb=MINIMUM_MEMORY_MB)),
    quantity_schema(MINIMUM_MEMORY_MB, MAXIMUM_MEMORY_MB),
]
DiskOrText = Annotated[
    _DISK,
    BeforeValidator(partial(megabytes_or_number, minimum_mb=1)),
    quantity_schema(1, MAXIMUM_DISK_MB),
]
Cpus = Annotated[
    StrictInt, Field(ge=1, le=4096), BeforeValidator(round_up_cpus), cpus_schema(1, 4096)
]
UNIT_KEYS = ("memory", "max_memory", "disk")


class Resources(FrozenModel):
    """What one job requests. Memory and disk are in MB of 2**20 bytes, as in HTCondor.

    `memory`, `max_memory` and `disk` take texts with a unit ("1.5 GB") instead of the fields in
    MB. Fields that are not set come from the destination; `model_fields_set` tells which are set.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: add_unit_keys(schema, UNIT_KEYS))

    cpus: Cpus = 1
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
            raise refusal(
                f"max_memory_mb ({self.max_memory_mb}) is less than memory_mb ({self.memory_mb}); "
                "raise it, or leave it out"
            )
        return self
