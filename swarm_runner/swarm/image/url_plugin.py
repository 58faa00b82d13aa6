#!/usr/bin/python3 -Es
"""Fetches the inputs of a job that are URLs: HTCondor's file transfer plugin of an executor.

HTCondor's starter runs it before the job, with one description for each URL (protocol 4), and takes
its exit code and its messages into the hold of a job whose inputs could not be fetched. What may be
fetched is decided here (source_policy.py), because the executor trusts no job ad.

Sources: HTCondor's documentation, "File Transfer Plug-Ins", and file_transfer.cpp of 25.14.
"""

import os
import re
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs

import source_policy
from source_fetch import MAY_PASS, REFUSED, Downloader, FetchError, Input
from source_policy import DeniedError, Source

UPLOAD_EXIT_CODE = 1
MAX_MESSAGE_CHARS = 1500
# As HTCondor's ClassAds are written: only texts have a meaning here.
_TOKEN = re.compile(
    r'\s*(?:(?P<sign>[\[\];])|(?P<name>\w+)\s*=\s*"(?P<text>(?:[^"\\]|\\.)*)")', re.S
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.S)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def parse_ads(text: str) -> list[dict[str, str]]:
    """Return the texts of each ad, by their attribute in lower case. Raises ValueError."""
    ads: list[dict[str, str]] = []
    position, depth = 0, 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError("HTCondor's description of the inputs is not what submits write")
        position = match.end()
        if match["sign"] == "[":
            ads.append({})
        depth += {"[": 1, "]": -1}.get(match["sign"] or "", 0)
        if depth not in (0, 1) or (match["name"] and not depth):
            raise ValueError("HTCondor's description of the inputs has nested ads")
        if match["name"]:
            ads[-1][match["name"].lower()] = _unescape(match["text"])
    return ads


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else _ESCAPED.get(code, code)

    return _ESCAPE.sub(replace, text)


def quote_ad(values: Mapping[str, object]) -> str:
    """Return an ad as HTCondor reads it."""
    return "[ " + " ".join(f"{name} = {_quote(value)};" for name, value in values.items()) + " ]\n"


def _quote(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + quote_ad(value).strip() + " }"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else "?" for char in escaped) + '"'


def read_inputs(ads: Sequence[Mapping[str, str]], root: str) -> list[Input]:
    """Return what to fetch. Raises DeniedError for a file outside of the job's directory."""
    named: dict[str, list[Input]] = {}
    for data in (ad["plugindata"] for ad in ads if "plugindata" in ad and "url" not in ad):
        for part in data.split():
            fields = {key: values[-1] for key, values in parse_qs(part).items()}
            item = Input(fields.get("url", ""), fields.get("name", ""), fields.get("checksum", ""))
            named.setdefault(item.url, []).append(item)
    found: dict[Input, None] = {}  # each once: HTCondor lists a URL as often as the job names it
    for ad in ads:
        if "url" in ad:
            default = Input(ad["url"], os.path.relpath(ad["localfilename"], root))
            found |= dict.fromkeys(named.get(ad["url"], [default]))
    for item in found:
        parts = item.name.split("/")
        if not item.name or item.name.startswith("/") or {"", ".", ".."} & set(parts):
            raise DeniedError(f"to {item.name!r}, outside of the job's directory")
    return list(found)


def job_disk_bytes(environment: Mapping[str, str], root: str) -> int:
    """Return what the slot's disk has left for the job's inputs.

    HTCondor writes the slot's ad before the inputs are transferred; nothing of the job has run.
    """
    total: int | None = None
    try:
        text = Path(environment["_CONDOR_MACHINE_AD"]).read_text(errors="replace")
        match = re.search(r"^Disk = (\d+)$", text, re.MULTILINE)
        total = int(match[1]) * 1024 if match else None
    except (KeyError, OSError):
        pass
    disk = os.statvfs(root)
    free = disk.f_bavail * disk.f_frsize
    there = (path.lstat() for path in Path(root).rglob("*"))
    used = sum(status.st_size for status in there if stat.S_ISREG(status.st_mode))
    return free if total is None else min(free, total - used)


def read_authorizations(sources: Sequence[Source]) -> dict[str, str]:
    """Return the header of each secret that this process may read."""
    found = {}
    for source in sources:
        if source.authorization is not None:
            try:
                found[source.authorization] = Path(source.authorization).read_text().strip()
            except (OSError, UnicodeDecodeError):
                continue
    return found


def become_job_user(read: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Call `read` as root, if HTCondor started this program as root, and then stop being root.

    HTCondor sets the effective user to the job's. An output of a job may be a link, which HTCondor
    follows as that user: it must not be able to read a secret.
    """
    user, group = os.geteuid(), os.getegid()
    if os.getuid() != 0 or user == 0:
        return read()
    os.seteuid(0)
    found = read()
    os.setgroups([group])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    return found


def result(item: Input, root: str, **values: object) -> str:
    """Return what HTCondor reads of one input. The URL's query is left out."""
    shown = item.url.partition("?")[0]
    known = {"TransferFileName": f"{root}/{item.name}", "TransferUrl": shown}
    return quote_ad(known | {"TransferProtocol": item.url.partition(":")[0]} | values)


def failure(item: Input, root: str, error: FetchError) -> str:
    """Return what HTCondor reads of an input that could not be fetched."""
    message = f"swarm-runner could not fetch {error}"[:MAX_MESSAGE_CHARS]
    data = {
        "ErrorType": "Transfer" if error.code != REFUSED else "Parameter",
        "ErrorCode": error.code,
        "ErrorString": message,
        "PluginVersion": "1",
        "PluginLaunched": True,
        "Retryable": 0 if error.code == MAY_PASS else -1,
    }
    return result(item, root, TransferSuccess=False, TransferError=message, TransferErrorData=data)


def fetch_all(downloader: Downloader, inputs: Sequence[Input], root: str) -> tuple[int, str]:
    """Fetch the inputs until one fails; return the exit code and the results."""
    results = ""
    for item in inputs:
        started = int(time.time())
        try:
            size = downloader.fetch(item, root)
        except FetchError as error:
            return error.code, results + failure(item, root, error)
        results += result(
            item,
            root,
            TransferSuccess=True,
            TransferFileBytes=size,
            TransferTotalBytes=size,
            TransferStartTime=started,
            TransferEndTime=int(time.time()),
        )
    return 0, results


def run(arguments: Mapping[str, str], *, upload: bool) -> tuple[int, str]:
    """Do what HTCondor asks for; return the exit code and the results."""
    root = str(Path(arguments["-infile"]).parent)
    sources = source_policy.parse_sources(source_policy.SETTINGS_FILE.read_text())
    authorizations = become_job_user(lambda: read_authorizations(sources))
    if os.geteuid() == 0:
        raise RuntimeError("HTCondor runs this program as root, and not for a job's user")
    text = Path(arguments["-infile"]).read_text(errors="replace")
    try:
        ads = parse_ads(text)
        if upload:
            message = "swarm-runner sends no output to a URL; name a file"
            item = Input(next((ad["url"] for ad in ads if "url" in ad), ""), "output")
            return UPLOAD_EXIT_CODE, result(
                item, root, TransferSuccess=False, TransferError=message
            )
        inputs = read_inputs(ads, root)
    except (ValueError, KeyError, DeniedError) as error:
        return REFUSED, failure(Input("", "inputs"), root, FetchError(str(error), REFUSED))
    networks = source_policy.own_networks(
        Path("/proc/net/route").read_text(), read_if_there("/proc/net/if_inet6")
    )
    free_bytes = job_disk_bytes(os.environ, root)
    return fetch_all(Downloader(sources, authorizations, networks, free_bytes), inputs, root)


def read_if_there(path: str) -> str:
    """Return a file's text, or nothing: without IPv6, there is no if_inet6."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


def describe_plugin() -> str:
    """Return what HTCondor asks for at its start."""
    sources = source_policy.parse_sources(source_policy.SETTINGS_FILE.read_text())
    methods = ",".join(sorted({source.scheme for source in sources}))
    return (
        "MultipleFileSupport = true\nProtocolVersion = 4\n"
        'PluginVersion = "1"\nPluginType = "FileTransfer"\n'
        f'SupportedMethods = "{methods}"\n'
    )


def main(arguments: Sequence[str]) -> int:
    """Answer HTCondor's question, or fetch."""
    if "-classad" in arguments:
        sys.stdout.write(describe_plugin())
        return 0
    upload = "-upload" in arguments
    named = [argument for argument in arguments if argument != "-upload"]
    options = dict(zip(named[::2], named[1::2], strict=False))
    code, results = run(options, upload=upload)
    # HTCondor has filled the file with spaces, so that a full disk leaves room for the results.
    with Path(options["-outfile"]).open("r+b") as file:
        file.write(results.encode())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
