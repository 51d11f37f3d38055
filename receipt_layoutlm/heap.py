"""Memory that malloc keeps though nobody uses it."""

import ctypes
import sys


def trim_heap() -> bool:
    """Give free memory back to the system; whether there is a way to (glibc's malloc_trim).

    Batches are of different lengths, so freed tensors leave holes that no later one fits into: a training of ten
    epochs grew from 1.4 to 3.5 GB of which it used 1.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is None:
        return False
    trim(0)
    return True
