"""Makes optim.npz: what torch 2.13, Keras 3 and Meta's schedulefree do with the inputs below.

Run: pip install torch keras schedulefree, then KERAS_BACKEND=torch python tests/golden/make_optim.py
Tests compare the package with the file, and, where torch is installed, the file with a fresh `torch_outputs()`.
"""

from pathlib import Path

import numpy as np

STEPS = 50
RATES = [0.01 * (0.4 + (7 * step % 11) / 11) for step in range(STEPS)]
"""A learning rate a step, not monotonic: it matters where an optimizer multiplies with it."""


def parameters() -> dict[str, np.ndarray]:
    """A convolution, a norm and a dense layer, float32."""
    random = np.random.RandomState(0)
    shapes = {"conv.kernel": (3, 3, 2, 4), "bn.scale": (4,), "out.kernel": (6, 5), "out.bias": (5,)}
    return {name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items()}


def gradients() -> list[dict[str, np.ndarray]]:
    """A gradient a step, whose size varies by a factor of 1,000 over the steps; every fifth element of them is zero."""
    random = np.random.RandomState(1)
    steps = []
    for step in range(STEPS):
        grads = {name: random.randn(*p.shape) * 10 ** (-(step % 4)) for name, p in parameters().items()}
        steps.append(
            {name: np.where(random.rand(*g.shape) < 0.2, 0, g).astype(np.float32) for name, g in grads.items()}
        )
    return steps


def torch_optimizers() -> dict:
    """By name, a function from a list of tensors to a torch optimizer. Weight decay acts on every parameter."""
    import torch.optim as o

    return {
        "sgd": lambda p: o.SGD(p, lr=0),
        "sgd_momentum": lambda p: o.SGD(p, lr=0, momentum=0.9),
        "sgd_nesterov": lambda p: o.SGD(p, lr=0, momentum=0.9, nesterov=True, weight_decay=0.05),
        "adam": lambda p: o.Adam(p, lr=0),
        "adam_decay": lambda p: o.Adam(p, lr=0, betas=(0.8, 0.99), eps=1e-5, weight_decay=0.05),
        "adamw": lambda p: o.AdamW(p, lr=0, weight_decay=0.05),
        "rmsprop": lambda p: o.RMSprop(p, lr=0, alpha=0.9, eps=1e-4),
        "rmsprop_momentum": lambda p: o.RMSprop(p, lr=0, alpha=0.9, eps=1e-4, momentum=0.8, weight_decay=0.05),
    }


def run_torch(build, clip=None) -> dict[str, np.ndarray]:
    """The parameters after all steps."""
    import torch

    params = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in parameters().items()}
    optimizer = build(list(params.values()))
    for rate, grads in zip(RATES, gradients(), strict=True):
        for name, p in params.items():
            p.grad = torch.tensor(grads[name])
        if clip is not None:
            clip(params.values())
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    return {name: p.detach().numpy() for name, p in params.items()}


def torch_schedules(unit: int, epochs: int) -> dict:
    """By name, a function from an optimizer to a scheduler that counts in units (1, or the steps of an epoch)."""
    import torch.optim.lr_scheduler as s

    def warmed_up(optimizer, after, start=0.1):
        warmup = s.LinearLR(optimizer, start_factor=start, total_iters=5 * unit)
        return s.SequentialLR(optimizer, [warmup, after(optimizer)], milestones=[5 * unit])

    def restarts(o):
        return s.CosineAnnealingWarmRestarts(o, T_0=10 * unit, T_mult=2)

    return {
        "constant": lambda o: s.ConstantLR(o, factor=1.0),
        "step": lambda o: s.StepLR(o, step_size=7 * unit, gamma=0.1),
        "step_each": lambda o: s.StepLR(o, step_size=unit, gamma=0.9),
        "multi_step": lambda o: s.MultiStepLR(o, milestones=[30 * unit, 60 * unit, 90 * unit], gamma=0.2),
        "exponential": lambda o: s.ExponentialLR(o, gamma=0.95 ** (1 / unit)),
        "polynomial": lambda o: s.PolynomialLR(o, total_iters=epochs * unit, power=0.9),
        "linear_short": lambda o: s.PolynomialLR(o, total_iters=40 * unit, power=1.0),
        "cosine": lambda o: s.CosineAnnealingLR(o, T_max=epochs * unit, eta_min=1e-4),
        "cosine_short": lambda o: s.CosineAnnealingLR(o, T_max=40 * unit),
        "cosine_restarts": restarts,
        "cosine_restarts_equal": lambda o: s.CosineAnnealingWarmRestarts(o, T_0=12 * unit, eta_min=1e-3),
        "warmup_cosine_restarts": lambda o: warmed_up(o, restarts),
        "warmup_step": lambda o: warmed_up(o, lambda o: s.StepLR(o, step_size=7 * unit, gamma=0.5)),
        "warmup_multi_step": lambda o: warmed_up(o, lambda o: s.MultiStepLR(o, [30 * unit, 60 * unit], gamma=0.2)),
        "warmup_cosine": lambda o: warmed_up(o, lambda o: s.CosineAnnealingLR(o, T_max=(epochs - 5) * unit), 0.01),
        "warmup_exponential": lambda o: warmed_up(o, lambda o: s.ExponentialLR(o, gamma=0.95 ** (1 / unit))),
        "one_cycle": lambda o: s.OneCycleLR(o, max_lr=0.1, total_steps=epochs * unit),
    }


PEAK = 0.1
BY_EPOCH = {"unit": 1, "epochs": 200}
BY_STEP = {"unit": 20, "epochs": 80}


def run_schedule(build, unit: int, epochs: int) -> np.ndarray:
    """float64 learning rates [epochs · unit]."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    scheduler = build(optimizer)
    rates = []
    for step in range(epochs * unit):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < epochs * unit:
            scheduler.step()
    return np.array(rates)


def plateau_metrics() -> np.ndarray:
    """A validation loss of 120 epochs: falls with noise, stalls, falls a little, is NaN once, stalls for good."""
    random = np.random.RandomState(2)
    return np.round(np.r_[np.linspace(3, 1, 30), np.full(30, 1.0), np.nan, np.linspace(0.9, 0.899, 59)]
                    + 0.05 * random.randn(120).clip(0), 6)  # fmt: skip


def run_plateau(mode: str) -> np.ndarray:
    """Learning rates after each epoch of `plateau_metrics` (negated for "max": 5 − metric)."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.3, patience=4, threshold=1e-2, min_lr=1e-4
    )
    rates = []
    for metric in plateau_metrics():
        scheduler.step(metric if mode == "min" else 5 - metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


OVERFLOWS = [0, 1, 2, 10, 2010, 2011, 6500, 6501, 6502]
"""Steps whose gradient is infinite, among 7,000."""


def run_scaler() -> np.ndarray:
    """float32 loss scales [7000] after each step."""
    import torch

    param = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([param], lr=0.0)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(1))  # makes the scale
    scales = []
    for step in range(7000):
        param.grad = torch.full((1,), np.inf if step in OVERFLOWS else 1.0)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return np.array(scales, np.float32)


def loss_inputs() -> dict[str, np.ndarray]:
    """Logits [8, 5], some of them large; hard, soft and binary labels; class weights."""
    random = np.random.RandomState(3)
    return {
        "logits": (random.randn(8, 5) * [[1], [1], [1], [1], [1], [10], [30], [60]]).astype(np.float32),
        "hard": random.randint(0, 5, 8),
        "soft": random.dirichlet(np.ones(5), 8).astype(np.float32),
        "binary": random.rand(8).astype(np.float32),
        "weights": np.array([0.5, 2.0, 1.0, 0.25, 4.0], np.float32),
    }


def run_losses() -> dict[str, np.ndarray]:
    """Per-example losses, and the gradients of their mean over the batch with respect to the logits."""
    import torch
    import torch.nn.functional as f

    inputs = {name: torch.tensor(value) for name, value in loss_inputs().items()}
    hard, soft, binary, weights = (inputs[name] for name in ("hard", "soft", "binary", "weights"))

    def focal(logits, labels, gamma, weight=1.0, smoothing=0.0):
        labels = labels * (1 - smoothing) + smoothing / 5
        return -(weight * labels * (1 - logits.softmax(-1)) ** gamma * logits.log_softmax(-1)).sum(-1)

    cases = {
        "hard": lambda x: f.cross_entropy(x, hard, reduction="none"),
        "hard_smooth": lambda x: f.cross_entropy(x, hard, reduction="none", label_smoothing=0.1),
        "hard_weights": lambda x: f.cross_entropy(x, hard, weights, reduction="none"),
        "hard_smooth_weights": lambda x: f.cross_entropy(x, hard, weights, reduction="none", label_smoothing=0.1),
        "soft": lambda x: f.cross_entropy(x, soft, reduction="none"),
        "soft_smooth_weights": lambda x: f.cross_entropy(x, soft, weights, reduction="none", label_smoothing=0.1),
        "focal": lambda x: focal(x, f.one_hot(hard, 5), 2.0),
        "focal_soft": lambda x: focal(x, soft, 0.5, weights, 0.1),
        "bce": lambda x: f.binary_cross_entropy_with_logits(x, soft, reduction="none").sum(-1),
        "bce_smooth": lambda x: f.binary_cross_entropy_with_logits(
            x, f.one_hot(hard, 5) * 0.9 + 0.02, reduction="none"
        ).sum(-1),
        "sigmoid": lambda x: f.binary_cross_entropy_with_logits(x[:, 0], binary, reduction="none"),
        "sigmoid_smooth": lambda x: f.binary_cross_entropy_with_logits(x[:, 0], binary * 0.9 + 0.05, reduction="none"),
    }
    outputs = {}
    for name, case in cases.items():
        logits = inputs["logits"].clone().requires_grad_()
        value = case(logits)
        value.mean().backward()
        outputs[f"loss/{name}"] = value.detach().numpy()
        outputs[f"loss_grad/{name}"] = logits.grad.numpy()
    return outputs


def torch_outputs() -> dict[str, np.ndarray]:
    import torch

    optimizers = torch_optimizers()
    outputs = run_losses() | {"scaler": run_scaler()}
    runs = {name: (build, None) for name, build in optimizers.items()}
    norm, value = torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_
    runs["sgd_clip_norm"] = (optimizers["sgd_momentum"], lambda p: norm(p, 1.0))
    runs["adamw_clip_norm"] = (optimizers["adamw"], lambda p: norm(p, 1.0))
    runs["sgd_clip_value"] = (optimizers["sgd_momentum"], lambda p: value(p, 0.3))
    for name, (build, clip) in runs.items():
        outputs |= {f"optimizer/{name}/{path}": p for path, p in run_torch(build, clip).items()}
    for per, length in (("epoch", BY_EPOCH), ("step", BY_STEP)):
        for name, build in torch_schedules(**length).items():
            outputs[f"schedule/{per}/{name}"] = run_schedule(build, **length)
    return outputs | {f"plateau/{mode}": run_plateau(mode) for mode in ("min", "max")}


def keras_outputs() -> dict[str, np.ndarray]:
    import keras

    outputs = {}
    for name, settings in {
        "keras_rmsprop": {},
        "keras_rmsprop_momentum": {"rho": 0.8, "epsilon": 1e-4, "momentum": 0.7, "weight_decay": 0.05},
    }.items():
        variables = [keras.Variable(p, name=path.replace(".", "_")) for path, p in parameters().items()]
        optimizer = keras.optimizers.RMSprop(learning_rate=0.1, **settings)
        optimizer.build(variables)
        for rate, grads in zip(RATES, gradients(), strict=True):
            optimizer.learning_rate = rate
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads.values()], variables)
        for path, variable in zip(parameters(), variables, strict=True):
            outputs[f"optimizer/{name}/{path}"] = keras.ops.convert_to_numpy(variable.value)
    return outputs


def schedulefree_outputs() -> dict[str, np.ndarray]:
    from schedulefree import AdamWScheduleFreeReference

    def build(params):
        optimizer = AdamWScheduleFreeReference(params, lr=0.0, weight_decay=0.05)
        optimizer.train()
        return optimizer

    return {f"optimizer/schedule_free/{path}": p for path, p in run_torch(build).items()}


if __name__ == "__main__":
    outputs = torch_outputs() | keras_outputs() | schedulefree_outputs()
    np.savez_compressed(Path(__file__).with_name("optim.npz"), **outputs)
