"""The memory allocator of the C library."""

import ctypes


def keep_freed_memory() -> None:
    """
    Has glibc keep freed tensors for the next step instead of returning them to the kernel.

    Large blocks are otherwise mapped, and their pages zeroed, anew in every step: a third of a small model's time.
    Workers that prepare photos inherit it.
    """
    try:
        allocator_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library, which decides for itself
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
    allocator_option(mmap_max, 0)
    allocator_option(trim_threshold, -1)
    allocator_option(top_pad, 64 * 2**20)
