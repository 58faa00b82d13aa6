"""Invocations with awkward texts, for every tier that reads submit descriptions back."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.text import MACRO_START

# What has a meaning somewhere on the way: submit language, HTCondor's quoting, ClassAds, shells.
MARKS = "'\"$(){}[]\\,#%;|&=*~^:@!?/<> aXDOLARy09_é☃𝄞\u00a0\u2028\u200b\ufeff"
PHRASES = (
    *("$(X)", "$$(Machine)", "$$$(Machine)", "$ENV(HOME)", "$$ENV(HOME)", "$(DOLLAR)", "$$"),
    *("$$(DOLLARDOLLAR)", "$(DOLLAR)(X)", "$$([1+1])", "$INT($(X))", "$F(x)", "$RANDOM_CHOICE(a)"),
    *("$(Process)", "$(item0)", "$(item0:$(X))", "$$(", "$(", "$", "$'(X)"),
    *("include command : touch /tmp/x", "queue 500", "executable = /bin/x", "@=end", "+Owner=1"),
    *("", " ", "  ", " leading", "trailing ", "''", '""', "'", '"', "\\", '\\"', "\\'", "a\\"),
    *("#comment", ")", "(", "-x", "--", "a,b", "a;b|c", "*", "~", "%20", "C.UTF-8", "é", "☃", "𝄞"),
)

CONTROL_CHARACTERS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]

texts: st.SearchStrategy[str] = st.one_of(
    st.sampled_from(PHRASES),
    st.text(MARKS, max_size=20),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20),
)


def _carried(text: str) -> str:
    """The text with at most one dollar that would begin a macro: all that fits outside words."""
    runs = list(MACRO_START.finditer(text))
    if len(runs) > 1 or any(len(run[0]) > 1 for run in runs) or "$(dollar" in text.lower():
        return text.replace("$", "S")
    return text


def _path(text: str) -> str:
    clean = _carried(re.sub(r'[",]|://', "_", text)).strip()
    return clean.rstrip("\\").strip() or "x"


labels = texts.map(_carried)
paths = texts.map(_path)
outputs = paths.map(lambda text: text.replace("..", "_").lstrip("/").strip() or "x")
programs = labels.map(lambda text: text.strip().rstrip("\\").strip() or "/bin/true")
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
attribute_names = names.map(lambda name: f"Test{name}")
attribute_values = st.one_of(
    labels, st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.floats(-1e300, 1e300)
)
images = st.sampled_from(
    ["debian", "debian:trixie", "biocontainers/fastqc:0.12.1", "localhost:5000/a/b_c.d:V-1.0"]
)


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "image": images,
    "tool_id": _optional(labels),
    "environment": st.dictionaries(names, texts, max_size=2),
    "working_directory": _optional(paths.map(lambda path: f"/{path}")),
    "inputs": st.lists(paths, max_size=2),
    "outputs": st.lists(outputs, max_size=2),
    "stdin": _optional(paths),
    "stdout": _optional(paths),
    "stderr": _optional(paths),
    "attributes": st.dictionaries(attribute_names, attribute_values, max_size=2),
    "resources": st.builds(dict, memory_mb=st.integers(16, 1024)),
}
_calls = st.one_of(
    st.builds(dict, shell=texts.filter(str.strip)),
    st.builds(
        lambda program, arguments: {"command": [program, *arguments]},
        programs,
        st.lists(texts, max_size=4),
    ),
)

# One invocation of a container, with a key made for it.
invocations: st.SearchStrategy[Invocation] = st.builds(
    lambda call, fields: Invocation(**call, **fields), _calls, st.fixed_dictionaries(_FIELDS)
)


def batches(size: int = 20) -> st.SearchStrategy[list[Invocation]]:
    """So many invocations, each with a key of its own."""
    return st.lists(invocations, min_size=size, max_size=size)
