"""Finding settings before a run: the learning rate (`lr`) and the batch size (`batch`), with training's own step."""
