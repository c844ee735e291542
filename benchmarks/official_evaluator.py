"""Fashionpedia's own evaluator (`fashionpedia` 1.1 on PyPI) as published, for whoever is held against it."""

import contextlib
import io
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def official_evaluator() -> Iterator[types.ModuleType]:
    """`fashionpedia.fp_eval`, with `np.float` back for as long, and without scikit-image, which its pictures need."""
    skimage = types.ModuleType("skimage")
    skimage.io = types.ModuleType("skimage.io")
    stubs = {"skimage": skimage, "skimage.io": skimage.io}
    stubs = {name: stub for name, stub in stubs.items() if name not in sys.modules}
    sys.modules.update(stubs)
    np.float = float
    try:
        from fashionpedia import fp_eval

        yield fp_eval
    finally:
        del np.float
        for name in stubs:
            del sys.modules[name]


def run_official(module: types.ModuleType, dataset: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    """An `FPEval` that has run, silently, on the content of an annotation file and of a result file; changes both."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = module.Fashionpedia()
        ground_truth.dataset = dataset
        ground_truth.createIndex()
        evaluation = module.FPEval(ground_truth, ground_truth.loadRes(results), "segm")
        evaluation.run()
    return evaluation
