"""What a trained classifier is worth: the metrics of a split, by `python -m imgcls_jax.evaluate`."""
