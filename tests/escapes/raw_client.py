"""A client with a token and HTCondor's bindings, in a process of its own: one action.

`python -m tests.escapes.raw_client TOKEN_DIRECTORY POOL ADDRESS ACTION JSON` prints JSON: `done`,
whether the pool did it, and `reported`, what it answered.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from swarm_runner.condor.connection import classad, htcondor


class RawClient:
    """The pool as the holder of a token sees it."""

    def __init__(self, token_directory: str, pool: str, address: str) -> None:
        self._bindings = htcondor()
        settings = self._bindings.param
        settings["SEC_TOKEN_DIRECTORY"] = token_directory
        settings["SEC_CLIENT_AUTHENTICATION"] = "REQUIRED"
        settings["SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
        for name in ("TRUST_DOMAIN", "UID_DOMAIN", "FILESYSTEM_DOMAIN"):
            settings[name] = pool
        self._collector = self._bindings.Collector(address)

    @property
    def _schedd(self) -> Any:
        kind = self._bindings.DaemonType.Schedd
        return self._bindings.Schedd(self._collector.locate(kind))

    def submit(self, commands: dict[str, str], spool: bool = False) -> tuple[bool, str]:
        """Submit one job; its ID is the answer."""
        result = self._schedd.submit(self._bindings.Submit(commands), spool=spool)
        if spool:
            self._schedd.spool(result)
        return True, f"{result.cluster()}.0"

    def change(self, action: str, job: str) -> tuple[bool, str]:
        """Remove, hold, release, vacate or suspend a job."""
        chosen = getattr(self._bindings.JobAction, action)
        answer = self._schedd.act(chosen, [job], ("an attempt", 0))
        denied, changed = answer["TotalPermissionDenied"], answer["TotalSuccess"]
        return changed > 0, f"{denied} permission denied, {changed} changed"

    def edit(self, job: str, attribute: str, value: str) -> tuple[bool, str]:
        """Change an attribute of a job."""
        return True, str(self._schedd.edit([job], attribute, value))

    def retrieve(self, job: str, directory: str) -> tuple[bool, str]:
        """Fetch the outputs of a job: whether a file has arrived."""
        self._schedd.retrieve([job])
        names = [file.name for file in Path(directory).iterdir()]
        return bool(names), ", ".join(names) or "no file was sent"

    def read(self, attribute: str, job: str) -> tuple[bool, str]:
        """Read an attribute of a job."""
        cluster = job.partition(".")[0]
        ads = self._schedd.query(f"ClusterId == {cluster}", [attribute])
        return bool(ads), f"{len(ads)} job ads"

    def export(self, job: str, directory: str) -> tuple[bool, str]:
        """Take a job out of the queue, to another access point."""
        return True, str(self._schedd.export_jobs([job], directory, directory))

    def enable_user(self, user: str) -> tuple[bool, str]:
        """Change the access point's record of a user."""
        return True, str(self._schedd.addUserRec(user))

    def disable_user(self, user: str) -> tuple[bool, str]:
        """Shut another user out."""
        return True, str(self._schedd.disableUserRec(user, "an attempt"))

    def priority(self, user: str) -> tuple[bool, str]:
        """Change a fair share."""
        kind = self._bindings.DaemonType.Negotiator
        negotiator = self._bindings.Negotiator(self._collector.locate(kind))
        negotiator.setPriority(user, 1.0)
        return True, "set"

    def command(self, daemon: str, command: str) -> tuple[bool, str]:
        """Send a command to a daemon."""
        ad = self._collector.locate(getattr(self._bindings.DaemonType, daemon))
        chosen = getattr(self._bindings.DaemonCommand, command)
        self._bindings.send_command(ad, chosen)
        return True, "sent"

    def configure(self, name: str, value: str) -> tuple[bool, str]:
        """Change a setting of a daemon."""
        ad = self._collector.locate(self._bindings.DaemonType.Schedd)
        self._bindings.RemoteParam(ad)[name] = value
        return True, "set"

    def advertise(self, kind: str, name: str) -> tuple[bool, str]:
        """Advertise a daemon or a slot that does not exist; whether the collector has it."""
        ad = classad().ClassAd({"MyType": kind, "Name": name, "MyAddress": "<127.0.0.1:1>"})
        command = {"Machine": "UPDATE_STARTD_AD", "Scheduler": "UPDATE_SCHEDD_AD"}[kind]
        self._collector.advertise([ad], command)
        ad_type = (
            self._bindings.AdType.Startd if kind == "Machine" else self._bindings.AdType.Schedd
        )
        found = self._collector.query(ad_type, f'Name == "{name}"', ["Name"])
        return bool(found), f"the collector has {len(found)} such ads"


def main() -> None:
    """Run one action and print the answer."""
    token_directory, pool, address, action, arguments = sys.argv[1:]
    client = RawClient(token_directory, pool, address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            done, reported = getattr(client, action)(**json.loads(arguments))
        except Exception as error:  # noqa: BLE001 (each refusal has its own type)
            done, reported = False, f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps({"done": done, "reported": reported}) + "\n")


if __name__ == "__main__":
    main()
