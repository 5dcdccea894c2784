import os
import stat
from pathlib import Path

import pytest

from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "new" / "x.txt"
    with outputs.writing(path) as file:
        file.write("a\n\udcff")  # a name of a file that is not UTF-8
        assert not path.exists()
    assert path.read_bytes() == b"a\n\xff"
    with pytest.raises(ZeroDivisionError), outputs.writing(path) as file:
        file.write(str(1 / 0))
    assert path.read_bytes() == b"a\n\xff"
    assert os.listdir(path.parent) == ["x.txt"]


def test_permissions_and_links_stay(tmp_path: Path):
    with open(tmp_path / "plain", "w"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "target")
    outputs.write_text(tmp_path / "link", "x" * 300)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "target").read_text() == "x" * 300


def test_a_device_is_written_and_not_replaced(tmp_path: Path):
    outputs.write_text(Path(os.devnull), "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="it is a folder: give the name of a file"), outputs.writing(tmp_path):
        raise AssertionError("the work has begun")
    with pytest.raises(UserError, match="cannot be written"), outputs.writing(tmp_path / "file" / "x"):
        raise AssertionError("the work has begun")
    with pytest.raises(UserError, match="cannot be written: File exists"):
        outputs.make_folder(tmp_path / "file")
    outputs.make_folder(tmp_path / "folder" / "below")
    assert os.listdir(tmp_path / "folder" / "below") == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk():
    with pytest.raises(UserError, match="^/dev/full cannot be written: No space left on device"):
        outputs.write_text(Path("/dev/full"), "x")
