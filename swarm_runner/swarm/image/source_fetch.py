"""Fetches one URL from the pool's sources into a job's directory (see url_plugin.py).

Every connection goes to an address that was checked, for a URL that was: a name that resolves to
something else a moment later changes nothing. Redirects, proxies, cookies and logins of urllib3 are
not used: each request is made and decided here.
"""

import errno
import hashlib
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import source_policy
from source_policy import DeniedError, Source, Url

# Exit codes; policy/fetches.py has the same. Python's own are 1 and 2.
REFUSED, UNAVAILABLE, WRONG_CONTENT, MAY_PASS, TOO_LARGE = range(10, 15)
# The pauses before further attempts, if a failure may pass.
PAUSES_S = (1.0, 4.0, 16.0)
MAX_RETRY_AFTER_S = 60.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0  # without a byte
MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What a server answers that may answer otherwise soon; and every 5xx.
OVERLOADED = frozenset({408, 425, 429})
CHUNK_BYTES = 1 << 20
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class FetchError(Exception):
    """An input cannot be fetched. `code` is the exit code that says why."""

    def __init__(self, message: str, code: int, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.pause_s = pause_s


@dataclass(frozen=True)
class Input:
    """One file to fetch: its URL, its path in the job's directory, and its checksum or ''."""

    url: str
    name: str
    checksum: str = ""


def open_file(root: str, name: str) -> int:
    """Return a descriptor of a new file in the job's directory. No link is followed."""
    *directories, last = name.split("/")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(root, flags)
    try:
        for part in directories:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
            child = os.open(part, flags, dir_fd=parent)
            os.close(parent)
            parent = child
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(last, new, 0o644, dir_fd=parent)
    finally:
        os.close(parent)


class Downloader:
    """Fetches inputs from the pool's sources.

    `authorizations` has the header for each secret's path. `free_bytes` is what the job's disk has
    left. `networks` are the container's own.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        authorizations: Mapping[str, str],
        networks: Sequence[source_policy.Network],
        free_bytes: int,
        sleep: Callable[[float], None] = time.sleep,
        resolve: Callable[[str, int], list[str]] | None = None,
    ) -> None:
        self._sources = sources
        self._authorizations = authorizations
        self._networks = networks
        self._free_bytes = free_bytes
        self._sleep = sleep
        self._resolve = resolve or resolve_host

    def fetch(self, item: Input, root: str) -> int:
        """Fetch one file and return its size. Raises FetchError."""
        shown = source_policy.printable(item.url.partition("?")[0])
        try:
            url = source_policy.parse_url(item.url)
            source_policy.find_source(url, self._sources)
            descriptor = open_file(root, item.name)
        except DeniedError as error:
            raise FetchError(str(error), REFUSED) from None
        except OSError as error:
            message = f"{shown}: {item.name!r} cannot be created: {error.strerror}"
            raise FetchError(message, REFUSED) from None
        with os.fdopen(descriptor, "wb") as file:
            for attempt, pause_s in enumerate((*PAUSES_S, None), start=1):
                try:
                    size = self._attempt(url, file, item.checksum)
                except FetchError as error:
                    if error.code != MAY_PASS or pause_s is None:
                        times = f" ({attempt} attempts)" if attempt > 1 else ""
                        raise FetchError(f"{shown} {error}{times}", error.code) from None
                    self._sleep(error.pause_s or pause_s)
                else:
                    self._free_bytes -= size
                    return size
        raise AssertionError("unreachable")

    def _attempt(self, url: Url, file: Any, checksum: str) -> int:
        from urllib3.exceptions import HTTPError

        algorithm, _, expected = checksum.partition(":")
        digest = hashlib.new(algorithm, usedforsecurity=False) if checksum else None
        file.seek(0)
        file.truncate()
        size = 0
        with ExitStack() as stack:
            response = self._open(url, stack)
            length = response.headers.get("Content-Length", "")
            if length.isdigit():
                self._check_size(int(length))
            try:
                for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                    size += len(chunk)
                    self._check_size(size)
                    file.write(chunk)
                    if digest is not None:
                        digest.update(chunk)
                file.flush()
            except (HTTPError, ssl.SSLError) as error:
                of = f" of {length}" if length.isdigit() else ""
                message = f"ended early, after {size}{of} bytes ({describe(error)})"
                raise FetchError(message, MAY_PASS) from None
            except OSError as error:
                code = TOO_LARGE if error.errno in (errno.ENOSPC, errno.EDQUOT) else MAY_PASS
                raise FetchError(f"could not be written: {error.strerror}", code) from None
        if digest is not None and digest.hexdigest() != expected:
            message = f"has the {algorithm} checksum {digest.hexdigest()}, not {expected}"
            raise FetchError(f"{message} ({size} bytes)", WRONG_CONTENT)
        return size

    def _check_size(self, size: int) -> None:
        if size > self._free_bytes:
            raise FetchError(
                f"has {size} bytes or more, and the job's disk has {max(self._free_bytes, 0)} left",
                TOO_LARGE,
            )

    def _open(self, url: Url, stack: ExitStack) -> Any:
        """Return the response with the content, after redirects to allowed sources."""
        for number in range(MAX_REDIRECTS + 1):
            response = self._request(url, stack, redirected=number > 0)
            if response.status not in REDIRECTS:
                check_status(response.status, response.headers.get("Retry-After", ""))
                return response
            here = f"{url.scheme}://{url.authority}{url.path}{url.query}"
            try:
                target = urljoin(here, response.headers.get("Location", ""))
                url = source_policy.parse_url(target.partition("#")[0])
            except DeniedError as error:
                raise FetchError(f"leads to {error}", REFUSED) from None
            except ValueError:
                raise FetchError("leads to something that is no URL", REFUSED) from None
        raise FetchError(f"leads from one URL to another {MAX_REDIRECTS} times", UNAVAILABLE)

    def _request(self, url: Url, stack: ExitStack, *, redirected: bool) -> Any:
        """Send one request to an address that was checked."""
        from urllib3.exceptions import HTTPError, NewConnectionError, SSLError

        where = f"leads to {source_policy.printable(url.shown)}, which " if redirected else ""
        try:
            source = source_policy.find_source(url, self._sources)
        except DeniedError as error:
            raise FetchError(f"leads to {error}" if redirected else str(error), REFUSED) from None
        headers = {
            "Host": url.authority,
            "User-Agent": "swarm-runner",
            "Accept-Encoding": "identity",
        }
        if source.authorization is not None:
            if source.authorization not in self._authorizations:
                raise FetchError(
                    f"{where}needs an authorization that this executor cannot read", MAY_PASS
                )
            headers["Authorization"] = self._authorizations[source.authorization]
        problem: Exception | None = None
        for address in self._addresses(url, source, where):
            pool = stack.enter_context(connection_pool(url, address))
            try:
                response = pool.urlopen(
                    "GET",
                    url.path + url.query,
                    headers=headers,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            except SSLError as error:
                message = f"{where}has no certificate that this pool accepts ({describe(error)})"
                raise FetchError(message, UNAVAILABLE) from None
            except NewConnectionError as error:
                problem = error
            except (HTTPError, OSError) as error:
                raise FetchError(f"{where}did not answer ({describe(error)})", MAY_PASS) from None
            else:
                stack.callback(response.close)
                return response
        raise FetchError(f"{where}cannot be reached ({describe(problem)})", MAY_PASS)

    def _addresses(self, url: Url, source: Source, where: str) -> Iterator[str]:
        """Yield the addresses of a host that are allowed. The host is resolved once."""
        try:
            addresses = self._resolve(url.host, url.port)
        except (OSError, UnicodeError) as error:
            message = f"{where}has a host that does not resolve ({describe(error)})"
            raise FetchError(message, MAY_PASS) from None
        denied: DeniedError | None = None
        allowed = 0
        for address in addresses:
            try:
                source_policy.check_address(address, source, self._networks)
            except DeniedError as error:
                denied = error
            else:
                allowed += 1
                yield address
        if denied is not None and not allowed:
            raise FetchError(f"{where}{denied}", REFUSED)


def check_status(status: int, retry_after: str = "") -> None:
    """Raise FetchError unless a server sends the content."""
    if status == 200:
        return
    if status in OVERLOADED or status >= 500:
        pause_s = min(float(retry_after), MAX_RETRY_AFTER_S) if retry_after.isdigit() else None
        raise FetchError(f"was answered with {status}", MAY_PASS, pause_s)
    meaning = {401: ": it needs a login", 403: ": access is denied"}.get(status, "")
    meaning = ": it does not exist" if status in (404, 410) else meaning
    raise FetchError(f"was answered with {status}{meaning}", UNAVAILABLE)


def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order to try them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connection_pool(url: Url, address: str) -> Any:
    """Return a connection to an address, whose certificate has to be the host's."""
    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    if url.scheme == "http":
        return urllib3.HTTPConnectionPool(address, url.port, timeout=timeout, retries=False)
    return urllib3.HTTPSConnectionPool(
        address,
        url.port,
        timeout=timeout,
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=CERTIFICATES,
        server_hostname=url.host,
        assert_hostname=url.host,
    )


def describe(error: Exception | None) -> str:
    """Return what a library says of a failure, without the objects that it prints."""
    cause = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    text = str(cause.strerror or cause) if isinstance(cause, OSError) else str(error)
    return source_policy.printable(re.sub(r"<[^>]*>:? ?", "", text))
