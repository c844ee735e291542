"""What the command lines of the benchmarks share: counts, and errors that are told in a sentence."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text!r}")
    return number


@contextmanager
def told_plainly() -> Iterator[None]:
    """What is wrong with files and options ends the command in a sentence for the person who typed it."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from error
