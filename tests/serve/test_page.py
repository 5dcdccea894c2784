"""The page for people, in a real browser: hosted by the server, and by itself with the model inside."""

import base64
import dataclasses
import functools
import http.server
import io
import json
import threading
import time

import numpy as np
import PIL
import pytest
import requests
from PIL import Image, ImageFilter

from imgcls_jax import config as c
from imgcls_jax.cli import app
from imgcls_jax.config.data import Canvas
from imgcls_jax.data import canvas as canvases
from imgcls_jax.errors import UserError
from imgcls_jax.export import standalone
from imgcls_jax.export.web import write as web

pytest.importorskip("fastapi", reason="needs imgcls_jax[serve]")


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


def test_a_page_of_another_kind_of_model_is_refused(program, tmp_path):
    labels = dataclasses.replace(program, config=dataclasses.replace(program.config, loss=c.MultiLabel()))
    with pytest.raises(UserError, match="predicts several labels per image, and the page shows the one"):
        web.write(labels, tmp_path / "page")
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

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=host.serve_forever).start()
    yield f"http://127.0.0.1:{host.server_address[1]}", folder
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


@pytest.mark.slow
def test_axe_finds_nothing(browser, server, tmp_path, axe):
    browser.get(f"{server[0]}/")
    wait(browser, "document.body.hasAttribute('data-ready')")
    assert axe() == []
    assert upload(browser, picture(tmp_path, "a.png"))
    browser.find_element("tag name", "summary").click()
    assert axe() == []
