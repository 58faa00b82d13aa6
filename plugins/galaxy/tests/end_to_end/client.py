"""A client of Galaxy's REST API."""

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
    """Creates a user with a history, and acts as this user."""

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
        """Return the API's response to a GET request."""
        response = requests.get(
            f"{self.url}/api/{path}", headers=self._headers, params=query, timeout=120
        )
        response.raise_for_status()
        return response.json()

    def upload(self, *files: tuple[str, str, bytes]) -> list[str]:
        """Upload datasets with a name, a type and a content each. Return their IDs."""
        items = [
            {"src": "files", "name": name, "ext": kind, "dbkey": "?"} for name, kind, _ in files
        ]
        targets = [{"destination": {"type": "hdas"}, "items": items}]
        return self._fetch(targets, [content for _, _, content in files])["outputs"]

    def collection(self, contents: Sequence[str]) -> str:
        """Create a list of datasets with these contents. Return its ID."""
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
        payload: dict[str, Any] = {"history_id": self.history, "targets": targets}
        if contents:
            files = {f"files_{n}|file_data": (f"f{n}", file) for n, file in enumerate(contents)}
            body: dict[str, Any] = {
                "data": payload | {"targets": json.dumps(targets)},
                "files": files,
            }
        else:
            body = {"json": payload}
        response = requests.post(
            f"{self.url}/api/tools/fetch", headers=self._headers, timeout=120, **body
        )
        response.raise_for_status()
        created = response.json()
        (job,) = self.wait([created["jobs"][0]["id"]]).values()
        assert job["state"] == "ok", job
        return {
            kind: [entry["id"] for entry in created[kind]]
            for kind in ("outputs", "output_collections")
        }

    def run(self, tool: str, **inputs: Any) -> Json:
        """Start a tool. Return Galaxy's response, with `jobs` and `outputs`."""
        return self._create(
            "tools", {"tool_id": tool, "history_id": self.history, "inputs": inputs}, self._headers
        )

    def start(self, tool: str, **inputs: Any) -> str:
        """Start a tool. Return the ID of its job."""
        (job,) = self.run(tool, **inputs)["jobs"]
        return str(job["id"])

    def job(self, job: str) -> Json:
        """Return a job's full details."""
        return self.get(f"jobs/{job}", full=True)

    def wait(
        self,
        jobs: Iterable[str],
        until_states: Iterable[str] = FINAL_STATES,
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Json]:
        """Wait until all jobs are in one of these states. Return their full details."""
        pending, done, states = set(jobs), {}, set(until_states)

        def poll() -> set[str]:
            for job in list(pending):
                details = self.job(job)
                if details["state"] in states:
                    pending.discard(job)
                    done[job] = details
            return pending

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(timeout_s),
            retry_error_callback=lambda _: _raise_timeout(self, pending),
        )(poll)
        return done

    def delete(self, job: str) -> None:
        """Delete a job."""
        response = requests.delete(f"{self.url}/api/jobs/{job}", headers=self._headers, timeout=60)
        response.raise_for_status()

    def stop_entry_point(self, entry_point: str) -> None:
        """Stop an interactive tool, as its user does."""
        url = f"{self.url}/api/entry_points/{entry_point}"
        requests.delete(url, headers=self._headers, timeout=60).raise_for_status()

    def output(self, job: Mapping[str, Any], name: str = "out") -> str:
        """Return the content of one of a job's outputs."""
        return self.content(job["outputs"][name]["id"])

    def content(self, dataset: str) -> str:
        """Return a dataset's content."""
        response = requests.get(
            f"{self.url}/api/datasets/{dataset}/display", headers=self._headers, timeout=120
        )
        response.raise_for_status()
        return response.content.decode()

    def metrics(self, job: str) -> dict[str, str]:
        """Return the job's metrics, by name."""
        return {entry["name"]: entry["raw_value"] for entry in self.get(f"jobs/{job}/metrics")}

    def _create(self, path: str, payload: Mapping[str, Any], headers: Mapping[str, str]) -> Json:
        response = requests.post(
            f"{self.url}/api/{path}", headers=dict(headers), json=dict(payload), timeout=120
        )
        if not response.ok:
            raise AssertionError(f"{path}: {response.status_code} {response.text}")
        return response.json()


def _raise_timeout(client: Client, pending: set[str]) -> None:
    states = [(job, client.job(job)["state"]) for job in sorted(pending)]
    raise AssertionError(f"timed out waiting for {len(states)} jobs: {states[:10]}")
