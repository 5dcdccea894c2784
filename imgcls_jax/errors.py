"""The one exception that a user's mistake raises, and the hint that its messages share."""

from collections.abc import Iterable
from typing import Any

# Longest name that is compared: anything longer is not a mistyped name.
_LONGEST = 100


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)' for the known name that `name` is a misspelling of, or an empty text.

    Misspelled means: other case or hyphens for underscores, or an edit distance of at most a third of the name's length
    and at most 3 (an insertion, deletion, substitution or swap of neighbors counts 1); or the beginning, of at least 3
    letters, of one known name only.

    Example:
      >>> did_you_mean("epoch", ["epochs", "seed"])
      ' (did you mean "epochs"?)'
      >>> did_you_mean("momentum", ["epochs", "seed"])
      ''
    """
    if len(name) > _LONGEST:
        return ""
    folded, known = _fold(name), list(known)
    distances = {candidate: _distance(folded, _fold(candidate), min(len(folded) // 3, 3)) for candidate in known}
    near = [candidate for candidate, distance in distances.items() if distance is not None]
    if near:
        return f' (did you mean "{min(near, key=lambda candidate: distances[candidate] or 0)}"?)'
    longer = [candidate for candidate in known if len(folded) >= 3 and _fold(candidate).startswith(folded)]
    return f' (did you mean "{longer[0]}"?)' if len(longer) == 1 else ""


def short(value: Any) -> str:
    """Return the repr of a value for a message, cut after 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        text = "a number of too many digits"
    return text if len(text) <= 60 else text[:57] + "…"


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")


def _distance(a: str, b: str, limit: int) -> int | None:
    """The edit distance of two texts, neighbors swapped counting as one edit; None where it exceeds the limit."""
    if abs(len(a) - len(b)) > limit:
        return None
    before: list[int] = []
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1] if previous[-1] <= limit else None
