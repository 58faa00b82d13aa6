"""What a user does, through Galaxy's REST API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

TIMEOUT_S = 480
FINAL_STATES = ("ok", "error", "deleted", "stopped")
Json = Any


class Client:
    """A user of his own, with a history of his own."""

    def __init__(self, url: str, master_key: str, name: str) -> None:
        self.url = url
        master = {"x-api-key": master_key}
        user = self._create(
            "users",
            {"username": name, "email": f"{name}@example.org", "password": "secret-123"},
            master,
        )
        key = requests.post(f"{url}/api/users/{user['id']}/api_key", headers=master, timeout=60)
        key.raise_for_status()
        self._headers = {"x-api-key": key.json()}
        self.history = self._create("histories", {"name": name}, self._headers)["id"]

    def get(self, path: str, **query: Any) -> Json:
        """What the API answers."""
        answer = requests.get(
            f"{self.url}/api/{path}", headers=self._headers, params=query, timeout=120
        )
        answer.raise_for_status()
        return answer.json()

    def upload(self, *files: tuple[str, str, bytes]) -> list[str]:
        """Datasets of a name, a type and a content each; their ids when they are there."""
        items = [
            {"src": "files", "name": name, "ext": kind, "dbkey": "?"} for name, kind, _ in files
        ]
        targets = [{"destination": {"type": "hdas"}, "items": items}]
        return self._fetch(targets, [content for _, _, content in files])["outputs"]

    def collection(self, contents: Sequence[str]) -> str:
        """A list of datasets with these contents; its id when it is there."""
        items = [
            {"src": "pasted", "paste_content": text, "name": f"element{n}", "ext": "txt"}
            for n, text in enumerate(contents)
        ]
        target = {
            "destination": {"type": "hdca"},
            "collection_type": "list",
            "name": "many",
            "elements": items,
        }
        return str(self._fetch([target], [])["output_collections"][0])

    def _fetch(self, targets: Json, contents: Sequence[bytes]) -> dict[str, list[str]]:
        wanted: dict[str, Any] = {"history_id": self.history, "targets": targets}
        if contents:
            files = {f"files_{n}|file_data": (f"f{n}", file) for n, file in enumerate(contents)}
            body: dict[str, Any] = {
                "data": wanted | {"targets": json.dumps(targets)},
                "files": files,
            }
        else:
            body = {"json": wanted}
        answer = requests.post(
            f"{self.url}/api/tools/fetch", headers=self._headers, timeout=120, **body
        )
        answer.raise_for_status()
        made = answer.json()
        (job,) = self.wait([made["jobs"][0]["id"]]).values()
        assert job["state"] == "ok", job
        return {
            kind: [one["id"] for one in made[kind]] for kind in ("outputs", "output_collections")
        }

    def run(self, tool: str, **inputs: Any) -> Json:
        """Start a tool; Galaxy's answer, with `jobs` and `outputs`."""
        return self._create(
            "tools", {"tool_id": tool, "history_id": self.history, "inputs": inputs}, self._headers
        )

    def start(self, tool: str, **inputs: Any) -> str:
        """Start a tool; its one job."""
        (job,) = self.run(tool, **inputs)["jobs"]
        return str(job["id"])

    def job(self, job: str) -> Json:
        """All that is known of a job."""
        return self.get(f"jobs/{job}", full=True)

    def wait(
        self,
        jobs: Iterable[str],
        until_states: Iterable[str] = FINAL_STATES,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Json]:
        """Wait until all of them are in one of these states; the jobs in full."""
        pending, done, states = set(jobs), {}, set(until_states)

        def look() -> set[str]:
            for job in list(pending):
                seen = self.job(job)
                if seen["state"] in states:
                    pending.discard(job)
                    done[job] = seen
            return pending

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(timeout_s),
            retry_error_callback=lambda _: _raise_timeout(self, pending),
        )(look)
        return done

    def delete(self, job: str) -> None:
        """Delete a job, as its user may."""
        answer = requests.delete(f"{self.url}/api/jobs/{job}", headers=self._headers, timeout=60)
        answer.raise_for_status()

    def output(self, job: Mapping[str, Any], name: str = "out") -> str:
        """The content of one of a job's outputs."""
        return self.content(job["outputs"][name]["id"])

    def content(self, dataset: str) -> str:
        """A dataset's content."""
        answer = requests.get(
            f"{self.url}/api/datasets/{dataset}/display", headers=self._headers, timeout=120
        )
        answer.raise_for_status()
        return answer.content.decode()

    def metrics(self, job: str) -> dict[str, str]:
        """The job's metrics, by name."""
        return {one["name"]: one["raw_value"] for one in self.get(f"jobs/{job}/metrics")}

    def _create(self, path: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Json:
        answer = requests.post(
            f"{self.url}/api/{path}", headers=dict(headers), json=dict(payload), timeout=120
        )
        if not answer.ok:
            raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()


def _raise_timeout(client: Client, pending: set[str]) -> None:
    seen = [(job, client.job(job)["state"]) for job in sorted(pending)]
    raise AssertionError(f"still not there: {seen[:10]}, {len(seen)} in all")
