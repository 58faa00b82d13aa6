"""A YAML or JSON text as data, with the line and column of every key and item."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from swarm_runner.errors import Diagnostic, InvalidInputError

#: Where a value is in a document: the keys and indices that lead to it.
KeyPath = tuple[str | int, ...]

# Nested aliases can expand a small text beyond any memory ("billion laughs").
MAXIMUM_ITEMS = 1_000_000
# libyaml calls itself for each level. PyYAML before 6.0.4 lets it overrun the process's stack.
MAXIMUM_DEPTH = 1000
# Each level of nesting begins with one of these characters, or with a deeper indentation. That many
# indentations make a text of half a megabyte.
_OPENERS = "[{-?"
_DEEP_INDENTATION = "\n" + MAXIMUM_DEPTH * " "
# Python needs quadratic time to read a long number.
_MAXIMUM_NUMBER_LENGTH = 1000
_TEXT_TAG = "tag:yaml.org,2002:str"
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_SURROGATES = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)
if TYPE_CHECKING:

    class _BaseLoader(yaml.SafeLoader):
        def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any: ...

else:
    # libyaml, where PyYAML was built with it, is ten times as fast.
    _BaseLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BaseLoader):
    """PyYAML's loader, with a short way for most texts: half of its time is spent on them."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """Return a scalar's tag. Its first character tells whether it can be anything but text."""
        if (
            kind is yaml.ScalarNode
            and implicit[0]
            and value
            and value[0] not in self.yaml_implicit_resolvers
        ):
            return _TEXT_TAG
        return super().resolve(kind, value, implicit)


_MERGE = "tag:yaml.org,2002:merge"
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class Document:
    """The data of one text, and the position of each part of it.

    `source` names the text in messages, for example a file name. `data` has only Python's own
    types: dict, list, str, int, float, bool, None and date.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self._text = text
        self.data: Any = None
        # The positions of each mapping's keys, from its first use on.
        self._children: dict[int, dict[str, tuple[yaml.Mark | None, yaml.Node]]] = {}
        try:
            pairs = _DuplicateKeyDetector()
            self.data = json.loads(text, object_pairs_hook=pairs, parse_constant=_reject_constant)
        except (ValueError, RecursionError):
            self.data = self._load_yaml()
        else:
            # For positions: tabs are white space in JSON, but not in YAML.
            self._text = text.replace("\t", " ")
            if pairs.found_duplicate:
                self.data = self._load_yaml()

    def diagnostic(self, path: KeyPath, message: str) -> Diagnostic:
        """Return a diagnostic for `path`, at the position of the closest existing part."""
        mark, written_path = self._mark(path)
        return _diagnostic(message, self.source, mark, _format_path(written_path))

    def sort(self, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        """Return diagnostics of this text in the order of their positions."""
        return sorted(diagnostics, key=lambda found: (found.line or 0, found.column or 0))

    def has(self, path: KeyPath) -> bool:
        """Return whether the data has a value at `path`."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return False
        return True

    def value_at(self, path: KeyPath) -> Any:
        """Return the value at `path`. Raises LookupError or TypeError if there is none."""
        value = self.data
        for part in path:
            value = value[part]
        return value

    def _load_yaml(self) -> Any:
        if self._root is None:
            return None
        diagnostics: list[Diagnostic] = []
        try:
            if "*" in self._text:  # how an alias begins
                _check_size(self._root)
            data = _NodeConstructor(self.source, diagnostics).construct(self._root)
        except RecursionError:
            raise self._input_error("is nested too deeply") from None
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        except _TooLargeError as error:
            raise self._input_error(str(error)) from None
        if diagnostics:
            raise InvalidInputError(diagnostics)
        return data

    @cached_property
    def _root(self) -> yaml.Node | None:
        self._check_characters()
        try:
            self._check_depth()
            try:
                return yaml.compose(self._text, Loader=_Loader)
            except yaml.MarkedYAMLError:
                # JSON writes a character beyond U+FFFF as two escapes, which libyaml rejects.
                joined = _SURROGATES.sub(_join_escapes, self._text)
                if joined == self._text:
                    raise
                return yaml.compose(joined, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        except RecursionError:
            raise self._input_error("is nested too deeply") from None

    def _check_depth(self) -> None:
        """Raise MarkedYAMLError if the text is nested too deeply for libyaml's stack."""
        openers = sum(self._text.count(opener) for opener in _OPENERS)
        if openers < MAXIMUM_DEPTH and _DEEP_INDENTATION not in self._text:
            return
        depth = 0
        for event in yaml.parse(_SURROGATES.sub(_join_escapes, self._text), Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAXIMUM_DEPTH:
                    problem = f"exceeds the maximum nesting depth of {MAXIMUM_DEPTH}"
                    mark: Any = event.start_mark
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1

    def _check_characters(self) -> None:
        found = yaml.reader.Reader.NON_PRINTABLE.search(self._text)
        if found is None:
            return
        before = self._text[: found.start()]
        diagnostic = Diagnostic(
            f"contains the character U+{ord(found[0]):04X}, which YAML does not allow",
            source=self.source,
            line=before.count("\n") + 1,
            column=found.start() - before.rfind("\n"),
        )
        raise InvalidInputError([diagnostic])

    def _input_error(self, message: str) -> InvalidInputError:
        return InvalidInputError([Diagnostic(message, source=self.source)])

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> InvalidInputError:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        return InvalidInputError([_diagnostic(f"is not valid YAML: {reason}", self.source, mark)])

    def _mark(self, path: KeyPath) -> tuple[yaml.Mark | None, KeyPath]:
        try:
            node = self._root
        except InvalidInputError:  # JSON that is not valid YAML
            return None, path
        if node is None:
            return None, path
        mark = node.start_mark
        written: list[str | int] = []
        for position, part in enumerate(path):
            found = self._child(node, part)
            if found is None:
                # The missing part belongs to the path, but has no position of its own.
                return mark, (*written, *path[position:])
            name, mark, node = found
            written.append(name)
        return mark, tuple(written)

    def _child(
        self, node: yaml.Node, part: str | int
    ) -> tuple[str | int, yaml.Mark | None, yaml.Node] | None:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if 0 <= part < len(node.value):
                item = node.value[part]
                return part, item.start_mark, item
            return None
        if isinstance(node, yaml.MappingNode):
            if id(node) not in self._children:
                # A mapping's own keys follow merged ones, and win.
                self._children[id(node)] = {
                    key.value: (key.start_mark, value)
                    for key, value in node.value
                    if isinstance(key, yaml.ScalarNode)
                }
            children = self._children[id(node)]
            # `memory` with a unit is an alternative to `memory_mb`.
            for name in (str(part), str(part).removesuffix("_mb")):
                if name in children:
                    return name, *children[name]
        return None


def _diagnostic(message: str, source: str, mark: yaml.Mark | None, path: str = "") -> Diagnostic:
    if mark is None:
        return Diagnostic(message, source=source, path=path)
    return Diagnostic(message, source=source, line=mark.line + 1, column=mark.column + 1, path=path)


def _format_path(path: Iterable[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


class _DuplicateKeyDetector:
    """Builds JSON's objects and detects duplicate keys."""

    def __init__(self) -> None:
        self.found_duplicate = False

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        self.found_duplicate |= len(data) < len(pairs)
        return data


def _reject_constant(constant: str) -> Any:
    raise ValueError(constant)


class _TooLargeError(Exception):
    """Aliases make the data too large, or endless."""


def _check_size(root: yaml.Node) -> None:
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    aliased = False

    def size(node: yaml.Node) -> int:
        nonlocal aliased
        if id(node) in sizes:
            aliased = True
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise _TooLargeError(f"has an alias that contains itself{node.start_mark}")
        if isinstance(node, yaml.ScalarNode):
            return 1
        open_nodes.add(id(node))
        children = (
            (child for pair in node.value for child in pair)
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        sizes[id(node)] = 1 + sum(size(child) for child in children)
        open_nodes.discard(id(node))
        return sizes[id(node)]

    if size(root) > MAXIMUM_ITEMS and aliased:
        raise _TooLargeError(f"has aliases that expand to more than {MAXIMUM_ITEMS} items")


class _NodeConstructor:
    """Converts nodes to data. Each node is converted once: aliases share the data."""

    def __init__(self, source: str, diagnostics: list[Diagnostic]) -> None:
        self._source = source
        self._diagnostics = diagnostics
        self._constructed: dict[int, Any] = {}
        self._constructor = yaml.constructor.SafeConstructor()

    def construct(self, node: yaml.Node) -> Any:
        if node.tag == _TEXT_TAG and isinstance(node, yaml.ScalarNode):
            return self._construct(node)
        if id(node) not in self._constructed:
            self._constructed[id(node)] = self._construct(node)
        return self._constructed[id(node)]

    def _construct(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            if node.tag == _TEXT_TAG:
                return node.value if node.value.isascii() else _join_surrogates(node.value)
            if node.tag in _NUMBER_TAGS and len(node.value) > _MAXIMUM_NUMBER_LENGTH:
                return self._add_diagnostic(
                    node.start_mark,
                    f"is a number of {len(node.value)} characters; if it is a text, put it in "
                    "quotes",
                )
            try:
                value = self._constructor.construct_object(node)
            # PyYAML lets its own mistakes through, such as the KeyError of `!!bool x`.
            except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
                return self._add_diagnostic(
                    node.start_mark, f"{node.value!r} cannot be read: {error}"
                )
            if value is None or isinstance(value, (str, bool, int, float, datetime.date)):
                return value
            return self._add_diagnostic(node.start_mark, f"the tag {node.tag} is not supported")
        if node.tag not in _COLLECTIONS:
            return self._add_diagnostic(node.start_mark, f"the tag {node.tag} is not supported")
        if isinstance(node, yaml.MappingNode):
            return self._construct_mapping(node)
        return [self.construct(item) for item in node.value]

    def _construct_mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        first: dict[Any, yaml.Mark] = {}
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._add_diagnostic(key.start_mark, "a key must be a text")
                continue
            name = self.construct(key)
            if name in first:
                self._add_diagnostic(
                    key.start_mark,
                    f"{key.value} is a duplicate of the key in line {first[name].line + 1}",
                )
            first.setdefault(name, key.start_mark)
        self._constructor.flatten_mapping(node)
        return {
            self.construct(key): self.construct(value)
            for key, value in node.value
            if isinstance(key, yaml.ScalarNode)
        }

    def _add_diagnostic(self, mark: yaml.Mark, message: str) -> None:
        self._diagnostics.append(_diagnostic(message, self._source, mark))


def _join_escapes(found: re.Match[str]) -> str:
    high, low = int(found[2], 16), int(found[3], 16)
    return f"{found[1]}\\U{0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00:08X}"


def _join_surrogates(text: str) -> str:
    # JSON writes a character beyond U+FFFF as two escapes, which YAML reads as two characters.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
