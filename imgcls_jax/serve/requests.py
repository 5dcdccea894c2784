"""Read the images of a request, within bounds."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imgcls_jax.serve.limits import Limits

# RFC 2046, without the quote that would end it.
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{1,70}")
# Fields that are no files are not read; so much of each is kept.
_FIELD_BYTES = 2**14


class RefusedError(Exception):
    """A request that is not answered; the message is one sentence."""

    def __init__(self, status: int, code: str, message: str, retry_s: int | None = None):
        super().__init__(message)
        self.status, self.code = status, code
        self.retry_s = retry_s
        """When to try again, seconds; None: never."""


class Upload(NamedTuple):
    """One image of a request."""

    name: str
    """Of the file, as the client says; "image" where it says none."""
    content: bytes | None
    """None: a field of a form that is no file."""


def form_boundary(request: Request) -> bytes | None:
    """Return what divides the parts of the form that a request holds; None: its body is one image.

    Raises:
      RefusedError: it holds something else, or a form without a boundary.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        boundary = options.get(b"boundary", b"")
        if not _BOUNDARY.fullmatch(boundary):
            raise RefusedError(400, "bad_form", "the form's Content-Type has no boundary of 1 to 70 plain characters")
        return boundary
    if kind and kind != b"application/octet-stream" and not kind.startswith(b"image/"):
        raise RefusedError(
            415,
            "unsupported_media_type",
            f"{kind[:100].decode('latin-1')} is no kind of image: send the files of a form (multipart/form-data) or "
            "one image with Content-Type: application/octet-stream",
        )
    return None


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read the body of a request.

    Raises:
      RefusedError: it is too large; no more of it is read than that.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and len(said) < 20 and int(said) > limits.body_bytes:
        raise _too_large(limits)
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > limits.body_bytes:
            raise _too_large(limits)
        parts.append(part)
    return b"".join(parts)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, "too_large", f"the body exceeds the {limits.body_bytes:,} bytes that this server reads")


def form_files(content: bytes, boundary: bytes, limits: Limits) -> list[Upload]:
    """Divide a form into its files, in the calling thread, so that a form of millions of pieces holds up nobody.

    Raises:
      RefusedError: it is damaged, or holds no file or too many.
    """
    return asyncio.run(_form_files(content, boundary, limits))


async def _form_files(content: bytes, boundary: bytes, limits: Limits) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield content

    # Not the client's own header, which could name any of Python's text encodings, some of them very slow.
    headers = Headers(raw=[(b"content-type", b'multipart/form-data; boundary="' + boundary + b'"')])
    # One part more than there may be, as the parser's own sentence speaks of files and fields.
    most = limits.queue + 1
    parser = MultiPartParser(headers, stream(), max_files=most, max_fields=most)
    parser.max_part_size = _FIELD_BYTES
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusedError(400, "bad_form", f"the form cannot be read: {error.message}") from None
    except Exception as error:  # the parser's errors have no common class
        raise RefusedError(400, "bad_form", f"the form cannot be read: {type(error).__name__}: {error}") from None
    try:
        found = [
            Upload(value.filename or name, await value.read()) if isinstance(value, UploadFile) else Upload(name, None)
            for name, value in form.multi_items()
        ]
    finally:
        await form.close()
    if not found:
        raise RefusedError(400, "no_image", "the form holds no file: send at least one, as in curl -F image=@photo.jpg")
    if len(found) > limits.queue:
        raise RefusedError(413, "too_many_images", f"a request may hold at most {limits.queue} images")
    return found
