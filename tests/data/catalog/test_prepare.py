"""Catalog sets, prepared from small archives of the official layout that a server on this machine serves."""

import errno
import functools
import hashlib
import http.server
import io
import multiprocessing
import os
import sys
import tarfile
import threading
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download.checksums import UrlInfo

from imgcls_jax import download
from imgcls_jax.cli import app
from imgcls_jax.data.catalog import archives, entries, prepare, without_tensorflow
from imgcls_jax.data.examples import no_progress
from imgcls_jax.data.sources.tfds import TFDS
from imgcls_jax.display import console
from imgcls_jax.errors import UserError

RNG = np.random.default_rng(0)


def jpeg(width=9, height=7) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def tar(contents: dict[str, bytes], mode="w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def mat(**arrays) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, arrays)
    return file.getvalue()


# CIFAR-10: 5 × 4 training images and 3 test images, labels 0 … 9 in turn.
PIXELS = RNG.integers(0, 256, (23, 3, 32, 32), dtype=np.uint8)
ROWS = [bytes([i % 10]) + PIXELS[i].tobytes() for i in range(23)]
CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR = {
    "cifar-10-binary.tar.gz": tar(
        {f"cifar-10-batches-bin/data_batch_{k + 1}.bin": b"".join(ROWS[4 * k : 4 * k + 4]) for k in range(5)}
        | {
            "cifar-10-batches-bin/test_batch.bin": b"".join(ROWS[20:]),
            "cifar-10-batches-bin/batches.meta.txt": "\n".join([*CIFAR_NAMES, "", ""]).encode(),
        }
    )
}
PHOTOS = [jpeg() for _ in range(6)]


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """A function that serves files in place of a set's own, by their names."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = functools.partial(Server, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    real = entries.files

    def put(contents: dict[str, bytes]) -> Path:
        for name, content in contents.items():
            (folder / name).write_bytes(content)

        def files(builder):
            return {
                url: UrlInfo(len(contents[name]), hashlib.sha256(contents[name]).hexdigest(), name)
                for url, info in real(builder).items()
                if (name := info.filename or url.rpartition("/")[2]) in contents
            }

        monkeypatch.setattr(entries, "files", files)
        fetch = download.fetch

        def local(url, *args, **options):
            return fetch(f"http://127.0.0.1:{server.server_port}/{options['name']}", *args, **options)

        monkeypatch.setattr(archives, "download", types.SimpleNamespace(fetch=local, is_offline=download.is_offline))
        return folder

    yield put
    server.shutdown()
    server.server_close()


def keys_in_order(split: str, keys) -> list:
    """The order in which tfds's documentation says that it stores examples: by the MD5 of split and key."""
    return sorted(keys, key=lambda key: hashlib.md5(f"{split}{key}".encode()).digest())


def test_cifar_equals_its_archive_in_the_order_of_hashed_keys(serve, tmp_path):
    serve(CIFAR)
    source = TFDS("cifar10", "train", None, "test", data_dir=str(tmp_path / "tfds")).open()
    assert source.class_names == tuple(CIFAR_NAMES)
    read = tfds.builder_from_directory(tmp_path / "tfds/cifar10/3.0.2").as_data_source()
    for split, first, count in (("train", 0, 20), ("test", 20, 3)):
        order = keys_in_order(split, range(count))
        assert [example["id"] for example in read[split]] == [f"{split}_{i:05d}".encode() for i in order]
        assert [example["label"] for example in read[split]] == [(first + i) % 10 for i in order]
        for example, i in zip(read[split], order, strict=True):
            np.testing.assert_array_equal(example["image"], PIXELS[first + i].transpose(1, 2, 0))
    assert "tensorflow" not in sys.modules
    assert not (tmp_path / "tfds/downloads/cifar10/extracted").exists()


def photos_of(folder: Path, name: str, split: str, label: str = "label") -> dict[bytes, str]:
    """Label names by the images' files."""
    source = TFDS(name, split, None, None, data_dir=str(folder), label_key=label).open()
    contents = source.train.read(range(len(source.train)))
    return {content: source.class_names[label] for content, label in zip(contents, source.train.labels, strict=True)}


def test_imagenette(serve, tmp_path):
    files = {
        f"imagenette2-160/{part}/n0{1440764 + 661276 * k}/{k}{i}.JPEG": PHOTOS[k + 2 * i]
        for k in (0, 1)
        for i, part in ((0, "train"), (1, "val"))
    }
    serve({"imagenette2-160.tgz": tar(files)})
    assert photos_of(tmp_path, "imagenette/160px-v2", "train") == {PHOTOS[0]: "n01440764", PHOTOS[1]: "n02102040"}
    assert photos_of(tmp_path, "imagenette/160px-v2", "validation") == {PHOTOS[2]: "n01440764", PHOTOS[3]: "n02102040"}


def test_flowers(serve, tmp_path):
    images = tar({f"jpg/image_{i + 1:05d}.jpg": PHOTOS[i] for i in range(6)})
    labels = mat(labels=np.array([[77, 77, 73, 73, 1, 1]]))
    setid = mat(trnid=np.array([[1, 3]]), valid=np.array([[5]]), tstid=np.array([[2, 4, 6]]))
    serve({"102flowers.tgz": images, "imagelabels.mat": labels, "setid.mat": setid})
    assert photos_of(tmp_path, "oxford_flowers102", "train") == {PHOTOS[0]: "passion flower", PHOTOS[2]: "water lily"}
    assert photos_of(tmp_path, "oxford_flowers102", "validation") == {PHOTOS[4]: "pink primrose"}


def test_pets(serve, tmp_path):
    mask = without_tensorflow._encode(np.ones((7, 9, 1), np.uint8), "png")
    alpha = without_tensorflow._encode(np.full((7, 9, 4), 128, np.uint8), "png")
    box = b"""<annotation><size><width>9</width><height>7</height></size><object><bndbox><xmin>1</xmin><ymin>2</ymin>
        <xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"""
    annotations = {
        "annotations/trainval.txt": b"Abyssinian_100 1 1 1\nEgyptian_Mau_14 12 1 9\n",
        "annotations/test.txt": b"beagle_1 5 2 2\n",
        "annotations/xmls/Abyssinian_100.xml": box,
    } | {f"annotations/trimaps/{name}.png": mask for name in ("Abyssinian_100", "Egyptian_Mau_14", "beagle_1")}
    images = {
        "images/Abyssinian_100.jpg": PHOTOS[0],
        "images/Egyptian_Mau_14.jpg": alpha,
        "images/beagle_1.jpg": PHOTOS[1],
    }
    serve({"images.tar.gz": tar(images), "annotations.tar.gz": tar(annotations)})
    train = photos_of(tmp_path, "oxford_iiit_pet", "train")
    assert train[PHOTOS[0]] == "Abyssinian"
    (repaired,) = train.keys() - {PHOTOS[0]}  # one of those that tfds encodes anew
    assert (Image.open(io.BytesIO(repaired)).mode, train[repaired]) == ("RGB", "Egyptian_Mau")
    assert photos_of(tmp_path, "oxford_iiit_pet", "test", "species") == {PHOTOS[1]: "Dog"}


def test_stanford_dogs(serve, tmp_path):
    breeds = [f"n{k:08d}-Breed_{k}" for k in range(120)]
    names = {breed: f"{breed}/{breed[:9]}_{k}.jpg" for k, breed in enumerate(breeds)}
    content = {f"Images/{names[breed]}": PHOTOS[k % 2] + bytes([k]) for k, breed in enumerate(breeds)}
    box = b"""<annotation><size><width>9</width><height>7</height></size><object><bndbox><xmin>1</xmin><ymin>2</ymin>
        <xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"""
    listed = np.array([[name] for name in names.values()], dtype=object)
    serve(
        {
            "images.tar": tar(content, "w"),
            "lists.tar": tar(
                {"train_list.mat": mat(file_list=listed), "test_list.mat": mat(file_list=listed[:2])}, "w"
            ),
            "annotation.tar": tar({f"Annotation/{name[:-4]}": box for name in names.values()}, "w"),
        }
    )
    assert len(photos_of(tmp_path, "stanford_dogs", "train")) == 120
    assert photos_of(tmp_path, "stanford_dogs", "test") == {
        PHOTOS[k] + bytes([k]): f"n{k:08d}-breed_{k}" for k in (0, 1)
    }


def test_sketch(serve, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (("n01440764/sketch_0", PHOTOS[0]), ("n02102040/sketch_3", PHOTOS[1])):
            archive.writestr(f"sketch/{name}.JPEG", content)
    serve({"ImageNet-Sketch.zip": file.getvalue()})
    source = TFDS("imagenet_sketch", "test", None, None, data_dir=str(tmp_path)).open()
    assert len(source.class_names) == 1000
    found = dict(zip(source.train.read(range(2)), source.train.labels, strict=True))
    assert {content: source.class_names[label] for content, label in found.items()} == {
        PHOTOS[0]: "n01440764",
        PHOTOS[1]: "n02102040",
    }


def test_cats_vs_dogs(serve, tmp_path, monkeypatch):
    from tensorflow_datasets.image_classification import cats_vs_dogs

    monkeypatch.setattr(cats_vs_dogs, "_NUM_CORRUPT_IMAGES", 1)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (("Cat/0", PHOTOS[0]), ("Dog/0", PHOTOS[1]), ("Dog/1", b"no image at all")):
            archive.writestr(f"PetImages/{name}.jpg", content)
    serve({"kagglecatsanddogs_5340.zip": file.getvalue()})
    found = photos_of(tmp_path, "cats_vs_dogs", "train")
    assert sorted(found.values()) == ["cat", "dog"]
    for content, label in found.items():
        once = np.asarray(Image.open(io.BytesIO(PHOTOS[label == "dog"])), int)
        assert np.abs(np.asarray(Image.open(io.BytesIO(content)), int) - once).mean() < 20  # noise, encoded twice


@pytest.mark.parametrize("what", ["404", "checksum", "room", "full", "read-only"])
def test_failures_are_one_sentence_and_the_next_try_succeeds(serve, tmp_path, monkeypatch, what):
    folder = serve(CIFAR)
    (name,) = CIFAR
    with monkeypatch.context() as change:
        if what == "404":
            (folder / name).unlink()
            expected = "HTTP status 404.*put it at .*cifar-10-binary.tar.gz"
        elif what == "checksum":
            (folder / name).write_bytes(CIFAR[name][:-1] + b"x")
            expected = "is not the published file.*and is removed"
        elif what == "room":
            change.setattr(archives.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
            expected = "takes about .* where 1000 B are free: make room"
        elif what == "full":
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            change.setattr(tfds.core.writer.ExampleWriter, "write", lambda *_, **__: (_ for _ in ()).throw(full))
            expected = r"cannot be written to .* \(the disk is full\).*what was downloaded is kept"
        else:
            change.setattr(
                Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
            )
            expected = r"cannot be written to .* \(Permission denied\)"
        with pytest.raises(UserError, match=expected):
            prepare.prepare("cifar10", tmp_path / "tfds", no_progress)
    (folder / name).write_bytes(CIFAR[name])
    prepare.prepare("cifar10", tmp_path / "tfds", no_progress)
    assert tfds.builder("cifar10", data_dir=tmp_path / "tfds").is_prepared()


def test_what_killed_processes_left_is_used_or_removed(serve, tmp_path):
    serve(CIFAR)
    (name,) = CIFAR
    downloads, sets = tmp_path / "downloads/cifar10", tmp_path / "cifar10"
    for made in (downloads / f"extracted/{name}.part", sets / "incomplete.ABCDEF_3.0.2"):
        made.mkdir(parents=True)
        (made / "half").write_bytes(b"half")
    (downloads / f"{name}.part").write_bytes(CIFAR[name][:1000])
    prepare.prepare("cifar10", tmp_path, no_progress)
    assert [entry.name for entry in sets.iterdir()] == ["3.0.2"]
    assert sorted(path.name for path in downloads.iterdir()) == [name, f"{name}.lock"]


def _prepare_in_a_process(folder, queue):
    seen = []
    prepare.prepare("cifar10", folder, lambda label, *_: seen.append(label))
    queue.put(len(seen) > 0)


@pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, whose threads the children do not use
def test_two_processes_prepare_once(serve, tmp_path):
    serve(CIFAR)
    context = multiprocessing.get_context("fork")  # which keeps what the fixture put in place
    queue = context.Queue()
    processes = [context.Process(target=_prepare_in_a_process, args=(tmp_path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(queue.get(timeout=60) for _ in processes) == [False, True]
    for process in processes:
        process.join()


def test_the_commands(serve, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    serve(CIFAR)
    app.main(["data", "prepare", "cifar10"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "cifar10: downloading" in printed and "terms: no license; its authors ask to be cited" in printed
    app.main(["data", "prepare", "cifar10"])
    assert "is already prepared" in capsys.readouterr().out
    app.main(["data", "list"])
    assert f"preparedin{tmp_path}" in "".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="holds .*20.* images, but the set has .*50000"):
        app.main(["data", "verify", "cifar10"])
    monkeypatch.setitem(entries.ENTRIES, "cifar10", entries.Entry("cifar10", 1, {"train": 20, "test": 3}, "none"))
    app.main(["data", "verify", "cifar10"])
    assert "cifar10 is whole: 20 train, 3 test images of 10 classes" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["train", "probe"])
def test_a_command_on_a_set_that_is_not_there_shows_its_download(serve, tmp_path, capsys, monkeypatch, command):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    serve(CIFAR)
    shown = []
    monkeypatch.setattr(console.Wait, "on_progress", lambda _, label, *__: shown.append(label))
    with pytest.raises(SystemExit):
        app.main([command, "cifar10", "--config.help=seed"])  # which needs the chosen config
    assert [label for label in dict.fromkeys(shown) if "opening" not in label][:3] == [
        "downloading cifar-10-binary.tar.gz, MiB",
        "unpacking cifar-10-binary.tar.gz",
        "preparing cifar10",
    ]
    assert "cifar10: downloading" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "needs the NAME"),
        (["list", "cifar10"], "takes no NAME"),
        (["prepare", "cifar11"], r'did you mean "cifar10"'),
        (["prepare", "imagenet2012"], r"by hand to .*downloads/manual \(.*ILSVRC2012_img_train.tar"),
        (["verify", "cifar10"], r"is not prepared in .*imgcls data prepare cifar10 --data-dir"),
    ],
)
def test_mistakes_in_the_commands(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        app.main(["data", *arguments, *(["--data-dir", str(tmp_path)] if arguments != ["list", "cifar10"] else [])])


def test_sizes_are_those_that_tfds_registers():
    for name, entry in entries.ENTRIES.items():
        builder = tfds.builder(name)
        urls = {
            "imagenette": lambda url: url.endswith("/imagenette2.tgz"),
            "cifar10": lambda url: url.endswith("cifar-10-binary.tar.gz"),
            "cifar100": lambda url: url.endswith("cifar-100-binary.tar.gz"),
            "cats_vs_dogs": lambda url: url.endswith("kagglecatsanddogs_5340.zip"),
        }.get(name, lambda url, own=builder.url_infos: url in (own or {}))
        known = {url: info for url, info in entries.files(builder).items() if urls(url)}
        assert sum(int(info.size) for info in known.values()) == entry.size, name
        assert set(entry.addresses) <= set(known)
