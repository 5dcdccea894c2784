"""How times become figures."""

import statistics
import time
from collections.abc import Callable, Sequence


def best_rate(step: Callable[[], object], images: int, seconds: float) -> float:
    """Images a second in the fastest of the repetitions that fit into `seconds` (at least three)."""
    step()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return images / min(times)


def summary(name: str, ratios: Sequence[float]) -> str:
    """A benchmark's last line. Each ratio is of one round, whose two sides ran one right after the other."""
    middle = statistics.median(ratios)
    return f"{name} ratio {middle:.2f} (min {min(ratios):.2f}, max {max(ratios):.2f}, rounds {len(ratios)})"
