"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """Something the user gave is wrong: a setting, a path, a file, a combination.

    The message is one sentence that says what is wrong, where, and what to do. Commands print it as
    `error: …` and exit with status 2, without a traceback; called as a library, it is an ordinary exception.
    """


class UnknownVariant(UserError):
    """A config file has no variant of this name: `raise c.UnknownVariant(variant, "known", "others")`."""

    def __init__(self, variant: str, *known: str):
        listed = f"it has: {', '.join(known)}, or none" if known else "it has none"
        self.known = known
        super().__init__(f"the config has no variant {variant!r}; {listed}")
