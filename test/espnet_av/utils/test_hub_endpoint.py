# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The hub's own client against a server of this test: what it answers, and what users are told."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from espnet_av.utils.errors import EnvironmentProblem, MissingDataError
from espnet_av.utils.hub import fetch_repository

constants = pytest.importorskip("huggingface_hub.constants")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b'{"odim": 9}'


class Answers(http.server.BaseHTTPRequestHandler):
    """One good repository, one gated, one that fails; nothing else is there."""

    def do_GET(self) -> None:
        if "/good/model" in self.path:
            if self.path.startswith("/api/"):
                info = {"id": "good/model", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
                tree = [{"type": "file", "path": "config.json", "size": len(CONTENT), "oid": "1" * 40}]
                return self.answer(200, json.dumps(tree if "/tree/" in self.path else info).encode())
            extra = {"ETag": '"abc"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(CONTENT))}
            return self.answer(200, CONTENT, extra)
        if "/gated/model" in self.path:
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if "/broken/model" in self.path:
            return self.answer(418, b"{}")
        return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(extra or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server in the place of the hub."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield server
    server.shutdown()
    server.server_close()


def test_download_is_kept(endpoint, tmp_path):
    folder = fetch_repository("good/model", tmp_path)
    assert (folder / "config.json").read_bytes() == CONTENT
    endpoint.shutdown()
    endpoint.server_close()
    assert fetch_repository("good/model", tmp_path) == folder  # without network


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("no/model", MissingDataError, "no such repository, or it is private; got 'no/model'"),
        ("gated/model", MissingDataError, "'gated/model' is gated.*hf auth login"),
        ("broken/model", EnvironmentProblem, "cannot be reached.*hf download broken/model"),
    ],
)
def test_refusals_are_explained(endpoint, tmp_path, name, kind, message):
    with pytest.raises(kind, match=message):
        fetch_repository(name, tmp_path)


def test_no_network(endpoint, tmp_path):
    endpoint.shutdown()
    endpoint.server_close()
    with pytest.raises(EnvironmentProblem, match="cannot be reached.*does not hold 'good/model'"):
        fetch_repository("good/model", tmp_path)
