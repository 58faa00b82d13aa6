"""The submit language: the one place where a value becomes submit-language text.

Rules, from the HTCondor manual (condor_submit; "Arguments and environment, new syntax") and from
HTCondor 25.14's source (config.cpp, next_config_macro; qmgmt.cpp, GetExpandedJobAd):

- Arguments and environment are in one pair of double quotes, in which a double quote is doubled.
  Single quotes group, and a single quote inside them is doubled. HTCondor reads them and writes
  its own quoting into the job ad.
- A macro is a dollar, a word or nothing, and an opening parenthesis. Inside quotes, a dollar that
  would start one is split off: `'a'$'(X)'` is the word `a$(X)`.
- Elsewhere `$(DOLLAR)` stands for a dollar. HTCondor reads the result again, so that a text can
  contain only one of them (`model.text.reject_macros`).
- HTCondor replaces `$$(X)` when the job matches, in any attribute; `$$(DOLLARDOLLAR)` then gives
  two dollars. Only arguments and environment can use it.
- An attribute is an old ClassAd expression: in its strings only a double quote is escaped.
- HTCondor skips lines of item data that begin with `#`, and stops at one that begins with `)`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

from swarm_runner.model.text import MACRO_START, PROCESS_MACRO, reject_control_characters

_MATCH_TIME = re.compile(r"\$\$+(?=\()")


def escape_macros(value: str) -> str:
    """Return a text that the submit language reads back as `value`, without expanding macros."""
    return MACRO_START.sub("$(DOLLAR)", reject_control_characters(value))


def escape_path(value: str) -> str:
    """Return a path in which only `$(Process)`, the job's number in its cluster, is expanded."""
    return PROCESS_MACRO.join(escape_macros(part) for part in value.split(PROCESS_MACRO))


def quote_file_list(names: Iterable[str], escape: Callable[[str], str] = escape_macros) -> str:
    """Return a comma-separated list of files. Its quotes allow it to be empty."""
    return '"' + ",".join(map(escape, names)) + '"'


def classad_string(value: str) -> str:
    """Return `value` as a ClassAd string literal.

    A literal that ends with a backslash must be at the end of its expression.
    """
    return escape_macros('"' + value.replace('"', '\\"') + '"')


def classad_value(value: bool | int | float | str) -> str:
    """Return `value` as a ClassAd literal."""
    return classad_string(value) if isinstance(value, str) else json.dumps(value)


def quote_arguments(values: Iterable[str]) -> str:
    """Return arguments in HTCondor's new syntax, in one pair of double quotes."""
    raw = " ".join(_quote_argument(value) for value in values)
    return '"' + reject_control_characters(raw).replace('"', '""') + '"'


def _quote_argument(value: str) -> str:
    """Return one single-quoted word in which no dollar starts a macro."""
    if "$" in value:
        value = _MATCH_TIME.sub(_escape_match_time_dollars, value)
    inside = value.replace("'", "''")
    if "$" in value:
        inside = MACRO_START.sub(_split_dollars, inside)
    return f"'{inside}'"


def _escape_match_time_dollars(dollars: re.Match[str]) -> str:
    pairs, single = divmod(len(dollars[0]), 2)
    return "$$(DOLLARDOLLAR)" * pairs + "$" * single


def _split_dollars(dollars: re.Match[str]) -> str:
    # Every second dollar, and the last one, is outside of the single quotes.
    pairs, single = divmod(len(dollars[0]), 2)
    return "'$'" * single + "$'$'" * pairs


def quote_environment(variables: Mapping[str, str]) -> str:
    """Return `NAME=value` words in HTCondor's new syntax."""
    return quote_arguments(f"{name}={value}" for name, value in variables.items())
