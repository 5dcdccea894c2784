"""Fixtures that several test folders share. The tests see a machine of eight CPU devices."""

import dataclasses
import os
import shutil
import signal
import tarfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path

# Before JAX starts. One device is the default of `tiny_config`; tests of several ask for them. They compile much and
# compute little, so LLVM does not optimize: nearly half of their time.
os.environ["XLA_FLAGS"] = (
    f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)

import annotations

annotations.enforce("imgcls_jax")

from imgcls_jax.xla import runtime

runtime.setup()

# What started the tests may have them, and the processes they start, ignore signals, as nohup and a shell's `&` do.
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if getattr(signal, name, None) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, name), handler)

import numpy as np
import pytest

from imgcls_jax import config as c
from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.download import fetch
from imgcls_jax.errors import UserError
from imgcls_jax.report import curves
from imgcls_jax.training import loop
from imgcls_jax.training.loop import train

# curves.png takes a third of the time of a tiny run; a test that looks at it asks for the fixture `drawn_curves`.
loop.curves = types.SimpleNamespace(plot=lambda *_, **__: None)


@pytest.fixture
def drawn_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the test draw their curves, as they do outside of tests."""
    monkeypatch.setattr(loop, "curves", curves)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets and weights that CI has; not part of the project."""
    folder = os.environ.get("IMGCLS_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data needed: set IMGCLS_TEST_DATA to the folder that holds data/ and weights/")
    return Path(folder)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """No more than 2 GiB of addresses beyond what the process has: a terabyte array fails at once."""
    import resource  # Unix alone has it

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., c.Config]:
    """A config that trains in a second on `tiny_arrays`; keywords replace its fields."""
    config = c.Config(
        name="tiny",
        data=c.Data(
            source=c.Arrays(), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
        ),
        augment=(c.HorizontalFlip(),),
        model=c.CNN(
            convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head(dropout=0.1)
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(momentum=0.9), schedule=c.Schedule(peak=0.05, shape=c.Constant())),
        batch_size=16,
        epochs=2,
        precision="fp32",
        seed=0,
        mesh=c.Mesh(devices=1),
        logging=c.Logging(tensorboard=False, predictions=False),
    )
    return lambda **changes: dataclasses.replace(config, **changes)


@pytest.fixture(scope="session")
def tiny_arrays() -> dict[str, np.ndarray]:
    """Three classes of 8×8 color images that a tiny network can tell apart: 72 to train, 21 and 27 to evaluate."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 72), ("validation", 21), ("test", 27)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 200, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 55
        arrays[f"x_{name}"], arrays[f"y_{name}"] = images.astype(np.uint8), labels.astype(np.int64)
    return arrays


@pytest.fixture
def finished_run(tiny_config, tiny_arrays, tmp_path):
    """(Work directory, result, arrays) of a small run whose data lie in a file."""
    np.savez(tmp_path / "images.npz", **tiny_arrays, label_names=np.array(["red", "green", "blue"]))
    data = dataclasses.replace(tiny_config().data, source=c.Arrays(str(tmp_path / "images.npz")))
    result = train(tiny_config(data=data), tmp_path / "run")
    return tmp_path / "run", result, tiny_arrays


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium with its driver, as Debian's packages chromium and chromium-driver bring them."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def axe(browser):
    """Return a function that gives what axe-core finds wrong with the page that the browser shows, in light and dark.

    axe-core (MPL-2.0) is downloaded from npm's registry.
    """
    try:
        archive = fetch(
            "https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz",
            "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
            cache_dir() / "npm",
        )
    except UserError as error:
        pytest.skip(f"needs axe-core: {error}")
    with tarfile.open(archive) as opened:
        script = opened.extractfile("package/axe.min.js").read().decode()

    def find():
        found = []
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            # The driver's own script, which the page's policy does not concern.
            browser.execute_script(script)
            result = browser.execute_async_script("const done = arguments[0]; axe.run().then(done);")
            assert len(result["passes"]) > 10
            found += [
                (scheme, violation["id"], [node["html"] for node in violation["nodes"]])
                for violation in result["violations"]
            ]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        return found

    return find
