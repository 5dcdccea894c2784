"""The command: what it imports, what it refuses, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from imgcls_jax.cli import app
from imgcls_jax.errors import UserError
from imgcls_jax.export import standalone

for package in ("fastapi", "onnx", "onnxruntime", "prometheus_client", "python_multipart", "uvicorn"):
    pytest.importorskip(package)


def started(file, *flags, code="from imgcls_jax.cli import app; app.run()"):
    """A process that serves, and its address."""
    command = [sys.executable, "-c", code, "serve", str(file), "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, process.communicate(timeout=20)[1]
    return process, found[0]


@pytest.mark.slow
def test_a_signal_loses_no_request_and_jax_is_not_needed(model_file, encoded):
    """SIGTERM while requests wait: each is answered, whatever it is, and the process ends well."""
    code = (
        "import sys; sys.modules['jax'] = sys.modules['flax'] = sys.modules['onnx'] = None\n"
        "import time\n"
        "from imgcls_jax.serve import model\n"
        "run = model.Served.predict\n"
        "model.Served.predict = lambda self, images: (time.sleep(0.3), run(self, images))[1]\n"
        "from imgcls_jax.cli import app; app.run()"
    )
    process, address = started(model_file, "--max-batch", "2", code=code)
    try:
        answers, content = [], encoded()

        def ask():
            answers.append(
                requests.post(f"{address}/predict", content, headers={"Content-Type": "image/png"}, timeout=30)
            )

        clients = [threading.Thread(target=ask) for _ in range(12)]
        for client in clients:
            client.start()
        end = time.monotonic() + 10
        while "imgcls_images_inside 12.0" not in (text := requests.get(f"{address}/metrics", timeout=10).text):
            assert time.monotonic() < end and "imgcls_images_total" in text
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(30)
        assert [answer.status_code for answer in answers] == [200] * 12
        _, problems = process.communicate(timeout=20)
        assert (process.returncode, problems) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_other_files_are_refused(model_file, tmp_path, monkeypatch):
    changed = bytearray(model_file.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(changed)
    (tmp_path / "other.onnx").write_bytes(b"of another program")
    for name, sentence in (
        ("changed.onnx", "has changed since"),
        ("other.onnx", "was not written by imgcls export"),
        ("absent.onnx", "cannot be read"),
        ("model.pth", r"only \.onnx and \.stablehlo files are served"),
    ):
        with pytest.raises(UserError, match=sentence):
            app.main(["serve", str(tmp_path / name), "--port", "0"])
    # A machine that computes something else.
    right = standalone.load
    monkeypatch.setattr(standalone, "load", lambda path: lambda images: [x + 0.01 for x in right(path)(images)])
    with pytest.raises(UserError, match=r"computes other figures here .*image \d in a batch of 3, .*: probability"):
        app.main(["serve", str(model_file), "--port", "0"])


def test_mistakes_are_one_sentence(model_file, monkeypatch):
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(UserError, match=r"cannot listen on 127.0.0.1, port .*give another"):
        app.main(["serve", str(model_file), "--port", str(taken.getsockname()[1])])
    for flags in (["--host", "no such host"], ["--port", "65536"], ["--max-batch", "0"], ["--timeout", "0"]):
        with pytest.raises(UserError):
            app.main(["serve", str(model_file), *flags])
    from imgcls_jax import serve
    from imgcls_jax.serve import run

    assert run
    monkeypatch.delattr(serve, "run")
    monkeypatch.delitem(sys.modules, "imgcls_jax.serve.run")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"needs the package uvicorn: run pip install 'imgcls_jax\[serve\]'"):
        app.main(["serve", str(model_file)])
