"""Depthwise convolutions under the CPU's autocast: exact inside, and outside in the precision of their input."""

import copy

import torch
from torch import nn

from fashion_detr.training.depthwise import keep_depthwise_in_float32


def test_depthwise_convolutions_alone_compute_in_float32_and_hand_on_what_they_got():
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3)])
    plain = copy.deepcopy(model)
    keep_depthwise_in_float32(model)
    maps = torch.randn(1, 8, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        depthwise, whole = (convolution(maps) for convolution in model)
        assert torch.equal(whole, plain[1](maps))
    assert torch.equal(depthwise, plain[0](maps.float()).bfloat16())
    assert model[0](maps.float()).dtype == torch.float32


def test_a_model_that_is_judged_in_half_precision_has_depthwise_convolutions_in_it_too():
    model = nn.ModuleList([nn.Conv2d(8, 8, 3, groups=8)])
    keep_depthwise_in_float32(model)
    maps = torch.randn(1, 8, 9, 9)
    expected = model[0](maps)
    halved = copy.deepcopy(model).bfloat16()
    for precision in (torch.bfloat16, torch.float32):
        found = halved[0](maps.to(precision))
        assert found.dtype == precision
        torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
    assert torch.equal(model[0](maps), expected)
