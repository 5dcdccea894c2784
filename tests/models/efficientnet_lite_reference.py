"""The torch network of efficientnet-lite-pytorch with the random weights of `weights_reference`, without dropout."""

import pytest
import weights_reference as reference


def torch_model(version, image_size=reference.SHAPE[1:3], classes=reference.CLASSES):
    """It pads for `image_size`."""
    torch = pytest.importorskip("torch")
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    module = lite.EfficientNet.from_name(
        f"efficientnet-{version}",
        num_classes=classes,
        image_size=list(image_size),
        dropout_rate=0.0,
        drop_connect_rate=0.0,
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in reference.random_state(shapes).items()})
    return module
