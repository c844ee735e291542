"""How commands end that cannot run."""


class CommandError(Exception):
    """What keeps a command from running; the message is for the person who typed it."""
