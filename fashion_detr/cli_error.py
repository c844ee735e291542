"""How commands end that cannot run, and what they complain of."""

import os
import sys
from typing import TextIO


class CommandError(Exception):
    """What keeps a command from running; the message is for the person who typed it."""


def complain(error: Exception | str) -> None:
    """One line on stderr, whatever the message."""
    print("fashion-detr:", printed(" ".join(str(error).split())), file=sys.stderr, flush=True)


def abandon(*streams: TextIO | None) -> None:
    """What a stream still holds goes nowhere, or Python would complain at its end."""
    for stream in filter(None, streams):  # `None` for one that was closed from the start
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printed(name: str) -> str:
    """With escapes for what a terminal would obey or cannot show: a file may be called anything."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)
