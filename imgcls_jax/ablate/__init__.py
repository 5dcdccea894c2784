"""Which part of a recipe brings how much: the same training with factors on and off, over paired seeds."""
