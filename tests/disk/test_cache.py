from pathlib import Path

import platformdirs

from imgcls_jax.disk.cache import cache_dir


def test_the_environment_comes_before_the_systems_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "x"))
    assert cache_dir() == tmp_path / "x"
    monkeypatch.setenv("IMGCLS_CACHE", "~/y")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "y"
    for unset in ("", None):
        monkeypatch.delenv("IMGCLS_CACHE") if unset is None else monkeypatch.setenv("IMGCLS_CACHE", unset)
        assert cache_dir() == Path(platformdirs.user_cache_dir("imgcls_jax", appauthor=False))
