"""Answers of a real server, next to onnxruntime run by hand."""

import dataclasses
import http.client
import io
import json
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgcls_jax.export import files

onnxruntime = pytest.importorskip("onnxruntime")
for package in ("fastapi", "onnx", "prometheus_client", "python_multipart", "uvicorn"):
    pytest.importorskip(package)

PNG = {"Content-Type": "image/png"}


def by_hand(path, content):
    """What onnxruntime makes of an image that Pillow decodes and resizes: torchvision's Resize and CenterCrop."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    width = 8 * image.width // image.height
    image = image.resize((width, 8), Image.Resampling.BICUBIC)
    left = round((width - 6) / 2)
    pixels = np.asarray(image.crop((left, 0, left + 6, 8)))
    return onnxruntime.InferenceSession(str(path)).run(["probabilities"], {"image": pixels[None]})[0][0]


def values(predictions, names=("a cat", "</script><b>", "Žluťoučký")):
    return [{entry["class"]: entry["probability"] for entry in predictions}[name] for name in names]


def send(address, content, headers=PNG, **options):
    return requests.post(f"{address}/predict", content, headers=headers, timeout=20, **options)


def errors(response):
    """The code and the sentence of an error."""
    error = response.json()["error"]
    assert "\n" not in error["message"] and len(error["message"]) < 400
    return error["code"]


def check_lives(address, encoded):
    assert requests.get(f"{address}/healthz", timeout=10).status_code == 200
    assert send(address, encoded()).status_code == 200


def test_probabilities_are_those_of_onnxruntime(server, model_file, encoded):
    address, _ = server
    contents = [encoded(seed=0), encoded(40, 60, "JPEG", seed=1), encoded(9, 90, "WEBP", seed=2)]
    response = requests.post(
        f"{address}/predict", files=[("x", (f"{i}.bin", b)) for i, b in enumerate(contents)], timeout=20
    )
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["name"] for result in results] == ["0.bin", "1.bin", "2.bin"]
    for content, result in zip(contents, results, strict=True):
        expected = by_hand(model_file, content)
        np.testing.assert_allclose(values(result["predictions"]), expected, atol=1e-6)
        order = [entry["label"] for entry in result["predictions"]]
        assert order == np.argsort(-expected).tolist()
        alone = send(address, content).json()["results"]
        np.testing.assert_allclose(values(alone[0]["predictions"]), expected, atol=1e-6)
        assert "logits" not in alone[0]
    (asked,) = send(address, contents[-1], params={"logits": "true"}).json()["results"]
    shares = np.exp(asked["logits"]) / np.exp(asked["logits"]).sum()
    np.testing.assert_allclose(shares, by_hand(model_file, contents[-1]), atol=1e-6)
    top = send(address, contents[0], params={"top_k": 1}).json()["results"][0]["predictions"]
    assert len(top) == 1


def test_a_stablehlo_file_gives_the_same(serving, program, model_file, encoded, tmp_path):
    """Batches of several sizes, each padded to a power of two."""
    pytest.importorskip("flatbuffers")
    path = files.export(program, tmp_path / "model.stablehlo")[0]
    contents = [encoded(seed=seed) for seed in range(3)]
    with serving(path=path, batch=4) as (address, _):
        answers = [send(address, contents[0]).json()["results"][0]]
        form = [("image", content) for content in contents]
        answers += requests.post(f"{address}/predict", files=form, timeout=20).json()["results"]
    for answer, content in zip(answers, [contents[0], *contents], strict=True):
        np.testing.assert_allclose(values(answer["predictions"]), by_hand(model_file, content), atol=1e-6)


def test_good_images_are_answered_beside_bad_ones(server, encoded):
    address, _ = server
    files = [
        ("x", ("good.png", encoded())),
        ("x", ("empty.png", b"")),
        ("x", ("cut.png", encoded()[:200])),
        ("x", ("large.png", encoded(300, 300, "JPEG"))),
        ("x", ("also.png", encoded(seed=3))),
    ]
    response = requests.post(f"{address}/predict", files=files, data={"note": "no file"}, timeout=20)
    assert response.status_code == 200
    results = {result["name"]: result for result in response.json()["results"]}
    assert {name: result.get("error", {}).get("code") for name, result in results.items()} == {
        "good.png": None,
        "empty.png": "unreadable",
        "cut.png": "unreadable",
        "large.png": "too_many_pixels",
        "also.png": None,
        "note": "no_file",
    }
    assert "90,000 pixels exceed the 50,000" in results["large.png"]["error"]["message"]


def _png_of_zeros(side):
    """A PNG of few bytes and many pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", PNG, 422, "unreadable"),
        (b"no image", {"Content-Type": "application/octet-stream"}, 422, "unreadable"),
        (_png_of_zeros(60_000), PNG, 413, "too_many_pixels"),
        (bytes(200_001), PNG, 413, "too_large"),
        (iter([bytes(150_000)] * 2), PNG, 413, "too_large"),  # in chunks, without a length
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b"", {"Content-Type": "multipart/form-data"}, 400, "bad_form"),
        (b"nothing", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "bad_form"),
        (
            b"--x--\r\n",
            {"Content-Type": "multipart/form-data; boundary=x"},
            400,
            "no_image|bad_form",
        ),  # by the parser's version
        (b"", {"Content-Type": 'multipart/form-data; boundary="é\\"\'"'.encode()}, 400, "bad_form"),
    ],
)
def test_a_bad_body_is_one_error(server, encoded, content, headers, status, code):
    address, _ = server
    response = send(address, content, headers)
    assert response.status_code == status
    assert errors(response) in code.split("|")
    check_lives(address, encoded)


def test_bad_requests_are_one_error(server):
    address, _ = server
    assert errors(send(address, b"", params={"top_k": "0"})) == "bad_top_k"
    assert errors(send(address, b"", params={"top_k": "²"})) == "bad_top_k"
    assert errors(send(address, b"", params={"logits": "yes"})) == "bad_logits"
    nine = [("x", ("a.png", b"a"))] * 9
    response = requests.post(f"{address}/predict", files=nine, timeout=20)
    assert (response.status_code, errors(response)) == (413, "too_many_images")
    assert requests.get(f"{address}/predict", timeout=20).status_code == 405
    response = requests.get(f"{address}/none", timeout=20)
    assert response.status_code == 404
    assert "/predict" in response.json()["error"]["message"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_body_is_answered(server, encoded, data):
    """A form with parts of any kind, cut and changed anywhere, under any of these types."""
    address, _ = server
    parts = data.draw(
        st.lists(
            st.sampled_from(
                [
                    b"--x\r\n",
                    b'Content-Disposition: form-data; name="a"; filename="\xff\xed\xa0\x80.png"\r\n\r\n',
                    b'Content-Disposition: form-data; name="a"\r\n\r\n',
                    b"Content-Type: image/png; charset=punycode\r\n",
                    b"\r\n",
                    b"\r\n--x--",
                    encoded(),
                    encoded(form="GIF"),
                ]
            )
            | st.binary(max_size=40),
            max_size=12,
        )
    )
    body = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(0, 3)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    kind = data.draw(
        st.sampled_from(
            [
                "multipart/form-data; boundary=x",
                "multipart/form-data; boundary=x; charset=unicode_escape",
                "multipart/form-data; boundary=",
                "image/png",
                "application/octet-stream",
                "",
                ";;=",
            ]
        )
    )
    response = send(address, bytes(body), {"Content-Type": kind})
    assert response.status_code in (200, 400, 413, 415, 422)
    answer = response.json()
    assert ("error" in answer) == (response.status_code != 200)
    assert requests.get(f"{address}/readyz", timeout=10).status_code == 200


def test_a_full_queue_is_503(serving, encoded):
    """No more images than there are places are in the server; later, there is room again."""
    free = threading.Event()

    def slow(function):
        calls = []

        def run(images):
            calls.append(len(images))
            if len(calls) == 1:
                free.wait(20)
            return function(images)

        return run

    with serving(slow, queue=3, batch=2) as (address, _), ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(send, address, encoded(seed=seed)) for seed in range(3)]
        end = time.monotonic() + 10
        while "imgcls_images_inside 3.0" not in requests.get(f"{address}/metrics", timeout=10).text:
            assert time.monotonic() < end
            time.sleep(0.02)
        response = send(address, encoded())
        assert (response.status_code, errors(response)) == (503, "busy")
        assert int(response.headers["Retry-After"]) >= 1
        assert requests.get(f"{address}/healthz", timeout=10).status_code == 200
        free.set()
        assert [answer.result().status_code for answer in waiting] == [200] * 3
        check_lives(address, encoded)
        text = requests.get(f"{address}/metrics", timeout=10).text
    assert "imgcls_images_inside 0.0" in text
    assert 'imgcls_requests_total{path="/predict",status="503"} 1.0' in text
    assert 'imgcls_images_total{outcome="ok"} 4.0' in text


def test_images_of_several_requests_share_a_batch(serving, model_file, encoded):
    """And each request gets its own answer."""
    sizes = []

    def counted(function):
        def run(images):
            sizes.append(len(images))
            time.sleep(0.1)
            return function(images)

        return run

    contents = [encoded(seed=seed) for seed in range(8)]
    with serving(counted, batch=4) as (address, _), ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda content: send(address, content).json(), contents))
    assert sum(sizes) == 8
    assert 1 < max(sizes) <= 4
    for content, answer in zip(contents, answers, strict=True):
        found = values(answer["results"][0]["predictions"])
        np.testing.assert_allclose(found, by_hand(model_file, content), atol=1e-6)


def test_an_image_that_is_alone_does_not_wait(serving, encoded):
    with serving(wait_s=5.0) as (address, _):
        started = time.monotonic()
        check_lives(address, encoded)
        assert time.monotonic() - started < 4


def test_no_request_takes_longer_than_the_limit(serving, encoded):
    free = threading.Event()

    def stuck(function):
        def run(images):
            free.wait(20)
            return function(images)

        return run

    with serving(stuck, seconds=0.5, queue=2) as (address, _):
        response = send(address, encoded())
        assert (response.status_code, errors(response)) == (504, "timeout")
        # A client that does not send what it promised.
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"some")
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["error"]["code"]) == (408, "timeout")
        assert answer.headers["Connection"] == "close"
        connection.close()
        # One that leaves.
        with socket.create_connection(address.removeprefix("http://").split(":")) as left:
            left.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        free.set()
        check_lives(address, encoded)


def test_a_model_that_fails_is_an_error_of_the_server(serving, encoded, caplog):
    def broken(function):
        calls = []

        def run(images):
            calls.append(images)
            if len(calls) == 1:
                raise RuntimeError("no memory")
            return function(images)

        return run

    with serving(broken) as (address, _):
        response = send(address, encoded())
        assert (response.status_code, errors(response)) == (500, "internal")
        check_lives(address, encoded)
    assert "a batch could not be run" in caplog.text


def test_what_is_offered_is_described(server):
    address, _ = server
    paths = requests.get(f"{address}/openapi.json", timeout=10).json()["paths"]
    assert set(paths) == {"/predict", "/healthz", "/readyz", "/metrics"}


def test_several_labels_and_outputs_without_a_name(server):
    _, served = server
    about = {**served.about, "model_card": {"thresholds": [0.5, 0.2, 0.95, 0.1]}}
    several = dataclasses.replace(served, about=about)
    probabilities = np.array([0.6, 0.1, 0.9, 0.3], np.float32)
    assert served.labels(probabilities) is None
    assert several.labels(probabilities) == ["a cat", "output 3"]
    untuned = dataclasses.replace(served, about={**served.about, "task": "labels"})
    assert untuned.labels(probabilities[:3]) == ["a cat", "Žluťoučký"]
    assert [entry["class"] for entry in several.top(probabilities, 2)] == ["Žluťoučký", "a cat"]
