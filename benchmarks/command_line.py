"""What the command lines of the benchmarks share: errors that are told in a sentence."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def told_plainly() -> Iterator[None]:
    """What is wrong with files and options ends the command in a sentence for the person who typed it."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from error
