"""Draw the pictures of the README and of docs/ from a real run of configs/digits_cnn.py, and from published weights.

    python docs/images/make.py

From the root of the repository, with scikit-image beside what the tests need: its photograph of a coffee cup (Rachel
Michetti, CC0) is classified. The run is written to runs/digits_cnn, or is already there. Chromium takes the picture of
the HTML page, and with its driver those of the page that classifies.
"""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from skimage.data import coffee
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
RUN = "runs/digits_cnn"
WIDTH = 1000


def imgcls(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "imgcls_jax", *arguments], check=True)


def shrink(source: Path, name: str, colors: int = 64) -> None:
    """Save a picture at most WIDTH pixels wide: as WebP, or as PNG in a palette of so many colors."""
    picture = Image.open(source).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    if name.endswith(".webp"):
        picture.save(HERE / name, quality=85, method=6)
        return
    picture.quantize(colors, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def photograph(folder: Path, image: Path, name: str, size: tuple[int, int], scheme: str) -> None:
    """Classify an image on a page that `imgcls export --to web` wrote, show the evidence, and take a picture of it."""
    host = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    )
    threading.Thread(target=host.serve_forever).start()
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(f"http://127.0.0.1:{host.server_address[1]}/index.html")
        browser.find_element("id", "file").send_keys(str(image.absolute()))
        for shown, next_button in (("evidence", "explain"), ("after", None)):
            while not browser.find_element("id", shown).is_displayed():
                time.sleep(0.1)
            if next_button:
                browser.find_element("id", next_button).click()
        browser.execute_script("document.activeElement.blur()")
        browser.save_screenshot(f"runs/{name}.png")
    finally:
        browser.quit()
        host.shutdown()
    shrink(Path(f"runs/{name}.png"), name, colors=256)


imgcls("train", "--config", "configs/digits_cnn.py", "--workdir", RUN)
imgcls("preview", "--config", "configs/digits_cnn.py", "--out", "runs/preview", "--images", "4", "--draws", "8")
imgcls("report", RUN, "--out", "runs/report", "--html", "runs/report.html")
images = Path("runs/images")
images.mkdir(parents=True, exist_ok=True)
for i, digit in enumerate(load_digits().images[1500:1504]):
    Image.fromarray((digit * 255 / 16).round().astype("uint8")).save(images / f"{i}.png")
imgcls("explain", *(f"{images}/{i}.png" for i in range(4)), "--workdir", RUN, "--neighbors", "5",
       "--out", "runs/explained.png")  # fmt: skip
subprocess.run(
    ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1860",
     "--screenshot=runs/page.png", Path("runs/report.html").absolute().as_uri()], check=True
)  # fmt: skip
shrink(min(Path("runs/preview").glob("*.png")), "preview.png")
shrink(Path(RUN, "curves.png"), "curves.png")
shrink(next(Path("runs/report").rglob("*confusion*.png")), "confusion.png")
shrink(Path("runs/explained.png"), "explained.png")
shrink(Path("runs/page.png"), "page.png", colors=256)
imgcls("export", RUN, "--to", "web", "--out", "runs/page")
Image.open(images / "1.png").resize((256, 256), Image.Resampling.NEAREST).save(images / "large.png")
photograph(Path("runs/page"), images / "large.png", "web_narrow.png", (360, 1040), "dark")
imgcls("export", "efficientnet_lite/lite0", "--to", "web", "--out", "runs/lite0_page")
Image.fromarray(coffee()).save(images / "coffee.png")
photograph(Path("runs/lite0_page"), images / "coffee.png", "web_wide.webp", (1000, 632), "light")
