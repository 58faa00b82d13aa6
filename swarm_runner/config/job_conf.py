"""Galaxy's job_conf.yml: the runners and environments of swarm_runner.

A runner belongs to swarm_runner if it has a `pool`, or if its `load` names a module of
swarm_runner. Other runners, environments and sections are ignored.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt
from pydantic_core import PydanticCustomError

from swarm_runner.config.destination_parameters import (
    MAX_COMPARED_KEYS,
    PARAMETER_KEYS,
    DestinationParameters,
    classify_keys,
    parse_parameters,
)
from swarm_runner.config.galaxy_keys import (
    RUNNER_KEYS,
    is_disabled,
    is_runner_key,
    is_virtual_runner,
)
from swarm_runner.config.validation import (
    MAX_SUGGESTIONS,
    Document,
    parse_document,
    validate_document,
)
from swarm_runner.config.yaml_source import KeyPath
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import DEFAULT_LEASE_S, MINIMUM_LEASE_S, Destination, Pool
from swarm_runner.model.text import (
    AbsolutePath,
    FrozenModel,
    Text,
    did_you_mean,
    list_names,
    reject_control_characters,
)
from swarm_runner.model.units import integer

MODULE_PREFIX = "swarm_runner"
# Keys of an environment that Galaxy does not pass to the runner.
_GALAXYS_OWN_KEYS = ("id", "tags", "runner", "shell", "env", "resubmit")
_XML_MESSAGE = (
    "is XML, which swarm_runner does not read: Galaxy reads the same configuration as YAML "
    "(job_conf.yml). Galaxy has no command that converts one, but a function, "
    "galaxy.jobs.job_config_xml_to_dict: the section about XML in docs/reference/job_conf.md shows "
    "how to call it"
)


# Galaxy takes numbers in quotes.
_Workers = Annotated[StrictInt, Field(ge=1, le=1000), BeforeValidator(integer)]
_Lease = Annotated[StrictInt, Field(ge=MINIMUM_LEASE_S, le=86400), BeforeValidator(integer)]


class RunnerSection(FrozenModel):
    """`runners.<id>`: a pool, and the settings of its runner."""

    load: Text | None = Field(None, description="read by Galaxy; ignored elsewhere")
    workers: _Workers = Field(4, description="the number of Galaxy's worker threads")
    name: Text | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="the name of Galaxy's runner on the access point; derived from Galaxy's "
        "secret and database when absent",
    )
    pool: Pool | None = Field(description="the pool; may be empty")
    state_directory: AbsolutePath | None = Field(
        None,
        description="absolute path of the directory of the event logs and the lock; when "
        "absent, on the pool's first writable volume, or else in the user's state directory",
    )
    token_directory: AbsolutePath | None = Field(
        None,
        description="absolute path of the directory of the client's tokens, one file of mode "
        "0600 for each pool; the user's configuration directory when absent",
    )
    lease_s: _Lease = Field(
        DEFAULT_LEASE_S,
        description="seconds after losing contact with its node until a job runs again elsewhere",
    )
    metrics: Text | None = Field(
        None,
        pattern=r"^.+:[0-9]{1,5}$",
        description="host:port at which Galaxy's runner serves its metrics; 127.0.0.1 is for this "
        "host only; a process that finds the port taken goes on without",
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """Return the keys of a runner, including those that Galaxy reads."""
        return [*cls.model_fields, *sorted(RUNNER_KEYS)]


class _WorkersSection(FrozenModel):
    """What remains beside `kwds` in a runner of ours."""

    workers: _Workers = 4


@dataclass(frozen=True, slots=True)
class JobConf:
    """The destinations of a job_conf, by name. `default` is `execution.default`, if any.

    A runner that no environment names, because a rule such as TPV defines the destinations, is a
    destination of its own name without defaults. `warnings` are likely slips in keys that have no
    effect, and `ignored` the keys of other programs.
    """

    source: str
    destinations: dict[str, Destination]
    default: str | None
    warnings: tuple[Diagnostic, ...] = ()
    ignored: tuple[Diagnostic, ...] = ()

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
            message = f"name one of the destinations {list_names(self.destinations)}"
            raise InvalidInputError([Diagnostic(message, source=self.source)])
        if name not in self.destinations:
            message = (
                f"has no destination {name!r} of swarm_runner; it has "
                f"{list_names(self.destinations)}{did_you_mean(name, self.destinations)}"
            )
            raise InvalidInputError([Diagnostic(message, source=self.source)])
        return self.destinations[name]


def parse_job_conf(text: str, source: str) -> JobConf:
    """Parse a job_conf (YAML or JSON), or a galaxy.yml that contains one under `job_config`.

    `source` names the text in messages. Raises InvalidInputError with every problem, each with its
    line and column.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        raise InvalidInputError([Diagnostic(_XML_MESSAGE, source=source)])
    document = parse_document(text, source)
    return _Reader(document, find_job_config(document)).read()


def find_job_config(document: Document) -> KeyPath:
    """Return where a document has its job configuration: at the top, or as galaxy.yml has it.

    Raises InvalidInputError if it is a galaxy.yml that names another file.
    """
    if document.has(("runners",)):
        return ()
    for path in (("galaxy", "job_config"), ("job_config",)):
        if document.has(path):
            return path
    if document.has(("galaxy", "job_config_file")):
        path = ("galaxy", "job_config_file")
        message = (
            f"is another file, {document.value_at(path)!r}, which contains the job configuration: "
            "name that one"
        )
        raise InvalidInputError([document.diagnostic(path, message)])
    return ()


def parse_runner(document: Document, path: KeyPath) -> RunnerSection:
    """Return the runner at a path, `(*find_job_config(document), "runners", id)`.

    Galaxy passes `kwds` to a runner or, without `kwds`, all other keys.

    Raises InvalidInputError with every problem.
    """
    settings = document.value_at(path)
    if isinstance(settings, dict) and isinstance(settings.get("params"), dict):
        message = (
            "is not read: Galaxy passes no params to a runner; move "
            f"{list_names(settings['params'])} one level up, or under kwds"
        )
        raise InvalidInputError([document.diagnostic((*path, "params"), message)])
    if not isinstance(settings, dict) or settings.get("kwds") is None:
        return validate_document(RunnerSection, document, path, is_runner_key)
    diagnostics = [
        document.diagnostic((*path, key), "is ignored by Galaxy beside kwds; move it into kwds")
        for key in settings
        if key in RunnerSection.model_fields and key not in ("load", "workers")
    ]
    section = None
    try:
        section = validate_document(RunnerSection, document, (*path, "kwds"), is_runner_key)
    except InvalidInputError as error:
        diagnostics += error.diagnostics
    try:
        workers = validate_document(
            _WorkersSection, document, path, lambda key: key != "workers"
        ).workers
    except InvalidInputError as error:
        diagnostics += error.diagnostics
    if diagnostics or section is None:
        raise InvalidInputError(document.sort(diagnostics))
    return section.model_copy(update={"workers": workers})


def environment_parameters(settings: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return an environment's parameters as Galaxy reads them.

    These are its `params` or, without `params`, all keys that have no meaning of their own.
    """
    if settings.get("params") is not None:
        params = settings["params"]
        return params if isinstance(params, dict) else {}
    return {key: value for key, value in settings.items() if key not in _GALAXYS_OWN_KEYS}


@dataclass
class _Reader:
    document: Document
    root: KeyPath
    diagnostics: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    ignored: list[Diagnostic] = field(default_factory=list)
    suggestions: int = 0
    compared: int = 0

    def read(self) -> JobConf:
        runners = self._mapping(("runners",), required=True)
        sections = {name: self._runner(name) for name in runners if _is_swarm_runner(runners[name])}
        destinations: dict[str, Destination] = {}
        used: set[Any] = set()
        known: set[str] = set()
        for name, path, settings in self._environments():
            params = environment_parameters(settings)
            if is_disabled(params):
                continue
            known.add(name)
            known.update(_tags(settings))
            runner = settings.get("runner")
            if not isinstance(runner, Hashable) or runner not in sections:
                if not (runner is None or is_virtual_runner(runner)):
                    self._warn_of_unknown_runner(path, runner, runners)
                continue
            used.add(runner)
            base = sections[runner]
            destination = self._destination(name, path, settings, params, base)
            if destination is not None:
                destinations[name] = destination
        default = self._default(known)
        for name, base in sections.items():
            if name not in used and base is not None:
                destinations.setdefault(str(name), base)
        if not self.diagnostics and not destinations:
            self._report(("runners",), "has no runner of swarm_runner; add one with a pool")
        if self.diagnostics:
            raise InvalidInputError(self.document.sort(self.diagnostics))
        if default is None and len(destinations) == 1:
            default = next(iter(destinations))
        return JobConf(
            self.document.source,
            destinations,
            default,
            tuple(self.document.sort(self.warnings)),
            tuple(self.document.sort(self.ignored)),
        )

    def _report(self, path: KeyPath, message: str) -> None:
        self.diagnostics.append(self.document.diagnostic((*self.root, *path), message))

    def _warn(self, path: KeyPath, message: str) -> None:
        self.warnings.append(self.document.diagnostic((*self.root, *path), message))

    def _suggest(self, name: str, names: Iterable[Any]) -> str:
        """Return a hint, for the first problems only: each comparison takes a millisecond."""
        self.suggestions += 1
        return did_you_mean(name, map(str, names)) if self.suggestions <= MAX_SUGGESTIONS else ""

    def _value(self, path: KeyPath) -> Any:
        full = (*self.root, *path)
        return self.document.value_at(full) if self.document.has(full) else None

    def _mapping(self, path: KeyPath, *, required: bool = False) -> dict[Any, Any]:
        """Return the mapping at a path; an empty one if there is none, which may be a problem."""
        *parents, last = path
        parent = self._value(tuple(parents))
        if not isinstance(parent, dict):
            if not parents:
                self._report((), "is not a job_conf; it needs the key runners")
            return {}
        section = parent.get(last)
        if section is None:
            if required:
                hint = self._suggest(str(last), parent)
                self._report(path, f"is missing{hint}")
            return {}
        if not isinstance(section, dict):
            self._report(path, "needs keys and values")
            return {}
        return section

    def _runner(self, name: Any) -> Destination | None:
        """Return a runner's destination without the defaults of an environment."""
        if not self._is_printable(str(name), ("runners", name)):
            return None
        try:
            section = parse_runner(self.document, (*self.root, "runners", name))
        except InvalidInputError as error:
            self.diagnostics += error.diagnostics
            return None
        return Destination(
            name=str(name),
            pool=section.pool or Pool(),
            runner=str(name),
            state_directory=section.state_directory,
            token_directory=section.token_directory,
            lease_s=section.lease_s,
        )

    def _environments(self) -> Iterator[tuple[str, KeyPath, dict[Any, Any]]]:
        """Yield name, path and settings of each environment. Galaxy also accepts a list."""
        section: KeyPath = ("execution", "environments")
        entries: Iterable[tuple[Any, KeyPath, Any]]
        environments = self._value(section)
        if isinstance(environments, list):
            entries = [
                (item.get("id") if isinstance(item, dict) else None, (*section, position), item)
                for position, item in enumerate(environments)
            ]
        else:
            if isinstance(self._value(()), dict):
                self._mapping(("execution",))
            entries = [(name, (*section, name), item) for name, item in _items(environments)]
            if not isinstance(environments, (dict, type(None))):
                self._report(section, "needs keys and values")
        for name, path, settings in entries:
            if name is None:
                self._report(path, "needs an id")
            elif not isinstance(settings, dict):
                self._report(path, "needs keys and values")
            elif self._is_printable(str(name), path):
                yield str(name), path, settings

    def _is_printable(self, name: str, path: KeyPath) -> bool:
        try:
            reject_control_characters(name)
        except PydanticCustomError:
            self._report(path, "has a control character in its name; rename it")
            return False
        return True

    def _warn_of_unknown_runner(self, path: KeyPath, runner: object, names: Any) -> None:
        if isinstance(runner, Hashable) and runner in names:
            return
        hint = self._suggest(str(runner), names) or f"; use one of {list_names(names)}"
        message = f"{runner!r} is not a runner of this file{hint}"
        self._warn((*path, "runner"), message)

    def _destination(
        self,
        name: str,
        path: KeyPath,
        settings: dict[Any, Any],
        params: Mapping[Any, Any],
        base_destination: Destination | None,
    ) -> Destination | None:
        pool = None if base_destination is None else base_destination.pool
        base = (*path, "params") if settings.get("params") is not None else path
        if pool is not None:
            self._note_foreign_keys(path, base, settings, params, pool)
        try:
            parameters = parse_parameters(params, name, pool)
        except InvalidInputError as error:
            for diagnostic in error.diagnostics:
                self._report((*base, diagnostic.path), diagnostic.message)
            return None
        if base_destination is None or pool is None:
            return None
        if message := _size_problem(parameters, pool):
            self._report(base, f"{message}; the pool has {pool.describe_classes()}")
            return None
        return base_destination.model_copy(
            update={
                "name": name,
                "resources": parameters.set_resources,
                "default_image": parameters.docker_default_container_id,
                "container_options": parameters.container_options,
                "capacity_class": parameters.capacity_class,
                "scheduling": parameters.scheduling,
            }
        )

    def _note_foreign_keys(
        self,
        path: KeyPath,
        base: KeyPath,
        settings: dict[Any, Any],
        params: Mapping[Any, Any],
        pool: Pool,
    ) -> None:
        foreign = classify_keys(params, pool, max(MAX_COMPARED_KEYS - self.compared, 0))
        self.compared += len(foreign.ignored) + len(foreign.warnings)
        for key, message in foreign.warnings:
            self._warn((*base, key), message)
        if foreign.ignored:
            self.ignored.append(
                self.document.diagnostic(
                    (*self.root, *base),
                    f"ignores keys of other programs: {list_names(foreign.ignored)}",
                )
            )
        if base != path:
            for key in settings.keys() & PARAMETER_KEYS:
                self._warn((*path, key), "is ignored by Galaxy beside params; move it into params")

    def _default(self, known: set[str]) -> str | None:
        path: KeyPath = ("execution", "default")
        default = self._value(path)
        if default is None:
            return None
        if str(default) not in known:
            names = sorted(known)
            hint = did_you_mean(str(default), names) or f"; use one of {list_names(names)}"
            self._report(path, f"{default!r} is not an environment of this file{hint}")
        return str(default)


def _is_swarm_runner(settings: Any) -> bool:
    if not isinstance(settings, dict):
        return False
    passed = settings["kwds"] if isinstance(settings.get("kwds"), dict) else settings
    if is_disabled(passed):
        return False
    load = settings.get("load")
    return "pool" in passed or (isinstance(load, str) and load.startswith(MODULE_PREFIX))


def _size_problem(parameters: DestinationParameters, pool: Pool) -> str:
    """Say which request of a destination is larger than every class in which a job may run."""
    resources = parameters.set_resources
    if resources is None:
        return ""
    names = list(pool.classes)
    requested = parameters.capacity_class
    # A retry with more memory may leave the requested class, for a larger one.
    allowed = names[names.index(requested) :] if requested else names
    if not any(pool.classes[name].fits(resources) for name in allowed[: 1 if requested else None]):
        return f"requests {resources}, which fits no class"
    if resources.max_memory_mb is not None:
        retry = resources.model_copy(update={"memory_mb": resources.max_memory_mb})
        if not any(pool.classes[name].fits(retry) for name in allowed):
            return f"has max_memory {retry.memory_mb} MB, which fits no class"
    return ""


def _items(mapping: Any) -> Iterable[tuple[Any, Any]]:
    return mapping.items() if isinstance(mapping, dict) else ()


def _tags(settings: dict[Any, Any]) -> set[str]:
    tags = settings.get("tags")
    if isinstance(tags, str):
        return {tag.strip() for tag in tags.split(",")}
    return {str(tag) for tag in tags} if isinstance(tags, list) else set()
