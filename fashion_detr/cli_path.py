"""Paths on a command line."""

import os
from pathlib import Path


def local_path(text: str) -> Path:
    """A path, with `~` as the home folder also where the shell has left it, as in `--output=~/here`."""
    return Path(os.path.expanduser(text))  # unlike Path's own it takes a name that nobody has as it is
