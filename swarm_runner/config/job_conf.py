"""Galaxy's job_conf.yml, read for what concerns swarm_runner (design D8).

Runners, environments and sections of others are passed over. A runner is ours when it has a
`pool`, or when its `load` names one of our modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field

from swarm_runner.config.galaxy_keys import (
    ENVIRONMENT_KEYS,
    RUNNER_KEYS,
    is_disabled,
    is_environment_key,
    is_runner_key,
    is_virtual_runner,
)
from swarm_runner.config.validation import Document, parse_document, validate_document
from swarm_runner.config.yaml_source import KeyPath
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import DEFAULT_LEASE_S, MINIMUM_LEASE_S, Destination, Pool
from swarm_runner.model.resources import DiskOrText, MemoryOrText, Resources
from swarm_runner.model.text import AbsolutePath, FrozenModel, Image, Name, Text, did_you_mean
from swarm_runner.model.units import StrictInt

Section = TypeVar("Section", bound=FrozenModel)
MODULE_PREFIX = "swarm_runner"
_RESOURCES = {
    "request_cpus": "cpus",
    "request_memory": "memory_mb",
    "max_memory": "max_memory_mb",
    "request_disk": "disk_mb",
    "request_gpus": "gpus",
    "time_limit_s": "time_limit_s",
}


class RunnerSection(FrozenModel):
    """`runners.<id>`: a pool, and how its runner keeps its state."""

    load: Text | None = Field(None, description="Galaxy's line; only Galaxy reads it")
    workers: StrictInt = Field(4, ge=1, le=1000, description="Galaxy's worker threads")
    name: Text | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="the name of Galaxy's runner on the access point; made up when absent",
    )
    pool: Pool | None = Field(description="the pool; its defaults when empty")
    state_directory: AbsolutePath | None = Field(
        None, description="where the event log and the runner's state lie"
    )
    token_directory: AbsolutePath | None = Field(
        None, description="where the client's token lies, mode 0600"
    )
    lease_s: StrictInt = Field(
        DEFAULT_LEASE_S,
        ge=MINIMUM_LEASE_S,
        le=86400,
        description="seconds after which a job on a lost node runs again",
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """The keys that a runner takes, Galaxy's own among them."""
        return [*cls.model_fields, *sorted(RUNNER_KEYS)]


class EnvironmentSection(FrozenModel):
    """`execution.environments.<id>`: a runner, and what its invocations get by default."""

    runner: Text
    request_cpus: StrictInt | None = Field(None, ge=1, le=4096)
    request_memory: MemoryOrText | None = Field(None, description="MB, or a text with a unit")
    max_memory: MemoryOrText | None = Field(
        None, description="MB, or a text with a unit; asked for after an out-of-memory kill"
    )
    request_disk: DiskOrText | None = Field(None, description="MB, or a text with a unit")
    request_gpus: StrictInt | None = Field(None, ge=0, le=1024)
    time_limit_s: StrictInt | None = Field(
        None, ge=1, le=10 * 365 * 86400, description="seconds of execution"
    )
    capacity_class: Name | None = Field(None, description="routed by resources when absent")
    docker_default_container_id: Image | None = Field(
        None, description="the image of an invocation that names none"
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """The keys that an environment takes, Galaxy's own among them."""
        return [*cls.model_fields, *sorted(ENVIRONMENT_KEYS)]


@dataclass(frozen=True, slots=True)
class JobConf:
    """What a job_conf says of our runners: the destinations, by name."""

    source: str
    destinations: dict[str, Destination]
    default: str | None

    def destination(self, name: str | None = None) -> Destination:
        """The destination of that name, or the default one.

        Without a name it is `execution.default`; where that is another runner's, the only
        destination of ours. Raises InvalidInputError when there is no such destination.
        """
        if name is None:
            if self.default in self.destinations:
                return self.destinations[self.default]
            if len(self.destinations) == 1:
                return next(iter(self.destinations.values()))
            message = f"name one of the environments {', '.join(self.destinations)}"
            raise InvalidInputError([Diagnostic(message, source=self.source)])
        if name not in self.destinations:
            message = (
                f"there is no environment {name!r} of ours; it has "
                f"{', '.join(self.destinations)}{did_you_mean(name, self.destinations)}"
            )
            raise InvalidInputError([Diagnostic(message, source=self.source)])
        return self.destinations[name]


def parse_job_conf(text: str, source: str) -> JobConf:
    """A job_conf text (YAML or JSON); `source` names it in messages.

    Raises InvalidInputError with every fault, each with its line and column.
    """
    return _Reader(parse_document(text, source)).read()


@dataclass
class _Reader:
    document: Document
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def read(self) -> JobConf:
        runners = self._section(("runners",))
        ours = {
            name: self._runner(name) for name in runners if self._is_swarm_runner(runners[name])
        }
        destinations: dict[str, Destination] = {}
        known: set[str] = set()
        for name, at, settings in self._environments():
            known.add(name)
            known.update(_tags(settings))
            runner = settings.get("runner")
            if is_disabled(settings) or is_virtual_runner(runner):
                continue
            if runner is None or runner not in runners:
                self._report_unknown_runner(at, runner, list(runners))
            elif runner in ours:
                destination = self._destination(name, at, str(runner), ours[str(runner)])
                if destination is not None:
                    destinations[name] = destination
        default = self._default(known)
        if not self.diagnostics and not destinations:
            self._add_diagnostic(
                ("execution", "environments"),
                "names no environment of swarm_runner: one whose runner has a pool",
            )
        if self.diagnostics:
            raise InvalidInputError(self.document.sort(self.diagnostics))
        if default is None and len(destinations) == 1:
            default = next(iter(destinations))
        return JobConf(self.document.source, destinations, default)

    def _add_diagnostic(self, path: KeyPath, message: str) -> None:
        self.diagnostics.append(self.document.diagnostic(path, message))

    def _section(self, path: KeyPath) -> dict[str, Any]:
        """The mapping at a path; a fault and nothing where there is none."""
        *parents, last = path
        above = (
            self.document.value_at(tuple(parents)) if self.document.has(tuple(parents)) else None
        )
        if not isinstance(above, dict):
            if not parents:
                self._add_diagnostic((), "is no job_conf: needs the keys runners and execution")
            return {}
        if last not in above:
            self._add_diagnostic(
                path, f"is missing{did_you_mean(str(last), [str(key) for key in above])}"
            )
            return {}
        section = above[last]
        if not isinstance(section, dict):
            self._add_diagnostic(path, "needs keys and values")
            return {}
        return section

    def _is_swarm_runner(self, settings: Any) -> bool:
        if not isinstance(settings, dict) or is_disabled(settings):
            return False
        load = settings.get("load")
        return "pool" in settings or (isinstance(load, str) and load.startswith(MODULE_PREFIX))

    def _runner(self, name: str) -> RunnerSection | None:
        return self._validate(RunnerSection, ("runners", name), is_runner_key)

    def _environments(self) -> Iterator[tuple[str, KeyPath, dict[str, Any]]]:
        """Name, path and settings of each; Galaxy takes a list with ids too."""
        at: KeyPath = ("execution", "environments")
        if self.document.has(at) and isinstance(self.document.value_at(at), list):
            entries = [
                (item.get("id") if isinstance(item, dict) else None, (*at, position), item)
                for position, item in enumerate(self.document.value_at(at))
            ]
        else:
            self._section(("execution",))
            entries = [(name, (*at, name), item) for name, item in self._section(at).items()]
        for name, place, settings in entries:
            if not isinstance(name, str):
                self._add_diagnostic(place, "needs an id that is a text")
            elif not isinstance(settings, dict):
                self._add_diagnostic(place, "needs keys and values")
            else:
                yield name, place, settings

    def _report_unknown_runner(self, path: KeyPath, runner: object, names: list[str]) -> None:
        if runner is None:
            self._add_diagnostic((*path, "runner"), "is missing")
        else:
            hint = did_you_mean(str(runner), names) or f"; there are {', '.join(names)}"
            self._add_diagnostic((*path, "runner"), f"{runner!r} is no runner of this file{hint}")

    def _destination(
        self, name: str, path: KeyPath, runner: str, section: RunnerSection | None
    ) -> Destination | None:
        settings = self._validate(EnvironmentSection, path, is_environment_key)
        if settings is None or section is None:
            return None
        pool = section.pool or Pool()
        resources = self._resources(path, settings)
        wanted = settings.capacity_class
        if wanted is not None and wanted not in pool.classes:
            hint = did_you_mean(wanted, pool.classes)
            self._add_diagnostic(
                (*path, "capacity_class"),
                f"{wanted!r} is no class of runner {runner}{hint}; it has {pool.describe_classes()}",
            )
        elif resources is not None and not any(
            shape.fits(resources) for key, shape in pool.classes.items() if wanted in (None, key)
        ):
            self._add_diagnostic(
                path, f"what it requests fits no class; the pool has {pool.describe_classes()}"
            )
        return Destination(
            name=name,
            pool=pool,
            runner=runner,
            state_directory=section.state_directory,
            token_directory=section.token_directory,
            lease_s=section.lease_s,
            resources=resources,
            default_image=settings.docker_default_container_id,
            capacity_class=wanted,
        )

    def _resources(self, path: KeyPath, settings: EnvironmentSection) -> Resources | None:
        """Only what the environment sets: the rest is an invocation's own default."""
        given = {
            ours: getattr(settings, theirs)
            for theirs, ours in _RESOURCES.items()
            if getattr(settings, theirs) is not None
        }
        if not given:
            return None
        most, memory = given.get("max_memory_mb"), given.get("memory_mb")
        if most is not None and memory is not None and most < memory:
            message = f"is {most} MB, less than request_memory ({memory} MB)"
            self._add_diagnostic((*path, "max_memory"), message)
            return None
        return Resources(**given)

    def _validate(
        self, model: type[Section], path: KeyPath, ignore: Callable[[str], bool]
    ) -> Section | None:
        try:
            return validate_document(model, self.document, path, ignore)
        except InvalidInputError as error:
            self.diagnostics += error.diagnostics
            return None

    def _default(self, known: set[str]) -> str | None:
        at: KeyPath = ("execution", "default")
        default = self.document.value_at(at) if self.document.has(at) else None
        if default is None:
            return None
        if not isinstance(default, str) or default not in known:
            names = sorted(known)
            hint = did_you_mean(str(default), names) or f"; there are {', '.join(names)}"
            self._add_diagnostic(at, f"{default!r} is no environment of this file{hint}")
        return str(default)


def _tags(settings: dict[str, Any]) -> set[str]:
    tags = settings.get("tags")
    if isinstance(tags, str):
        return {tag.strip() for tag in tags.split(",")}
    return {str(tag) for tag in tags} if isinstance(tags, list) else set()
