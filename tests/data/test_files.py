"""Searching folders that are damaged, closed, circular or deep."""

import errno
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgcls_jax.data import files
from imgcls_jax.data.files import PassedOver, find_images


def names(folder: Path) -> list[str]:
    return [image.path.relative_to(folder).as_posix() for image in find_images(folder)[0]]


def test_order_and_details(tmp_path: Path):
    for name in ("b/1.png", "b-/1.png", "a.JPG", "b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    assert names(tmp_path) == ["a.JPG", "b-/1.png", "b/1.png"]  # by the text of the path
    found, passed = find_images(tmp_path)
    assert (found[0].size, found[0].modified) == (5, (tmp_path / "a.JPG").stat().st_mtime_ns)
    assert str(passed) == "1 .txt file"


def test_what_systems_leave_is_hidden(tmp_path: Path):
    for name in ("._0.jpg", ".thumbs/0.jpg", "__MACOSX/0.jpg", "@eaDir/0.jpg", "$RECYCLE.BIN/0.jpg", "0.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["0.jpg"]
    assert find_images(tmp_path)[1] == PassedOver(hidden=5)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """1,500 folders in one another, deeper than Python recurses, then some whose path is longer than systems take."""
    parts = ["d"] * 1500 + ["x" * 200] * 15
    here = os.open(tmp_path, os.O_RDONLY)
    for number, part in enumerate(parts):
        if number == 1500:
            os.close(os.open("deep.png", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir(part, dir_fd=here)
        below = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    yield tmp_path
    # pytest would recurse; from the inside outwards nothing does.
    for part in reversed(parts):
        above = os.open("..", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = above
        os.rmdir(part, dir_fd=here)
        if "deep.png" in os.listdir(here):
            os.remove("deep.png", dir_fd=here)
    os.close(here)


@pytest.mark.skipif(os.mkdir not in os.supports_dir_fd, reason="this system cannot make such folders")
def test_very_deep_folders(deep: Path):
    found, passed = find_images(deep)
    assert [image.path.name for image in found] == ["deep.png"]
    assert list(passed.folders.values()) == [os.strerror(errno.ENAMETOOLONG)]


@pytest.mark.parametrize("count", [2, 30])
def test_folders_that_all_link_to_one_another(tmp_path: Path, count: int):
    """Following every link that is no circle would take count! steps."""
    for i in range(count):
        (tmp_path / f"{i:02}").mkdir()
        (tmp_path / f"{i:02}" / "x.png").touch()
        for j in range(count):
            (tmp_path / f"{i:02}" / f"link{j:02}").symlink_to(tmp_path / f"{j:02}")
    found, passed = find_images(tmp_path / "00")
    assert {image.path.resolve().parent.name for image in found} == {f"{i:02}" for i in range(count)}
    assert len(found) == count
    assert set(passed.folders.values()) == {"a link to a folder that is searched already"}


def test_links_to_themselves_upwards_and_to_nothing(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "self").symlink_to(folder / "self")
    found, passed = find_images(folder)
    assert [(image.path.name, image.size) for image in found] == [("gone.png", 0), ("self.png", 0)]
    assert list(passed.folders) == [str(folder / "up")]


def test_a_folder_that_cannot_be_listed_is_passed_over(tmp_path: Path, monkeypatch):
    """Whatever the reason: permissions, a lost connection, a damaged disk."""
    for name in ("a/0.png", "closed/0.png", "b/0.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir = os.scandir

    def listing(path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "closed":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    monkeypatch.setattr(files.os, "scandir", listing)
    assert names(tmp_path) == ["a/0.png", "b/0.png"]
    assert str(find_images(tmp_path)[1]) == f"{tmp_path}/closed/ ({os.strerror(errno.EIO)})"
    assert find_images(tmp_path)[1].unlisted == [f"{tmp_path}/closed"]
    assert find_images(tmp_path / "closed")[0] == []


def test_reading_a_file_takes_the_memory_of_the_file(tmp_path: Path):
    """Not that of all bytes that are allowed, which would be fetched from the system for every image."""
    (tmp_path / "0.jpg").write_bytes(bytes(range(200)))
    tracemalloc.start()
    try:
        assert files.read_regular(tmp_path / "0.jpg", 2**31) == bytes(range(200))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs Linux's /proc, whose files tell no size")
def test_a_file_whose_size_is_not_told_is_read_within_the_limit():
    path = Path("/proc/version")
    content = path.read_bytes()
    assert path.stat().st_size == 0 and len(content) > 10
    assert files.read_regular(path, len(content)) == content
    with pytest.raises(files.UnusualFileError, match="exceed"):
        files.read_regular(path, len(content) - 1)
