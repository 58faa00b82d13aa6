"""Galaxy's celery workers set the metadata, with PostgreSQL as their broker.

galaxy.yml has what docs/how-to/galaxy-in-production.md says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from end_to_end.production import Production
from end_to_end.shell_tool import BUSYBOX, ShellTool

DOCUMENT = Path(__file__).parents[4] / "docs/how-to/galaxy-in-production.md"
# A tool of each name runs in the environment of its name.
STRATEGIES = ("directory_celery", "extended_celery")
TASK = "galaxy.set_job_metadata"
JOBS = 10


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    (text,) = re.findall(r"^```yaml\n(galaxy:\n.*?)^```$", DOCUMENT.read_text(), re.M | re.DOTALL)
    settings = yaml.safe_load(text)["galaxy"]
    assert settings["metadata_strategy"] == STRATEGIES[0]
    settings["celery_conf"]["result_extended"] = True  # with the names of the tasks
    with Production.running(
        tools=[ShellTool(name, image=BUSYBOX) for name in STRATEGIES],
        environments={name: {"metadata_strategy": name} for name in STRATEGIES},
        celery=True,
        # Galaxy would set what celery did not.
        retry_metadata_internally=False,
        **settings,
    ) as running:
        yield running


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_job_runs_once_and_celery_sets_its_metadata(
    production: Production, strategy: str
) -> None:
    client, database = production.client, production.database
    files = [production.runs / f"{strategy}-{number}" for number in range(JOBS)]
    before = database.finished_tasks(TASK)
    text = "echo $$ >> {0}; basename {0}; echo second line"
    jobs = {client.start(strategy, text=text.format(file)): file for file in files}
    for job, details in client.wait(jobs).items():
        assert details["state"] == "ok"
        assert len(jobs[job].read_text().splitlines()) == 1
        dataset = client.get(f"datasets/{details['outputs']['out']['id']}")
        assert (dataset["state"], dataset["metadata_data_lines"]) == ("ok", 2)
        assert client.output(details) == f"{jobs[job].name}\nsecond line\n"
    assert database.finished_tasks(TASK) - before == JOBS
