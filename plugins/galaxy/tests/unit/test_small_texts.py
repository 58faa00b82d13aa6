"""Which metadata Galaxy sets itself: that of small texts, and of nothing else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy import model
from galaxy.datatypes.registry import Registry
from galaxy.job_execution.datasets import DatasetPath
from swarm_runner_galaxy.small_texts import MAX_SIZE_BYTES, may_set_metadata

LINES = b"one\ntwo\n"


@pytest.fixture(scope="module", autouse=True)
def datatypes() -> None:
    registry = Registry()
    registry.load_datatypes()
    model.set_datatypes_registry(registry)


class FinishedJob(SimpleNamespace):
    """A job with one output, and what Galaxy's job wrapper says about it."""

    def __init__(self, directory: Path, extension: str = "txt", content: bytes = LINES) -> None:
        self.path = directory / "output"
        self.path.write_bytes(content)
        self.destination: dict[str, Any] = {}
        dataset = model.Dataset(id=7)
        output = model.HistoryDatasetAssociation(extension=extension, dataset=dataset)
        self.job = model.Job()
        self.job.add_output_dataset("out", output)
        super().__init__(
            validate_outputs=False,
            tool_working_directory=str(directory),
            tool=SimpleNamespace(provided_metadata_file="galaxy.json"),
            job_io=SimpleNamespace(get_output_fnames=lambda: [DatasetPath(7, str(self.path))]),
            get_destination_configuration=self.destination.get,
        )

    def may_set_metadata(self) -> bool:
        return may_set_metadata(self, self.job)


@pytest.mark.parametrize("extension", ["txt", "tabular", "xml", "data", "h5"])
def test_a_small_text_is_galaxys_own(tmp_path: Path, extension: str) -> None:
    assert FinishedJob(tmp_path, extension).may_set_metadata()


def test_so_is_an_output_without_metadata(tmp_path: Path) -> None:
    assert FinishedJob(tmp_path, "h5", b"x" * 1_000_000).may_set_metadata()


@pytest.mark.parametrize("extension", ["bam", "fasta", "auto", "_sniff_"])
def test_other_datatypes_are_not(tmp_path: Path, extension: str) -> None:
    assert not FinishedJob(tmp_path, extension).may_set_metadata()


def test_each_output_has_to_be_one(tmp_path: Path) -> None:
    job = FinishedJob(tmp_path)
    other = model.HistoryDatasetAssociation(extension="bam", dataset=model.Dataset(id=7))
    job.job.add_output_dataset("other", other)
    assert not job.may_set_metadata()


@pytest.mark.parametrize(("size", "may"), [(0, True), (MAX_SIZE_BYTES, True), (65_537, False)])
def test_a_large_text_is_not(tmp_path: Path, size: int, may: bool) -> None:
    assert FinishedJob(tmp_path, content=b"x" * size).may_set_metadata() is may


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lines", content)
    return file.getvalue()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_a_compressed_text_is_not(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """A small file may be a large text."""
    assert not FinishedJob(tmp_path, content=compress(b"x" * 10_000_000)).may_set_metadata()


def a_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("put", [a_link, os.mkfifo, Path.mkdir, lambda _: None])
def test_only_a_file_is(tmp_path: Path, put: Callable[[Path], None]) -> None:
    """A job may leave anything in the place of its output."""
    job = FinishedJob(tmp_path)
    job.path.unlink()
    put(job.path)
    assert not job.may_set_metadata()


def test_the_administrator_may_say_no(tmp_path: Path) -> None:
    job = FinishedJob(tmp_path)
    job.destination["retry_metadata_internally"] = "false"
    assert not job.may_set_metadata()


def test_what_galaxy_would_treat_differently_is_not(tmp_path: Path) -> None:
    validated, changed, described = (FinishedJob(tmp_path) for _ in range(3))
    validated.validate_outputs = True
    action = model.PostJobAction("ChangeDatatypeAction", output_name="out")
    action.action_arguments = {"newtype": "tabular"}
    changed.job.add_post_job_action(action)
    assert not validated.may_set_metadata()
    assert not changed.may_set_metadata()
    assert described.may_set_metadata()
    (tmp_path / "galaxy.json").symlink_to("nowhere")
    assert not described.may_set_metadata()
