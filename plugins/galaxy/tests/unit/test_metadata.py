"""Workers set the metadata of several jobs, and end with Galaxy."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy import model
from galaxy.datatypes.registry import Registry
from galaxy.metadata import PortableDirectoryMetadataGenerator, get_metadata_compute_strategy
from galaxy.objectstore import config_to_dict
from swarm_runner_galaxy import metadata
from swarm_runner_galaxy.metadata import LOG_NAME, MetadataSetter

TIMEOUT_S = 5
MakeJobDirectory = Callable[..., Path]


@pytest.fixture(scope="module")
def setter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetadataSetter]:
    # Galaxy's own directory for temporary files, which may have a long path.
    deep = tmp_path_factory.mktemp("galaxy") / ("deep" * 30)
    deep.mkdir()
    registry = Registry()
    registry.load_datatypes()
    model.set_datatypes_registry(registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(deep))
        metadata_setter = MetadataSetter(lambda path: registry.to_xml_file(path=path), 1, TIMEOUT_S)
    yield metadata_setter
    metadata_setter.close()


@pytest.fixture
def make_job_directory(app: Any, setter: MetadataSetter, tmp_path: Path) -> MakeJobDirectory:
    """Return a function that creates the directory of an ended job, ready for its metadata."""

    def make(name: str, strategy: str = "directory", *, blocked: bool = False) -> Path:
        directory, data = tmp_path / name, tmp_path / f"{name}.dat"
        (directory / "working").mkdir(parents=True)
        (directory / "outputs").mkdir()
        if blocked:
            os.mkfifo(data)
        else:
            data.write_text("one\ntwo\nthree\n")
        for stream in ("stdout", "stderr"):
            (directory / f"outputs/tool_{stream}").write_text(f"output of {name}")
        session, ended = app.model.session, model.Job()
        output = model.HistoryDatasetAssociation(
            extension="txt", create_dataset=True, sa_session=session
        )
        output.dataset.external_filename = str(data)
        session.add_all([ended, output])
        ended.add_output_dataset("out", output)
        session.commit()
        (directory / f"galaxy_{ended.id}.ec").write_text("0")
        generator = get_metadata_compute_strategy(
            app.config, ended.id, metadata_strategy_override=strategy
        )
        # Galaxy 25.0 does not know these yet.
        known = signature(PortableDirectoryMetadataGenerator.setup_external_metadata).parameters
        newer = (
            "uses_tool_provided_metadata",
            "allows_unnamed_outputs",
            "allows_external_output_paths",
        )
        generator.setup_external_metadata(
            {"out": output},
            {},
            session,
            tmp_dir=str(directory),
            output_fnames=[SimpleNamespace(real_path=str(data), false_path=None)],
            datatypes_config=setter.datatypes_path,
            job_metadata=str(directory / "working/galaxy.json"),
            object_store_conf=object_store_conf(tmp_path),
            tool=SimpleNamespace(
                stdio_exit_codes=[],
                stdio_regexes=[],
                outputs={},
                output_collections={},
                config_file="tool.xml",
            ),
            job=ended,
            include_command=False,
            kwds={"overwrite": False},
            **{name: False for name in newer if name in known},
        )
        return directory

    return make


def object_store_conf(home: Path) -> dict[str, Any]:
    config = SimpleNamespace(
        object_store_check_old_style=False,
        enable_quotas=False,
        file_path=str(home / "objects"),
        umask=0o77,
        jobs_directory=str(home),
        new_file_path=str(home),
        object_store_cache_path=str(home),
        object_store_cache_size=-1,
        gid=os.getgid(),
    )
    return {
        "type": "disk",
        "store_by": "uuid",
        "files_dir": config.file_path,
        "extra_dirs": [
            {"type": "temp", "path": str(home)},
            {"type": "job_work", "path": str(home)},
        ],
        "config": config_to_dict(config),
    }


def worker_pids(setter: MetadataSetter) -> list[int]:
    assert setter._server is not None
    pid = setter._server.pid
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def data_lines(directory: Path) -> Any:
    """Return the metadata element `data_lines` of the output."""
    extended = directory / "metadata/outputs_populated/datasets_attrs.txt"
    if extended.exists():
        (attributes,) = json.loads(extended.read_text())
        return attributes["metadata"]["data_lines"]
    return json.loads((directory / "metadata/metadata_out_out").read_text())["data_lines"]


def test_the_server_can_be_started_before_the_first_job(
    setter: MetadataSetter, make_job_directory: MakeJobDirectory
) -> None:
    setter.warm_up()
    server = setter._server
    assert server is not None
    assert setter.set_metadata(str(make_job_directory("warm")), extended=False)
    assert setter._server is server


def test_a_server_that_does_not_start_stops_no_boot(caplog: pytest.LogCaptureFixture) -> None:
    def no_space(_path: str) -> None:
        raise OSError(28, "No space left on device")

    cold = MetadataSetter(no_space)
    cold.warm_up()
    cold.close()
    assert "The metadata server did not start" in caplog.text


def test_one_worker_sets_the_metadata_of_jobs_of_every_kind(
    setter: MetadataSetter, make_job_directory: MakeJobDirectory, tmp_path: Path
) -> None:
    assert setter.set_metadata(str(make_job_directory("first")), extended=False)
    pids = worker_pids(setter)
    for name, strategy in (("a b", "extended"), ("plain", "directory"), ("again", "extended")):
        directory = make_job_directory(name, strategy)
        assert setter.set_metadata(str(directory), extended=strategy == "extended"), (
            directory / LOG_NAME
        ).read_text()
        assert data_lines(directory) == 3
        result = (directory / "metadata/metadata_results_out").read_text()
        assert json.loads(result)[0] is True
    job_attributes = json.loads(
        (tmp_path / "again/metadata/outputs_populated/jobs_attrs.txt").read_text()
    )
    assert job_attributes[0]["tool_stdout"] == "output of again"
    assert worker_pids(setter) == pids
    # It leaves the job's directory.
    (worker,) = pids
    assert Path(f"/proc/{worker}/cwd").readlink() == Path("/")


def test_a_job_without_metadata_fails_and_the_next_job_is_handled(
    setter: MetadataSetter, make_job_directory: MakeJobDirectory, tmp_path: Path
) -> None:
    for name in ("one", "two words"):
        (tmp_path / name).mkdir()
        assert not setter.set_metadata(str(tmp_path / name), extended=False)
        assert "Failed to find metadata/params.json" in (tmp_path / name / LOG_NAME).read_text()
    assert setter.set_metadata(str(make_job_directory("good")), extended=False)


def test_a_job_that_hangs_times_out(
    setter: MetadataSetter, make_job_directory: MakeJobDirectory
) -> None:
    start = time.monotonic()
    assert not setter.set_metadata(str(make_job_directory("hangs", blocked=True)), extended=False)
    assert time.monotonic() - start < 3 * TIMEOUT_S
    assert setter.set_metadata(str(make_job_directory("good")), extended=False)


def test_a_worker_is_replaced_after_many_jobs(
    setter: MetadataSetter, make_job_directory: MakeJobDirectory
) -> None:
    directory = str(make_job_directory("good"))
    pids = set()
    for _ in range(metadata.MAX_JOBS_PER_WORKER + 1):
        assert setter.set_metadata(directory, extended=False)
        pids.update(worker_pids(setter))
    assert len(pids) == 2


def test_a_killed_server_is_restarted(
    setter: MetadataSetter, make_job_directory: MakeJobDirectory
) -> None:
    directory = str(make_job_directory("good"))
    assert setter.set_metadata(directory, extended=False)
    first, (worker,) = setter._server, worker_pids(setter)
    assert first is not None
    first.kill()
    first.wait()
    assert setter.set_metadata(directory, extended=False)
    assert setter._server is not first
    assert not is_running(worker)


def is_running(pid: int) -> bool:
    file = Path(f"/proc/{pid}/stat")
    return file.exists() and file.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_no_metadata_is_set_after_galaxy_stops() -> None:
    setter = MetadataSetter(lambda path: None)  # noqa: ARG005
    setter.close()
    with pytest.raises(InterruptedError):
        setter.set_metadata("/nonexistent", extended=False)
