"""How commands end that cannot run, and what they complain of."""

import sys


class CommandError(Exception):
    """What keeps a command from running; the message is for the person who typed it."""


def complain(error: Exception | str) -> None:
    """One line on stderr, whatever the message."""
    print("fashion-detr:", printed(" ".join(str(error).split())), file=sys.stderr, flush=True)


def printed(name: str) -> str:
    """With escapes for what a terminal would obey or cannot show: a file may be called anything."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)
