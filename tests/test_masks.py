"""Single masks: run lengths against pycocotools, masks at a photo's size against the logits' bilinear surface."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from fashion_detr.masks_fashion_detr import decode_mask, encode_mask, full_size_masks, run_lengths

# --- run lengths ------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_are_those_of_pycocotools(mask):
    encoded = encode_mask(mask)
    expected = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert encoded == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert np.array_equal(decode_mask(encoded), mask)
    pixels = [int(pixel) for pixel in mask.ravel(order="F")]
    runs = [np.int64(count) for pixel in pixels for count in ((0, 1) if pixel else (1, 0))]  # one by one, some empty
    assert np.array_equal(decode_mask({"size": [float(side) for side in mask.shape], "counts": runs}), mask)


def test_long_and_falling_runs():
    """Numbers of several characters, and differences below zero; columns that are full join."""
    mask = np.zeros((1500, 1100), dtype=bool)
    mask[3:1490, 100] = mask[:, 200:900] = mask[700:, 950] = mask[-1, -1] = True
    encoded = encode_mask(mask)
    assert encoded["counts"] == coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    assert np.array_equal(decode_mask(encoded), mask)


@pytest.mark.parametrize(
    "counts", ["", "a", "PPPPPPPPPPPPPP0", "4", "12~", "é", [], [13], [14, -2], [-(2**70), 5], [12.0], ["12"], None]
)
def test_broken_run_lengths_are_refused(counts):
    with pytest.raises(ValueError, match=r"expected (counts|runs)"):
        decode_mask({"size": [3, 4], "counts": counts})


@settings(max_examples=100, deadline=None)
@given(st.lists(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=6))
def test_run_lengths_of_many_masks(masks):
    """Each mask's runs are those of its pixels: they alternate from 0 on, and none but the first is empty."""
    counts, first = run_lengths([encode_mask(mask)["counts"] for mask in masks])
    for mask, runs in zip(masks, np.split(counts, first[1:])):
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        assert np.array_equal(pixels, mask.ravel(order="F")) and (runs[1:] > 0).all()


@pytest.mark.parametrize("broken", ["", "a", "é"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_broken_mask_among_others_is_not_completed_by_its_neighbour(broken, place):
    texts = ["04", "04"]
    texts.insert(place, broken)
    with pytest.raises(ValueError, match="compressed form"):
        run_lengths(texts)


# --- at the photo's size ----------------------------------------------------------------------------------------------


def bilinear_surface(logits: np.ndarray, valid: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """The logits at the centres of the photo's pixels, in float64: cell centres lie at 2, 6, 10 ... of the canvas."""
    samples = []
    for cells, on_canvas, in_photo in zip(logits.shape, valid, target):
        positions = ((np.arange(in_photo) + 0.5) * on_canvas / in_photo) / 4 - 0.5
        positions = positions.clip(0, cells - 1)
        lower = np.floor(positions).astype(int)
        samples.append((lower, np.minimum(lower + 1, cells - 1), positions - lower))
    (top, bottom, down), (left, right, across) = samples
    upper = logits[top][:, left] * (1 - across) + logits[top][:, right] * across
    below = logits[bottom][:, left] * (1 - across) + logits[bottom][:, right] * across
    return upper * (1 - down[:, None]) + below * down[:, None]


@pytest.mark.parametrize(
    ("valid", "target"),
    [
        ((101, 67), (250, 166)),
        ((101, 67), (1013, 671)),
        ((64, 38), (31, 18)),
        ((1, 64), (1, 5000)),
        ((33, 64), (33, 64)),
    ],
)
def test_full_size_masks_sample_the_bilinear_surface(valid, target):
    cells = [math.ceil(side / 4) for side in valid]
    logits = torch.randn(3, *cells, generator=torch.Generator().manual_seed(0))
    masks = torch.stack([mask for _, mask in full_size_masks(logits, torch.arange(3), valid, target, 0.6)])
    assert masks.shape == (3, *target)
    surface = np.stack([bilinear_surface(mask.double().numpy(), valid, target) for mask in logits])
    cut = math.log(0.6 / 0.4)
    decided = np.abs(surface - cut) > 1e-4
    assert decided.mean() > 0.99
    assert np.array_equal(masks.numpy()[decided], (surface > cut)[decided])


@settings(max_examples=60, deadline=None)
@given(
    valid=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    target=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 99),
    smooth=st.booleans(),
)
def test_outlines_and_noise_are_sampled_alike(valid, target, seed, smooth):
    """Smooth masks are computed along their outline alone, noise as a whole."""
    cells = [math.ceil(side / 4) for side in valid]
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, *cells, generator=random)
    if smooth:
        centre, radius = torch.rand(2, generator=random), 0.1 + 0.5 * torch.rand(1, generator=random)
        places = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, n) for n in cells), indexing="ij"), dim=-1)
        logits = 20 * (radius - (places - centre).norm(dim=-1))[None]
    ((query, mask),) = full_size_masks(logits, torch.arange(1), valid, target, 0.4)
    samples, cut = bilinear_surface(logits[0].double().numpy(), valid, target), math.log(0.4 / 0.6)
    decided = np.abs(samples - cut) > 1e-4
    assert query == 0 and mask.shape == target and mask.dtype == torch.bool
    assert np.array_equal(mask.numpy()[decided], (samples > cut)[decided])
