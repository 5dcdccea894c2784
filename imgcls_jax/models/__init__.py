"""Networks: one file per family, its settings first.

A family's class of settings (`c.ResNet`, …) builds the network and owns all that is particular to it: torch's names of
its parameters, its stages, the networks of the literature that it makes, and where their weights are published. The
class is registered by being defined in a module of this folder, so a new family is one new file and its test.

Whatever settings are called `X`, the network that they build is called `XModule`.
"""

from imgcls_jax.models.create import architectures, create_model, list_models

__all__ = ["architectures", "create_model", "list_models"]
