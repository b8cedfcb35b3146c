"""How the C library hands out memory."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65_536


def keep_freed_memory(keep: bool = True) -> bool:
    """Keep freed memory for the next tensor instead of giving it back to the system; says whether that could be set.

    By default glibc gives large blocks back at once. The next tensor's pages are then new ones, which the system must
    clear first: on a CPU that takes longer than a softmax over them. What is kept is more than is needed at any time
    (1.9 GB in place of 1.6 for batches of 16 of the paper's model, of which 0.6 GB are free between two batches).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):  # another C library, another system
        return False
    done = mallopt(M_MMAP_MAX, 0 if keep else DEFAULT_MMAP_MAX)
    return bool(done and mallopt(M_TRIM_THRESHOLD, -1 if keep else DEFAULT_TRIM_THRESHOLD))


def share_heap() -> bool:
    """Have all threads to come use one heap, whose freed memory is kept; says whether that could be set.

    By default glibc gives threads heaps of their own, which it returns to the system whatever else was asked for. To
    be called before the threads that compute are started, and so before a model is loaded.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))
    except (AttributeError, TypeError):
        return False


def give_back_freed_memory() -> None:
    """Return to the system what is kept, so that memory in use can be told from memory once used."""
    with contextlib.suppress(AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
