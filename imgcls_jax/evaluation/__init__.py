"""What a trained classifier is worth: the metrics of a split, by `imgcls evaluate`."""
