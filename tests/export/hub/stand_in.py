"""A stand-in for the server of Hugging Face, for huggingface_hub to talk to: it is not the real one.

It knows what creating a repository, committing small files and downloading a state take, of the paths and headers that
the package uses. It has no large-file storage (LFS, Xet), branches, or rights beyond "this token may write".
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

TOKEN, READER = "hf_writer", "hf_reader"


class Hub:
    """Repositories: by name the commits, each with its files; `gated` names those that nobody may read."""

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.requests: list[str] = []
        self.private: dict[str, bool] = {}
        self.gated: set[str] = set()
        self.address = ""

    def files(self, name: str) -> dict[str, bytes]:
        return self.commits[name][-1]


def sha(name: str, index: int) -> str:
    return hashlib.sha1(f"{name} {index}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_) -> None:
        pass

    def _answer(self, status: int, body=b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _find(self, name: str, revision: str) -> int | None:
        """Answer that there is no such state, or return its number."""
        commits = self.hub.commits.get(name)
        if commits is None:
            self._answer(404, X_Error_Code="RepoNotFound")
            return None
        if name in self.hub.gated:
            self._answer(403, X_Error_Code="GatedRepo")
            return None
        for index in range(len(commits)):
            if revision == sha(name, index):
                return index
        if revision in ("main", "HEAD"):
            return len(commits) - 1
        self._answer(404, X_Error_Code="RevisionNotFound")
        return None

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            name, kind = "/".join(parts[2:4]), parts[4] if parts[4:] else "revision"
            index = self._find(name, parts[5] if parts[5:] else "main")
            if index is None:
                return
            files = self.hub.commits[name][index]
            if kind == "tree":
                rows = [{"type": "file", "path": p, "size": len(b), "oid": _oid(b)} for p, b in files.items()]
                return self._answer(200, rows)
            return self._answer(
                200, {"id": name, "sha": sha(name, index), "siblings": [{"rfilename": p} for p in files]}
            )
        if len(parts) >= 5 and parts[2] == "resolve":
            name = "/".join(parts[:2])
            index = self._find(name, parts[3])
            if index is None:
                return
            data = self.hub.commits[name][index].get("/".join(parts[4:]))
            commit = sha(name, index)
            if data is None:
                return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return self._answer(200, data, ETag=f'"{_oid(data)}"', X_Repo_Commit=commit)
        self._answer(404)

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.requests.append(f"{self.command} {path}")
        body = self._body()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if path == "api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if token not in (TOKEN, READER):
            return self._answer(401)
        if token == READER:
            return self._answer(403, X_Error_Message="this token may not write")
        if path == "api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            known = name in self.hub.commits
            self.hub.commits.setdefault(name, [{}])
            if not known:
                self.hub.private[name] = bool(request.get("private")) or request.get("visibility") == "private"
            return self._answer(409 if known else 200, {"url": f"{self.hub.address}/{name}"})
        parts = path.split("/")
        name = "/".join(parts[2:4])
        if parts[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self._answer(200, {"files": modes})
        if parts[4:5] == ["commit"]:
            rows = [json.loads(line) for line in body.splitlines()]
            added = {
                row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"
            }
            self.hub.commits[name].append(self.hub.files(name) | added)
            commit = sha(name, len(self.hub.commits[name]) - 1)
            url = f"{self.hub.address}/{name}/commit/{commit}"
            return self._answer(200, {"commitUrl": url, "commitOid": commit, "success": True})
        self._answer(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@contextmanager
def reached(monkeypatch, tmp_path) -> Iterator[Hub]:
    """Have huggingface_hub talk to a stand-in, with an empty cache and a token that may write."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("IMGCLS_OFFLINE", raising=False)
    with serving() as hub:
        # As the package sets them at its import, which may have been before.
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def _oid(data: bytes) -> str:
    """What git calls a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub on this machine; `Hub.address` is its endpoint."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
