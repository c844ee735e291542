"""Paths on a command line."""

import argparse
import os
from pathlib import Path

from .cli_error import CommandError


def local_path(text: str) -> Path:
    """A path, with `~` as the home folder also where the shell has left it, as in `--output=~/here`."""
    if not text:  # as of a variable that is not set; to Python it is the current folder
        raise argparse.ArgumentTypeError("has to be a path, found ''")
    return Path(os.path.expanduser(text))  # unlike Path's own it takes a name that nobody has as it is


def require_writable(folder: Path, what_for: str) -> None:
    """Raises `CommandError`, which begins with `what_for`, where nothing may be written to the folder."""
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{what_for}: nothing may be written to the folder {folder}.")
