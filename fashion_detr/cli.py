"""
The command line, `fashion-detr COMMAND`.

A command is a function that adds its parser and one that runs it. What a command needs is imported where it runs, so
that help and errors of usage come at once.
"""

import argparse
import io
import signal
import sys
import threading
from collections.abc import Sequence

from . import __version__
from .cli_data import add_data
from .cli_demo import add_demo
from .cli_error import CommandError, abandon, complain
from .cli_evaluate import add_evaluate
from .cli_predict import add_predict
from .cli_publish import add_publish


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status: 0 = done, 1 = a part of it failed, 2 = it could not run."""
    parser = argparse.ArgumentParser(prog="fashion-detr", description="Garments, parts and accessories in photos.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_command in (add_predict, add_evaluate, add_data, add_publish, add_demo):
        add_command(commands)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a photo's name may not be in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    arguments = parser.parse_args(_with_underscores(sys.argv[1:] if argv is None else argv))
    if threading.current_thread() is threading.main_thread():
        # What Docker and systemd send would end the process at once: results not written, visitors' photos left behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(arguments)
    except BrokenPipeError:  # `| head` has read enough
        abandon(sys.stdout, sys.stderr)
        return 141
    except OSError as error:  # what is printed goes to a file whose disk is full
        abandon(sys.stdout)
        complain(error)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    try:
        status = arguments.run(arguments)
        if sys.stdout is not None:  # closed, as by `>&-`
            sys.stdout.flush()
        return status
    except CommandError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 130  # as shells count a process that Ctrl+C ended


def _with_underscores(words: Sequence[str]) -> list[str]:
    """`--top-k` is `--top_k`, as it is for train.py; what follows a bare `--` is no option."""
    options = list(words)
    end = options.index("--") if "--" in options else len(options)
    for place, word in enumerate(options[:end]):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[place] = "--" + name.replace("-", "_") + equals + value
    return options


if __name__ == "__main__":
    sys.exit(main())
