"""What the models of finished rows find in the same photos, side by side: the photo, the truth, then every model.

    python benchmarks/peer_pictures.py rows --data_dir data/ccp --output side_by_side.png

The photos are those with the most small objects (below 32 x 32 pixels, COCO's bound) among the ones that the rows are
judged on. A model has its best results drawn, as many as the photo has objects: models give scores of different
heights, so that one threshold for all would favour some of them.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from command_line import told_plainly
from peer_models import Contestant
from peer_table import NAMES, judged_on, read_rows
from peers import SYNTHETIC, Settings, build_contestant, build_data
from PIL import Image
from pycocotools import mask as coco_mask

from fashion_detr.cli_number import positive
from fashion_detr.data.dataset import FashionDataset, collate
from fashion_detr.training.arguments import DataArguments
from fashion_detr.training.report import as_objects, photo_of
from fashion_detr.visualization import contact_sheet, draw_objects

SMALL_AREA = 32**2  # square pixels
PANEL_HEIGHT = 1000  # pixels


def load_contestant(
    row_file: Path, data_dir: Path | None, fashionformer: Path | None
) -> tuple[Contestant, FashionDataset]:
    """
    The trained model of a row, from the checkpoint that `peers.py` left beside it, and the photos it was judged on.

    Raises:
        SystemExit: the row or its checkpoint is gone, or the row belongs to other data.
    """
    if not row_file.is_file():
        raise SystemExit(f"There is no row {row_file}.")
    checkpoint = row_file.parent / "work" / f"{row_file.stem}.pt"
    if not checkpoint.is_file():
        raise SystemExit(f"{row_file} has no checkpoint {checkpoint}: delete the row and run peers.py for it again.")
    content = torch.load(checkpoint, weights_only=True)
    settings = Settings(**content["settings"])
    given = SYNTHETIC if data_dir is None else data_dir.resolve().name
    if given != settings.data:
        wanted = "leave --data_dir out" if settings.data == SYNTHETIC else "give its folder with --data_dir"
        raise SystemExit(f"{row_file} is judged on {settings.data}: {wanted}.")
    config, _, judged = build_data(settings, data_dir)
    canvas = settings.part(DataArguments).image_size
    contestant = build_contestant(settings.model, config, canvas, fashionformer=fashionformer)
    contestant.load_state_dict(content["weights"])
    return contestant.eval(), judged


def photos_with_small_objects(judged: FashionDataset, count: int) -> list[int]:
    """Indices of the photos with the most small objects, most first; at a tie, those with more objects."""

    def richness(index: int) -> tuple[int, int, int]:
        truth = judged[index]["meta"]["ground_truth"]
        areas = [int(coco_mask.area(annotation["segmentation"])) for annotation in truth]
        return sum(0 < area < SMALL_AREA for area in areas), len(areas), -index

    return sorted(range(len(judged)), key=richness, reverse=True)[:count]


@torch.inference_mode()
def panel(contestant: Contestant, sample: dict[str, Any], photo: Image.Image) -> Image.Image:
    batch = collate([sample])
    (meta,) = batch.pop("meta")
    count = len(meta["ground_truth"])
    (found,) = contestant.predict(batch, [meta["size"]], max(1, count), attribute_threshold=0.5)
    return draw_objects(photo, as_objects(found[:count], meta["size"], contestant.config), max_attributes=0)


def draw_comparison(
    contestants: list[tuple[str, Contestant]], judged: FashionDataset, indices: list[int], file: Path
) -> None:
    """Writes the sheet: a row a photo, its columns are the photo, the truth and every model."""
    panels = []
    for index in indices:
        sample, photo = judged[index], photo_of(judged.examples[index])
        truth = as_objects(sample["meta"]["ground_truth"], sample["meta"]["size"], judged.config)
        row = [photo, draw_objects(photo, truth, max_attributes=0)]
        row += [panel(contestant, sample, photo) for _, contestant in contestants]
        panels += [
            picture.resize((round(picture.width * PANEL_HEIGHT / picture.height), PANEL_HEIGHT)) for picture in row
        ]
    file.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(panels, columns=2 + len(contestants)).save(file)


def main(command: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, help="folder of the rows; of every model its best one is shown")
    parser.add_argument("--data_dir", type=Path, help="the data set of the rows; none for synthetic ensembles")
    parser.add_argument("--fashionformer", type=Path, metavar="FILE.py", help="the file with that peer")
    parser.add_argument("--photos", type=positive, default=6, help="how many (6)")
    parser.add_argument("--output", type=Path, required=True, help="the picture, a PNG file")
    arguments = parser.parse_args(command)

    with told_plainly():
        rows = read_rows(arguments.rows)
    if len(set(map(judged_on, rows))) > 1:
        raise SystemExit(f"The rows of {arguments.rows} are judged on different photos: {set(map(judged_on, rows))}.")
    best: dict[str, Path] = {}
    for row in rows:
        best.setdefault(row["settings"]["model"], row["file"])
    contestants, judged = [], None
    for model in (name for name in NAMES if name in best):
        contestant, judged = load_contestant(best[model], arguments.data_dir, arguments.fashionformer)
        contestants.append((NAMES[model], contestant))
    draw_comparison(contestants, judged, photos_with_small_objects(judged, arguments.photos), arguments.output)
    print(f"photo, truth, {', '.join(name for name, _ in contestants)}: {arguments.output}")


if __name__ == "__main__":
    main()
