"""The runner's section of job_conf.yml."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galaxy.exceptions import ConfigurationError

from swarm_runner import (
    RUNNER_KEYS,
    AccessPoint,
    AccessPointProcess,
    Destination,
    Diagnostic,
    Document,
    InvalidInputError,
    KeyPath,
    Pool,
    RunnerSection,
    find_job_config,
    parse_document,
    parse_runner,
)

MODULE_PREFIX = "swarm_runner_galaxy"
# Galaxy rejects every key that is not in a runner's specs. RunnerSection checks the values.
SECTION_KEYS = frozenset(RunnerSection.model_fields) - {"load", "workers"}
RUNNER_PARAM_SPECS: dict[str, dict[str, Any]] = {
    key: {"map": lambda value: value, "default": None} for key in (SECTION_KEYS | RUNNER_KEYS)
}


class RunnerConfig:
    """The runner's configuration.

    - `runner_id`: the runner's ID in the job configuration.
    - `section`: the runner's section, and `source`, the file that contains it.
    - `destination`: the pool and the defaults, without any job's own parameters.
    - `name`: the runner's name on the access point.
    - `metrics_address`: where to serve the runner's metrics, or None.
    """

    def __init__(self, app: Any, settings: Mapping[str, Any]) -> None:
        """Validate the settings that Galaxy passes to the runner.

        Raise ConfigurationError, which names every invalid key.
        """
        self.runner_id = _find_runner_id(app, settings)
        try:
            document, path = _load_document(app, self.runner_id, settings)
            section = parse_runner(document, path)
            pool = section.pool or Pool()
            _check_pool(app.config, pool, f"runners.{self.runner_id}.pool")
        except InvalidInputError as error:
            raise ConfigurationError(
                f"Galaxy does not start: the section runners.{self.runner_id} of the job "
                f"configuration is invalid.\n{error}"
            ) from error
        self.section, self.source = section, document.source
        self.destination = Destination(
            name=self.runner_id,
            pool=pool,
            runner=self.runner_id,
            state_directory=section.state_directory,
            token_directory=section.token_directory,
            lease_s=section.lease_s,
        )
        self.metrics_address = section.metrics
        self.name = runner_name(section, app.config, self.runner_id)

    def access_point(self) -> AccessPointProcess:
        """Return the pool's access point, in a process that cannot block Galaxy's threads.

        The process imports its modules while Galaxy boots.
        """
        pool, tokens = self.destination.pool, self.destination.token_directory
        access_point = AccessPointProcess(AccessPoint, pool.address, pool.name, tokens)
        access_point.start()
        return access_point


def runner_name(section: RunnerSection, config: Any, runner_id: str) -> str:
    """Return the runner's name on the access point, which is the same after a restart."""
    return section.name or f"galaxy-{_galaxy_identity(config)}-{runner_id}"


def _find_runner_id(app: Any, settings: Mapping[str, Any]) -> str:
    """Return the ID of the section with these settings. Galaxy does not tell it to its runners."""
    for plugin in app.job_config.runner_plugins:
        if str(plugin.get("load", "")).startswith(MODULE_PREFIX) and plugin.get("kwds") == settings:
            return str(plugin["id"])
    return "swarm"


def _load_document(
    app: Any, runner_id: str, settings: Mapping[str, Any]
) -> tuple[Document, KeyPath]:
    """Return the document with the section, and the section's path in it.

    The document is the file that Galaxy read, which has lines and columns: galaxy.yml where it
    contains the job configuration, or else job_conf.yml. If neither has the section, the document
    is made from the settings.
    """
    for attribute in ("config_file", "job_config_file"):
        file = str(getattr(app.config, attribute, None) or "")
        try:
            document = parse_document(Path(file).read_text(encoding="utf-8"), file)
            path = (*find_job_config(document), "runners", runner_id)
            section = document.value_at(path)
            passed = section if section.get("kwds") is None else section["kwds"]
            if all(passed[key] == value for key, value in settings.items()):
                return document, path
        except (OSError, TypeError, AttributeError, LookupError, ValueError, InvalidInputError):
            continue
    text = json.dumps({"runners": {runner_id: dict(settings)}}, default=str)
    return parse_document(text, "job configuration"), ("runners", runner_id)


def _check_pool(config: Any, pool: Pool, path: str) -> None:
    """Check at boot what would otherwise make every job fail."""
    diagnostics = []
    uid = os.geteuid()
    if uid == 0:
        diagnostics.append(
            Diagnostic(
                "jobs run as Galaxy's user, and HTCondor does not run containers as root, but "
                "Galaxy runs as root: run Galaxy as an unprivileged user",
                path=f"{path}.user",
            )
        )
    elif pool.user.uid != uid:
        diagnostics.append(
            Diagnostic(
                f"is {pool.user.uid}, but Galaxy runs as {uid}, and jobs use Galaxy's files: "
                f"set user: {{name: galaxy, uid: {uid}, gid: {os.getegid()}}} "
                "and run `swarm-runner pool up`",
                path=f"{path}.user.uid",
            )
        )
    for key in ("jobs_directory", "file_path"):
        directory = Path(os.path.abspath(getattr(config, key)))  # noqa: PTH100 (keep symlinks)
        volume = pool.volume_of(directory)
        if volume is None or volume.read_only:
            diagnostics.append(
                Diagnostic(
                    f"does not contain Galaxy's {key}, {directory}, which jobs use under the same "
                    "path: add a writable volume that contains it",
                    path=f"{path}.volumes",
                )
            )
    if diagnostics:
        raise InvalidInputError(diagnostics)


def _galaxy_identity(config: Any) -> str:
    """Return an identifier that distinguishes this Galaxy from others on the same access point.

    It is a digest of Galaxy's secret and its database's location, and reveals neither.
    """
    from sqlalchemy.engine import make_url

    url = make_url(config.database_connection)
    parts = (config.id_secret, url.host, str(url.port), url.database)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:10]
