"""The runner takes what TPV makes of its shared database of tools, or refuses it for its size.

The published file is not part of this repository. `make tpv-database` fetches it, and TPV_DATABASE
names another copy; then it is tried as well. A small file with the same forms is always tried.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from galaxy.jobs import JobDestination
from galaxy.jobs.mapper import JobMappingException
from tpv.commands.test import mock_galaxy
from tpv.core.loader import TPVConfigLoader
from tpv.core.mapper import EntityToDestinationMapper

from swarm_runner import Destination, InvalidInputError, Invocation, Pool, parse_parameters
from swarm_runner.policy.routing import swarm_runner_route
from unit.test_how_to import DATABASE_ENVIRONMENT, DATABASE_TPV

ROOT = Path(__file__).parents[4]
OWN = Path(__file__).with_name("tpv_tools.yml")
PUBLISHED = Path(os.environ.get("TPV_DATABASE", ROOT / ".state" / "tpv-database" / "tools.yml"))
DATABASES = [OWN, *([PUBLISHED] if PUBLISHED.is_file() else [])]
CORES = range(25)  # 0 stands for the database's own number
INPUT_GB = (0, 0.001, 3, 30)
POOL = Pool.model_validate(
    {
        "classes": {
            "normal": {"cpus": 16, "memory": "61 GB"},
            "gpu": {"cpus": 16, "memory": "61 GB", "gpus": 1},
        }
    }
)
# For every tool, whatever the database says of it.
OVERRIDE = {
    "tools": {"default": {"rules": [{"id": "cores", "if": "app.cores", "cores": "app.cores"}]}}
}


class _Tool(mock_galaxy.Tool):  # type: ignore[misc]
    def params_from_strings(self, parameters: dict[str, Any], _app: object) -> dict[str, Any]:
        return dict(parameters)


class _Job(mock_galaxy.Job):  # type: ignore[misc]
    """A job without parameters, but for one that a rule of the database requires."""

    def __init__(self, input_gb: float) -> None:
        super().__init__()
        self.history = mock_galaxy.History()
        self.parameters: list[Any] = []
        self.param_values = {"kraken2_database": ""}
        if input_gb:
            dataset = mock_galaxy.Dataset("in", file_size=input_gb * 1024**3)
            self.add_input_dataset(mock_galaxy.DatasetAssociation("in", dataset))


def _map_all(database: Path) -> Iterator[tuple[str, JobDestination]]:
    """Yield each tool and what TPV makes of it, for every number of cores and size of the input."""
    loader = TPVConfigLoader.from_url_or_path(str(database))
    for settings in (yaml.safe_load(DATABASE_TPV), OVERRIDE):
        loader = TPVConfigLoader(settings, parent=loader)
    mapper = EntityToDestinationMapper(loader)
    tools = yaml.safe_load(database.read_text(encoding="utf-8"))["tools"]
    tables = SimpleNamespace(get=lambda _name: SimpleNamespace(get_entry=lambda *_: None))
    for pattern, settings in tools.items():
        tool = _Tool(re.sub(r"\.\*", "1.0", pattern).replace("\\", ""), version="1.0")
        sizes = INPUT_GB if "input_size" in str(settings) else INPUT_GB[:1]
        for cores in CORES:
            app = SimpleNamespace(cores=cores, tool_data_tables=tables)
            for input_gb in sizes:
                try:
                    destination = mapper.map_to_destination(
                        app, tool, None, _Job(input_gb), None, {}, None
                    )
                except JobMappingException:
                    continue  # a rule of the database refuses the job, and says why
                yield tool.id, destination


@pytest.fixture
def _quiet() -> Iterator[None]:
    """TPV writes kilobytes of debug messages for each job."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("database", DATABASES, ids=lambda path: path.parent.name)
def test_each_job_runs_or_is_refused_for_its_size(database: Path) -> None:
    destination = Destination(name="swarm", pool=POOL)
    tools: dict[tuple[str, ...], str] = {}
    for tool, chosen in _map_all(database):
        assert chosen.runner == "swarm"
        key = tuple(str(chosen.params[name]) for name in sorted(chosen.params))
        if key in tools:
            continue
        tools[key] = tool
        resources = parse_parameters(chosen.params, chosen.id, POOL).resources
        fits = any(size.fits(resources) for size in POOL.classes.values())
        invocation = Invocation(image="debian", command=("true",), resources=resources)
        if fits:
            route = swarm_runner_route(invocation, destination, POOL)
            assert route is not None, tool
        else:
            with pytest.raises(InvalidInputError, match=r"fits no (capacity )?class"):
                swarm_runner_route(invocation, destination, POOL)
    assert len(tools) > len(CORES)


def test_the_environment_names_the_published_file() -> None:
    (first, own) = yaml.safe_load(DATABASE_ENVIRONMENT)["tpv"]["tpv_config_files"]
    assert first in (ROOT / "tests" / "lab" / "tpv-database").read_text()
    assert own.endswith("tpv.yml")
