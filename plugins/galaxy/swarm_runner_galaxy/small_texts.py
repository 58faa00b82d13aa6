"""Small texts among a job's outputs, whose metadata Galaxy may set itself.

To describe an output to another process costs Galaxy more than to count the lines of a small file,
which it reads for its preview anyway. Everything else is set outside of its process (`metadata`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from galaxy.datatypes.data import Data, Text
from galaxy.datatypes.tabular import Tabular
from galaxy.util import asbool
from galaxy.util.checkers import is_bz2, is_gzip, is_xz, is_zip

MAX_SIZE_BYTES = 64 * 1024
# How datatypes set metadata: not at all, or by reading lines, without a library in C.
_NOTHING, _LINE_READERS = Data.set_meta, (Text.set_meta, Tabular.set_meta)
_COMPRESSION_CHECKS = (is_gzip, is_bz2, is_xz, is_zip)
# What Galaxy has to find out from the file, or from the tool.
_UNKNOWN_EXTENSIONS = ("auto", "_sniff_")


def may_set_metadata(job_wrapper: Any, job: Any) -> bool:
    """Return whether Galaxy sets the metadata of a job's outputs itself while it finishes the job.

    It does where `retry_metadata_internally` lets it, as after a failure outside of its process.
    Anything that it would treat differently there, such as a tool that provides metadata or an
    output to be validated, is not for it.
    """
    return (
        asbool(job_wrapper.get_destination_configuration("retry_metadata_internally", True))
        and not job_wrapper.validate_outputs
        and not job.get_change_datatype_actions()
        and not os.path.lexists(
            Path(job_wrapper.tool_working_directory, job_wrapper.tool.provided_metadata_file)
        )
        and _are_small_texts(job_wrapper, job)
    )


def _are_small_texts(job_wrapper: Any, job: Any) -> bool:
    """Return whether all outputs are small texts, or have no metadata to be set."""
    paths = {path.dataset_id: str(path) for path in job_wrapper.job_io.get_output_fnames()}
    for association in (*job.output_datasets, *job.output_library_datasets):
        output = association.dataset
        set_meta = type(output.datatype).set_meta
        is_small = set_meta in _LINE_READERS and _is_small_text(paths.get(output.dataset.id, ""))
        if output.ext in _UNKNOWN_EXTENSIONS or not (is_small or set_meta is _NOTHING):
            return False
    return True


def _is_small_text(path: str) -> bool:
    """Return whether this is a small file. Compressed, a small file may be a large text.

    The job may have put a link or a pipe there.
    """
    try:
        status = Path(path).lstat()
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_size <= MAX_SIZE_BYTES
            and not any(is_compressed(path) for is_compressed in _COMPRESSION_CHECKS)
        )
    except OSError:
        return False
