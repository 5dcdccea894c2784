"""Keras 3's `fit`, on the backend that KERAS_BACKEND names; augmentation is layers of the network, run in its step."""

import keras
import numpy as np
from keras import layers
from reporting import SETTINGS, tell  # bench

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalized(x):
    return layers.Normalization(mean=MEAN, variance=np.square(STD))(layers.Rescaling(1 / 255)(x))


def batch_norm(x):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def cnn():
    x = inputs = keras.Input((32, 32, 3))
    x = layers.RandomFlip("horizontal_and_vertical")(x)
    x = layers.RandomRotation(15 / 360, fill_mode="constant", interpolation="nearest")(x)
    x = normalized(x)
    for first, second, dropout in ((32, 64, 0), (128, 128, 0.05), (256, 256, 0)):
        x = layers.ReLU()(batch_norm(layers.Conv2D(first, 3, padding="same")(x)))
        x = layers.MaxPooling2D()(layers.Conv2D(second, 3, padding="same", activation="relu")(x))
        x = layers.SpatialDropout2D(dropout)(x)
    x = layers.Dropout(0.1)(layers.Flatten()(x))
    x = layers.Dense(1024, activation="relu")(x)
    x = layers.Dropout(0.1)(layers.Dense(512, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def residual(x, filters, stride):
    shortcut = x
    x = layers.ZeroPadding2D(1)(x)
    x = layers.ReLU()(batch_norm(layers.Conv2D(filters, 3, stride, use_bias=False)(x)))
    x = batch_norm(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
    if stride > 1:
        shortcut = batch_norm(layers.Conv2D(filters, 1, stride, use_bias=False)(shortcut))
    return layers.ReLU()(layers.Add()([x, shortcut]))


def resnet18():
    x = inputs = keras.Input((32, 32, 3))
    x = normalized(layers.RandomFlip("horizontal")(x))
    x = layers.ReLU()(batch_norm(layers.Conv2D(64, 3, padding="same", use_bias=False)(x)))
    for filters in (64, 128, 256, 512):
        x = residual(x, filters, 1 if filters == 64 else 2)
        x = residual(x, filters, 1)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def photographs():
    x = inputs = keras.Input((256, 256, 3))
    x = layers.RandomFlip("horizontal")(layers.RandomCrop(224, 224)(x))
    x = normalized(x)
    for filters, stride in ((32, 2), (64, 1), (128, 1), (256, 1)):
        x = layers.Conv2D(filters, 3, stride, padding="same")(x)
        x = layers.MaxPooling2D()(layers.ReLU()(batch_norm(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def arrays():
    data = np.load(SETTINGS["npz"])
    train = {"x": data["x_train"], "y": data["y_train"], "batch_size": SETTINGS["batch"]}
    return train, (data["x_validation"], data["y_validation"])


def folders():
    read = dict(image_size=(256, 256), crop_to_aspect_ratio=True, batch_size=SETTINGS["batch"], format="grain")
    train, validation = (
        keras.utils.image_dataset_from_directory(f"{SETTINGS['folder']}/{split}", **read) for split in ("train", "val")
    )
    return {"x": train}, validation


class Report(keras.callbacks.Callback):  # bench
    first = True  # bench

    def on_train_batch_end(self, batch, logs=None):  # bench
        if self.first and float(logs["loss"]) >= 0:  # bench
            tell(first_step=True)  # bench
            self.first = False  # bench

    def on_epoch_end(self, epoch, logs=None):  # bench
        tell(epoch=epoch + 1, accuracy=float(logs["val_accuracy"]))  # bench


def main():
    keras.utils.set_random_seed(SETTINGS["seed"])
    network = {"cnn": cnn, "resnet18": resnet18, "photographs": photographs}[SETTINGS["job"]]()
    tell(parameters=sum(int(np.prod(weight.shape)) for weight in network.trainable_weights))  # bench
    train, validation = folders() if SETTINGS["job"] == "photographs" else arrays()
    network.compile(
        keras.optimizers.SGD(SETTINGS["rate"], momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    report = [Report()]  # bench
    network.fit(**train, epochs=SETTINGS["epochs"], validation_data=validation, verbose=2, callbacks=report)


if __name__ == "__main__":
    main()
