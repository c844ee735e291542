"""The command that opens a page to try a model, `fashion-detr demo`."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from .cli_error import CommandError
from .cli_model import add_device_option, add_model_option, load_model, model_source, require_device


def add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="open a page to try a model",
        description="A page on this machine: drop a photo, see its layers, move the thresholds, download the masks. It "
        'needs `pip install -e ".[demo]"`, and no network. Ctrl+C ends it.',
    )
    add_model_option(parser)
    parser.add_argument("--host", default="127.0.0.1", help="who can open it; 0.0.0.0: the whole network (127.0.0.1)")
    parser.add_argument("--port", type=_port, default=7860, help="where it listens (7860)")
    add_device_option(parser)
    parser.set_defaults(run=demo)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 65535, found {text!r}")
    return int(text)


def demo(arguments: argparse.Namespace) -> int:
    """
    Serves the page until it is interrupted.

    Raises:
        CommandError: Gradio is missing, the model or the device is not usable, or the port is taken.
    """
    try:
        import httpx  # Gradio's own

        from .demo import build_app
    except ImportError as error:
        raise CommandError(str(error)) from error
    require_device(arguments.device)
    model, processor = load_model(model_source(arguments.model))
    with _own_files():
        app = build_app(model.to(arguments.device), processor)
        try:
            _, url, _ = app.launch(
                server_name=arguments.host, server_port=arguments.port, prevent_thread_lock=True, quiet=True
            )
        except OSError as error:
            raise CommandError(
                f"The page cannot listen at {arguments.host}:{arguments.port}. Choose another --port, or a --host of "
                "this machine."
            ) from error
        except httpx.HTTPError as error:  # Gradio looks whether its own page answers
            raise CommandError(
                f"The page at {arguments.host}:{arguments.port} does not answer: {error}. Where the environment names "
                f"a proxy, add {arguments.host} to NO_PROXY."
            ) from error
        print(f"The page is at {url} (Ctrl+C ends it)", flush=True)
        app.block_thread()
    return 0


@contextmanager
def _own_files() -> Iterator[None]:
    """Gives Gradio a folder that is deleted at the end, with what visitors have left in it."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with TemporaryDirectory(prefix="fashion-detr-demo-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
