"""The images of the pool and of its autoscaler: found, pulled or built on one Docker engine."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import PreconditionError
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.debian_release import MIRROR, expired_since
from swarm_runner.swarm.errors import translate_docker_errors

if TYPE_CHECKING:
    import docker

log = get_logger(__name__)

SOURCE = resources.files("swarm_runner.swarm") / "image"
BUILD_TIMEOUT_S = 1800
PULL_REPORT_INTERVAL_S = 5.0
_BYTES_PER_MB = 1_000_000
BASE_REPOSITORY, BASE_TAG = "debian", "trixie"
# HTCondor comes from here.
PACKAGE_SUITE = "sid"
BASE_LABEL = "org.opencontainers.image.base.name"
# Stages of the pool image's Dockerfile, and the names of the images built from them.
POOL_STAGE, POOL_VM_STAGE = "pool", "pool-vm"
AUTOSCALER_REPOSITORY = "swarm-runner-autoscaler"
_AUTOSCALER_SOURCE = "swarm_runner/swarm/autoscaler/"
# Set to `false`, this environment variable lets a build use a mirror whose Release files expired.
CHECK_VALID_UNTIL_VARIABLE = "SWARM_RUNNER_CHECK_VALID_UNTIL"
# `locked` or `newest` (image/install_packages.sh); otherwise what is locked, if it is available.
PACKAGES_VARIABLE = "SWARM_RUNNER_PACKAGES"
_PACKAGES_CHOICES = ("", "locked", "newest")
# How install_packages.sh begins a message to the user.
_REPORT_PREFIX = "swarm-runner: "
# The time of every file that a build writes, as in the Dockerfiles.
SOURCE_DATE_EPOCH = 1767225600
# What a step printed before it failed.
_LAST_LINES = 5
_BINDINGS = ("htcondor2", "classad2", "htcondor.libs")


def pool_image_reference(stage: str = POOL_STAGE) -> str:
    """Return the reference of the image built from this package; its tag is a source digest."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.iterdir(), key=lambda entry: entry.name):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return f"swarm-runner-{stage}:{digest.hexdigest()[:12]}"


def ensure_pool_image(
    client: docker.DockerClient,
    image: str | None,
    progress: Callable[[str], None],
    *,
    virtual_machines: bool = False,
) -> str:
    """Return the reference of a pool image that the engine has.

    Pull `image` if the engine lacks it. Without `image`, use the image of this package and build it
    if the engine lacks it; `virtual_machines` selects the variant that can run VMs.

    Raises PreconditionError if the image can be neither pulled nor built.
    """
    if image is not None:
        return _ensure_pulled(client, image, progress)
    stage = POOL_VM_STAGE if virtual_machines else POOL_STAGE
    reference = pool_image_reference(stage)
    if _image_exists(client, reference):
        return reference
    progress(f"building {reference} from Debian's packages (about a minute)")
    build_pool_image(client, reference, progress, stage=stage)
    return reference


def build_pool_image(
    client: docker.DockerClient,
    reference: str,
    progress: Callable[[str], None],
    *,
    stage: str = POOL_STAGE,
    use_cache: bool = True,
) -> None:
    """Build the pool image of this package under a name. Raises PreconditionError."""
    with resources.as_file(SOURCE) as source, translate_docker_errors("building the pool image"):
        base = _base_image(client)
        files = {file.name: file for file in source.iterdir() if file.is_file()}
        _build(
            client,
            "the pool image",
            "debian:trixie (from a registry, or imported) and access to Debian's packages",
            progress,
            files=files,
            target=stage,
            tag=reference,
            nocache=not use_cache,
            buildargs={"BASE": base},
            labels={BASE_LABEL: base},
        )


def ensure_autoscaler_image(
    client: docker.DockerClient, image: str | None, base: str, progress: Callable[[str], None]
) -> str:
    """Return the reference of an autoscaler image that the engine has.

    Pull `image` if the engine lacks it. Without `image`, use the pool image `base` with this
    package, and build it if the engine lacks it.

    Raises PreconditionError if it can be neither pulled nor built.
    """
    if image is not None:
        return _ensure_pulled(client, image, progress)
    files = dict(_package_files())
    digest = hashlib.sha256(base.encode())
    for name, file in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    reference = f"{AUTOSCALER_REPOSITORY}:{digest.hexdigest()[:12]}"
    if _image_exists(client, reference):
        return reference
    progress(f"building {reference} from {base} (half a minute)")
    build_autoscaler_image(client, reference, base, progress)
    return reference


def build_autoscaler_image(
    client: docker.DockerClient,
    reference: str,
    base: str,
    progress: Callable[[str], None],
    *,
    use_cache: bool = True,
) -> None:
    """Build the autoscaler image under a name, from a pool image. Raises PreconditionError."""
    files = dict(_package_files())
    context = {f"packages/{name}": file for name, file in files.items()}
    context |= {
        name.removeprefix(_AUTOSCALER_SOURCE): file
        for name, file in files.items()
        if name.startswith(_AUTOSCALER_SOURCE)
    }
    with translate_docker_errors("building the autoscaler image"):
        _build(
            client,
            "the autoscaler image",
            "a pool image based on Debian trixie and sid, as this package builds it, and access to "
            "Debian's packages",
            progress,
            files=context,
            tag=reference,
            nocache=not use_cache,
            buildargs={"BASE": base},
        )


def _ensure_pulled(client: docker.DockerClient, image: str, progress: Callable[[str], None]) -> str:
    """Pull an image if the engine lacks it. Return its reference. Raises PreconditionError."""
    if not _image_exists(client, image):
        progress(f"pulling {image}")
        with translate_docker_errors(f"pulling {image}"):
            _pull(client, image, progress)
        log.info("Image pulled", image=image)
    return image


def _pull(client: docker.DockerClient, image: str, progress: Callable[[str], None]) -> None:
    """Pull an image, and report every few seconds how much of it has been loaded.

    Raises PreconditionError with the registry's message.
    """
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(image)
    loaded: dict[str, int] = {}
    sizes: dict[str, int] = {}
    reported_at = time.monotonic()
    for line in client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
        if "error" in line:
            raise PreconditionError(f"pulling {image}: {line['error'].strip()}")
        detail = line.get("progressDetail") or {}
        # A layer is extracted after it was loaded; that has numbers of its own.
        if line.get("status") == "Downloading" and detail.get("total"):
            loaded[line["id"]], sizes[line["id"]] = detail["current"], detail["total"]
        elif line.get("id") in sizes:
            loaded[line["id"]] = sizes[line["id"]]
        if sizes and time.monotonic() - reported_at >= PULL_REPORT_INTERVAL_S:
            reported_at = time.monotonic()
            done, total = (sum(part.values()) / _BYTES_PER_MB for part in (loaded, sizes))
            progress(f"pulling {image}: {done:.0f} of {total:.0f} MB")


def _base_image(client: docker.DockerClient) -> str:
    """Return the base image by its digest, or by its name if it was imported and has none.

    The build uses no other, and the pool image's label names it.
    """
    import docker.errors

    try:
        image = client.images.get(f"{BASE_REPOSITORY}:{BASE_TAG}")
    except docker.errors.ImageNotFound:
        image = client.images.pull(BASE_REPOSITORY, tag=BASE_TAG)
    digests: list[str] = image.attrs.get("RepoDigests") or []
    return digests[0] if digests else f"{BASE_REPOSITORY}:{BASE_TAG}"


def _image_exists(client: docker.DockerClient, reference: str) -> bool:
    import docker.errors

    with translate_docker_errors(f"inspecting image {reference}"):
        try:
            client.images.get(reference)
        except docker.errors.ImageNotFound:
            return False
    return True


def _build(
    client: docker.DockerClient,
    description: str,
    requirements: str,
    progress: Callable[[str], None],
    *,
    files: Mapping[str, Path],
    tag: str,
    buildargs: dict[str, str] | None = None,
    **kwargs: Any,
) -> None:
    """Build an image and report each step. Raise PreconditionError with the last message."""
    check = os.environ.get(CHECK_VALID_UNTIL_VARIABLE, "true")
    packages = os.environ.get(PACKAGES_VARIABLE, "")
    if packages not in _PACKAGES_CHOICES:
        raise PreconditionError(
            f"{PACKAGES_VARIABLE} is {packages!r}; set it to locked or newest, or unset it"
        )
    kwargs["buildargs"] = {"CHECK_VALID_UNTIL": check, "PACKAGES": packages} | (buildargs or {})
    # The high-level images.build returns nothing before the build has ended.
    stream = client.api.build(
        fileobj=_build_context(files),
        custom_context=True,
        rm=True,
        decode=True,
        timeout=BUILD_TIMEOUT_S,
        tag=tag,
        **kwargs,
    )
    printed: deque[str] = deque(maxlen=_LAST_LINES)
    for line in stream:
        if "error" in line:
            last = "".join(f"\n  {text}" for text in printed)
            raise PreconditionError(
                f"building {description} failed: {line['error'].strip()}.{last}\n"
                f"The build needs {requirements}{_expiry_advice(check)}"
                + (f". {PACKAGES_VARIABLE} is {packages}" if packages else "")
            )
        step = line.get("stream", "").strip()
        if step.startswith("Step "):
            progress(step)
        elif step.startswith(_REPORT_PREFIX):
            progress(step.removeprefix(_REPORT_PREFIX))
        elif step:
            printed.append(step)
    log.info("Image built", image=tag)


def _expiry_advice(check: str) -> str:
    """Return what to do if the mirror's packages are too old for apt; empty if they are not."""
    if check == "false" or not (date := expired_since(PACKAGE_SUITE, datetime.now(UTC))):
        return ""
    return (
        f". The Release file of {PACKAGE_SUITE} at {MIRROR} expired at {date}: use a mirror that "
        f"is updated, or set {CHECK_VALID_UNTIL_VARIABLE}=false and run the same command again, "
        "which installs what was current then"
    )


def _package_files() -> Iterator[tuple[str, Path]]:
    """Yield the files of this package and of HTCondor's bindings, as they are installed here."""
    with resources.as_file(resources.files("swarm_runner")) as package:
        for file in package.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"swarm_runner/{file.relative_to(package)}", file
    bindings = [file for file in metadata.files("htcondor") or () if file.parts[0] in _BINDINGS]
    if not any(file.name.endswith(".abi3.so") for file in bindings):
        raise PreconditionError(
            "the autoscaler image needs HTCondor's bindings from this Python environment, but "
            "they are not those of PyPI's `htcondor`; run `pip install htcondor`, or run "
            "`swarm-runner pool autoscale` here instead of `pool up --autoscale`"
        )
    for binding in bindings:
        if "__pycache__" not in binding.parts:
            yield str(binding), Path(str(binding.locate()))


def _build_context(files: Mapping[str, Path]) -> io.BytesIO:
    """Return a tar file in which the same files are always the same bytes."""

    def normalized(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = SOURCE_DATE_EPOCH
        member.mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
        return member

    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, file in sorted(files.items()):
            archive.add(file, name, filter=normalized)
    context.seek(0)
    return context
