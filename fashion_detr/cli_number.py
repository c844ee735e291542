"""Numbers on a command line."""

import argparse


def fraction(text: str) -> float:
    """A number from 0 to 1, of a command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"has to be a number from 0 to 1, found {text!r}")
    return value


def positive(text: str) -> int:
    """A whole number from 1 on, of a command line."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"has to be a whole number from 1 on, found {text!r}")
    return int(text)
