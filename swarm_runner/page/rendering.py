"""Templates to HTML. What comes from jobs, nodes or HTCondor is text, whatever it contains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from swarm_runner.model.text import printable
from swarm_runner.page.executors import Amount, ExecutorState, ExecutorView
from swarm_runner.page.views import Context, View, node_url

MAX_TEXT_LENGTH = 400
MAX_VALUE_LENGTH = 2000
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_MB_PER_GB = 1024
# A time outside of these years is nonsense in an ad.
_MAX_TIME_S = 7_258_118_400


def shorten(value: object, length: int = MAX_TEXT_LENGTH) -> str:
    """Return a value as text without control characters, and no longer than `length`."""
    raw = str(value)
    shown = printable(raw[: length + 1])
    return shown if len(raw) <= length and len(shown) <= 2 * length else f"{shown[:length]}…"


def age(seconds: float) -> str:
    """Return a duration for people, in a form that changes once a minute at most."""
    total = int(max(seconds, 0))
    if total < _MINUTE_S:
        return "< 1 min"
    if total < _HOUR_S:
        return f"{total // _MINUTE_S} min"
    if total < _DAY_S:
        return f"{total // _HOUR_S} h {total % _HOUR_S // _MINUTE_S:02d} min"
    return f"{total // _DAY_S} d {total % _DAY_S // _HOUR_S} h"


def time_element(time_s: float, now_s: float | None = None) -> Markup:
    """Return a time (UTC) as HTML, with its date if it is not today's."""
    moment = datetime.fromtimestamp(min(max(time_s, 0), _MAX_TIME_S), UTC)
    today = now_s is not None and moment.date() == datetime.fromtimestamp(now_s, UTC).date()
    shown = f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M}"
    return Markup('<time datetime="{}">{}</time>').format(f"{moment:%Y-%m-%dT%H:%M:%SZ}", shown)


def minute(time_s: float) -> str:
    """Return the hour and minute of a time (UTC)."""
    return f"{datetime.fromtimestamp(time_s, UTC):%H:%M}"


def megabytes(value: float) -> str:
    """Return an amount of memory in MB, or in GB if it is large."""
    return f"{value / _MB_PER_GB:.4g} GB" if value >= 10 * _MB_PER_GB else f"{value:.0f} MB"


def format_amount(amount: Amount) -> str:
    """Return how much is claimed of how much, without needless decimals."""
    return f"{amount.claimed:g} of {amount.total:g}"


def short_id(value: str) -> str:
    """Return an ID as Docker shortens it."""
    return shorten(value, 12).removesuffix("…")


def tiles(executors: Iterable[ExecutorView]) -> Markup:
    """Return a mark for each executor. The text beside them says the same in words."""
    return Markup("".join([_TILES[executor.state] for executor in executors]))  # noqa: S704


_TILES = {state: f'<i class="tile {state.name.lower()}"></i>' for state in ExecutorState}


def piece_id(name: str) -> str:
    """Return an element's ID for any name."""
    return hashlib.sha256(name.encode(errors="replace")).hexdigest()[:12]


def _as_text(value: Any) -> Any:
    """Make every value of a template printable text, except HTML of our own."""
    return value if isinstance(value, Markup) else shorten(value, MAX_VALUE_LENGTH)


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Rendering:
    """A view as HTML.

    `pieces` are its parts that change, by their IDs; `skeleton` is the rest. Together they are
    `main`.
    """

    title: str
    main: str
    skeleton: str
    pieces: dict[str, str]


class _Pieces:
    """Collects the parts that a template marks with `call piece(name)`."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}

    def piece(self, name: str, **kwargs: Callable[[], str]) -> Markup:
        """Record a part; its own name becomes the `id` of its element."""
        content = kwargs["caller"]()
        html = f'<div class="piece" id="{escape(name)}">{content.strip()}</div>'
        self.by_id[name] = html
        return Markup("\x00{}\x00").format(name)


class Renderer:
    """Renders views, and the documents around them."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("swarm_runner.page"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_as_text,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "text": shorten,
            "age": age,
            "time": time_element,
            "minute": minute,
            "mb": megabytes,
            "share": format_amount,
            "short": short_id,
            "plural": plural,
            "node_url": node_url,
            "tiles": tiles,
            "piece_id": piece_id,
        }

    def render(self, view: View, context: Context) -> Rendering:
        """Render a view."""
        pieces = _Pieces()
        name = view.name if context["snapshot"] is not None or view.name == "job" else "waiting"
        template = self._environment.get_template(f"{name}.html")
        skeleton = template.render(context | {"piece": pieces.piece})
        parts = skeleton.split("\x00")
        parts[1::2] = [pieces.by_id[part] for part in parts[1::2]]
        return Rendering(context["title"], "".join(parts), skeleton, pieces.by_id)

    def document(self, template: str, **context: Any) -> bytes:
        """Render a complete document."""
        html = self._environment.get_template(template).render(context)
        return html.encode(errors="backslashreplace")
