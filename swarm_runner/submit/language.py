"""Submit descriptions, and the one place where a value becomes submit-language text.

Rules, from the HTCondor manual (condor_submit; "Arguments and environment, new syntax") and from
HTCondor 25.14's source (config.cpp, next_config_macro; qmgmt.cpp, GetExpandedJobAd):

- arguments and environment go in one pair of double quotes, in which a double quote is doubled;
  single quotes group, and a single quote inside them is doubled. HTCondor reads them and writes
  its own quoting into the job ad: nothing of ours is left there;
- a macro is a dollar, a word or nothing, and an opening parenthesis. Among quotes, a dollar that
  would begin one is set apart: `'a'$'(X)'` is the word `a$(X)`;
- elsewhere `$(DOLLAR)` stands for a dollar. HTCondor reads again what it has put in its place, so
  that a text can carry one of them (`model.text.one_dollar`);
- `$$(X)` is replaced when the job matches, in any attribute; `$$(DOLLARDOLLAR)` then gives two
  dollars. It too is for arguments and environment alone;
- an attribute is an old ClassAd expression: in its strings only a double quote is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from swarm_runner.model.text import MACRO_START, PROCESS_MACRO, reject_control_characters

_MATCH_TIME = re.compile(r"\$\$+(?=\()")


# HTCondor skips lines of item data that begin with #, and ends at one that begins with ).
# Run on a pool: see the note on two dollars above before changing how words() writes them.
_DOLLARS = re.compile(r"\$\$?")


def escape_macros(value: str) -> str:
    """`value` as the submit language reads it back: no macro in it is expanded."""
    return MACRO_START.sub("$(DOLLAR)", reject_control_characters(value))


def escape_path(value: str) -> str:
    """A path in which `$(Process)`, alone among macros, is the job's number in its cluster."""
    return PROCESS_MACRO.join(escape_macros(part) for part in value.split(PROCESS_MACRO))


def quote_file_list(names: Iterable[str]) -> str:
    """A comma-separated list of files. Only between quotes can it be empty, and mean nothing."""
    return '"' + ",".join(escape_macros(name) for name in names) + '"'


def classad_string(value: str) -> str:
    """`value` as a ClassAd string literal, that ends its expression or has no backslash."""
    return escape_macros('"' + value.replace('"', '\\"') + '"')


def classad_value(value: bool | int | float | str) -> str:
    """`value` as a ClassAd literal."""
    return classad_string(value) if isinstance(value, str) else json.dumps(value)


def quote_arguments(values: Iterable[str]) -> str:
    """`values` in HTCondor's new syntax, within one pair of double quotes."""
    raw = " ".join(_quote_argument(value) for value in values)
    return '"' + reject_control_characters(raw).replace('"', '""') + '"'


def _quote_argument(value: str) -> str:
    """One single-quoted word in which no dollar touches another, or what would make it a macro."""
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
    # Every second dollar leaves the quotes, the last one among them.
    pairs, single = divmod(len(dollars[0]), 2)
    return "'$'" * single + "$'$'" * pairs


def quote_environment(variables: Mapping[str, str]) -> str:
    """`NAME=value` words in HTCondor's new syntax."""
    return quote_arguments(f"{name}={value}" for name, value in variables.items())
