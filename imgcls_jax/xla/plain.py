"""Operations as every compiler knows them: what is traced to leave this program takes no ways of the CPU's own."""

import contextlib
import contextvars
from collections.abc import Iterator

_PLAIN = contextvars.ContextVar("_PLAIN", default=False)


def wanted() -> bool:
    """Tell whether what is being traced will run elsewhere, and forward only."""
    return _PLAIN.get()


@contextlib.contextmanager
def operations() -> Iterator[None]:
    """Within it, trace XLA's own convolutions and poolings. Give `jit` a function of its own: it remembers traces."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)
