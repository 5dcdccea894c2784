"""Sets of the tfds catalog: downloaded, verified and written as tfds writes them, without TensorFlow."""
