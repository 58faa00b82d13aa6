"""The kinds of text that an invocation or a configuration may hold.

Each kind is checked when the model is built, so that an error names the field.
"""

from __future__ import annotations

import difflib
import itertools
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

# Docker's reference grammar (distribution/reference): [host[:port]/]path[:tag][@digest].
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,})?"
)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
# What HTCondor reads as the start of a macro.
MACRO_START = re.compile(r"\$+(?=[A-Za-z0-9_]*\()")
PROCESS_MACRO = "$(Process)"
# What submit files name streams and outputs by. HTCondor ignores the case of these.
_SUBMIT_MACRO = re.compile(r"\$\((?:Cluster|ClusterId|Process|ProcId|Step|Row|ItemIndex)\)", re.I)
_DOCKER_SCHEME = "docker://"
# C0, DEL and C1 are Unicode category Cc; lone surrogates (Cs) have no UTF-8 form.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# The same without line breaks and tabs, and what changes the direction of the text around it.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Comparing names takes time in proportion to their length and number.
_MAX_COMPARED_LENGTH, _MAX_COMPARED_NAMES = 100, 300
_MAX_LISTED_NAMES = 20
# Docker accepts 255 characters in a name and 128 in a tag; a digest is shorter.
_MAX_IMAGE_LENGTH = 512
# What a process cannot receive: C strings end at NUL.
_IMPOSSIBLE = re.compile(r"[\x00\ud800-\udfff]")


class FrozenModel(BaseModel):
    """Base of every model: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """Return the keys that this model accepts."""
        return list(cls.model_fields)


def refusal(message: str) -> PydanticCustomError:
    """Return the error of a validator that refuses a value."""
    # A user's text may contain braces, which PydanticCustomError formats, and lone surrogates.
    encodable = message.encode(errors="backslashreplace").decode()
    return PydanticCustomError("refused", "{message}", {"message": encodable})


def raise_diagnostics(
    model: BaseModel, diagnostics: Iterable[tuple[tuple[str | int, ...], str]]
) -> None:
    """Raise what a model's validator found, as errors of the model's own fields.

    Each item is a path below the model and a message. Without items, nothing happens. Raises
    pydantic's ValidationError, which pydantic merges into the errors of the whole document.
    """
    details = [
        InitErrorDetails(type=refusal(message), loc=path, input=None)
        for path, message in diagnostics
    ]
    if details:
        raise ValidationError.from_exception_data(type(model).__name__, details)


def reject_control_characters(value: str) -> str:
    """Reject what would start a new statement in a submit description."""
    found = _CONTROL.search(value)
    if found:
        name = unicodedata.name(found[0], f"U+{ord(found[0]):04X}")
        raise refusal(
            f"contains a control character ({name}) at position {found.start()}, which HTCondor's "
            "submit language cannot represent; put text of several lines in an input file",
        )
    return value


def _image(value: str) -> str:
    value = value.removeprefix(_DOCKER_SCHEME)
    if not value:
        raise refusal("is empty; name a container image, for example debian:trixie")
    if len(value) > _MAX_IMAGE_LENGTH:
        raise refusal(
            f"has {len(value)} characters, more than an image reference can have; write "
            "[registry[:port]/]name[:tag][@digest]",
        )
    if not _IMAGE.fullmatch(reject_control_characters(value)):
        raise refusal(
            f"{value!r} is not a valid image reference; write "
            "[registry[:port]/]name[:tag][@digest] in lower case, for example "
            "biocontainers/fastqc:0.12.1",
        )
    return value


def _key(value: str) -> str:
    if not _KEY.fullmatch(reject_control_characters(value)):
        raise refusal(
            f"{value!r} is not a valid key; use 1 to 200 letters, digits and . _ : / @ + - "
            "and begin with a letter or a digit",
        )
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise refusal(
            f"{value!r} is not a valid name; use 1 to 40 lower-case letters, digits and hyphens "
            "and begin with a letter",
        )
    return value


def reject_macros(value: str) -> str:
    """Reject dollars that the submit language would expand, except one that can be escaped.

    Source: `swarm_runner.submit.language` describes what HTCondor expands, and where.
    """
    runs = list(MACRO_START.finditer(reject_control_characters(value)))
    if not runs:
        return value
    first = runs[0]
    if len(runs) > 1 or len(first[0]) > 1 or value[first.end() :].upper().startswith("(DOLLAR"):
        raise refusal(
            f"{value!r} contains '$(', which HTCondor's submit language cannot represent here; "
            "pass such text in an argument or an environment variable",
        )
    return value


def _process_text(value: str) -> str:
    found = _IMPOSSIBLE.search(value)
    if found:
        raise refusal(
            f"contains U+{ord(found[0]):04X} at position {found.start()}, which no argument and no "
            "environment variable can contain; remove it, or put the data in an input file",
        )
    return value


def _path(value: str) -> str:
    if not reject_control_characters(value):
        raise refusal("is empty; name a file")
    if value != value.strip():
        raise refusal(
            f"{value!r} begins or ends with a space, which HTCondor would drop; rename the file",
        )
    if value.endswith("\\"):
        raise refusal(
            f"{value!r} ends with a backslash, which would continue the line; rename the file",
        )
    if '"' in value:
        raise refusal(
            f"{value!r} contains a double quote, which HTCondor rejects in a path; rename the file",
        )
    return reject_macros(value)


def _reject_submit_macros(value: str) -> None:
    found = _SUBMIT_MACRO.search(value.replace(PROCESS_MACRO, ""))
    if found:
        raise refusal(
            f"{value!r} contains {found[0]}, which only a submit file has; the one macro here is "
            f"{PROCESS_MACRO}, the job's number among `repeat`"
        )


def _stream(value: str) -> str:
    _reject_submit_macros(value)
    if "$$(" in value:
        raise refusal(
            f"{value!r} contains '$$(', which HTCondor expands when it matches the job; rename "
            "the file",
        )
    _path(value.replace(PROCESS_MACRO, "0"))
    if value.endswith("/"):
        raise refusal(f"{value!r} is a directory; name a file in it")
    return value


def _file(value: str) -> str:
    # The names form a comma-separated list in transfer_input_files and transfer_output_files.
    _transferred(_path(value))
    if "," in value:
        raise refusal(
            f"{value!r} contains a comma, which separates files in HTCondor's lists; rename the "
            "file",
        )
    return value


def _transferred(value: str) -> str:
    if not reject_control_characters(value):
        raise refusal("is empty; name a file or a directory")
    if "://" in value:
        raise refusal(f"{value!r} is a URL; download it first, or put it on a pool volume")
    return value


def _sandbox_path(value: str) -> str:
    """Return the normal form of a path in the job's directory."""
    path = posixpath.normpath(_transferred(value))
    if path.startswith("/") or path.split("/")[0] == "..":
        raise refusal(
            f"{value!r} is outside the job's directory; write a path relative to it, or let the "
            "job use a pool volume",
        )
    return path


def _without_backslash(value: str) -> str:
    if "\\" in value:
        raise refusal(f"{value!r} contains a backslash, which HTCondor reads as /; rename it")
    return value


def _output(value: str) -> str:
    _reject_submit_macros(value)
    if "**" in value:
        raise refusal(f"{value!r} contains **; write one pattern for each level of directories")
    # The access point writes files of jobs in some directories only (access_point_policy.py).
    path = _sandbox_path(_without_backslash(value))
    if path == ".":
        raise refusal(
            f"{value!r} is the job's whole directory; name the outputs, or a pattern ('*.txt')"
        )
    return path


def _absolute(value: str) -> str:
    if not _path(value).startswith("/"):
        raise refusal(f"{value!r} is not an absolute path; begin it with /")
    return _without_backslash(value)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question that ends a message, or an empty text if no name is similar."""
    if len(name) > _MAX_COMPARED_LENGTH:
        return ""
    compared = itertools.islice(
        (known for known in names if len(known) <= _MAX_COMPARED_LENGTH), _MAX_COMPARED_NAMES
    )
    close = difflib.get_close_matches(name, list(compared), 1)
    return f"; did you mean {close[0]}?" if close else ""


def list_names(names: Collection[object], separator: str = ", ") -> str:
    """Return names for a message: the first ones, and how many more there are."""
    listed = separator.join(map(str, itertools.islice(names, _MAX_LISTED_NAMES)))
    unlisted = len(names) - _MAX_LISTED_NAMES
    return f"{listed}{separator}and {unlisted} more" if unlisted > 0 else listed


def printable(text: str) -> str:
    """Return a text of unknown origin for a terminal or a log, with control characters escaped.

    An escape sequence could otherwise move the cursor, or change what was printed before. Line
    breaks and tabs stay.
    """
    if text.isprintable():  # as nearly all is; much faster than the pattern
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


Label = Annotated[str, AfterValidator(reject_macros)]
Text = Annotated[str, AfterValidator(reject_control_characters)]
ProcessText = Annotated[str, AfterValidator(_process_text)]
Image = Annotated[str, AfterValidator(_image)]
Key = Annotated[str, AfterValidator(_key)]
Name = Annotated[str, AfterValidator(_name)]
StreamPath = Annotated[str, AfterValidator(_stream)]
FileName = Annotated[str, AfterValidator(_file)]
InputPath = Annotated[str, AfterValidator(_transferred)]
OutputPath = Annotated[str, AfterValidator(_output)]
SandboxPath = Annotated[str, AfterValidator(_sandbox_path)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
