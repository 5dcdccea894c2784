"""Repositories of Hugging Face, through its own package huggingface_hub: its login, its cache, its proxies.

$HF_ENDPOINT names another server; $IMGCLS_OFFLINE and $HF_HUB_OFFLINE forbid connections, and what is in the cache is
used.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from imgcls_jax import download as downloads
from imgcls_jax.display.console import Console
from imgcls_jax.errors import UserError, short

_NAME = re.compile(r"hf:/{0,2}([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?", re.ASCII)
_SCHEME = re.compile(r"hf:")  # pathlib makes one slash of two
_REACH = 10.0  # seconds until a server that does not answer is given up


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository of models."""

    name: str
    """"OWNER/NAME"."""
    revision: str | None = None
    """A branch, a tag or a commit; None: the newest state."""

    def __str__(self) -> str:
        return f"hf://{self.name}{f'@{self.revision}' if self.revision else ''}"


def repository_of(source: str | Path) -> Repository | None:
    """Return the repository that "hf://OWNER/NAME" or "hf://OWNER/NAME@REVISION" names, also without the slashes;
    None: it is no such text.

    Raises:
      UserError: it begins with hf: and goes on otherwise.
    """
    text = str(source)
    if not _SCHEME.match(text):
        return None
    found = _NAME.fullmatch(text)
    if not found:
        raise UserError(
            f"{short(text)} names no repository: write hf://OWNER/NAME, or hf://OWNER/NAME@REVISION for a branch, a "
            "tag or a commit"
        )
    return Repository(found[1], found[2])


def download(
    repository: Repository,
    files: Sequence[str],
    *,
    need: str,
    without: str = "so it was not published by imgcls push",
) -> Path:
    """Return the folder of the cache that holds those of the files that a repository has; what is there is not
    downloaded again.

    Args:
      repository: which, and which of its states.
      files: names of files.
      need: the one without which the others are of no use.
      without: what it means that a repository lacks it, for the error.

    Raises:
      UserError: there is no such repository, revision or file; it may not be read; no connection, and not in the cache.
    """
    hub = package(f"{repository}")
    offline = _is_offline(hub)
    with _mistakes(hub, repository, offline=offline), Console().wait(f"downloading {repository}"):
        found = hub.snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=list(files),
            endpoint=_endpoint(),
            etag_timeout=_REACH,
            local_files_only=offline,
        )
    if not (Path(found) / need).is_file():
        raise UserError(
            f"{repository} has no {need}, {without}"
            if not offline
            else f"{need} of {repository} is not in the cache, and downloads are forbidden ($IMGCLS_OFFLINE or "
            "$HF_HUB_OFFLINE)"
        )
    return Path(found)


def create(repository: Repository, *, private: bool) -> None:
    """Make a repository unless it is there, which finds out whether this machine's token may do so.

    Args:
      repository: without a revision, as files are added to the branch main.
      private: whether only its owner sees a new one; one that is there stays as it is.

    Raises:
      UserError: it names a revision, there is no token, or the token may not write there.
    """
    if repository.revision:
        raise UserError(f"{repository}: files are added to the branch main, so leave out @{repository.revision}")
    hub = package(f"{repository}")
    _refuse_offline(hub, repository)
    with _mistakes(hub, repository):
        hub.HfApi(endpoint=_endpoint()).create_repo(repository.name, private=private or None, exist_ok=True)


def upload(folder: Path, files: Sequence[str], repository: Repository) -> str:
    """Add files of a folder to a repository in one commit; return the address of its page.

    Raises:
      UserError: there is no token, it may not write there, or the server refuses.
    """
    hub = package(f"{repository}")
    _refuse_offline(hub, repository)
    api = hub.HfApi(endpoint=_endpoint())
    with _mistakes(hub, repository), Console().wait(f"uploading to {repository}"):
        api.upload_folder(
            repo_id=repository.name,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="Publish a run of imgcls_jax",
        )
    return f"{api.endpoint}/{repository.name}"


def package(what: str) -> Any:
    """Import huggingface_hub.

    Raises:
      UserError: it is not installed; `what` needs it.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise UserError(
            f"{what} needs the package huggingface_hub: run pip install 'imgcls_jax[hub]', or give a folder"
        ) from None
    return huggingface_hub


def _endpoint() -> str | None:
    """The server; read here as well, as the package reads it only when it is first imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _is_offline(hub: Any) -> bool:
    return downloads.is_offline() or hub.constants.HF_HUB_OFFLINE


def _refuse_offline(hub: Any, repository: Repository) -> None:
    if _is_offline(hub):
        raise UserError(
            f"{repository} is on a server, and $IMGCLS_OFFLINE or $HF_HUB_OFFLINE forbids connections: unset it, or "
            "give a folder"
        )


@contextlib.contextmanager
def _mistakes(hub: Any, repository: Repository, *, offline: bool = False) -> Iterator[None]:
    """Within it, show no bars of the package, and make one sentence of its errors."""
    errors = hub.errors
    bars = not hub.utils.are_progress_bars_disabled()
    hub.utils.disable_progress_bars()
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{repository} is open only to those who asked for it: ask on its page, and log in") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repository.name} has no revision {short(repository.revision)}") from None
    except errors.LocalEntryNotFoundError as error:
        if offline:
            raise UserError(
                f"{repository} is not in the cache, and $IMGCLS_OFFLINE or $HF_HUB_OFFLINE forbids downloads"
            ) from None
        raise UserError(f"{repository} cannot be downloaded, and is not in the cache: {_reason(error)}") from None
    except errors.HfHubHTTPError as error:
        raise UserError(_refusal(error, repository)) from None
    # The package's connections are of httpx, whose errors have the class below HfHubHTTPError in common.
    except (OSError, ValueError, errors.HfHubHTTPError.__bases__[0]) as error:
        raise UserError(f"{repository}: {_reason(error)}") from None
    finally:
        if bars:
            hub.utils.enable_progress_bars()


def _refusal(error: Any, repository: Repository) -> str:
    """What a status of the server means."""
    status = getattr(error.response, "status_code", None)
    if status == 404 or (status == 401 and error.response.headers.get("X-Error-Code") == "RepoNotFound"):
        return (
            f"there is no repository {repository.name} on {error.response.url.host}, or it is private and this "
            "machine's token may not read it (hf auth login)"
        )
    if status == 401:
        return f"{repository} needs a token: run `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return (
            f"this machine's token may not write to {repository.name}: make one with the permission to write, and run "
            "`hf auth login`"
        )
    return f"{repository}: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return " ".join(str(error).split()) or type(error).__name__
