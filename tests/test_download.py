"""Downloads, from a real HTTP server on this machine that can break off, refuse, and lie."""

import hashlib
import http.server
import multiprocessing.pool
import resource
import threading
import time

import numpy as np
import pytest

from imgcls_jax import download
from imgcls_jax.display import console
from imgcls_jax.errors import UserError
from imgcls_jax.weights import catalog

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()[:8]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the server's attributes say how badly."""

    def do_GET(self):
        server = self.server
        server.requests += 1
        server.paths.append(self.path)
        if server.status != 200:
            self.send_error(server.status)
            return
        asked = self.headers.get("Range") if server.ranges else None
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        server.first_bytes.append(first)
        if first >= len(server.content):
            self.send_error(416)
            return
        content = server.content[first:]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for start in range(0, min(server.limit, len(content)), 500_000):
            self.wfile.write(content[start:][: min(500_000, server.limit - start)])
            time.sleep(server.pause)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.status, server.limit, server.pause, server.requests = CONTENT, 200, len(CONTENT), 0, 0
    server.ranges, server.first_bytes, server.paths = True, [], []
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


def test_download_happens_once(server, tmp_path):
    for _ in range(2):
        path = download.fetch(server.url, SHA256, tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == {f"resnet-{SHA256}.pth"}
    assert server.requests == 1


@pytest.mark.parametrize(("pause", "shown"), [(0, False), (0.15, True)])
def test_a_long_download_shows_its_progress(server, tmp_path, capsys, monkeypatch, pause, shown):
    server.pause = pause
    monkeypatch.setattr(console, "_PATIENCE", 0.3)
    monkeypatch.setattr(console, "_PLAIN_INTERVAL", 0)
    download.fetch(server.url, SHA256, tmp_path)
    assert (f"downloading resnet-{SHA256}.pth, MiB … 1/2" in capsys.readouterr().out) == shown


def test_a_download_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    server.limit = 1_000_000
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert server.first_bytes == [0, 15 * 2**16, 30 * 2**16, 45 * 2**16]  # whole chunks of a million bytes are kept
    assert files(tmp_path) == {f"resnet-{SHA256}.pth"}


def test_a_download_that_keeps_breaking_off_is_kept_and_says_where_to_put_the_file(server, tmp_path):
    server.limit = 300_000
    with pytest.raises(UserError, match=r"connection broke off.*goes on where it was.*put it at") as error:
        download.fetch(server.url, SHA256, tmp_path)
    assert str(tmp_path / f"resnet-{SHA256}.pth") in str(error.value)
    assert files(tmp_path) == {f"resnet-{SHA256}.pth.part"}
    server.limit = len(CONTENT)
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert server.first_bytes == [4 * 2**16 * k for k in range(5)]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("left", [CONTENT[:700_001], CONTENT, b"the beginning of something", CONTENT + b"more"])
def test_what_a_killed_process_left_is_used_or_overwritten(server, tmp_path, left, ranges):
    server.ranges = ranges
    (tmp_path / f"resnet-{SHA256}.pth.part").write_bytes(left)
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == {f"resnet-{SHA256}.pth"}
    assert server.requests == 1 + (ranges and not CONTENT.startswith(left))


def test_without_a_published_hash_any_file_is_taken_but_none_is_resumed(server, tmp_path):
    (tmp_path / f"resnet-{SHA256}.pth.part").write_bytes(b"the beginning of something")
    assert download.fetch(server.url, None, tmp_path).read_bytes() == CONTENT


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
    assert server.requests == 0


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_says_where_to_put_the_file(server, tmp_path, status):
    server.status = status
    with pytest.raises(UserError, match=f"HTTP status {status}.*put it at .*resnet-{SHA256}.pth"):
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
    assert server.requests == 1


def test_a_mirror_is_asked_when_the_first_address_fails(server, tmp_path):
    nowhere = "http://127.0.0.1:9/resnet.pth"
    got = download.fetch(nowhere, SHA256, tmp_path, name="a.pth", mirrors=[server.url])
    assert got == tmp_path / "a.pth"
    assert got.read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"127.0.0.1:9/.*refused.*; http://127.0.0.1:9/other.pth cannot"):
        download.fetch(nowhere, SHA256, tmp_path, name="b.pth", mirrors=["http://127.0.0.1:9/other.pth"])


def test_forbidden_downloads(server, tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_OFFLINE", "1")
    with pytest.raises(UserError, match=rf"IMGCLS_OFFLINE forbids downloads.*put the file at .*resnet-{SHA256}.pth"):
        download.fetch(server.url, SHA256, tmp_path)
    assert server.requests == 0
    monkeypatch.setenv("IMGCLS_OFFLINE", "0")
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT


def test_a_full_disk_keeps_what_is_there(server, tmp_path):
    # A limit on the size of files stands for a quota.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written \(the disk is full\): make room.*goes on where it was"):
            download.fetch(server.url, SHA256, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path) == {f"resnet-{SHA256}.pth.part"}
    assert download.fetch(server.url, SHA256, tmp_path).read_bytes() == CONTENT
    assert 0 < server.first_bytes[1] <= 2_000_000


def test_the_environment_s_proxy_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert download.fetch("http://weights.invalid/a.pth", SHA256, tmp_path).read_bytes() == CONTENT
    assert server.paths == ["http://weights.invalid/a.pth"]


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "x"))
    assert download.cache_folder() == tmp_path / "x" / "weights"
    assert download.cache_folder(tmp_path / "y") == tmp_path / "y"


def test_resolve_takes_names_and_paths(tmp_path, monkeypatch):
    entry = catalog.published()["torchvision/resnet50.IMAGENET1K_V2"]
    with pytest.raises(UserError, match=r'did you mean "torchvision/resnet50.IMAGENET1K_V1".*list_models'):
        catalog.resolve("torchvision/resnet50.IMAGENET1K_V3")
    with pytest.raises(UserError, match=r"no weight file weights.pth, and no published weights of that name: "):
        catalog.resolve("weights.pth")
    monkeypatch.setattr(download, "fetch", lambda url, sha256, folder: folder / url / sha256)
    found = catalog.resolve(entry.name, tmp_path)
    assert found == (tmp_path / "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" / "11ad3fa6", entry)
    (tmp_path / "mine.pth").write_bytes(b"")
    assert catalog.resolve(str(tmp_path / "mine.pth")) == (tmp_path / "mine.pth", None)
