"""The commands on data sets, `fashion-detr data COMMAND`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cli_error import CommandError
from .cli_path import local_path

SPLITS = ("train", "val")


def add_data(commands: Any) -> None:
    parser = commands.add_parser("data", help="look at, convert and pack data sets")
    own = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_command in (_add_check, _add_stats, _add_convert_ccp, _add_to_parquet):
        add_command(own)


def _complaining(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """What is wrong with files and their content is for the person who named them."""

    def command(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except BrokenPipeError:  # of its output, which is no fault
            raise
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error

    return command


def _add_check(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="say what is wrong with a data set",
        description="Looks through a data set in Fashionpedia's or COCO's layout. The exit status is 1 if training "
        "cannot start.",
    )
    parser.add_argument("data_dir", type=local_path, metavar="DIR", help="folder of the data set")
    parser.add_argument("--split", action="append", help="a split, the one to learn from first (train and val)")
    parser.set_defaults(run=_complaining(check))


def check(arguments: argparse.Namespace) -> int:
    """Prints the report; returns 0 if training can start, else 1."""
    from .data.check import check_data_set, format_report

    _refuse_packed(arguments.data_dir)
    report = check_data_set(arguments.data_dir, arguments.split or SPLITS)
    print(format_report(report))
    return 0 if report.can_train else 1


def _refuse_packed(data_dir: Path) -> None:
    from .data.fashionpedia import PARQUET_FOLDER

    if any((data_dir / PARQUET_FOLDER).glob("*.parquet")):
        raise CommandError(f"{data_dir} is packed: name the data set that it was made from.")


def _add_stats(commands: Any) -> None:
    parser = commands.add_parser("stats", help="draw the label statistics of a split")
    parser.add_argument("data_dir", type=local_path, metavar="DIR", help="folder of the data set")
    parser.add_argument("--split", default="train", help="which split (train)")
    parser.add_argument(
        "--output", type=local_path, default=Path("statistics.png"), help="the picture, or its folder (statistics.png)"
    )
    parser.set_defaults(run=_complaining(stats))


def stats(arguments: argparse.Namespace) -> int:
    from .data.statistics import draw_statistics

    _refuse_packed(arguments.data_dir)
    picture = arguments.output / "statistics.png" if arguments.output.is_dir() else arguments.output
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_statistics(arguments.data_dir, arguments.split, picture)
    print(picture)
    return 0


def _add_convert_ccp(commands: Any) -> None:
    parser = commands.add_parser(
        "convert-ccp",
        help="make a data set of Clothing Co-Parsing's photos",
        description="Turns a clone of github.com/bearpaw/clothing-co-parsing into a data set in Fashionpedia's format: "
        "700 street photos to learn from, 100 held out.",
    )
    parser.add_argument("clone", type=local_path, metavar="CLONE", help="folder of the clone")
    parser.add_argument(
        "output", type=local_path, metavar="OUT", help="folder of the new data set; made if it is missing"
    )
    parser.set_defaults(run=_complaining(convert))


def convert(arguments: argparse.Namespace) -> int:
    from .data.ccp import convert_ccp

    for split, (images, annotations) in convert_ccp(arguments.clone, arguments.output).items():
        print(f"{split}: {images} photos, {annotations} instances")
    return 0


def _add_to_parquet(commands: Any) -> None:
    parser = commands.add_parser(
        "to-parquet",
        help="pack a data set, photos included",
        description="Writes parquet files with the photos' own bytes inside and the vocabulary beside them: a folder "
        "to train from, or to upload to the Hub.",
    )
    parser.add_argument("data_dir", type=local_path, metavar="DIR", help="folder of the data set")
    parser.add_argument("output", type=local_path, metavar="OUT", help="folder for the files; made if it is missing")
    parser.add_argument("--split", action="append", help="which split, may be repeated (train and val)")
    parser.set_defaults(run=_complaining(to_parquet))


def to_parquet(arguments: argparse.Namespace) -> int:
    from .data.fashionpedia import save_parquet

    splits = arguments.split or SPLITS
    for split in splits:
        files = save_parquet(arguments.data_dir, split, arguments.output, also=splits)
        print(f"{split}: {len(files)} files in {files[0].parent}, {sum(file.stat().st_size for file in files):,} bytes")
    return 0
