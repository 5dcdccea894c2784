"""The page for people, in a real browser: hosted by the server, and by itself with the model inside."""

import base64
import contextlib
import dataclasses
import functools
import http.server
import io
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL
import pytest
import requests
from flax import nnx
from PIL import Image, ImageFilter

from imgcls_jax import config as c
from imgcls_jax.augment.normalization import prepare_for_evaluation
from imgcls_jax.cli import app
from imgcls_jax.config.data import Canvas
from imgcls_jax.data import canvas as canvases
from imgcls_jax.errors import UserError
from imgcls_jax.export import standalone
from imgcls_jax.export.program import Program
from imgcls_jax.export.web import write as web
from imgcls_jax.models import network
from imgcls_jax.record import documents
from imgcls_jax.weights import paths

pytest.importorskip("fastapi", reason="needs imgcls_jax[serve]")
Select = pytest.importorskip("selenium.webdriver.support.select", reason="needs selenium").Select
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


def test_the_server_hosts_it(server):
    address, _ = server
    page = requests.get(f"{address}/", timeout=10)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "script-src 'self' 'wasm-unsafe-eval'" in page.text and "unsafe-inline" not in page.text
    for part, kind in (("page.js", "text/javascript"), ("pixels.js", "text/javascript"), ("page.css", "text/css")):
        answer = requests.get(f"{address}/{part}", timeout=10)
        assert answer.status_code == 200 and answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    about = requests.get(f"{address}/about.json", timeout=10).json()
    assert about["where"] == "server" and about["class_names"][1] == "</script><b>"


def test_a_page_is_a_folder(tmp_path):
    with pytest.raises(UserError, match="a page is a folder, whose name has no ending"):
        app.main(["export", str(tmp_path), "--to", "web", "--out", "page.html"])


@pytest.fixture(scope="module")
def hosted(program, tmp_path_factory):
    """(Address, folder) of the page on a static host."""
    folder = tmp_path_factory.mktemp("static") / "page"
    try:
        web.runtime()
    except UserError as error:
        pytest.skip(f"needs onnxruntime-web: {error}")
    web.write(program, folder)
    with hosting(folder) as address:
        yield address, folder


@contextlib.contextmanager
def hosting(folder):
    """Host a folder as any static host does; give its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=host.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{host.server_address[1]}"
    finally:
        host.shutdown()
        host.server_close()


def wait(browser, condition):
    """Wait until JavaScript's `condition` holds."""
    end = time.monotonic() + 20
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, browser.find_element("tag name", "body").text
        time.sleep(0.02)


def upload(browser, path):
    """Choose a file; return the rows that the page shows."""
    browser.execute_script("document.getElementById('classes').hidden = true")
    browser.find_element("id", "file").send_keys(str(path))
    wait(browser, "!document.getElementById('classes').hidden || !document.getElementById('error').hidden")
    return rows(browser)


def rows(browser):
    return [row.text.replace("\n", " ") for row in browser.find_elements("css selector", "#classes li")]


def picture(tmp_path, name, **save):
    """A smooth image of 61×47 pixels, as files of photographs are."""
    pixels = np.random.default_rng(3).integers(0, 256, (47, 61, 3), np.uint8)
    image = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2))
    image.save(tmp_path / name, **save)
    return tmp_path / name


@pytest.mark.slow
def test_it_works_by_itself(browser, hosted, serving, tmp_path):
    """One test for all, as the browser takes long: the model inside, the server's answers, and who is asked."""
    address, folder = hosted
    for kind in ("performance", "browser"):
        browser.get_log(kind)  # of other tests' pages
    browser.get(f"{address}/index.html")
    wait(browser, "document.body.hasAttribute('data-ready')")
    _check_pixels(browser)

    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = [
        picture(tmp_path, "a.png"),
        picture(tmp_path, "b.jpg", quality=90, subsampling=0),
        picture(tmp_path, "c.jpg", quality=75),
        picture(tmp_path, "turned.jpg", exif=turned),
        picture(tmp_path, "d.webp", lossless=True),
    ]
    function = standalone.load(folder / "model.onnx")
    with serving() as (server, served):
        shown = {}
        for path in pictures:
            shown[path] = upload(browser, path)
            found = browser.execute_async_script(
                "const done = arguments[0], canvas = document.getElementById('picture');"
                "window.imgcls.run(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)).then(done)"
            )
            probabilities, logits = function(served.decode(path.read_bytes())[None])
            np.testing.assert_allclose(found["logits"], logits[0], atol=1e-4, rtol=0)
            answer = requests.post(f"{server}/predict", path.read_bytes(), timeout=10).json()["results"][0]
            assert shown[path] == [f"{p['class']} {100 * p['probability']:.1f} %" for p in answer["predictions"]]

        assert upload(browser, _text(tmp_path)) == []
        assert "notes.txt cannot be read as an image" in browser.find_element("id", "error").text

        # A real drop, with the file's bytes.
        content = base64.b64encode(pictures[0].read_bytes()).decode()
        browser.execute_script(
            "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)), data = new DataTransfer();"
            "data.items.add(new File([bytes], 'dropped.png'));"
            "document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))",
            content,
        )
        wait(browser, "!document.getElementById('classes').hidden")
        assert rows(browser) == shown[pictures[0]]

        # Chromium's camera of tests.
        browser.find_element("id", "camera").click()
        wait(browser, "!document.getElementById('shoot').hidden && document.getElementById('video').videoWidth")
        browser.find_element("id", "shoot").click()
        wait(browser, "!document.getElementById('classes').hidden && document.getElementById('video').hidden")
        assert "camera" in browser.find_element("id", "picture").get_attribute("aria-label")

        asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
        assert {url for url in urls if not url.startswith(("data:", "blob:", address))} == set(), "nobody else is asked"
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []

        browser.get(f"{server}/")
        wait(browser, "document.body.hasAttribute('data-ready')")
        assert upload(browser, pictures[1]) == shown[pictures[1]]
        assert "sent to the server" in browser.find_element("id", "where").text
        tiff = picture(tmp_path, "no_browser_reads.tiff")
        assert upload(browser, tiff) == shown[pictures[0]]
        assert upload(browser, _text(tmp_path)) == []
        assert "cannot be read as an image" in browser.find_element("id", "error").text
        for width in (360, 1280):
            browser.set_window_size(width, 900)
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def _text(folder):
    (folder / "notes.txt").write_text("no image")
    return folder / "notes.txt"


def _check_pixels(browser):
    """Pillow's arithmetic in JavaScript, pixel by pixel."""
    rng = np.random.default_rng(0)
    cases = []
    for height, width in ((8, 6), (23, 40), (40, 23), (97, 3), (5, 5), (64, 64)):
        for fit in ("crop", "pad", "stretch"):
            for interpolation in ("nearest", "bilinear", "bicubic", "lanczos"):
                channels = int(rng.choice([1, 3]))
                target = tuple(map(int, rng.integers(3, 30, 2)))
                pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
                pixels[..., 3] = rng.choice([0, 255], (height, width))
                canvas = Canvas(*target, channels=channels, fit=fit, interpolation=interpolation)
                cases.append((pixels, canvas))
    given = [
        {
            "data": base64.b64encode(pixels.tobytes()).decode(),
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "recipe": {
                "canvas": [canvas.height, canvas.width],
                "channels": canvas.channels,
                "fit": canvas.fit,
                "interpolation": canvas.interpolation,
                "pillow": int(PIL.__version__.partition(".")[0]),
            },
        }
        for pixels, canvas in cases
    ]
    found = browser.execute_async_script(
        "const [cases, done] = arguments; import('./pixels.js').then(({ toCanvas }) => done(cases.map((one) => {"
        "  const data = Uint8ClampedArray.from(atob(one.data), (c) => c.charCodeAt(0));"
        "  return Array.from(toCanvas({ data, width: one.width, height: one.height }, one.recipe));"
        "})));",
        given,
    )
    for (pixels, canvas), made in zip(cases, found, strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        expected, _ = canvases.read(file.getvalue(), canvas)
        np.testing.assert_array_equal(np.array(made, np.uint8).reshape(expected.shape), expected, err_msg=str(canvas))


@pytest.fixture(scope="module")
def labels(program):
    """A model of three labels per image, which sees the center of padded gray canvases."""
    data = dataclasses.replace(
        program.config.data,
        canvas=c.Canvas(20, 14, channels=1, fit="pad"),
        image_size=(17, 11),
        mean=(0.3,),
        std=(0.25,),
    )
    config = dataclasses.replace(program.config, data=data, loss=c.MultiLabel())
    shapes = jax.eval_shape(network.of_config(config, 3).create, jax.random.key(0))
    rng = np.random.default_rng(1)
    params, stats = (
        {path: rng.normal(0, 0.2, x.shape).astype("f") for path, x in paths.flatten(tree).items()} for tree in shapes
    )
    card = documents.model_card(config, program.class_names, None) | {"thresholds": [0.9, 0.02, 0.6]}
    return Program.of(config, program.class_names, params, stats, card, None)


def blanked(canvas, recipe):
    """Canvases with one place after the other set to the mean color, on the grid written out by hand."""
    (height, width), (rows, columns) = recipe["canvas"], recipe["image_size"]
    top, left = round((height - rows) / 2), round((width - columns) / 2)
    down, across = min(8, rows), min(8, columns)
    made = []
    for row in range(down):
        for column in range(across):
            one = canvas.copy()
            ys = slice(top + row * rows // down, top + (row + 1) * rows // down)
            xs = slice(left + column * columns // across, left + (column + 1) * columns // across)
            one[ys, xs] = np.rint(255 * np.array(recipe["mean"]))
            made.append(one)
    return np.stack(made)


def explain(browser):
    """Ask for the evidence, and wait for it; give the fall of the logit at each place."""
    browser.find_element("id", "explain").click()
    wait(browser, "!document.getElementById('after').hidden")
    return np.array(browser.execute_script("return window.imgcls.drops"))


@pytest.mark.slow
def test_several_labels_and_the_evidence(browser, labels, serving, tmp_path, axe):
    """On a static host and on the server: labels and thresholds, and what blanking each place costs."""
    try:
        web.runtime()
    except UserError as error:
        pytest.skip(f"needs onnxruntime-web: {error}")
    folder, path = tmp_path / "page", picture(tmp_path, "a.png")
    web.write(labels, folder)
    recipe = json.loads((folder / "about.json").read_text("utf-8"))["preprocessing"]
    with hosting(folder) as static, serving(path=folder / "model.onnx", queue=8) as (server, served):
        canvas = served.decode(path.read_bytes())
        probabilities, logits = served.function(canvas[None])
        shares, others = served.function(blanked(canvas, recipe))
        reached = probabilities[0] >= np.array(labels.card["thresholds"], np.float32)
        assert 0 < reached.sum() < 3
        for address in (static, server):
            browser.get(f"{address}/")
            wait(browser, "document.body.hasAttribute('data-ready')")
            assert "Finds: a cat" in browser.find_element("id", "about").text
            order = np.argsort(-probabilities[0]).tolist()
            assert upload(browser, path) == [
                f"{'✓ ' * bool(reached[k])}{served.class_name(k)} {100 * probabilities[0, k]:.1f} % "
                f"{'<≥'[bool(reached[k])]} {100 * labels.card['thresholds'][k]:.1f} %"
                for k in order
            ]
            chosen = ", ".join(served.class_name(k) for k in order if reached[k])
            assert browser.find_element("id", "status").text.startswith(f"{chosen}. Answered in")

            drops = explain(browser)
            np.testing.assert_allclose(drops, logits[0, order[0]] - others[:, order[0]], atol=1e-4, rtol=0)
            row, column = np.unravel_index(drops.argmax(), (8, 8))
            before, after = 100 * probabilities[0, order[0]], 100 * shares[drops.argmax(), order[0]]
            assert browser.find_element("id", "finding").text == (
                f"Row {row + 1}, column {column + 1} of 8 × 8 places matters most: blanking it takes "
                f"“{served.class_name(order[0])}” from {before:.1f} % to {after:.1f} %."
            )
            Select(browser.find_element("id", "of")).select_by_value(str(order[2]))
            wait(browser, f"document.getElementById('finding').textContent.includes({served.class_name(order[2])!r})")
            drops = np.array(browser.execute_script("return window.imgcls.drops"))
            np.testing.assert_allclose(drops, logits[0, order[2]] - others[:, order[2]], atol=1e-4, rtol=0)
        np.testing.assert_allclose(drops, _drops_in_jax(labels, canvas, order[2]), atol=0.02 * abs(drops).max())
        assert abs(drops).max() > 0.1
    _check_map(browser)
    assert axe() == []


def _drops_in_jax(program, canvas, label):
    """The definition of `imgcls explain`: blanked is 0 where the network sees normalized pixels."""
    data, made = program.config.data, network.of_config(program.config, 3)
    (seen,) = prepare_for_evaluation(
        jnp.asarray(canvas[None]), image_size=data.image_size, mean=data.mean, std=data.std
    )
    shown = [np.asarray(seen)]
    for ys in np.split(np.arange(17), [i * 17 // 8 for i in range(1, 8)]):
        for xs in np.split(np.arange(11), [i * 11 // 8 for i in range(1, 8)]):
            shown.append(shown[0].copy())
            shown[-1][ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] = 0
    abstract = jax.eval_shape(made.create, jax.random.key(0))
    variables = [paths.map_tree(lambda path, _: (program.params | program.stats)[path], tree) for tree in abstract]
    logits = np.asarray(nnx.merge(made.evaluate, *variables)(jnp.stack(shown)))
    return logits[0, label] - logits[1:, label]


def _check_map(browser):
    """The map lies on what the network sees of the image, and goes when it is switched off."""
    boxes = "return ['picture', 'map'].map((id) => document.getElementById(id).getBoundingClientRect().toJSON())"
    image, heat = browser.execute_script(boxes)
    # 61×47 is fitted into 14×11 of 14×20 pixels, of which the network sees 11×17 in the middle: rows 1 to 18.
    assert heat["width"] == pytest.approx(image["width"] * 11 / 14, rel=0.01)
    assert heat["left"] - image["left"] == pytest.approx(image["width"] * 2 / 14, rel=0.01)  # 1.5 goes to the even 2
    assert heat["height"] == pytest.approx(image["height"] * 17 / 11, rel=0.01)
    assert heat["top"] - image["top"] == pytest.approx(image["height"] * (2 - 4) / 11, rel=0.01)
    browser.find_element("id", "over").click()
    assert not browser.find_element("id", "map").is_displayed()
    assert "gray" not in browser.find_element("id", "picture").get_attribute("class")
    browser.find_element("id", "over").click()
    assert browser.find_element("id", "map").is_displayed()


@pytest.mark.slow
def test_the_search_for_evidence_ends_with_the_image(browser, hosted, tmp_path):
    """It can be stopped, another image ends it, and the page answers meanwhile."""
    browser.get(f"{hosted[0]}/")
    wait(browser, "document.body.hasAttribute('data-ready')")
    first, second = picture(tmp_path, "a.png"), picture(tmp_path, "b.jpg", quality=60)
    upload(browser, picture(tmp_path, "c.png"))
    whole = explain(browser)
    # A thread that takes its time: a tenth of a second per message.
    browser.execute_script(
        "const post = Worker.prototype.postMessage;"
        "Worker.prototype.postMessage = function (...all) { setTimeout(() => post.apply(this, all), 100); };"
    )
    upload(browser, first)
    assert not browser.find_element("id", "map").is_displayed()
    browser.find_element("id", "explain").send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "quit"
    wait(browser, "document.getElementById('progress').value > 1")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "explain"
    assert not browser.find_element("id", "progress").is_displayed()
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    upload(browser, second)
    assert browser.find_element("id", "explain").is_displayed()
    other = explain(browser)
    assert other.shape == whole.shape == (48,) and abs(other - whole).max() > 1e-3
    assert browser.execute_script("return document.activeElement.id") == "of"
    assert "b.jpg" in browser.find_element("id", "picture").get_attribute("aria-label")


@pytest.mark.slow
def test_axe_finds_nothing(browser, server, tmp_path, axe):
    browser.get(f"{server[0]}/")
    wait(browser, "document.body.hasAttribute('data-ready')")
    assert axe() == []
    assert upload(browser, picture(tmp_path, "a.png"))
    browser.find_element("css selector", "footer summary").click()
    assert axe() == []
