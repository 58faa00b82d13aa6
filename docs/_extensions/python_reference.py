"""The Python reference, made from `swarm_runner.__all__` and the docstrings.

The directive `public-names` documents the public names that modules define. A public name that no
directive covers is a warning, and therefore an error of `make docs`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

import swarm_runner

log = logging.getLogger(__name__)
_COVERED = "swarm_runner_public_names"
_MAX_DEFAULT_LENGTH = 40
_NEED_DOCSTRINGS = ("class", "exception", "function", "data", "method", "property")


def _module_of(name: str) -> str:
    return swarm_runner._EXPORT_MODULES.get(name, "")  # noqa: SLF001  our own table


def _lines(name: str) -> Iterator[str]:
    value = getattr(swarm_runner, name)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    elif inspect.isroutine(value):
        kind = "autofunction"
    else:
        kind = "autodata"
    yield f".. {kind}:: swarm_runner.{name}"
    if kind == "autodata":
        yield "   :no-value:"
    if inspect.isclass(value) and issubclass(value, Enum):
        yield "   :undoc-members:"
    yield ""


class PublicNames(SphinxDirective):
    """Document the public names of the modules that the arguments name."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the documentation of each name, in alphabetical order."""
        modules = self.arguments[0].split()
        names = sorted(name for name in swarm_runner.__all__ if _module_of(name) in modules)
        getattr(self.env, _COVERED).update(names)
        lines = ["````{eval-rst}", *(line for name in names for line in _lines(name)), "````"]
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.env.docname), 0, node)
        return list(node.children)


def _begin(app: Sphinx) -> None:
    setattr(app.env, _COVERED, set())


def _check(app: Sphinx, _env: Any) -> None:
    missing = set(swarm_runner.__all__) - getattr(app.env, _COVERED) - {"__version__"}
    if missing:
        log.warning("public names without documentation: %s", ", ".join(sorted(missing)))


def _plain(annotation: Any) -> str:
    """Return a type without the constraints of its annotation."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(repr(value) for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(_plain(part) for part in get_args(annotation))
    if arguments := get_args(annotation):
        inner = ", ".join("..." if part is ... else _plain(part) for part in arguments)
        return f"{_plain(get_origin(annotation))}[{inner}]"
    return "None" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))


def _fields(model: type[BaseModel]) -> Iterator[str]:
    yield ""
    for name, field in model.model_fields.items():
        meaning = [field.description] if field.description else []
        if not field.is_required():
            default = repr(field.get_default(call_default_factory=True))
            if len(default) <= _MAX_DEFAULT_LENGTH:
                meaning.append(f"default: ``{default}``")
        yield f":param {name}: {'; '.join(meaning)}".rstrip()
        yield f":type {name}: {_plain(field.annotation)}"
    yield ""


def _constant(name: str) -> list[str]:
    """Return the comment above a constant's definition."""
    analyzer = ModuleAnalyzer.for_module(f"swarm_runner.{_module_of(name)}")
    return analyzer.find_attr_docs().get(("", name), [])


def _document(
    _app: Sphinx, what: str, name: str, value: object, _options: object, lines: list[str]
) -> None:
    """Add a model's fields to its docstring; give a constant the text below its definition."""
    if what == "class" and isinstance(value, type) and issubclass(value, BaseModel):
        lines.extend(_fields(value))
    if what == "data":
        public = name.removeprefix("swarm_runner.")
        lines[:] = _constant(public)
    if what in _NEED_DOCSTRINGS and not any(lines):
        log.warning("%s has no docstring", name)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the extension."""
    app.add_directive("public-names", PublicNames)
    app.connect("builder-inited", _begin)
    app.connect("env-check-consistency", _check)
    app.connect("autodoc-process-docstring", _document)
    return {"parallel_read_safe": False}
