"""Galaxy's job_conf.yml: the runners and environments of swarm_runner.

A runner belongs to swarm_runner if it has a `pool`, or if its `load` names a module of
swarm_runner. Other runners, environments and sections are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field, StrictInt

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
from swarm_runner.model.isolation import ContainerOptions
from swarm_runner.model.pool import DEFAULT_LEASE_S, MINIMUM_LEASE_S, Destination, Pool
from swarm_runner.model.resources import DiskOrText, MemoryOrText, Resources
from swarm_runner.model.text import AbsolutePath, FrozenModel, Image, Name, Text, did_you_mean

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
    """`runners.<id>`: a pool, and the settings of its runner."""

    load: Text | None = Field(None, description="Read by Galaxy; ignored elsewhere")
    workers: StrictInt = Field(4, ge=1, le=1000, description="Galaxy's worker threads")
    name: Text | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="the name of Galaxy's runner on the access point; generated when absent",
    )
    pool: Pool | None = Field(description="the pool; the default pool when empty")
    state_directory: AbsolutePath | None = Field(
        None, description="the directory of the event logs and the lock"
    )
    token_directory: AbsolutePath | None = Field(
        None, description="the directory of the client's token, mode 0600"
    )
    lease_s: StrictInt = Field(
        DEFAULT_LEASE_S,
        ge=MINIMUM_LEASE_S,
        le=86400,
        description="seconds after which a job on a lost node runs again",
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """Return the keys of a runner, including those that Galaxy reads."""
        return [*cls.model_fields, *sorted(RUNNER_KEYS)]


class EnvironmentSection(FrozenModel):
    """`execution.environments.<id>`: a runner, and defaults of its invocations."""

    runner: Text
    request_cpus: StrictInt | None = Field(None, ge=1, le=4096)
    request_memory: MemoryOrText | None = Field(None, description="MB, or a text with a unit")
    max_memory: MemoryOrText | None = Field(
        None, description="MB, or a text with a unit; requested after an out-of-memory kill"
    )
    request_disk: DiskOrText | None = Field(None, description="MB, or a text with a unit")
    request_gpus: StrictInt | None = Field(None, ge=0, le=1024)
    time_limit_s: StrictInt | None = Field(
        None, ge=1, le=10 * 365 * 86400, description="seconds of execution"
    )
    capacity_class: Name | None = Field(None, description="chosen by resources when absent")
    docker_default_container_id: Image | None = Field(
        None, description="the default image of an invocation"
    )
    container_options: ContainerOptions | None = Field(
        None, description="network, volumes and the like; the pool limits what jobs may ask for"
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """Return the keys of an environment, including those that Galaxy reads."""
        return [*cls.model_fields, *sorted(ENVIRONMENT_KEYS)]


@dataclass(frozen=True, slots=True)
class JobConf:
    """The destinations of a job_conf, by name. `default` is `execution.default`, if any."""

    source: str
    destinations: dict[str, Destination]
    default: str | None

    def destination(self, name: str | None = None) -> Destination:
        """Return the destination of that name, or the default one.

        Without a name, this is `execution.default`; if that is an environment of another runner,
        it is the only destination. Raises InvalidInputError if there is no such destination.
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
                f"has no environment {name!r} of swarm_runner; it has "
                f"{', '.join(self.destinations)}{did_you_mean(name, self.destinations)}"
            )
            raise InvalidInputError([Diagnostic(message, source=self.source)])
        return self.destinations[name]


def parse_job_conf(text: str, source: str) -> JobConf:
    """Parse a job_conf text (YAML or JSON); `source` names it in messages.

    Raises InvalidInputError with every problem, each with its line and column.
    """
    return _Reader(parse_document(text, source)).read()


@dataclass
class _Reader:
    document: Document
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def read(self) -> JobConf:
        runners = self._section(("runners",))
        sections = {
            name: self._runner(name) for name in runners if self._is_swarm_runner(runners[name])
        }
        destinations: dict[str, Destination] = {}
        known: set[str] = set()
        for name, path, settings in self._environments():
            known.add(name)
            known.update(_tags(settings))
            runner = settings.get("runner")
            if is_disabled(settings) or is_virtual_runner(runner):
                continue
            if runner is None or runner not in runners:
                self._report_unknown_runner(path, runner, list(runners))
            elif runner in sections:
                destination = self._destination(name, path, str(runner), sections[str(runner)])
                if destination is not None:
                    destinations[name] = destination
        default = self._default(known)
        if not self.diagnostics and not destinations:
            self._add_diagnostic(
                ("execution", "environments"),
                "has no environment of swarm_runner; add one whose runner has a pool",
            )
        if self.diagnostics:
            raise InvalidInputError(self.document.sort(self.diagnostics))
        if default is None and len(destinations) == 1:
            default = next(iter(destinations))
        return JobConf(self.document.source, destinations, default)

    def _add_diagnostic(self, path: KeyPath, message: str) -> None:
        self.diagnostics.append(self.document.diagnostic(path, message))

    def _section(self, path: KeyPath) -> dict[str, Any]:
        """Return the mapping at a path; report it and return an empty one if there is none."""
        *parents, last = path
        parent = (
            self.document.value_at(tuple(parents)) if self.document.has(tuple(parents)) else None
        )
        if not isinstance(parent, dict):
            if not parents:
                message = "is not a job_conf; it needs the keys runners and execution"
                self._add_diagnostic((), message)
            return {}
        if last not in parent:
            hint = did_you_mean(str(last), [str(key) for key in parent])
            self._add_diagnostic(path, f"is missing{hint}")
            return {}
        section = parent[last]
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
        """Yield name, path and settings of each environment. Galaxy also accepts a list."""
        section: KeyPath = ("execution", "environments")
        if self.document.has(section) and isinstance(self.document.value_at(section), list):
            entries = [
                (item.get("id") if isinstance(item, dict) else None, (*section, position), item)
                for position, item in enumerate(self.document.value_at(section))
            ]
        else:
            self._section(("execution",))
            entries = [
                (name, (*section, name), item) for name, item in self._section(section).items()
            ]
        for name, path, settings in entries:
            if not isinstance(name, str):
                self._add_diagnostic(path, "needs an id that is a text")
            elif not isinstance(settings, dict):
                self._add_diagnostic(path, "needs keys and values")
            else:
                yield name, path, settings

    def _report_unknown_runner(self, path: KeyPath, runner: object, names: list[str]) -> None:
        if runner is None:
            message = "is missing"
        else:
            hint = did_you_mean(str(runner), names) or f"; use one of {', '.join(names)}"
            message = f"{runner!r} is not a runner of this file{hint}"
        self._add_diagnostic((*path, "runner"), message)

    def _destination(
        self, name: str, path: KeyPath, runner: str, section: RunnerSection | None
    ) -> Destination | None:
        settings = self._validate(EnvironmentSection, path, is_environment_key)
        if settings is None or section is None:
            return None
        pool = section.pool or Pool()
        resources = self._resources(path, settings)
        requested = settings.capacity_class
        if requested is not None and requested not in pool.classes:
            hint = did_you_mean(requested, pool.classes) or "."
            self._add_diagnostic(
                (*path, "capacity_class"),
                f"{requested!r} is not a class of runner {runner}{hint} "
                f"The pool has {pool.describe_classes()}",
            )
        elif resources is not None and not any(
            capacity_class.fits(resources)
            for key, capacity_class in pool.classes.items()
            if requested in (None, key)
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
            container_options=settings.container_options,
            capacity_class=requested,
        )

    def _resources(self, path: KeyPath, settings: EnvironmentSection) -> Resources | None:
        """Return only what the environment sets; other fields keep an invocation's defaults."""
        amounts = {
            name: getattr(settings, key)
            for key, name in _RESOURCES.items()
            if getattr(settings, key) is not None
        }
        if not amounts:
            return None
        maximum, memory = amounts.get("max_memory_mb"), amounts.get("memory_mb")
        if maximum is not None and memory is not None and maximum < memory:
            message = f"is {maximum} MB, less than request_memory ({memory} MB)"
            self._add_diagnostic((*path, "max_memory"), message)
            return None
        return Resources(**amounts)

    def _validate(
        self, model: type[Section], path: KeyPath, ignore: Callable[[str], bool]
    ) -> Section | None:
        try:
            return validate_document(model, self.document, path, ignore)
        except InvalidInputError as error:
            self.diagnostics += error.diagnostics
            return None

    def _default(self, known: set[str]) -> str | None:
        path: KeyPath = ("execution", "default")
        default = self.document.value_at(path) if self.document.has(path) else None
        if default is None:
            return None
        if not isinstance(default, str) or default not in known:
            names = sorted(known)
            hint = did_you_mean(str(default), names) or f"; use one of {', '.join(names)}"
            self._add_diagnostic(path, f"{default!r} is not an environment of this file{hint}")
        return str(default)


def _tags(settings: dict[str, Any]) -> set[str]:
    tags = settings.get("tags")
    if isinstance(tags, str):
        return {tag.strip() for tag in tags.split(",")}
    return {str(tag) for tag in tags} if isinstance(tags, list) else set()
