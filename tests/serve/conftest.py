"""A served model: a small network with the weights of no training, and a real server on a free port."""

import contextlib
import io
import threading

import jax
import numpy as np
import pytest
import requests
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.export import files
from imgcls_jax.export.program import Program
from imgcls_jax.models import network
from imgcls_jax.record import documents
from imgcls_jax.weights import paths

NAMES = ("a cat", "</script><b>", "Žluťoučký")


@pytest.fixture(scope="session")
def program():
    """A model of three classes of 8×6 color images."""
    config = c.Config(
        name="served",
        data=c.Data(
            source=c.Arrays(),
            canvas=c.Canvas(8, 6, interpolation="bicubic"),
            image_size=(8, 6),
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        ),
        augment=(),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, pool=2),), aggregate="flatten", head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=0.1, shape=c.Constant())),
        batch_size=2,
        epochs=1,
        precision="fp32",
        seed=0,
    )
    shapes = jax.eval_shape(network.of_config(config, len(NAMES)).create, jax.random.key(0))
    rng = np.random.default_rng(0)
    params, stats = (
        {path: rng.normal(0, 0.3, x.shape).astype("f") for path, x in paths.flatten(tree).items()} for tree in shapes
    )
    return Program.of(config, NAMES, params, stats, documents.model_card(config, NAMES, None), None)


@pytest.fixture(scope="session")
def model_file(program, tmp_path_factory):
    """Its exported ONNX file."""
    return files.export(program, tmp_path_factory.mktemp("served") / "model.onnx")[0]


@pytest.fixture(scope="session")
def serving(model_file):
    """Return a context manager that serves the file with limits, and gives (address, the model)."""
    from imgcls_jax.serve import run
    from imgcls_jax.serve.limits import Limits
    from imgcls_jax.serve.model import Served

    @contextlib.contextmanager
    def start(function=None, path=model_file, **limits):
        bounds = Limits(**limits)
        served = Served.open(path, bounds.pixels)
        served.warm_up(bounds.batch)
        if function is not None:
            object.__setattr__(served, "function", function(served.function))
        with run.listen("127.0.0.1", 0) as listener:
            server = run.uvicorn.Server(run.configuration(served, bounds))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            thread.start()
            try:
                assert requests.get(f"{address}/readyz", timeout=10).json()["status"] == "ready"
                yield address, served
            finally:
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()

    return start


@pytest.fixture(scope="module")
def server(serving):
    """(Address, the model) of a server with small limits."""
    with serving(body_bytes=200_000, pixels=50_000, queue=8) as started:
        yield started


@pytest.fixture(scope="session")
def encoded():
    """Return a function that gives the bytes of an image file."""

    def encode(height=30, width=50, form="PNG", seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        return file.getvalue()

    return encode
