"""The command that makes a model ready for the Hub, `fashion-detr publish`."""

import argparse
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .cli_error import CommandError, complain
from .cli_model import load_model, model_source, quiet_transformers
from .cli_path import local_path

if TYPE_CHECKING:
    from .publishing.run import Run

DTYPES = ("float32", "bfloat16")


def add_publish(commands: Any) -> None:
    parser = commands.add_parser(
        "publish",
        help="put a trained model on the Hub",
        description="Makes a folder of a training run: weights, code, the handler of Inference Endpoints, and a card "
        "of what the run measured. Uploads it, or with --dry_run leaves it for you to look at.",
    )
    parser.add_argument("run_dir", type=local_path, metavar="RUN_DIR", help="what train.py wrote, or a saved model")
    parser.add_argument("--repo_id", required=True, help="the model's id on the Hub (owner/name)")
    parser.add_argument(
        "--dry_run", type=local_path, metavar="FOLDER", help="write the folder here, and upload nothing"
    )
    parser.add_argument("--private", action="store_true", help="a repository that only its owners see")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the stored weights; bfloat16 is half as large (float32)"
    )
    parser.add_argument("--license", help="the weights' licence, as the Hub names it (that of their origins if clear)")
    parser.add_argument("--data_dir", type=local_path, help="where the training data is (where the run found it)")
    parser.add_argument("--data_name", help="what the training data is called (as its own files say)")
    parser.add_argument("--data_license", help="the training data's licence (as far as it is known)")
    parser.set_defaults(run=publish)


def publish(arguments: argparse.Namespace) -> int:
    """
    Runs `fashion-detr publish`.

    Raises:
        CommandError: the run is no model, its records or its data are broken, or the folder cannot be written or
            uploaded.
    """
    _check(arguments)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, "model")  # the temporary folder itself is closed to others, also as a copy
        folder.mkdir()
        try:
            _make(folder, arguments)
            if arguments.dry_run is not None:
                shutil.copytree(folder, arguments.dry_run, dirs_exist_ok=True)
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                print(f"{arguments.dry_run}: {size / 1e6:.1f} MB, nothing was uploaded")
                return 0
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        print(_upload(folder, arguments.repo_id, arguments.private))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """What can be told before anything is read."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(arguments.repo_id)
    except HFValidationError as error:
        raise CommandError(f"--repo_id: {error}") from error
    if "/" not in arguments.repo_id:
        raise CommandError(f"--repo_id has to be owner/name, found {arguments.repo_id!r}.")
    if arguments.license is not None and not re.fullmatch("[a-z0-9]+([.-][a-z0-9]+)*", arguments.license):
        raise CommandError(
            "--license has to be as the Hub names it, such as apache-2.0, mit, cc-by-nc-4.0 or other, found "
            f"{arguments.license!r}."
        )
    if not arguments.run_dir.is_dir():
        raise CommandError(f"There is no folder {arguments.run_dir}. RUN_DIR is the output_dir of a training run.")
    target = arguments.dry_run
    if target is not None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CommandError(f"--dry_run {target} is there already. Remove it, or choose a new folder.")


def _make(folder: Path, arguments: argparse.Namespace) -> None:
    import torch

    from .publishing.folder import write_folder
    from .publishing.run import read_run
    from .publishing.training_data import describe, recorded_splits

    run = read_run(arguments.run_dir)
    model, processor = load_model(model_source(str(arguments.run_dir)))
    splits = recorded_splits(run, (processor.size["height"], processor.size["width"]), arguments.data_dir)
    if splits is None:
        complain(f"{_why_unknown(run)}: the card tells less of it. --data_dir says where.")
    data = describe(splits, model.config, arguments.data_name, arguments.data_license)
    dtype = getattr(torch, arguments.dtype)
    with quiet_transformers():
        write_folder(folder, arguments.repo_id, model, processor, run, splits, data, dtype, arguments.license)


def _why_unknown(run: "Run") -> str:
    arguments = run.arguments()
    if arguments is None:
        return f"{run.folder} has no config.yaml that names the training data"
    return f"There is no folder {arguments[1].data_dir} here, where the training data was"


def _upload(folder: Path, repo_id: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    from .publishing.folder import upload

    try:
        return upload(folder, repo_id, HfApi(), private)
    except Exception as error:  # the libraries below have errors of their own, one for every way a network can fail
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = ""
        if status in (401, 403) or isinstance(error, LocalTokenNotFoundError):
            hint = " Log in with `hf auth login`; --dry_run makes the folder alone."
        raise CommandError(f"The upload to {repo_id} failed: {error}{hint}") from error
