"""Inputs by URL on their way to the access point: what is sent, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Route
from swarm_runner.runner.staging import stage_inputs
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.submit.translation import translate
from tests.unit.htcondor_parser import parse_description
from tests.unit.runner.conftest import RunnerHarness

URL = "https://data.example.org/a b,$(X).gz?sig=%2Fx"
SENT = "https://data.example.org/a%20b%2C%24(X).gz?sig=%2Fx"


@pytest.fixture
def fetching(harness: RunnerHarness) -> RunnerHarness:
    """A runner whose pool fetches from one host."""
    sources = type(harness.destination.pool).model_validate(
        {"sources": ["https://data.example.org"]}
    )
    pool = harness.destination.pool.model_copy(update={"sources": sources.sources})
    harness.destination = harness.destination.model_copy(update={"pool": pool})
    return harness


def test_htcondor_gets_the_urls_and_their_names(fetching: RunnerHarness) -> None:
    (fetching.volume / "local").touch()
    invocation = fetching.invocation(
        "k",
        working_directory=str(fetching.volume),
        inputs=["local", {"source": URL, "name": "in/x, y", "checksum": "md5:" + "0" * 32}],
    )
    route = Route(destination="d", capacity_class="normal", candidates=("normal",), reason="r")
    written = parse_description(translate(invocation, route, fetching.destination.pool))
    assert written.files("transfer_input_files") == ["local", SENT]
    assert parse_qs(written.attribute("My.PluginData")) == {
        "url": [SENT],
        "name": ["in/x, y"],
        "checksum": ["md5:" + "0" * 32],
    }


def test_a_job_with_nothing_but_urls_is_not_spooled(fetching: RunnerHarness) -> None:
    with fetching.runner() as runner:
        (job,) = runner.submit([fetching.invocation("k", inputs=[URL])])
    ad = fetching.access_point.queue[job.id]
    assert ad["TransferInput"] == SENT
    assert fetching.access_point.calls["spool"] == 0


def test_urls_beside_staged_files_stay(fetching: RunnerHarness, tmp_path: Path) -> None:
    (tmp_path / "two words").touch()
    invocation = Invocation(
        image="debian", command=["true"], working_directory=str(tmp_path), inputs=["two words", URL]
    )
    route = Route(destination="d", capacity_class="normal", candidates=("normal",), reason="r")
    description = translate(invocation, route, fetching.destination.pool)
    job = PreparedJob(invocation, description, spool=True)
    with stage_inputs([job]) as [staged]:
        directory, url = staged.description["transfer_input_files"].strip('"').split(",")
        assert [path.name for path in Path(directory).iterdir()] == ["two words"]
        assert url == SENT.replace("$", "$(DOLLAR)") or url == SENT
    assert replace(staged, description=description) == job


def test_all_faults_at_once_and_nothing_is_sent(fetching: RunnerHarness) -> None:
    batch = [
        fetching.invocation("a", inputs=["https://evil.org/x?sig=secret", "missing"]),
        fetching.invocation("b", inputs=["http://data.example.org/x"]),
        fetching.invocation("c", inputs=[URL]),
    ]
    with fetching.runner() as runner, pytest.raises(InvalidInputError) as caught:
        runner.submit(batch)
    found = [(item.key, item.path, item.message) for item in caught.value.diagnostics]
    assert [(key, path) for key, path, _ in found] == [
        ("a", "inputs"),
        ("a", "inputs"),
        ("b", "inputs"),
    ]
    text = str(found)
    assert "https://evil.org/x is below none of the sources" in text
    assert "secret" not in text
    assert fetching.access_point.calls["submit"] == 0


def test_a_pool_without_sources_fetches_nothing(harness: RunnerHarness) -> None:
    with harness.runner() as runner, pytest.raises(InvalidInputError, match=r"\(none\)"):
        runner.submit([harness.invocation("a", inputs=[URL])])


def test_nobody_sets_what_the_plugin_reads(harness: RunnerHarness) -> None:
    for name in ("PluginData", "https_plugindata"):
        with pytest.raises(ValueError, match="cannot be set"):
            harness.invocation("a", attributes={name: "x"})
    assert JobId(1, 0) not in harness.access_point.queue
