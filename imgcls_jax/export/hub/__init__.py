"""Published runs: folders of weights, config and model card, here or as repositories of Hugging Face."""
