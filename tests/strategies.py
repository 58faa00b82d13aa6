"""Invocations with awkward texts, for every test that reads submit descriptions back."""

from __future__ import annotations

import random
import re
from typing import Any

from hypothesis import strategies as st

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.text import MACRO_START

# Characters with a meaning in the submit language, HTCondor's quoting, ClassAds or shells.
SPECIAL_CHARACTERS = "'\"$(){}[]\\,#%;|&=*~^:@!?/<> aXDOLARy09_é☃𝄞\u00a0\u2028\u200b\ufeff"
AWKWARD_TEXTS = (
    *("$(X)", "$$(Machine)", "$$$(Machine)", "$ENV(HOME)", "$$ENV(HOME)", "$(DOLLAR)", "$$"),
    *("$$(DOLLARDOLLAR)", "$(DOLLAR)(X)", "$$([1+1])", "$INT($(X))", "$F(x)", "$RANDOM_CHOICE(a)"),
    *("$(Process)", "$(item0)", "$(item0:$(X))", "$$(", "$(", "$", "$'(X)"),
    *("include command : touch /tmp/x", "queue 500", "executable = /bin/x", "@=end", "+Owner=1"),
    *("", " ", "  ", " leading", "trailing ", "''", '""', "'", '"', "\\", '\\"', "\\'", "a\\"),
    *("#comment", ")", "(", "-x", "--", "a,b", "a;b|c", "*", "~", "%20", "C.UTF-8", "é", "☃", "𝄞"),
)

IMAGES = (
    *("debian", "debian:trixie", "biocontainers/fastqc:0.12.1", "localhost:5000/a/b_c.d:V-1.0"),
)
# Unicode category Cc, and two of Cs.
CONTROL_CHARACTERS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF)]

texts: st.SearchStrategy[str] = st.one_of(
    st.sampled_from(AWKWARD_TEXTS),
    st.text(SPECIAL_CHARACTERS, max_size=20),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20),
)


def _limit_dollars(text: str) -> str:
    """The text with at most one macro start, which is all that other fields can represent."""
    runs = list(MACRO_START.finditer(text))
    if len(runs) > 1 or any(len(run[0]) > 1 for run in runs) or "$(dollar" in text.lower():
        return text.replace("$", "S")
    return text


# A path of a stream does not end with these.
_TRAILING_UNSAFE = re.compile(r"[\s\\/]+$")


def _path(text: str) -> str:
    clean = _limit_dollars(re.sub(r'[",]|://', "_", text)).strip()
    return _TRAILING_UNSAFE.sub("", clean) or "x"


def _program(text: str) -> str:
    return text if text.strip() else "/bin/true"


def _directory(text: str) -> str:
    return "/work/" + _path(text).replace("\\", "_")


def _output(text: str) -> str:
    # No stream has such a name.
    text = text.replace("..", "_").replace("**", "*_").replace("://", "_")
    return "output-" + text.replace("\\", "_")


def _written(text: str) -> str:
    return _path(text.replace(";", "_"))


_PATHS = {"stdin": _path, "stdout": _written, "stderr": _written, "tool_id": _limit_dollars}
_NUMBERS = (True, False, 0, 1 - 2**63, 2**63 - 1, 0.1, -1e300, 5e-324, 1e22)


class _InvocationGenerator:
    """Generates invocations with the same fields from a few texts and a seed.

    Drawing each field with hypothesis would cost ten times as much as the checks.
    """

    def __init__(self, texts: list[str], seed: int) -> None:
        self._texts = texts
        self._random = random.Random(seed)  # noqa: S311  not for secrets
        # Invocations with the same commands make one batch.
        self._used_fields = {name for name in (*_PATHS, "working_directory") if self._coin_flip()}
        self._variable_count, self._attribute_count, self._input_count = (
            self._random.randrange(3) for _ in range(3)
        )

    def _coin_flip(self) -> bool:
        return self._random.random() < 0.5

    def text(self) -> str:
        return "".join(self._random.choices(self._texts, k=self._random.choice((1, 1, 2))))

    def invocation(self, position: int) -> Invocation:
        rng = self._random
        fields: dict[str, Any] = {}
        if rng.random() < 0.25:
            fields["shell"] = self.text().strip() or "true"
        else:
            arguments = [self.text() for _ in range(rng.randrange(5))]
            fields["command"] = [_program(self.text()), *arguments]
        for name, convert in _PATHS.items():
            if name in self._used_fields:
                fields[name] = convert(self.text())
        if "working_directory" in self._used_fields:
            fields["working_directory"] = _directory(self.text())
        return Invocation(
            key=f"k{position}-{rng.randrange(10**9)}",
            image=rng.choice(IMAGES),
            environment={f"V_{number}": self.text() for number in range(self._variable_count)},
            # With a number, so that no two land on one name.
            inputs=[
                f"{number}-" + self.text().replace("..", "_").replace("://", "_")
                for number in range(self._input_count)
            ],
            outputs=[_output(self.text()) for _ in range(rng.randrange(3))],
            attributes={
                f"Test{number}": _limit_dollars(self.text())
                if self._coin_flip()
                else rng.choice(_NUMBERS)
                for number in range(self._attribute_count)
            },
            resources={"memory_mb": rng.randrange(16, 1025)},
            **fields,
        )


def invocation_batches(size: int = 20) -> st.SearchStrategy[list[Invocation]]:
    """Lists of `size` container invocations, each with its own key."""
    return st.builds(
        make_invocations,
        st.lists(texts, min_size=8, max_size=24),
        st.integers(0, 2**32),
        st.just(size),
    )


def make_invocations(texts: list[str], seed: int, size: int) -> list[Invocation]:
    """Return `size` invocations from these texts; the same seed gives the same ones."""
    generator = _InvocationGenerator(texts, seed)
    return [generator.invocation(position) for position in range(size)]
