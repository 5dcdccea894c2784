"""Choose a config for images that one was not written for, by stated rules."""

from imgcls_jax.tune.suggest.look import Seen, look, source_of
from imgcls_jax.tune.suggest.recipes import name_of, pretrained
from imgcls_jax.tune.suggest.rules import Suggestion, suggest, suggest_config

__all__ = ["Seen", "Suggestion", "look", "name_of", "pretrained", "source_of", "suggest", "suggest_config"]
