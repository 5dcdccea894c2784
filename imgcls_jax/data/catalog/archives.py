"""Fetch and unpack the archives of a catalog set, as tfds's builders ask for them."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from imgcls_jax import download
from imgcls_jax.data.catalog.entries import Entry
from imgcls_jax.data.examples import Progress
from imgcls_jax.display.console import size
from imgcls_jax.errors import UserError

# Of the archives' size: they, what is unpacked, and the set that is written.
_ROOM = 3


class Archives:
    """What a tfds builder calls a download manager: paths for URLs."""

    register_checksums = False

    def __init__(
        self,
        entry: Entry,
        known: Mapping[str, Any],
        folder: Path,
        on_progress: Progress,
        announce: Callable[[str], None],
    ):
        """Make one that downloads nothing yet.

        Args:
          entry: the set.
          known: size, checksum and file name of URLs, as tfds registers them.
          folder: of the archives; what is unpacked goes to its folder `extracted`.
          on_progress: called while files come.
          announce: called with a line on what is downloaded, before it is.
        """
        self._entry, self._known, self._folder = entry, known, folder
        self._on_progress, self._announce = on_progress, announce
        self._sizes: dict[str, int] = {}

    @property
    def downloaded_size(self) -> int:
        """Bytes of the files that were asked for."""
        return sum(self._sizes.values())

    def download(self, urls: Any) -> Any:
        """Return the paths of files, in the form in which their URLs come: one, a list or a dict."""
        if isinstance(urls, Mapping):
            paths = self.download(list(urls.values()))
            return dict(zip(urls, paths, strict=True))
        if not isinstance(urls, list | tuple):
            return self.download([urls])[0]
        wanted = [url for url in urls if not self._path(url).is_file()]
        if wanted:
            self._prepare_for(wanted)
        return [epath.Path(self._fetch(url)) for url in urls]

    def extract(self, paths: Any) -> Any:
        """Return the folders that archives are unpacked to; a file that is no archive is returned itself."""
        if isinstance(paths, Mapping):
            return {key: self._extract(Path(path)) for key, path in paths.items()}
        if isinstance(paths, list | tuple):
            return [self._extract(Path(path)) for path in paths]
        return self._extract(Path(paths))

    def download_and_extract(self, urls: Any) -> Any:
        """Return the folders that the archives of URLs are unpacked to."""
        return self.extract(self.download(urls))

    def iter_archive(self, path: Any) -> Iterator[tuple[str, Any]]:
        """Iterate over the names and files of an archive, as tfds does."""
        kind = tfds.download.ExtractMethod
        method = kind.ZIP if zipfile.is_zipfile(path) else kind.TAR_STREAM
        return tfds.core.download.extractor.iter_archive(epath.Path(path), method)

    def _path(self, url: str) -> Path:
        return self._folder / (self._known[url].filename or url.rpartition("/")[2])

    def _prepare_for(self, urls: list[str]) -> None:
        """Say what is to come, and refuse it where there is no room."""
        count = sum(int(self._known[url].size) for url in urls)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if not download.is_offline() and free < _ROOM * count:
            raise UserError(
                f"preparing {self._entry.name} takes about {size(_ROOM * count)} in {self._folder}, where {size(free)} "
                "are free: make room, or set data.source.data_dir or $TFDS_DATA_DIR to another folder"
            )
        self._announce(f"{self._entry.name}: downloading {size(count)} to {self._folder} (terms: {self._entry.terms})")

    def _fetch(self, url: str) -> Path:
        info = self._known[url]
        address, *mirrors = self._entry.addresses.get(url, (url,))
        path = download.fetch(
            address,
            info.checksum,
            self._folder,
            name=self._path(url).name,
            mirrors=mirrors,
            on_progress=self._on_progress,
        )
        self._sizes[url] = int(info.size)
        return path

    def _extract(self, path: Path) -> epath.Path:
        """Unpack an archive to a folder that has its name only when it is whole."""
        is_zip = zipfile.is_zipfile(path)
        if not is_zip and (path.suffix == ".mat" or not tarfile.is_tarfile(path)):
            return epath.Path(path)
        target = self._folder / "extracted" / path.name
        if not target.is_dir():
            self._on_progress(f"unpacking {path.name}", 0, None)
            unfinished = target.with_name(f"{target.name}.part")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            if is_zip:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(unfinished)
            else:
                with tarfile.open(path) as tar:
                    tar.extractall(unfinished, filter="data")
            unfinished.rename(target)
        return epath.Path(target)

    def remove_extracted(self) -> None:
        """Delete what was unpacked; the archives stay."""
        shutil.rmtree(self._folder / "extracted", ignore_errors=True)
