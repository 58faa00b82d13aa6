"""The shell wrapper around a command that HTCondor cannot start as it is.

HTCondor's submit language carries no control characters, HTCondor overwrites some environment
variables, and it does not expand patterns in a list of outputs. A wrapper of one line, which the
job's `/bin/sh` runs, restores what the submit language cannot carry, and moves outputs to
directories that HTCondor can name. It uses builtins of the shell only; to move outputs it also
uses `mkdir` and `mv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from swarm_runner.model.text import PROCESS_MACRO

# The wrapper moves outputs to directories with a number and the output's name below this one.
OUTPUTS_DIRECTORY = ".swarm-runner-outputs"
# The job's number among `repeat`.
PROCESS_VARIABLE = "SWARM_RUNNER_PROCESS"
# The executor's configuration (ENVIRONMENT_FOR_AssignedGPUs) sets these after the job's own.
OVERWRITTEN_VARIABLES = frozenset({"CUDA_VISIBLE_DEVICES"})

_SHELL = "/bin/sh"
_VARIABLE = "_sr_"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")
_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
# A program that the submit command `executable` carries as it is.
_PLAIN_PROGRAM = re.compile(r"[^\s$\\\x00-\x1f\x7f-\x9f](?:[^$\x00-\x1f\x7f-\x9f]*[^\s$\\])?")
# An output that the list transfer_output_files carries as it is.
_PLAIN_OUTPUT = re.compile(r'[^\s,"$*?\[\\](?:[^,"$*?\[]*[^\s,"$*?\[\\])?')
_PATTERN = re.compile(r"[*?]|\[!?\]?[^]/]*\]")
_UNSAFE_IN_LABEL = re.compile(r"[^\w.*?\[\]!-]")


def has_control_characters(text: str) -> bool:
    """Return whether a text needs the wrapper to reach the job."""
    return _CONTROL.search(text) is not None


def is_plain_output(name: str) -> bool:
    """Return whether HTCondor transfers an output by its name, without the wrapper."""
    return _PLAIN_OUTPUT.fullmatch(name.replace(PROCESS_MACRO, "0")) is not None


def is_pattern(name: str) -> bool:
    """Return whether an output's name contains `*`, `?` or `[...]`."""
    return _PATTERN.search(name) is not None


def output_directories(outputs: Sequence[str]) -> list[str]:
    """Return the directory that the wrapper moves each output to.

    The names appear in HTCondor's messages about missing outputs, and contain the output's.
    """
    return [
        f"{OUTPUTS_DIRECTORY}/{number}:{_UNSAFE_IN_LABEL.sub('_', name)}"[:200]
        for number, name in enumerate(outputs)
    ]


def wrap(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    outputs: Sequence[str] = (),
    inputs: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the command line for HTCondor: `argv` itself, or the wrapper with `argv`.

    `environment` has the variables that the wrapper sets, and `outputs` the names and patterns of
    the outputs that it moves. A pattern does not match `inputs`.
    """
    escaped = [number for number, value in enumerate(argv, 1) if has_control_characters(value)]
    plain = not escaped and _PLAIN_PROGRAM.fullmatch(argv[0]) is not None
    if plain and not environment and not outputs:
        return tuple(argv)
    steps = [_export(name, value) for name, value in environment.items()]
    last = escaped[-1] if escaped else 0
    for number in range(1, last + 1):
        value = f"$(printf '%bx' \"${{{number}}}\")" if number in escaped else f"${{{number}}}x"
        steps.append(f"{_VARIABLE}{number}={value}")
    if last:
        quoted = " ".join(f'"${{{_VARIABLE}{number}%x}}"' for number in range(1, last + 1))
        steps.append(f'shift {last}; set -- {quoted} "$@"')
    steps += _run_and_move(outputs, sorted(inputs)) if outputs else ['exec "$@"']
    values = [
        _escape(value) if number in escaped else value for number, value in enumerate(argv, 1)
    ]
    return (_SHELL, "-c", "; ".join(steps), "sh", *values)


def _export(name: str, value: str) -> str:
    if not has_control_characters(value):
        return f"export {name}={_quote(value)}"
    # A command substitution removes newlines at the end, which the `x` protects.
    return f"{name}=$(printf '%bx' {_quote(_escape(value))}); export {name}=\"${{{name}%x}}\""


def _run_and_move(outputs: Sequence[str], inputs: Sequence[str]) -> Iterator[str]:
    """Yield the steps that run the command, and move its outputs when it has ended.

    The shell passes SIGTERM on, since a container's first process ignores it by default. Then it
    creates a directory for each output that exists. Only after that it moves files: outputs may
    name the same file.
    """
    # A signal may come before the process is known.
    yield "_sr_t=; trap '_sr_t=1; kill -s TERM \"$_sr_process\" 2>/dev/null' TERM"
    yield 'exec 3<&0; "$@" <&3 3<&- & _sr_process=$!; exec 3<&-; ${_sr_t:+kill $_sr_process}'
    yield (
        'while :; do wait "$_sr_process"; _sr_status=$?; '
        'kill -s 0 "$_sr_process" 2>/dev/null || break; done'
    )
    yield '_sr_mark() { mkdir -p "$_sr_to"; }'
    yield '_sr_move() { mkdir -p "$_sr_to/${_sr_f%/*}" && mv "$_sr_f" "$_sr_to/$_sr_f"; }'
    yield (
        '_sr_one() { _sr_to=$2; _sr_f=$3; if [ -e "$_sr_f" ] || [ -L "$_sr_f" ]; then "$1"; fi; }'
    )
    # A pattern does not match inputs and HTCondor's own files.
    skipped = "|".join(_quote(f"./{name}") for name in (OUTPUTS_DIRECTORY, *inputs))
    yield (
        "_sr_each() { _sr_do=$1; _sr_in=$2; shift 2; for _sr_g do case $_sr_g in "
        f"./_condor_*|./.docker_*|./.*.ad|{skipped}) ;; "
        '*) _sr_one "$_sr_do" "$_sr_in" "$_sr_g";; esac; done; }'
    )
    directories = output_directories(outputs)
    pairs = sorted(zip(outputs, directories, strict=True), key=lambda pair: is_pattern(pair[0]))
    for action in ("_sr_mark", "_sr_move"):
        for name, directory in pairs:
            file, target = _quote_name(f"./{name}"), _quote(directory)
            literal = f"_sr_one {action} {target} {file}"
            if is_pattern(name):
                matches = f"_sr_each {action} {target} ./{_quote_pattern(name)}"
                yield f"if [ -e {file} ]; then {literal}; else {matches}; fi"
            else:
                yield literal
    yield 'exit "$_sr_status"'


def _escape(text: str) -> str:
    """Return what printf's `%b` reads back as the text, without control characters."""
    return _ESCAPED.sub(_escape_character, text)


def _escape_character(found: re.Match[str]) -> str:
    short = _SHORT_ESCAPES.get(found[0])
    return short or "".join(f"\\0{byte:03o}" for byte in found[0].encode())


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _quote_name(text: str) -> str:
    """Return a name for the shell, with the job's number for `$(Process)`."""
    return f'"${PROCESS_VARIABLE}"'.join(map(_quote, text.split(PROCESS_MACRO)))


def _quote_pattern(pattern: str) -> str:
    """Return a pattern for the shell, in which only `*`, `?` and `[...]` have a meaning."""
    quoted, end = [], 0
    for found in _PATTERN.finditer(pattern):
        quoted.append(_quote_name(pattern[end : found.start()]))
        quoted.append(found[0] if found[0] in "*?" else _quote_bracket(found[0]))
        end = found.end()
    return "".join([*quoted, _quote_name(pattern[end:])])


def _quote_bracket(bracket: str) -> str:
    negated = "!" if bracket.startswith("[!") else ""
    content = bracket[1 + len(negated) : -1]
    return f"[{negated}" + "".join(c if c == "-" else _quote(c) for c in content) + "]"
