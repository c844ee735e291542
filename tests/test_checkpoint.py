"""The checkpoint in the repository, which commands use by default."""

import json
from pathlib import Path

from huggingface_hub import ModelCard
from PIL import Image

import fashion_detr
from fashion_detr.cli import main
from fashion_detr.cli_model import DEFAULT_MODEL
from fashion_detr.data.synthetic import SyntheticEnsembles
from fashion_detr.ontology_fashion_detr import CATEGORIES

MOST_MEGABYTES = 15


def test_it_has_the_code_of_the_package():
    """Published again whenever the model's code changes: `fashion-detr publish`, as docs/publish.md says."""
    files = sorted(DEFAULT_MODEL.glob("*.py"))
    assert {"modeling_fashion_detr.py", "handler.py", "pipeline_fashion_detr.py"} <= {file.name for file in files}
    for file in files:
        assert file.read_bytes() == (Path(fashion_detr.__file__).parent / file.name).read_bytes(), file.name


def test_it_is_small_and_says_what_it_is():
    assert sum(file.stat().st_size for file in DEFAULT_MODEL.iterdir()) < MOST_MEGABYTES * 1e6
    results = ModelCard.load(DEFAULT_MODEL / "README.md").data.eval_results
    figures = {result.metric_name: result.metric_value for result in results}
    assert figures["AP_IoU in percent, A = 294"] > 25


def test_predict_uses_it(tmp_path, capsys):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(SyntheticEnsembles(1, 384, 256)[0]["image"]).save(photo)
    assert main(["predict", str(photo), "--output", str(tmp_path / "found"), "--threshold", "0"]) == 0
    objects = json.loads((tmp_path / "found" / "photo.json").read_text())["objects"]
    assert objects, "a drawn figure is dressed, too"
    assert {entry["label"] for entry in objects} <= {name for name, _ in CATEGORIES}
    assert "photo.jpg" in capsys.readouterr().out
