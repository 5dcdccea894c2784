"""What requests may cost a server."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """The bounds of a server; none of them can be exceeded, so its memory is bounded as well."""

    batch: int = 16
    """Most images that are run at once."""
    wait_s: float = 0.005
    """Longest time that an image waits for others to share its batch with, seconds."""
    queue: int = 64
    """Most images in the server at a time, from a request's first byte to its answer; more are refused with 503."""
    body_bytes: int = 16 * 2**20
    """Largest body of a request, bytes."""
    pixels: int = 50_000_000
    """Largest image that is decoded, pixels."""
    seconds: float = 30.0
    """Longest time from a request's first byte to its answer, seconds."""
