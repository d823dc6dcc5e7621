# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A hub of models on this machine: the part of the Hugging Face hub's protocol that uploads and downloads use."""

import base64
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

LARGE = (".safetensors", ".npy", ".model")  # what goes through large-file storage
TOKEN = "hf_fakefakefakefakefake"


@dataclass
class Repository:
    """Commits by id, each a mapping of file names to content, and branches and tags by name."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    private: bool = False

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        """Make a commit and return its id."""
        digest = hashlib.sha1(repr((branch, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[digest] = files
        self.heads[branch] = digest
        self.messages.append(message)
        return digest

    def find(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag or an id means."""
        revision = self.heads.get(revision, revision)
        return revision if revision in self.commits else None


@dataclass
class Hub:
    """What is stored, what was asked, and how the hub misbehaves.

    Attributes:
        repositories: By name.
        large: Content of large files by sha256.
        requests: Method, path and Range header of every request.
        cut_after: Bytes of the next download after which the connection breaks; None: none does.
        read_only: Whether uploads are refused.
        pause_sec: Pauses in the sending of files, which go in a dozen pieces then.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    cut_after: int | None = None
    read_only: bool = False
    pause_sec: float = 0.0

    def asked(self, method: str, piece: str) -> list[tuple[str, str, str | None]]:
        """Return the requests of a method whose path holds a piece of text."""
        return [request for request in self.requests if request[0] == method and piece in request[1]]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    # ------------------------------------------------------------------ requests

    def do_GET(self) -> None:
        path = self._begin()
        if path == "/api/whoami-v2":
            return self._json({"name": "me", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._info(match[1], match[2] or "main")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+).*", path):
            return self._tree(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(match[1], match[2], match[3])
        return self._error(404, "RepoNotFound")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        path = self._begin()
        content = self._body()
        digest = path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != digest:
            return self._error(400, "BadDigest")
        self.hub.large[digest] = content
        return self._json({})

    def do_POST(self) -> None:
        path, body = self._begin(), self._body()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.hub.read_only or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._error(403, "Forbidden")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/([^/]+)", path):
            repository = self.hub.repositories.get(match[1])
            if repository is None:
                return self._error(404, "RepoNotFound")
            revision = urllib.parse.unquote(match[3])
            if match[2] == "preupload":
                return self._preupload(json.loads(body))
            if match[2] == "branch":
                return self._branch(repository, revision)
            return self._commit(match[1], repository, revision, body)
        return self._error(404, "EntryNotFound")

    # ------------------------------------------------------------------ answers

    def _create(self, wanted: dict) -> None:
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.hub.repositories:
            return self._json({"error": "exists", "url": f"{self.hub.address}/{name}"}, 409)
        repository = self.hub.repositories[name] = Repository(private=wanted.get("visibility") == "private")
        repository.commit("main", {".gitattributes": b""}, "initial commit")
        return self._json({"url": f"{self.hub.address}/{name}", "name": name, "id": name})

    def _branch(self, repository: Repository, name: str) -> None:
        if name in repository.heads:
            return self._json({"error": "exists"}, 409)
        repository.heads[name] = repository.heads["main"]
        return self._json({})

    def _preupload(self, wanted: dict) -> None:
        files = [
            {
                "path": item["path"],
                "uploadMode": "lfs" if item["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for item in wanted["files"]
        ]
        self._json({"files": files})

    def _batch(self, wanted: dict) -> None:
        objects = []
        for item in wanted["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.large:
                answer["actions"] = {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes) -> None:
        files = dict(repository.commits[repository.heads[branch]])
        message = ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(branch, files, message)
        self._json({"commitOid": oid, "commitUrl": f"{self.hub.address}/{name}/commit/{oid}", "success": True})

    def _look_up(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._error(404, "RepoNotFound")
            return None
        commit = repository.find(urllib.parse.unquote(revision))
        if commit is None:
            self._error(404, "RevisionNotFound")
            return None
        return commit, repository.commits[commit]

    def _info(self, name: str, revision: str) -> None:
        if found := self._look_up(name, revision):
            commit, files = found
            self._json({"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in sorted(files)]})

    def _tree(self, name: str, revision: str) -> None:
        if found := self._look_up(name, revision):
            self._json(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in sorted(found[1].items())
                ]
            )

    def _file(self, name: str, revision: str, path: str) -> None:
        found = self._look_up(name, revision)
        if not found:
            return
        content = found[1].get(urllib.parse.unquote(path))
        if content is None:
            self._error(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": found[0], "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.hub.cut_after if self.command == "GET" else None
        if cut is not None and len(content) > cut:
            self.hub.cut_after = None
            self._send(200, content, headers, cut)
            self.wfile.flush()
            self.close_connection = True
            return
        self._send(206 if asked else 200, content[start:], headers)

    # ------------------------------------------------------------------ the wire

    def _begin(self) -> str:
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        return urllib.parse.urlsplit(self.path).path

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str) -> None:
        self._send(status, json.dumps({"error": code}).encode(), {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD" and self.hub.pause_sec:
            self._send_slowly(body[:cut])
        elif self.command != "HEAD":
            self.wfile.write(body[:cut])

    def _send_slowly(self, body: bytes) -> None:
        size = len(body) // 12 + 1
        with suppress(OSError):  # the one who asked is gone
            for start in range(0, len(body), size):
                self.wfile.write(body[start : start + size])
                time.sleep(self.hub.pause_sec)
