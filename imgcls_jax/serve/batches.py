"""Run the images of several requests as one batch, within bounds."""

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

from imgcls_jax.serve.limits import Limits
from imgcls_jax.serve.metrics import Metrics
from imgcls_jax.serve.model import Outputs

# Weight of the newest batch in the mean time per image.
_NEWEST = 0.2


class FullError(Exception):
    """There is no room for these images now."""

    def __init__(self, retry_s: int):
        super().__init__(f"the server is busy: try again in {retry_s} s")
        self.retry_s = retry_s
        """After which time there may be room, seconds."""


@dataclasses.dataclass
class _Waiting:
    canvas: UInt8[np.ndarray, "h w c"]
    deadline: float
    answer: "asyncio.Future[Outputs]"


class Batches:
    """Counts the images in the server, and runs those that are decoded, in the order of their coming.

    All methods are called in the thread of the event loop; the model runs in one thread of its own.
    """

    def __init__(self, function: Callable[[np.ndarray], Sequence[Outputs]], limits: Limits, metrics: Metrics):
        """Make them; `start` begins to run them.

        Args:
          function: from uint8 canvases [n, height, width, channels] to one row for each.
          limits: `batch`, `wait_s` and `queue`.
          metrics: where batches are counted.
        """
        self._function, self._limits, self._metrics = function, limits, metrics
        self._inside = 0
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None
        self._image_s = 0.0

    def start(self) -> None:
        """Begin to run batches."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def running(self) -> bool:
        """Whether images are being answered."""
        return self._task is not None and not self._task.done()

    async def close(self) -> None:
        """Stop, after every image that is inside has been answered."""
        while self._inside and self.running:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    def admit(self, count: int) -> None:
        """Take places for images; `leave` gives them back.

        Raises:
          FullError: there are not so many.
        """
        if self._inside + count > self._limits.queue:
            raise FullError(max(1, math.ceil(self._inside * self._image_s)))
        self._set(self._inside + count)

    def leave(self, count: int = 1) -> None:
        """Give places back."""
        self._set(self._inside - count)

    async def run(self, canvas: UInt8[np.ndarray, "h w c"], deadline: float) -> Outputs:
        """Run an image that has a place, and give the place back with the answer.

        Args:
          canvas: of the size that the model takes.
          deadline: when nobody waits for the answer any longer, in the time of the event loop.

        Raises:
          TimeoutError: the image was not run before that.
          Exception: of the model.
        """
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(canvas, deadline, answer))
        return await answer

    def _set(self, inside: int) -> None:
        self._inside = inside
        self._metrics.inside.set(inside)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = []
            for image in await self._next():
                if image.deadline > loop.time():
                    batch.append(image)
                else:
                    self.leave()
                    image.answer.set_exception(TimeoutError())
            if not batch:
                continue
            started = time.perf_counter()
            try:
                canvases = np.stack([image.canvas for image in batch])
                rows = await loop.run_in_executor(self._thread, self._function, canvases)
            except Exception as error:
                self.leave(len(batch))
                for image in batch:
                    image.answer.set_exception(error)
                continue
            seconds = time.perf_counter() - started
            self._image_s += (seconds / len(batch) - self._image_s) * (_NEWEST if self._image_s else 1)
            self._metrics.batch_images.observe(len(batch))
            self._metrics.model_seconds.observe(seconds)
            self.leave(len(batch))  # now, so that the next batch waits for none of them
            for image, row in zip(batch, rows, strict=True):
                image.answer.set_result(row)

    async def _next(self) -> list[_Waiting]:
        """Wait for an image, and for others as long as that may be worth it: while there are any on their way."""
        batch = [await self._waiting.get()]
        deadline = asyncio.get_running_loop().time() + self._limits.wait_s
        while len(batch) < self._limits.batch:
            if not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            elif len(batch) == self._inside:
                break
            else:
                try:
                    async with asyncio.timeout_at(deadline):
                        batch.append(await self._waiting.get())
                except TimeoutError:
                    break
        return batch
