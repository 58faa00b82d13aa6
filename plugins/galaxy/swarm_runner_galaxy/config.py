"""The runner's section of job_conf.yml, as the core reads it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galaxy.exceptions import ConfigurationError

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.access_point_process import AccessPointProcess
from swarm_runner.config.galaxy_keys import RUNNER_KEYS, is_runner_key
from swarm_runner.config.job_conf import RunnerSection
from swarm_runner.config.validation import parse, validate
from swarm_runner.config.yaml_source import Document
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import Destination, Pool

MODULE_PREFIX = "swarm_runner_galaxy"
# The keys of a section, for Galaxy's own check of runner parameters: what is not among them, it
# refuses by name. What they may hold is told by the model.
SECTION_KEYS = frozenset(RunnerSection.model_fields) - {"load", "workers"}
RUNNER_PARAM_SPECS: dict[str, dict[str, Any]] = {
    key: {"map": lambda value: value, "default": None} for key in (SECTION_KEYS | RUNNER_KEYS)
}


class RunnerConfig:
    """A destination of the core's without any job's own wishes, and the runner's name there."""

    def __init__(self, app: Any, settings: Mapping[str, Any]) -> None:
        """Read what Galaxy hands over; raises ConfigurationError that names every wrong key."""
        self.runner_id = _find_runner_id(app, settings)
        try:
            section = validate(
                RunnerSection, *_load_document(app, self.runner_id, settings), ignore=is_runner_key
            )
            pool = section.pool or Pool()
            _check_pool(app.config, pool, f"runners.{self.runner_id}.pool")
        except InvalidInputError as error:
            raise ConfigurationError(
                f"Galaxy does not start: the section of runner {self.runner_id} is wrong.\n{error}"
            ) from error
        self.destination = Destination(
            name=self.runner_id,
            pool=pool,
            runner=self.runner_id,
            state_directory=section.state_directory,
            token_directory=section.token_directory,
            lease_s=section.lease_s,
        )
        self.name = runner_name(section, app.config, self.runner_id)

    def access_point(self) -> AccessPointProcess:
        """The pool's, out of the way of Galaxy's threads."""
        pool, tokens = self.destination.pool, self.destination.token_directory
        return AccessPointProcess(AccessPoint, pool.address, pool.name, tokens)


def runner_name(section: RunnerSection, config: Any, runner_id: str) -> str:
    """What the runner is called on the access point: the same after a restart."""
    return section.name or f"galaxy-{_galaxy_identity(config)}-{runner_id}"


def _find_runner_id(app: Any, settings: Mapping[str, Any]) -> str:
    """Which section it is: Galaxy does not tell its runners."""
    for plugin in app.job_config.runner_plugins:
        if str(plugin.get("load", "")).startswith(MODULE_PREFIX) and plugin.get("kwds") == settings:
            return str(plugin["id"])
    return "swarm"


def _load_document(
    app: Any, runner_id: str, settings: Mapping[str, Any]
) -> tuple[Document, tuple[str, ...]]:
    """The section with the lines and columns of its file, where it is the one that Galaxy read."""
    at = ("runners", runner_id)
    file = str(getattr(app.config, "job_config_file", None) or "")
    try:
        document = parse(Path(file).read_text(encoding="utf-8"), file)
        found = document.value_at(at)
        if all(found[key] == value for key, value in settings.items()):
            return document, at
    except (OSError, TypeError, LookupError, ValueError, InvalidInputError):
        pass  # an inline configuration, XML, or nested keys
    text = json.dumps({"runners": {runner_id: dict(settings)}}, default=str)
    return parse(text, "job configuration"), at


def _check_pool(config: Any, pool: Pool, path: str) -> None:
    """What would let every single job fail: say it now."""
    faults = []
    uid = os.geteuid()
    if uid == 0:
        faults.append(
            Diagnostic(
                "jobs cannot run as Galaxy's user: Galaxy runs as root; give it a user",
                path=f"{path}.user",
            )
        )
    elif pool.user.uid != uid:
        faults.append(
            Diagnostic(
                f"is {pool.user.uid}, but Galaxy runs as {uid}, and jobs use Galaxy's files: "
                f"write user: {{name: galaxy, uid: {uid}, gid: {os.getegid()}}} "
                "and run `swarm-runner pool up`",
                path=f"{path}.user.uid",
            )
        )
    writable = [Path(volume.path) for volume in pool.volumes if not volume.read_only]
    for key in ("jobs_directory", "file_path"):
        directory = Path(os.path.abspath(getattr(config, key)))  # noqa: PTH100 (links stay)
        if not any(directory.is_relative_to(volume) for volume in writable):
            faults.append(
                Diagnostic(
                    f"does not hold Galaxy's {key}, {directory}: jobs need it under the same path",
                    path=f"{path}.volumes",
                )
            )
    if faults:
        raise InvalidInputError(faults)


def _galaxy_identity(config: Any) -> str:
    """Tells this Galaxy from others on the same access point, today and after a restart.

    Its secret and its database make a Galaxy the one it is. A digest gives neither away.
    """
    from sqlalchemy.engine import make_url

    url = make_url(config.database_connection)
    parts = (config.id_secret, url.host, str(url.port), url.database)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:10]
