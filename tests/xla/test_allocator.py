"""What training does to the allocator."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, threading
from imgcls_jax.training import interruption

SIZE = 64 * 2**20
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def touch():
    block = libc.malloc(ctypes.c_size_t(SIZE))
    ctypes.memset(block, 1, SIZE)
    libc.free(ctypes.c_void_p(block))

def repeat():
    touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

with interruption.of_command():
    for thread in [threading.Thread(target=repeat) for _ in range(4)]:
        thread.start()
        thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told to keep memory")
def test_a_command_keeps_freed_memory_whichever_thread_asks_for_it():
    """A thread that began before glibc was told so has blocks of its own, which it shares with later threads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    faults = [int(line) for line in done.stdout.split()]
    assert len(faults) == 4
    assert max(faults) < 100, "of 16,384 pages"
