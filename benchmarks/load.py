"""Measure what a server started by `imgcls serve` can take.

    python -m benchmarks.load http://server:8000 photo.jpg --clients 1 8 32

Each client sends the image, waits for the answer, and sends it again. Refusals (503) are counted apart. A client on the
server's own machine takes part of its cores, so the figures are then lower than the server's.
"""

import argparse
import statistics
import threading
import time
from pathlib import Path

import requests


def measure(address: str, content: bytes, clients: int, seconds: float) -> tuple[list[float], int]:
    """Load a server; return the seconds of each answer, and the number of refusals."""
    taken: list[float] = []
    refused = []
    end = time.monotonic() + seconds

    def ask() -> None:
        with requests.Session() as session:
            while (started := time.monotonic()) < end:
                response = session.post(
                    f"{address}/predict", content, headers={"Content-Type": "application/octet-stream"}, timeout=60
                )
                if response.status_code == 503:
                    refused.append(1)
                    time.sleep(float(response.headers["Retry-After"]))
                    continue
                response.raise_for_status()
                taken.append(time.monotonic() - started)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, len(refused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("image", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10, help="for each number of clients")
    options = parser.parse_args()
    content = options.image.read_bytes()
    measure(options.address, content, 1, 1.0)  # the first answers are slower
    for clients in options.clients:
        taken, refused = measure(options.address, content, clients, options.seconds)
        middle = statistics.median(taken)
        late = statistics.quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else middle
        print(
            f"{clients} clients: {len(taken) / options.seconds:.0f} images per second, median {middle * 1e3:.0f} ms, "
            f"95 % within {late * 1e3:.0f} ms, {refused} refused",
            flush=True,
        )


if __name__ == "__main__":
    main()
