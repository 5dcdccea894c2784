"""Weights of timm's repositories, in a stand-in for the server of Hugging Face, against timm's own logits (golden)."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stand_in
import timm_reference
from flax import nnx
from safetensors.numpy import save

from imgcls_jax import Classifier, UserError
from imgcls_jax import config as c
from imgcls_jax import weights as formats
from imgcls_jax.export.hub import folder
from imgcls_jax.inference import initial, source
from imgcls_jax.models import architectures, network
from imgcls_jax.weights import paths

FAST = "resnet18.a1_in1k"
DEEP = ("resnet50.a1_in1k", "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m")
OURS = {
    "resnet18.a1_in1k": "resnet18",
    "resnet50.a1_in1k": "resnet50",
    "tf_efficientnet_lite0.in1k": "efficientnet_lite0",
    "vit_small_patch14_dinov2.lvd142m": "dinov2_vits14",
    "vit_small_patch14_reg4_dinov2.lvd142m": "dinov2_vits14_reg",
}
CLASSES = tuple("abcdefg")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in.reached(monkeypatch, tmp_path) as hub:
        yield hub


def fill(hub, name, *, config=None, state=None, architecture=FAST):
    """Make a repository of timm's, as timm's push_to_hf_hub does."""
    config = json.dumps(timm_reference.config(architecture) if config is None else config).encode()
    state = timm_reference.state(architecture) if state is None else state
    hub.commits[name] = [{"config.json": config, "model.safetensors": save(dict(state)), "harm.py": b"raise"}]


def experiment(name, size=(48, 64), **transfer):
    """A config for a network of ours; its images are ImageNet's as timm's ResNets take them, but for the size."""
    data = c.Data(
        source=c.Arrays(),
        canvas=c.Canvas(235, 235, interpolation="bicubic"),
        image_size=size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    made = source.published_config(formats.published()["torchvision/resnet18.IMAGENET1K_V1"])
    model = architectures()[name] if isinstance(name, str) else name
    return dataclasses.replace(made, data=data, model=model, transfer=c.Transfer(**transfer))


@functools.cache
def shapes(model, classes):
    return source.shapes(experiment(model, (518, 518)), ("",) * classes)


def load(config, classes=CLASSES):
    return initial.load(config, *shapes(config.model, len(classes)), classes)


@pytest.mark.parametrize(
    "name",
    [
        FAST,
        pytest.param("tf_efficientnet_lite0.in1k", marks=pytest.mark.slow),
        *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.deep]) for name in DEEP),
    ],
)
def test_logits_equal_timms(hub, name):
    fill(hub, f"timm/{name}", architecture=name)
    images = timm_reference.images(name)
    config = experiment(OURS[name], images.shape[1:3], init_from=f"hf:timm/{name}")
    loaded, _ = load(config)
    made = network.of_config(config, len(CLASSES))
    trees = (
        paths.map_tree(lambda path, leaf: jnp.asarray(loaded[path], leaf.dtype), tree)
        for tree in shapes(config.model, len(CLASSES))
    )
    expected = timm_reference.logits(name)
    actual = np.asarray(jax.jit(lambda *trees: nnx.merge(made.evaluate, *trees)(jnp.asarray(images)))(*trees))
    assert np.linalg.norm(actual - expected) < 3e-6 * np.linalg.norm(expected)
    assert not any("harm" in request for request in hub.requests)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_lite2.in1k", "vit_small_patch14_reg4_dinov2.lvd142m"])
def test_every_tensor_has_its_place(name):
    """By names and shapes alone."""
    model = architectures()["efficientnet_lite2" if "lite2" in name else "dinov2_vits14_reg"]
    state = {key: np.broadcast_to(np.float32(i), shape) for i, (key, shape) in enumerate(timm_reference.shapes(name))}
    params, stats = shapes(model, len(CLASSES))
    loaded = formats.from_torch(model.in_timm().rename(state), model, params, stats)
    assert loaded.keys() == (paths.flatten(params) | paths.flatten(stats)).keys()
    # the second block of the sixth stage, before which are 1 + 3 + 3 + 4 + 4
    pairs = {
        "tf_efficientnet_lite2.in1k": ("blocks.16.project_conv.kernel", "blocks.5.1.conv_pwl.weight"),
        "vit_small_patch14_reg4_dinov2.lvd142m": ("register_tokens", "reg_token"),
    }
    ours, theirs = pairs[name]
    assert loaded[ours].flat[0] == state[theirs].flat[0]


def test_what_the_images_are_and_should_be_is_said(hub):
    fill(hub, f"timm/{FAST}")
    said = load(experiment("resnet18", (224, 224), init_from=f"hf:timm/{FAST}"))[1]
    assert said == [
        f"hf://timm/{FAST}: weights of timm's resnet18, for images of 224×224 pixels, cut from a bicubic resize to "
        "235, of mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225)"
    ]
    # timm tests these weights with larger images, which are no departure either, of a canvas of their own size
    _, departure = load(experiment("resnet18", (288, 288), init_from=f"hf:timm/{FAST}"))[1]
    assert departure.endswith("loaded weights were made for: canvas (235, 235) (theirs (288, 288))")
    config = experiment("resnet18", (192, 192), init_from=f"hf:timm/{FAST}")
    other = dataclasses.replace(config.data, canvas=c.Canvas(235, 235), mean=(0.5, 0.5, 0.5))
    _, departure = load(dataclasses.replace(config, data=other))[1]
    for words in (
        "image_size (192, 192) (theirs (224, 224))",
        "interpolation bilinear (theirs bicubic)",
        "mean (0.5, 0.5, 0.5) (theirs (0.485, 0.456, 0.406))",
    ):
        assert words in departure
    assert "std" not in departure


def test_the_head_may_be_another_and_the_cache_needs_no_connection(hub, monkeypatch):
    fill(hub, f"timm/{FAST}")
    config = experiment("resnet18", init_from=f"hf:timm/{FAST}", replace=("head.*",))
    monkeypatch.setenv("IMGCLS_OFFLINE", "1")
    with pytest.raises(UserError, match=rf"hf://timm/{FAST} is not in the cache, and \$IMGCLS_OFFLINE or"):
        load(config, ("cat", "dog"))
    monkeypatch.delenv("IMGCLS_OFFLINE")
    loaded, _ = load(config, ("cat", "dog"))
    before = len(hub.requests)
    monkeypatch.setenv("IMGCLS_OFFLINE", "1")
    again, _ = load(config, ("cat", "dog"))
    assert len(hub.requests) == before
    assert loaded.keys() == again.keys() and not any(path.startswith("head.") for path in loaded)


@pytest.mark.slow
def test_a_classifier_takes_the_preprocessing_of_the_repository(hub):
    name, state = "someone/birds", timm_reference.state(FAST)
    config = timm_reference.config(FAST) | {"label_names": ["wren", *"bcdefg"]}
    config["pretrained_cfg"] |= {"crop_mode": "squash", "mean": [0.5, 0.5, 0.5], "input_size": [3, 64, 64]}
    fill(hub, name, config=config, state=state)
    classifier = Classifier.load(f"hf://{name}")
    assert classifier.class_names[0] == "wren" and len(classifier.class_names) == 7
    seen = classifier.preprocessing
    assert seen.mean == (0.5, 0.5, 0.5) and seen.image_size == (64, 64)
    assert (seen.canvas.height, seen.canvas.fit, seen.canvas.interpolation) == (67, "stretch", "bicubic")
    # features alone, as the published DINOv2 has them; in the dict of one level of older files
    older = config["pretrained_cfg"] | {"architecture": "resnet18", "num_classes": 0}
    fill(
        hub,
        "someone/features",
        config=older,
        state={key: value for key, value in state.items() if not key.startswith("fc.")},
    )
    classifier = Classifier.load("hf:someone/features")
    assert classifier.class_names == ()


@pytest.mark.slow
def test_a_run_may_start_from_a_published_one(hub, finished_run, tmp_path, monkeypatch):
    from imgcls_jax.inference import restore

    monkeypatch.setattr(folder.importlib.util, "find_spec", lambda name: None)  # no ONNX
    workdir, *_ = finished_run
    run = restore.of_run(workdir)
    folder.write(run.program(None), tmp_path / "out")
    files = {name: (tmp_path / "out" / name).read_bytes() for name in folder.present(tmp_path / "out")}
    hub.commits["someone/tiny"] = [files]
    for where in ("hf://someone/tiny", str(tmp_path / "out")):
        config = dataclasses.replace(run.config, transfer=c.Transfer(init_from=where))
        names = ("blue", "red", "green")
        loaded, said = initial.load(config, *source.shapes(config, names), names)
        assert said == ["the outputs of the run are put into the order of this run's classes, by name"]
        np.testing.assert_array_equal(loaded["head.out.bias"], run.params["head.out.bias"][[2, 0, 1]])
        np.testing.assert_array_equal(loaded["convs.0.conv.kernel"], run.params["convs.0.conv.kernel"])
        again = Classifier.load(where, config).logits(np.zeros((1, 8, 8, 3), np.uint8))
        np.testing.assert_array_equal(again, Classifier.load(workdir).logits(np.zeros((1, 8, 8, 3), np.uint8)))


def card(**changes):
    config = timm_reference.config(FAST)
    return {**config, "pretrained_cfg": config["pretrained_cfg"] | changes}


LITE = "efficientnet_lite0.ra_in1k"
MISTAKES = {
    "there is no repository timm/missing on 127.0.0.1, or it is private": "missing",
    "is open only to those who asked for it: ask on its page, and log in": "gated",
    "has no config.json, which says for which network its weights are": {"model.safetensors": b""},
    "has no model.safetensors, the one file of weights that is read": {"config.json": card()},
    "config.json of hf://timm/it is not JSON": {"config.json": b"{"},
    "is not timm's, nor published by imgcls push: repositories of these two": {"config.json": b"[1]"},
    "is not timm's, nor published by imgcls push, but for the package transformers (resnet)": {
        "config.json": {"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}
    },
    "weights of timm's convnext_tiny, which is not among the networks here: those of timm that are: resnet101,": {
        "config.json": card() | {"architecture": "convnext_tiny"}
    },
    "weights of timm's efficientnet_lite0, which is not among the networks here": {
        "config.json": timm_reference.config(LITE)
    },
    "resnet34, which the config's ResNet is not (it is timm's resnet18): set model to c.ResNet(name='resnet34'": {
        "config.json": card() | {"architecture": "resnet34"},
        "model.safetensors": b"",
    },
    "is a variant of timm's resnet18, with act_layer, stem_type set in its config.json": {
        "config.json": card() | {"model_args": {"stem_type": "deep", "act_layer": "silu", "in_chans": 3}}
    },
    "with the pooling max, and here it is avg": {
        "config.json": card() | {"model_args": {"global_pool": "max"}},
        "model.safetensors": b"",
    },
    "does not say, in timm's way, what images its weights are for: KeyError: \"'mean'\"": {
        "config.json": {"architecture": "resnet18", "input_size": [3, 8, 8], "interpolation": "bicubic"}
    },
    "ValueError: 'input_size [3, 8, 9], interpolation bicubic, std": {"config.json": card(input_size=[3, 8, 9])},
    "is a damaged safetensors file": {"config.json": card(), "model.safetensors": b"\x01" + b"\0" * 7 + b"{" * 99},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_what_goes_wrong_is_one_sentence(hub, said):
    files = MISTAKES[said]
    if files == "gated":
        hub.gated.add("timm/it")
        files = {"config.json": card()}
    if files != "missing":
        hub.commits["timm/it"] = [
            {name: data if isinstance(data, bytes) else json.dumps(data).encode() for name, data in files.items()}
        ]
    where = "hf:timm/missing" if files == "missing" else "hf:timm/it"
    with pytest.raises(UserError) as raised:
        load(experiment("resnet18", init_from=where))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_network_that_is_not_timms_says_so(hub, tiny_config):
    fill(hub, f"timm/{FAST}")
    for model, said in {
        tiny_config().model: "which the config's CNN is not: set model to c.ResNet(name='resnet18', head=c.Head())",
        c.ResNet(
            "resnet18", c.Head(), stem="cifar"
        ): "which the config's ResNet is not: set model to c.ResNet(name='resnet18', head=c.Head())",
    }.items():
        with pytest.raises(UserError) as raised:
            load(experiment(model, init_from=f"hf:timm/{FAST}"))
        assert said in str(raised.value)


def test_tensors_of_another_shape_are_named(hub):
    state = timm_reference.state(FAST)
    state = state | {"layer1.0.conv1.weight": state["layer1.0.conv1.weight"][:, :32]}
    fill(hub, "timm/it", state=state)
    with pytest.raises(UserError, match=r"layer1\.0\.conv1\.kernel is \(3, 3, 64, 64\) here and \(3, 3, 32, 64\) in"):
        load(experiment("resnet18", init_from="hf:timm/it"))
    with pytest.raises(UserError, match=r"head\.out\.kernel is \(512, 2\) here and \(512, 7\) in the checkpoint"):
        load(experiment("resnet18", init_from="hf:timm/it"), ("cat", "dog"))
