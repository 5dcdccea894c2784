"""CIFAR-10 with the CIFAR ResNets of He et al. 2015: variants 20 (the default), 32, 44, 56 and 110.

The recipe is that of akamaster/pytorch_resnet_cifar10, whose published weights these models take: 91.73 % (20) and
93.39 % (56) test accuracy, which

    imgcls evaluate --config configs/cifar10_resnet.py:56 --weights akamaster/resnet56.CIFAR10

reproduces. Training is not run to the end here: 200 epochs need a GPU.
"""

from imgcls_jax import config as c


def get_config(variant: str = "") -> c.Config:
    depths = ("20", "32", "44", "56", "110")
    if variant and variant not in depths:
        raise c.UnknownVariant(variant, *depths)
    depth = int(variant or 20)
    return c.Config(
        name=f"cifar10_resnet{depth}",
        data=c.Data(
            source=c.TFDS("cifar10", train="train", validation=None, test="test"),
            canvas=c.Canvas(32, 32),
            image_size=(32, 32),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        augment=(c.HorizontalFlip(), c.PadCrop(4)),
        model=c.CifarResNet(depth, head=c.Head()),
        loss=c.CrossEntropy(),
        optim=c.Optim(
            optimizer=c.SGD(momentum=0.9, weight_decay=1e-4),
            schedule=c.Schedule(peak=0.1, per="epoch", shape=c.MultiStep(at=(100, 150), factor=0.1)),
            decay_norm_and_bias=True,
        ),
        batch_size=128,
        epochs=200,
        precision="fp32",
        seed=0,
    )
