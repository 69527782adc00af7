"""Freed buffers stay in the process: seen in the page faults of a process of its own."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from proxy.net.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def chunk():
    # a chunk from the kernel, its records, and what is delivered: as the TLS pump allocates
    data = b"x" * 250_000 + bytes(1)
    parts = [data[at : at + 16_384] for at in range(0, len(data), 16_384)]
    return b"".join(parts)

for _ in range(20):
    chunk()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    chunk()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CODE, mode], capture_output=True, text=True, timeout=30, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a property of glibc")
def test_chunks_do_not_fault_their_pages_in_again() -> None:
    assert faults("keep") < 200
    assert faults("default") > 2_000, "glibc keeps them by itself now: drop the module"


FREEZE = """
import gc
from proxy.net.allocator import freeze_start
kept = [[number] for number in range(20_000)]
freeze_start()
looked_at = len(gc.get_objects())
ring = []
ring.append(ring)
del ring
print(gc.get_freeze_count() > 20_000, looked_at < 1_000, gc.collect() >= 1)
"""


def test_what_a_process_starts_with_is_not_searched_for_garbage() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREEZE], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["True", "True", "True"]
