"""Memory: freed network buffers stay in the process, and what it started with is never searched.

A chunk from the kernel is up to 256 KiB; TLS needs it three times for a moment. glibc gives the top
of the heap back to the system as soon as 512 KiB of it are free, and takes it again, page fault by
page fault, for the next chunk. With bulk over TLS that cost more than the encryption: 1500 against
620 µs of CPU time per MB (tests/bench/bench_tls.py).

What a process has imported makes some 60 000 objects, which live as long as it does. Each full
collection of garbage looked at all of them, and the proxy stood still for 15 to 30 ms.

Must not know: anything else.
"""

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD = -1  # malloc.h of glibc
_M_MMAP_THRESHOLD = -3
_TRIM_BYTES = 16 * 1024 * 1024  # free memory kept at the top of the heap, at most
_MMAP_BYTES = 4 * 1024 * 1024  # larger blocks go back to the system at once


def keep_freed_memory() -> bool:
    """Whether the C library now keeps up to 16 MiB of freed memory. For the start of a process.

    False where it is not glibc (musl, macOS): these do not trim like that.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 -- musl has a mallopt that does nothing
    except AttributeError:
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES) == 1
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) == 1 and kept)


def freeze_start() -> None:
    """Leave out of garbage collection what exists now. For a process that begins to serve.

    The thresholds stay as they are: a session at work makes no cycles, and higher ones changed
    nothing that could be measured, in throughput or with new connections.
    """
    gc.collect()
    gc.freeze()
