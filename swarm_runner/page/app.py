"""The web application: addresses, logins and headers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import resources
from typing import Protocol
from urllib.parse import parse_qs

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm_runner._version import __version__
from swarm_runner.condor.pool_query import JobQueryPort
from swarm_runner.condor.token_check import TokenVerdict
from swarm_runner.page.job_details import JobDetails
from swarm_runner.page.job_output import STREAM_NAMES, OutputSource, OutputStreams, may_read
from swarm_runner.page.login import (
    COOKIE,
    SESSION_S,
    CheckToken,
    Sessions,
    TooManyLoginsError,
    TrustedProxies,
)
from swarm_runner.page.rendering import Renderer, Rendering
from swarm_runner.page.state import PageState
from swarm_runner.page.streams import (
    EVENT_HEADERS,
    MAX_STREAMS,
    Streams,
    TooManyStreamsError,
    wait_for_disconnect,
)
from swarm_runner.page.views import View, build_context, parse_job_id
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)

STATIC = f"/static/{__version__}/"
_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_MAX_BODY_LENGTH = 16_384
_MAX_RENDERINGS = 100
# A view is rendered again after this time even if nothing was observed: it says how old it is.
_RENDERING_AGE_S = 15.0
_SECTIONS = {
    "overview": "Overview",
    "jobs": "Jobs",
    "job": "Jobs",
    "nodes": "Nodes",
    "history": "History",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the page. `by_proxy`: a trusted proxy named the user."""

    name: str
    by_proxy: bool


class Watch(Protocol):
    """Notes that a browser is watching."""

    def __call__(self, *, jobs: bool) -> None:
        """Note it; `jobs`: the browser shows jobs."""


def _no_watch(*, jobs: bool) -> None:
    del jobs


class PageApp:
    """The page of one pool.

    Args:
        state: What the daemon observes.
        job_source: Answers for single jobs.
        check_token: Asks the pool whether it accepts a token for reading.
        proxies: The reverse proxies that log users in themselves.
        watch: Is called at each request: a browser is watching, and shows jobs or not.
        max_streams: How many browsers get updates at once.
        output_source: Reads the output of running jobs for their owners; None shows none.
    """

    def __init__(
        self,
        state: PageState,
        job_source: JobQueryPort,
        check_token: CheckToken,
        proxies: TrustedProxies,
        watch: Watch = _no_watch,
        max_streams: int = MAX_STREAMS,
        output_source: OutputSource | None = None,
    ) -> None:
        self._state = state
        self._proxies = proxies
        self._watch = watch
        self._changed = asyncio.Event()
        self.details = JobDetails(job_source, state.clock, self._changed.set)
        self.sessions = Sessions(check_token, state.clock)
        self.renderer = Renderer()
        self.streams = Streams(self.render, max_streams)
        self._renderings: OrderedDict[View, tuple[tuple[object, ...], Rendering]] = OrderedDict()
        self._outputs = OutputStreams(output_source) if output_source is not None else None
        static = resources.files("swarm_runner.page") / "static"
        self._static = {file.name: file.read_bytes() for file in static.iterdir()}
        routes = [
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route(STATIC + "{name}", self._static_file),
            Route("/events", _EventStream(self)),
        ]
        if self._outputs is not None:
            routes.append(Route("/jobs/{job}/output", _OutputStream(self, self._outputs)))
        routes.append(Route("/{path:path}", self._page))
        self._starlette = Starlette(routes=routes, lifespan=self._lifespan)
        self.asgi: ASGIApp = _SecurityHeaders(self._starlette)

    def render(self, view: View) -> Rendering:
        """Return a view as it is now; browsers that ask for the same share it."""
        detail = None
        if view.job_id is not None:
            self.details.refresh(view.job_id)
            detail = self.details.known(view.job_id)
        period = int(self._state.clock() / _RENDERING_AGE_S)
        version = (self._state.version, period, detail)
        known = self._renderings.get(view)
        if known is not None and known[0] == version:
            return known[1]
        rendering = self.renderer.render(view, build_context(view, self._state, detail))
        self._renderings[view] = (version, rendering)
        self._renderings.move_to_end(view)
        while len(self._renderings) > _MAX_RENDERINGS:
            self._renderings.popitem(last=False)
        return rendering

    def viewer(self, request: Request) -> Viewer | None:
        """Return who sent a request; None if they must log in."""
        peer = request.client.host if request.client else ""
        user = self._proxies.user(peer, request.headers.raw)
        if user:
            return Viewer(user, by_proxy=True)
        session = self.sessions.find(request.cookies.get(COOKIE))
        return Viewer(session.identity, by_proxy=False) if session else None

    def login_form(self, status: int, message: str = "", target: str = "/") -> Response:
        """Return the form. It says nothing of the pool."""
        html = self.renderer.document("login.html", static=STATIC, message=message, next=target)
        response = _html(html, status)
        if status == 401:
            response.headers["www-authenticate"] = 'FormBased realm="pool"'
        return response

    def watched(self, view: View) -> None:
        """Note that a browser is watching."""
        self._watch(jobs=view.shows_jobs)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def notify() -> None:
            # Called by the daemon's threads; the loop may have ended before them.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._changed.set)

        self._state.add_listener(notify)
        tasks = [
            asyncio.create_task(self.streams.run(self._wait_for_change)),
            asyncio.create_task(self.sessions.recheck_forever()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.details.close()
            if self._outputs is not None:
                self._outputs.close()

    async def _wait_for_change(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()
        for view in self.streams.views:
            self.watched(view)

    async def _page(self, request: Request) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        url = request.scope["path"] + (f"?{query}" if query else "")
        viewer = self.viewer(request)
        if viewer is None:
            return self.login_form(401, target=url)
        view = View.parse(url)
        if view is None:
            return self._message(404, "Not found", "There is no such page.")
        self.watched(view)
        if view.job_id is not None:
            await self.details.get(view.job_id)
        rendering = self.render(view)
        detail = self.details.known(view.job_id) if view.job_id is not None else None
        shows_output = (
            self._outputs is not None
            and not viewer.by_proxy
            and may_read(viewer.name, detail.ad if detail else None)
        )
        return _html(
            self.renderer.document(
                "page.html",
                static=STATIC,
                version=__version__,
                rendering=rendering,
                main=Markup(rendering.main),  # noqa: S704  rendered with autoescape
                pool_name=self._state.pool.name,
                section=_SECTIONS[view.name],
                address=url,
                user=viewer.name,
                can_log_out=not viewer.by_proxy,
                output_url=f"/jobs/{view.job_id}/output" if shows_output else "",
                stream_names=STREAM_NAMES,
            )
        )

    async def _login(self, request: Request) -> Response:
        if not _is_same_origin(request):
            return self._message(403, "Refused", "The form was sent by another site.")
        form = parse_qs(await _read_body(request), errors="replace")
        target = _local_target(form.get("next", ["/"])[0])
        try:
            verdict, cookie = await self.sessions.log_in(form.get("token", [""])[0])
        except TooManyLoginsError:
            return self.login_form(
                429, "Many others are logging in; try again in a minute.", target
            )
        if verdict is TokenVerdict.UNKNOWN:
            message = (
                "The pool does not answer, so that the token cannot be checked. Try again later."
            )
            return self.login_form(503, message, target)
        if verdict is TokenVerdict.REJECTED:
            message = "The pool does not accept this token: it is wrong, expired or revoked."
            return self.login_form(401, message, target)
        response = RedirectResponse(target, 303)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=self._is_https(request),
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        if not _is_same_origin(request):
            return self._message(403, "Refused", "The form was sent by another site.")
        self.sessions.log_out(request.cookies.get(COOKIE))
        response = RedirectResponse("/", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    async def _static_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._static.get(name)
        if content is None:
            return Response(status_code=404)
        media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
        headers = {"cache-control": "public, max-age=86400, immutable"}
        return Response(content, media_type=media_type, headers=headers)

    def _message(self, status: int, title: str, message: str) -> Response:
        html = self.renderer.document("message.html", static=STATIC, title=title, message=message)
        return _html(html, status)

    def _is_https(self, request: Request) -> bool:
        peer = request.client.host if request.client else ""
        if self._proxies.trusts(peer):
            return request.headers.get("x-forwarded-proto", "") == "https"
        return bool(request.scope["scheme"] == "https")


class _EventStream:
    """The address /events: the updates of the view that the query's `view` names."""

    def __init__(self, page: PageApp) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream."""
        request = Request(scope)
        response: Response
        view = View.parse(request.query_params.get("view", ""))
        if self._page.viewer(request) is None:
            response = Response(status_code=401)
        elif view is None or request.method != "GET":
            response = Response(status_code=404)
        else:
            self._page.watched(view)

            def is_allowed() -> bool:
                return self._page.viewer(request) is not None

            try:
                await self._page.streams.serve(view, receive, send, is_allowed)
                return
            except TooManyStreamsError:
                response = _try_later()
        await response(scope, receive, send)


class _OutputStream:
    """The address /jobs/ID/output: what a job writes, for its owner."""

    def __init__(self, page: PageApp, outputs: OutputStreams) -> None:
        self._page = page
        self._outputs = outputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream."""
        request = Request(scope)
        job_id = parse_job_id(request.path_params["job"])
        stream = request.query_params.get("stream", STREAM_NAMES[0])
        viewer = self._page.viewer(request)
        if viewer is None:
            await Response(status_code=401)(scope, receive, send)
            return
        if job_id is None or stream not in STREAM_NAMES or request.method != "GET":
            await Response(status_code=404)(scope, receive, send)
            return
        detail = await self._page.details.get(job_id)
        is_unknown = detail.ad is None and bool(detail.problem)
        if viewer.by_proxy or not (is_unknown or may_read(viewer.name, detail.ad)):
            await Response(status_code=403)(scope, receive, send)
            return
        if is_unknown or self._outputs.is_full:
            await _try_later()(scope, receive, send)
            return
        disconnected = asyncio.ensure_future(wait_for_disconnect(receive))

        def is_connected() -> bool:
            return not disconnected.done() and self._page.viewer(request) is not None

        await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        try:
            await self._outputs.serve(job_id, stream, send, is_connected)
        finally:
            disconnected.cancel()
        await send({"type": "http.response.body", "body": b""})


def _try_later() -> Response:
    return Response(status_code=503, headers={"retry-after": "60"})


class _SecurityHeaders:
    """Adds the headers that every response has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            log.error("The page failed", path=scope.get("path", ""), error=repr(error))
            raise


def _html(content: bytes, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(content, status, headers, media_type="text/html")


def _is_same_origin(request: Request) -> bool:
    """Return whether a form comes from this page. Browsers name the origin of every POST."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


def _local_target(url: str) -> str:
    """Return the address to go to after the login: one of this page's, or else the front page."""
    is_local = url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable()
    return url if is_local and View.parse(url) is not None else "/"


async def _read_body(request: Request) -> str:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_LENGTH:
            return ""
    return body.decode("utf-8", "replace")
