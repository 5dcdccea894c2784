"""Answer requests for predictions, and for the state of the server."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgcls_jax.export.web import page as web
from imgcls_jax.parallel.cores import usable_cores
from imgcls_jax.serve.batches import Batches, FullError
from imgcls_jax.serve.limits import Limits
from imgcls_jax.serve.metrics import CONTENT_TYPE, Metrics
from imgcls_jax.serve.model import BadImageError, Served
from imgcls_jax.serve.requests import RefusedError, Upload, form_boundary, form_files, read_body

_DEFAULT_TOP = 5
_PATHS = ("/predict", "/healthz", "/readyz", "/metrics", "/openapi.json", "/")
# The page's own policy is in its HTML; nobody may show it within theirs, or guess at kinds.
_PAGE_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_log = logging.getLogger(__name__)

_IMAGE = {"type": "string", "format": "binary"}
_REQUEST = {
    "parameters": [
        {"name": "top_k", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": _DEFAULT_TOP}},
        {"name": "logits", "in": "query", "schema": {"type": "boolean", "default": False}},
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": {"type": "array", "items": _IMAGE}}}
            },
            "image/*": {"schema": _IMAGE},
            "application/octet-stream": {"schema": _IMAGE},
        },
    },
}


def build(served: Served, limits: Limits) -> ASGIApp:
    """Make the application.

    Args:
      served: the model.
      limits: what requests may cost.
    """
    metrics = Metrics()
    metrics.model.info({"file": served.name, "written": str(served.about["imgcls_jax"]["written"])})
    predictor = _Predictor(served, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        predictor.batches.start()
        try:
            yield
        finally:
            await predictor.close()

    app = FastAPI(
        title=served.name,
        version=metadata.version("imgcls_jax"),
        lifespan=lifespan,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )

    @app.post("/predict", openapi_extra=_REQUEST)
    async def predict(request: Request) -> Response:
        """Classify the images of a form's files, or the one that is the body."""
        started = time.perf_counter()
        try:
            return await predictor.answer(request)
        finally:
            metrics.request_seconds.observe(time.perf_counter() - started)

    @app.get("/healthz")
    async def healthz() -> Response:
        """Say that the process lives."""
        return _Json({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Say whether images are answered."""
        if predictor.batches.running:
            return _Json({"status": "ready", "model": served.name})
        return _error(503, "not_ready", "the model does not run", retry_s=1)

    @app.get("/metrics")
    async def figures() -> Response:
        """Give all figures for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    _add_page(app, served, limits)

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = {404: f"there is no such address; there are {', '.join(_PATHS)}", 405: "this address has another method"}
        response = _error(error.status_code, "bad_request", what.get(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    async def failed(_: Request, error: Exception) -> Response:
        return _error(500, "internal", "the server failed; its log says why")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, failed)
    return _Counted(app, metrics)


def _add_page(app: FastAPI, served: Served, limits: Limits) -> None:
    """Host the page for people: at /, and its parts beside it."""
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    parts = {f"/{path.name}": (path.read_bytes(), kinds[path.suffix]) for path in web.FOLDER.iterdir()}
    parts["/"] = parts.pop("/index.html")
    about = web.description(served.about, served.name, "server")
    about["batch"] = max(1, min(limits.batch, limits.queue // 2))  # images that the page may send at once
    parts["/about.json"] = json.dumps(about, ensure_ascii=False).encode("utf-8", "replace"), "application/json"

    def give(content: bytes, kind: str) -> Callable[[], Coroutine[Any, Any, Response]]:
        async def part() -> Response:
            return Response(content, media_type=kind, headers=_PAGE_HEADERS)

        return part

    for path, (content, kind) in parts.items():
        app.add_api_route(path, give(content, kind), methods=["GET"], include_in_schema=False)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a request asks about each image."""

    top: int
    """Number of classes that are named."""
    logits: bool

    @classmethod
    def of(cls, request: Request) -> "_Wanted":
        """Read it from the request's address.

        Raises:
          RefusedError: it is not to be understood.
        """
        top = request.query_params.get("top_k", str(_DEFAULT_TOP))
        if not (top.isascii() and top.isdecimal() and len(top) < 10 and int(top) >= 1):
            raise RefusedError(422, "bad_top_k", "top_k must be a whole number of at least 1")
        logits = request.query_params.get("logits", "false")
        if logits not in ("true", "false"):
            raise RefusedError(422, "bad_logits", "logits must be true or false")
        return cls(int(top), logits == "true")


class _Predictor:
    """Turns requests into answers."""

    def __init__(self, served: Served, limits: Limits, metrics: Metrics):
        self._served, self._limits, self._metrics = served, limits, metrics
        self._decoders = ThreadPoolExecutor(usable_cores(), thread_name_prefix="decode")
        # Images are finished even if nobody waits for them any longer: a thread cannot be stopped, and as long as it
        # works, the image has its place.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late = f"there was no answer within {limits.seconds:g} s"
        self.batches = Batches(served.predict, limits, metrics)

    async def close(self) -> None:
        await self.batches.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request) -> Response:
        deadline = asyncio.get_running_loop().time() + self._limits.seconds
        try:
            wanted = _Wanted.of(request)
            images, results = await self._results(request, deadline, wanted)
        except RefusedError as error:
            return _error(error.status, error.code, str(error), retry_s=error.retry_s)
        except ClientDisconnect:
            return Response(status_code=499)  # which nobody reads; the status that nginx counts for it
        bodies: list[dict[str, Any]] = []
        errors: list[BadImageError] = []
        for upload, result in zip(images, results, strict=True):
            body: dict[str, Any] = {"name": upload.name}
            if isinstance(result, BadImageError):
                errors.append(result)
                body["error"] = {"code": result.code, "message": str(result)}
            else:
                body |= result
            self._metrics.images.labels("ok" if "error" not in body else body["error"]["code"]).inc()
            bodies.append(body)
        content: dict[str, Any] = {"model": self._served.name, "results": bodies}
        if len(errors) < len(bodies):
            return _Json(content)
        worst = max(errors, key=lambda error: error.status)
        return _Json({"error": {"code": worst.code, "message": str(worst)}, **content}, worst.status)

    async def _results(
        self, request: Request, deadline: float, wanted: "_Wanted"
    ) -> tuple[list[Upload], list[dict[str, Any] | BadImageError]]:
        """Read a request's images and give what is said about each."""
        boundary = form_boundary(request)
        self._admit(1)  # so that no more bodies than images are held at a time
        try:
            async with asyncio.timeout_at(deadline):
                content = await read_body(request, self._limits)
        except TimeoutError:
            self.batches.leave()
            raise RefusedError(
                408, "timeout", f"the request did not arrive within {self._limits.seconds:g} s"
            ) from None
        except BaseException:
            self.batches.leave()
            raise
        images = [Upload("image", content)]
        if boundary is not None:
            divided = self._spawn(self._divide(content, boundary))
            await asyncio.wait([divided], timeout=self._left(deadline))
            if not divided.done():
                divided.add_done_callback(self._abandon)
                raise RefusedError(504, "timeout", self._late)
            images = divided.result()
        tasks = [self._spawn(self._one(image, deadline, wanted)) for image in images]
        await asyncio.wait(tasks, timeout=self._left(deadline))
        late = BadImageError(504, "timeout", self._late)
        return images, [task.result() if task.done() else late for task in tasks]

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _abandon(self, divided: "asyncio.Task[list[Upload]]") -> None:
        """Give back the places of a form whose request has ended."""
        if not divided.cancelled() and divided.exception() is None:
            self.batches.leave(len(divided.result()))

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - asyncio.get_running_loop().time())

    async def _divide(self, content: bytes, boundary: bytes) -> list[Upload]:
        """Give the images of a form, which has one place, a place each."""
        loop = asyncio.get_running_loop()
        try:
            images = await loop.run_in_executor(self._decoders, form_files, content, boundary, self._limits)
            self._admit(len(images) - 1)
        except BaseException:
            self.batches.leave()
            raise
        return images

    def _admit(self, count: int) -> None:
        try:
            self.batches.admit(count)
        except FullError as error:
            raise RefusedError(503, "busy", str(error), error.retry_s) from None

    async def _one(self, upload: Upload, deadline: float, wanted: "_Wanted") -> dict[str, Any] | BadImageError:
        """Answer one image, which has a place."""
        loop = asyncio.get_running_loop()
        try:
            until = time.monotonic() + self._left(deadline)
            canvas = await loop.run_in_executor(self._decoders, self._decode, upload, until)
        except BadImageError as error:
            self.batches.leave()
            return error
        except Exception:
            self.batches.leave()
            _log.exception("an image could not be decoded")
            return BadImageError(500, "internal", "the server failed to decode this image")
        try:
            outputs = await self.batches.run(canvas, deadline)
        except TimeoutError:
            return BadImageError(504, "timeout", self._late)
        except Exception:
            _log.exception("a batch could not be run")
            return BadImageError(500, "internal", "the model failed")
        answer: dict[str, Any] = {"predictions": self._served.top(outputs.probabilities, wanted.top)}
        if (labels := self._served.labels(outputs.probabilities)) is not None:
            answer["labels"] = labels
        if wanted.logits:
            answer["logits"] = outputs.logits.tolist()
        return answer

    def _decode(self, upload: Upload, until: float) -> np.ndarray:
        if time.monotonic() > until:
            raise BadImageError(504, "timeout", self._late)
        if upload.content is None:
            raise BadImageError(400, "no_file", f"the field {upload.name[:100]!r} of the form is no file")
        with self._metrics.decode_seconds.time():
            return self._served.decode(upload.content)


class _Counted:
    """Counts answers by path and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Other paths are the client's own words, of which there is no end.
                path = scope["path"] if scope["path"] in _PATHS else "other"
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, counted if scope["type"] == "http" else send)


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        # A file's name may hold what is no character.
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _error(status: int, code: str, message: str, *, retry_s: int | None = None) -> Response:
    headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
    if status == 408:
        headers["Connection"] = "close"  # else the rest of the body would be waited for
    return _Json({"error": {"code": code, "message": message}}, status, headers)
