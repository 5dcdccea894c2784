"""Downloads, from a real HTTP server on this machine that can break off, ignore ranges, and lie."""

import hashlib
import http.server
import multiprocessing.pool
import re
import threading

import numpy as np
import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.weights import catalogue, download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()[:8]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the server's attributes say how badly."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range"))
        if server.status != 200:
            self.send_error(server.status)
            return
        body, start = server.content, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.ranges:
            start = int(wanted[1])
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.limits.pop(0) if server.limits else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.status, server.ranges = CONTENT, 200, True
    server.limits, server.requests = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/models/resnet-{SHA256}.pth"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def files(folder):
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_download_with_progress_happens_once(server, tmp_path):
    seen = []
    for _ in range(2):
        path = download.fetch(server.url, SHA256, tmp_path / "new", lambda *n: seen.append(n))
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == {f"resnet-{SHA256}.pth"}
    assert server.requests == [None]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (3_000_000, 3_000_000)
    assert len(seen) >= 3


def test_an_interrupted_download_goes_on_where_it_broke_off(server, tmp_path):
    server.limits = [1_000_000, 500_000]
    seen = []
    path = download.fetch(server.url, SHA256, tmp_path, lambda *n: seen.append(n))
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-", "bytes=1500000-"]
    assert {total for _, total in seen} == {3_000_000}


def test_the_next_call_resumes(server, tmp_path):
    server.limits = [1_000_000, 0]
    with pytest.raises(UserError, match=r"connection broke off.*put it at") as error:
        download.fetch(server.url, SHA256, tmp_path)
    assert str(tmp_path / f"resnet-{SHA256}.pth") in str(error.value)
    assert files(tmp_path) == {f"resnet-{SHA256}.pth.part"}
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=1000000-"


def test_a_complete_partial_file_is_only_renamed(server, tmp_path):
    (tmp_path / f"resnet-{SHA256}.pth.part").write_bytes(CONTENT)
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=3000000-"]


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.limits, server.ranges = [1_000_000], False
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-"]


def test_a_file_of_another_hash_is_removed_and_refused(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    wrong = hashlib.sha256(server.content).hexdigest()[:8]
    with pytest.raises(UserError, match=f"not the published file.*{wrong}, not {SHA256}.*removed"):
        download.fetch(server.url, SHA256, tmp_path)
    assert files(tmp_path) == set()


def test_a_wrong_file_that_the_user_put_there_is_refused_and_kept(server, tmp_path):
    (tmp_path / f"resnet-{SHA256}.pth").write_bytes(b"other")
    with pytest.raises(UserError, match=r"not the published file.*delete it"):
        download.fetch(server.url, SHA256, tmp_path)
    assert files(tmp_path) == {f"resnet-{SHA256}.pth"}
    assert server.requests == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_says_where_to_put_the_file(server, tmp_path, status):
    server.status = status
    with pytest.raises(UserError, match=f"HTTP Error {status}.*put it at .*resnet-{SHA256}.pth"):
        download.fetch(server.url, SHA256, tmp_path)


def test_offline_says_where_to_put_the_file(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=f"cannot be downloaded.*refused.*put it at .*resnet-{SHA256}.pth"):
        download.fetch(server.url, SHA256, tmp_path)


def test_several_at_once_wait_for_one_another(server, tmp_path):
    # Threads here, which the lock holds apart as it does processes.
    with multiprocessing.pool.ThreadPool(3) as pool:
        paths = pool.starmap(download.fetch, [(server.url, SHA256, tmp_path)] * 3)
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.requests == [None]


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IMGCLS_CACHE", raising=False)
    assert download.cache_folder() == tmp_path / ".cache/imgcls_jax/weights"
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "x"))
    assert download.cache_folder() == tmp_path / "x"
    assert download.cache_folder(tmp_path / "y") == tmp_path / "y"


def test_resolve_takes_names_and_paths(server, tmp_path, monkeypatch):
    entry = catalogue.CATALOGUE["torchvision/resnet50.IMAGENET1K_V2"]
    with pytest.raises(UserError, match=r"the nearest name is torchvision/resnet50.IMAGENET1K_V2"):
        catalogue.resolve("torchvision/resnet50.IMAGENET1K_V3")
    monkeypatch.setattr(download, "fetch", lambda url, sha256, folder, progress: folder / url / sha256)
    found = catalogue.resolve(entry.name, tmp_path)
    assert found == (tmp_path / "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" / "11ad3fa6", entry)
    (tmp_path / "mine.pth").write_bytes(b"")
    assert catalogue.resolve(str(tmp_path / "mine.pth")) == (tmp_path / "mine.pth", None)
