import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax.config import CNN, Conv, Dense, Head, ResNet
from imgcls_jax.config.transfer import BatchNormMode, Group, Transfer, Unfreeze
from imgcls_jax.errors import UserError
from imgcls_jax.weights import paths
from imgcls_jax.weights import plan as surgery

DOGS = CNN(
    tuple(Conv(channels, 3, pool=2) for channels in (32, 64, 128)),
    "flatten",
    Head(dropout=0.5, hidden=(Dense(512),), sigmoid=True),
)
RESNET50 = ResNet("resnet50", Head(dropout=0.5, batch_norm=True))


def shapes(config, classes=2, image_size=180):
    """Abstract parameters and statistics as nested dicts."""
    model = nnx.eval_shape(
        lambda: config.build(
            num_classes=classes,
            channels=3,
            image_size=(image_size, image_size),
            dtype=jnp.float32,
            rngs=nnx.Rngs(0),
        )
    )
    _, params, stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def checkpoint(*trees, without=()):
    """A checkpoint of ones for the abstract trees; costs no memory."""
    flat = {path: leaf for tree in trees for path, leaf in paths.flatten(tree).items()}
    return {p: np.broadcast_to(np.float32(1), x.shape) for p, x in flat.items() if not paths.matches(p, without)}


@pytest.fixture(scope="module")
def dogs():
    return shapes(DOGS)


@pytest.fixture(scope="module")
def resnet():
    return shapes(RESNET50, 100, 224)


def plan_resnet(resnet, **settings):
    transfer = Transfer(init_from="x", replace=("head.*",), **settings)
    return surgery.plan(transfer, RESNET50, *resnet, checkpoint(*resnet, without=("head.*",)))


def trains(plan, epoch=0):
    return {row.path for row in plan.rows if row.trains(epoch)}


# The counts of the report that these experiments come from: its summary printed 26,308,673, 92,865 and 19,905.
@pytest.mark.parametrize(
    ("replaced", "trainable"), [(("convs.1.*", "convs.2.*"), 92_865), (("convs.0.*", "convs.1.*"), 19_905)]
)
def test_replaced_layers_train_and_the_rest_is_frozen_with_the_published_counts(dogs, replaced, trainable):
    replace = (*replaced, "head.out.*")
    other = {"convs.0.*", "convs.1.*", "convs.2.*", "head.hidden.*"} - set(replaced)
    plan = surgery.plan(
        Transfer(init_from="d1b", replace=replace, freeze=tuple(sorted(other))),
        DOGS,
        *dogs,
        checkpoint(*dogs, without=("head.out.*",)),
    )
    assert plan.count(0) == (trainable, 26_308_673)
    assert {row.path for row in plan.rows if row.source == "replaced"} == trains(plan)


def test_a_hidden_layer_of_another_size_is_an_error_with_both_shapes(dogs):
    # What happened to the report's author: another padding, another flattened size, and the layer silently dropped.
    loaded = checkpoint(*dogs, without=("head.hidden.0.linear.kernel", "head.out.*"))
    loaded["head.hidden.0.linear.kernel"] = np.zeros((61_952, 512), np.float16)
    with pytest.raises(UserError, match=r"head.hidden.0.linear.kernel is \(51200, 512\) here and \(61952, 512\)"):
        surgery.plan(Transfer(init_from="d1b", replace=("head.out.*",)), DOGS, *dogs, loaded)


def test_every_problem_of_a_checkpoint_is_named_at_once(dogs):
    loaded = checkpoint(*dogs, without=("convs.0.conv.bias",))
    loaded |= {"head.out.bias": np.zeros(120, np.float32), "convs.7.conv.bias": np.zeros(4, np.float32)}
    with pytest.raises(UserError) as error:
        surgery.plan(Transfer(init_from="x"), DOGS, *dogs, loaded)
    parts = "convs.0.conv.bias (32,) is not in", "head.out.bias is (1,) here and (120,)", "convs.7.conv.bias (4,)"
    for part in parts:
        assert part in str(error.value)


def test_train_last_counts_the_original_networks_tensors(resnet):
    plan = plan_resnet(resnet, train_last=50)
    frozen = [row.path for row in plan.rows if row.trains_from is None]
    backbone = [row.path for row in plan.rows if not row.path.startswith("head.")]
    assert (len(frozen), len(backbone) + 2) == (111, 161)
    assert {path.split(".conv")[0].split(".bn")[0].split(".down")[0] for path in trains(plan)} == {
        "layer3.4", "layer3.5", "layer4.0", "layer4.1", "layer4.2",
        "head.norm.scale", "head.norm.bias", "head.out.kernel", "head.out.bias",
    }  # fmt: skip
    assert surgery.all_but_last(backbone, 161) == []
    with pytest.raises(UserError, match=r"161 tensors"):
        surgery.all_but_last(backbone, 162)


def test_train_last_and_batch_norm_and_unfreezing_together(resnet):
    plan = plan_resnet(
        resnet,
        train_last=32,
        unfreeze=(Unfreeze("layer3.5.*", 3), Unfreeze("layer3.*", 7)),
        batch_norm=BatchNormMode(train_affine=False),
    )
    assert plan.changes == (3, 7)
    of = {epoch: {path.rpartition(".conv")[0] for path in trains(plan, epoch)} for epoch in (0, 2, 3, 6, 7)}
    assert of[0] == of[2]
    assert "layer3.5" not in of[0]
    assert "layer4.0" in of[0]
    assert of[3] - of[0] == {"layer3.5"}
    assert of[3] == of[6]
    assert "layer3.0" in of[7]
    assert "layer2.0" not in of[7]
    assert not any(".bn" in path or path.startswith("bn1") or "downsample.1" in path for path in trains(plan, 9))
    assert {"head.norm.scale", "head.norm.bias"} <= trains(plan)


def test_rates_of_groups_and_stages_multiply(resnet):
    plan = plan_resnet(
        resnet, layer_decay=0.5, groups=(Group("*.bias", weight_decay_scale=0.0), Group("layer4.*", 3.0))
    )
    rows = {row.path: row for row in plan.rows}
    rates = {
        "head.out.kernel": 1.0, "layer4.0.conv1.kernel": 3 * 0.5, "layer4.0.bn1.bias": 0.5,
        "layer3.0.conv1.kernel": 0.25,
        "layer1.0.conv1.kernel": 0.5**4, "conv1.kernel": 0.5**5, "bn1.scale": 0.5**5,
    }  # fmt: skip
    assert {path: rows[path].learning_rate_scale for path in rates} == rates
    assert rows["layer4.0.bn1.bias"].group == "*.bias"
    assert rows["layer4.0.bn1.bias"].weight_decay_scale == 0
    assert rows["conv1.kernel"].group == "default"
    assert rows["conv1.kernel"].weight_decay_scale == 1
    lr, decay = plan.scales(resnet[0])
    assert lr["layer4"][0]["conv1"]["kernel"] == 1.5
    assert decay["bn1"]["bias"] == 0


def test_trees_match_the_parameters(resnet):
    plan = plan_resnet(resnet, freeze=("layer1.*",))
    mask = plan.trainable(0, resnet[0])
    assert jax.tree.structure(mask) == jax.tree.structure(resnet[0])
    assert mask["layer1"][2]["bn3"]["scale"] is False
    assert mask["layer2"][0]["conv1"]["kernel"] is True


def test_merge_takes_loaded_values_in_the_initial_type_and_keeps_the_others():
    config = ResNet("resnet18", Head(batch_norm=True))
    params, stats = shapes(config, 3, 32)
    zeros = [jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree) for tree in (params, stats)]
    loaded = {p: x.astype(np.float16) for p, x in checkpoint(params, stats, without=("head.*",)).items()}
    plan = surgery.plan(Transfer(init_from="x", replace=("head.*", "layer4.1.bn2.*")), config, params, stats, loaded)
    merged = [paths.flatten(tree) for tree in plan.merge(*zeros)]
    new = {path for tree in merged for path, leaf in tree.items() if not leaf.any()}
    assert new == {path for tree in merged for path in tree if path.startswith(("head.", "layer4.1.bn2."))}
    assert {leaf.dtype for tree in merged for leaf in tree.values()} == {jnp.dtype(jnp.float32)}
    assert plan.statistics["layer4.1.bn2.mean"] == "replaced"
    assert plan.statistics["bn1.var"] == "loaded"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"freeze": ("layer_4.*",)},
            r"transfer.freeze: 'layer_4.\*' matches no parameter \(did you mean \"layer4.\*\"\?\); there are conv1.\*",
        ),
        ({"freeze": ("bn1",)}, r"did you mean \"bn1.\*\""),
        ({"freeze": ("bn1.mean",)}, "matches no parameter"),
        ({"freeze": ("backbone.*",)}, r"matches no parameter; there are conv1.\*, bn1.\*, layer1.\*, .*head.\*$"),
        ({"groups": (Group("layer4.*"), Group("layer4.2.*"))}, "groups: all that 'layer4.2.*' matches, earlier"),
        ({"unfreeze": (Unfreeze("head.*", 2),)}, r"4 parameters would be frozen at their random"),
        ({"freeze": ("head.out.bias",)}, r"(?s)1 parameters would be frozen .*head.out.bias \(replaced\)"),
    ],
)
def test_errors_of_the_rules(resnet, settings, message):
    with pytest.raises(UserError, match=message):
        plan_resnet(resnet, **settings)


def test_replacing_nothing_is_an_error(resnet):
    with pytest.raises(UserError, match=r"transfer.replace: 'fc.\*' matches no parameter"):
        surgery.plan(Transfer(init_from="x", replace=("fc.*",)), RESNET50, *resnet, checkpoint(*resnet))


def test_computed_parameters_may_be_frozen_and_yield_to_loaded_ones(dogs):
    settings, value = {"freeze": ("convs.0.conv.kernel",)}, {"convs.0.conv.kernel": np.ones((3, 3, 3, 32))}
    plan = surgery.plan(Transfer(**settings), DOGS, *dogs, computed=value)
    assert [row.path for row in plan.rows if row.source == "computed"] == ["convs.0.conv.kernel"]
    assert list(plan.loaded) == ["convs.0.conv.kernel"]
    loaded = checkpoint(*dogs)
    plan = surgery.plan(Transfer(init_from="x", **settings), DOGS, *dogs, loaded, value)
    assert {row.source for row in plan.rows} == {"loaded"}
    assert plan.loaded["convs.0.conv.kernel"] is loaded["convs.0.conv.kernel"]


def test_random_parameters_freeze_only_on_demand(dogs):
    with pytest.raises(UserError, match=r"convs.0.conv.kernel \(random\)"):
        surgery.plan(Transfer(freeze=("convs.0.*",)), DOGS, *dogs)
    plan = surgery.plan(Transfer(freeze=("convs.0.*",), allow_frozen_random=True), DOGS, *dogs)
    assert plan.count(0) == (26_308_673 - 896, 26_308_673)
    assert {row.source for row in plan.rows} == {"random"}


def test_affine_switch_without_batch_norm_is_an_error(dogs):
    with pytest.raises(UserError, match=r"no BatchNorm"):
        surgery.plan(Transfer(batch_norm=BatchNormMode(train_affine=False)), DOGS, *dogs)


def test_impossible_settings_are_refused_by_the_config():
    with pytest.raises(ValueError, match=r"replace needs transfer.init_from"):
        Transfer(replace=("head.*",))
    with pytest.raises(ValueError, match=r"greater than 0"):  # frozen, but from epoch 0 on trained: a contradiction
        Unfreeze("layer4.*", 0)


def test_table_shows_every_parameter_and_the_counts(dogs):
    plan = surgery.plan(
        Transfer(
            init_from="d1b",
            replace=("head.out.*", "convs.1.*", "convs.2.*"),
            freeze=("convs.0.*", "head.hidden.*"),
        ),
        DOGS,
        *dogs,
        checkpoint(*dogs),
    )
    lines = plan.table().splitlines()
    assert lines[1].split() == ["convs.0.conv.kernel", "3×3×3×32", "loaded", "frozen", "default", "1", "1"]
    assert lines[3].split()[:4] == ["convs.1.conv.kernel", "3×3×32×64", "replaced", "yes"]
    assert lines[-1] == "from epoch 0: 92,865 of 26,308,673 parameters train, 4 of 10 tensors are frozen"
    assert plan.record()[0]["path"] == "convs.0.conv.kernel"
    assert len(plan.record()) == 10
