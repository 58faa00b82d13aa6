"""The node's images: which are there, and pulls, one for each image however many jobs want it.

Executors of one node share a directory in the scratch volume. The holder of an image's lock pulls
it. Its file's time says when the registry was last heard of, and a failed pull is written down
beside it for the other jobs and executors.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import math
import os
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway_cache import ImageCache
from gateway_engine import Engine, EngineError
from gateway_policy import ImageFacts, full_name, registry_of

# A job whose image's registry says nothing for so long leaves its slot to others.
ANSWER_TIMEOUT_S = 3.0
# For so long, other images of that registry are not waited for at all.
SILENT_REGISTRY_S = 30.0
# The same once it has answered: an engine may be silent while it writes a large layer.
PROGRESS_TIMEOUT_S = 30.0
FIRST_PAUSE_S, MAXIMUM_PAUSE_S = 10.0, 300.0
FORGET_S = 600.0
_POLL_S = 0.1
# With `pull: always`, an image that was pulled so recently is not pulled again.
FRESH_S = 60.0
_DIRECTORY_MODE = 0o700
_KNOWN_LIMIT = 10_000


class PullError(Exception):
    """The image is not available now. The text is the hold's reason."""


class PullCounts:
    """How many pulls of this executor succeeded and failed, in a file that its startd advertises.

    STARTD_CRON in executor.conf reads the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts = {"Succeeded": 0, "Failed": 0}
        self._lock = threading.Lock()
        self._write()

    def count(self, *, succeeded: bool) -> None:
        """Count a pull that has ended."""
        with self._lock:
            self._counts["Succeeded" if succeeded else "Failed"] += 1
            self._write()

    def _write(self) -> None:
        lines = [f"ImagePulls{result} = {count}\n" for result, count in self._counts.items()]
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(lines))
        temporary.chmod(0o644)
        temporary.replace(self._path)


class Images:
    """What the gateway knows of images."""

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        *,
        always: bool,
        credentials: Mapping[str, Any],
        counts: PullCounts | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        self._engine = engine
        self._counts = counts
        self._directory = directory
        self.cache = ImageCache(engine, directory, limit_bytes)
        self.always = always
        self._credentials = credentials
        self._known: dict[str, None] = {}
        self._lock = threading.Lock()
        self._pulling: set[str] = set()

    def known(self) -> list[str]:
        """Return the names that jobs used and that were there; for these, HTCondor asks no pull."""
        return [] if self.always else list(self._known)

    def note_use(self, reference: str) -> None:
        """Note that a job uses an image: the images that are used last are kept longest."""
        self.cache.note_use(reference, image_key(reference))

    def inspect(self, reference: str) -> ImageFacts | None:
        """Return what the engine knows of an image, or None if it has none of this name."""
        try:
            answer = self._engine.call("GET", f"/images/{reference}/json")
        except EngineError as error:
            if error.status != 404:
                raise
            self._known.pop(reference, None)
            return None
        if len(self._known) < _KNOWN_LIMIT:
            self._known[reference] = None
        entrypoint = (answer.get("Config") or {}).get("Entrypoint") or ()
        return ImageFacts(
            id=answer["Id"],
            architecture=answer.get("Architecture", ""),
            entrypoint=tuple([entrypoint] if isinstance(entrypoint, str) else entrypoint),
            digests=tuple(answer.get("RepoDigests") or ()),
        )

    def is_decided(self, reference: str) -> bool:
        """Return whether the image is there, or is not available now; False while it is pulled.

        It takes as long as a registry may take to answer.
        """
        try:
            return self.ensure(reference, time.time() + ANSWER_TIMEOUT_S + _POLL_S)
        except (PullError, EngineError):
            return True

    def ensure(self, reference: str, deadline: float = math.inf) -> bool:
        """Return True when the image is on the node, or False at the deadline. Raises PullError.

        The pull goes on, for the jobs to come, when this job is sent away because the registry does
        not answer.
        """
        if not self.always and self.inspect(reference) is not None:
            return True
        record = _Record(self._directory, reference)
        asked = time.time()
        while True:
            if (failure := record.failure()) is not None:
                raise PullError(failure)
            if record.pulled_after(asked - FRESH_S if self.always else asked):
                return True
            self._start(reference, record)
            if record.silent_s() > record.silence_limit_s():
                record.note_silence()
                raise PullError(
                    f"swarm-runner: registry {registry_of(reference)} has not answered for "
                    f"{record.silent_s():.0f} s; this node goes on trying"
                )
            if time.time() > deadline:
                return False
            time.sleep(_POLL_S)

    def _start(self, reference: str, record: _Record) -> None:
        """Start a pull, unless this executor or another one of the node is pulling."""
        with self._lock:
            if reference in self._pulling:
                return
            lock = record.try_lock()
            if lock is None:
                return
            self._pulling.add(reference)
        threading.Thread(target=self._pull, args=(reference, record, lock), daemon=True).start()

    def _pull(self, reference: str, record: _Record, lock: int) -> None:
        started = time.time()
        try:
            # Another pull may have ended a moment ago.
            if record.failure() is not None or (
                self.always and record.pulled_after(started - FRESH_S)
            ):
                return
            if not self.always and self.inspect(reference) is not None:
                record.succeed()
                return
            for step in self._engine.stream(
                "POST", "/images/create", self._authorization(reference), **_pull_query(reference)
            ):
                if "error" in step:
                    raise EngineError(500, str(step["error"]))
                record.touch()
            self.cache.note_pull(reference, image_key(reference))
            record.succeed()
            self._count_pull(succeeded=True)
            self.cache.trim()
        except EngineError as error:
            if not record.pulled_after(started):
                self._count_pull(succeeded=False)
                record.fail(str(error))
        finally:
            with self._lock:
                self._pulling.discard(reference)
            os.close(lock)

    def _count_pull(self, *, succeeded: bool) -> None:
        if self._counts is not None:
            self._counts.count(succeeded=succeeded)

    def _authorization(self, reference: str) -> dict[str, str]:
        entry = login(self._credentials, registry_of(reference))
        if entry is None:
            return {}
        content = json.dumps(entry).encode()
        return {"X-Registry-Auth": base64.urlsafe_b64encode(content).decode()}


def image_key(reference: str) -> str:
    """Return the name of an image's files in the directory that executors share."""
    return hashlib.sha256(full_name(reference).encode()).hexdigest()[:32]


def login(credentials: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    """Return the login for a registry in a config.json of `docker login`, or None."""
    names = {registry, f"https://{registry}", f"http://{registry}"}
    if registry == "docker.io":
        names |= {"https://index.docker.io/v1/", "index.docker.io"}
    for name, entry in (credentials.get("auths") or {}).items():
        if name.rstrip("/") in {known.rstrip("/") for known in names}:
            user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
            return {
                "username": entry.get("username", user),
                "password": entry.get("password", password),
                "serveraddress": registry,
            }
    return None


def _pull_query(reference: str) -> dict[str, object]:
    name, separator, digest = reference.partition("@")
    if separator:
        return {"fromImage": name.rpartition(":")[0] if _has_tag(name) else name, "tag": digest}
    if _has_tag(name):
        repository, _, tag = name.rpartition(":")
        return {"fromImage": repository, "tag": tag}
    return {"fromImage": name, "tag": "latest"}


def _has_tag(name: str) -> bool:
    return ":" in name.rpartition("/")[2]


class _Record:
    """What the node's executors know of one image's pulls."""

    def __init__(self, directory: Path, reference: str) -> None:
        key = image_key(reference)
        self._lock_file = directory / f"{key}.lock"
        self._result_file = directory / f"{key}.json"
        registry = hashlib.sha256(registry_of(reference).encode()).hexdigest()[:32]
        self._silence_file = directory / f"{registry}.silent"
        self._directory = directory

    def try_lock(self) -> int | None:
        """Return the descriptor that holds the image's lock, or None if another one holds it."""
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.utime(descriptor)
        return descriptor

    def touch(self) -> None:
        """Note that the registry answers."""
        with suppress(OSError):
            self._lock_file.write_bytes(b"answered")
            self._silence_file.unlink(missing_ok=True)

    def silent_s(self) -> float:
        """Return for how long the registry has said nothing."""
        try:
            return max(0.0, time.time() - self._lock_file.stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def silence_limit_s(self) -> float:
        """Return for how long a job waits for a registry that says nothing."""
        with suppress(FileNotFoundError):
            if self._lock_file.stat().st_size:
                return PROGRESS_TIMEOUT_S
        with suppress(FileNotFoundError):
            if time.time() - self._silence_file.stat().st_mtime < SILENT_REGISTRY_S:
                return 0.0
        return ANSWER_TIMEOUT_S

    def note_silence(self) -> None:
        """Note that the registry does not answer, for its other images."""
        with suppress(FileNotFoundError):
            silent_s = time.time() - self._silence_file.stat().st_mtime
            if silent_s < SILENT_REGISTRY_S:
                return  # from the first job on: later it gets another chance
        self._silence_file.touch()

    def succeed(self) -> None:
        """Note that the image was pulled."""
        self._write({"pulled_at": time.time()})

    def fail(self, text: str) -> None:
        """Note a failed pull, for a pause that doubles."""
        before = self._read()
        recent = before.get("until", 0) > time.time() - FORGET_S
        failures = 1 + (before.get("failures", 0) if recent else 0)
        pause_s = min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), MAXIMUM_PAUSE_S)
        self._write({"failures": failures, "until": time.time() + pause_s, "message": text[:2000]})

    def failure(self) -> str | None:
        """Return the message of a failed pull whose pause has not ended."""
        result = self._read()
        return str(result["message"]) if result.get("until", 0) > time.time() else None

    def pulled_after(self, timestamp: float) -> bool:
        """Return whether a pull succeeded since then."""
        return bool(self._read().get("pulled_at", 0) >= timestamp)

    def _read(self) -> dict[str, Any]:
        try:
            result: dict[str, Any] = json.loads(self._result_file.read_text())
        except (OSError, ValueError):
            return {}
        return result

    def _write(self, result: dict[str, Any]) -> None:
        temporary = self._result_file.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps(result))
        temporary.replace(self._result_file)
