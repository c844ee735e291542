"""One decoder keeps all three rows of the paper's table within the paper's own figures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation


@pytest.mark.parametrize(
    ("backbone", "most_parameters", "most_macs"),
    [("resnet50", 36.5, 196.4), ("resnet101", 53.5, 270.2), ("swin_base", 94.7, 423.8)],
)
def test_parameters_and_operations(backbone, most_parameters, most_macs):
    # On the meta device, because the counter scores attention on a real CPU tensor as nothing.
    with torch.device("meta"), torch.no_grad():
        model = FashionDetrForInstanceSegmentation(FashionDetrConfig.from_backbone(backbone)).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 1020, 1020))
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    macs = counter.get_total_flops() / 2e9
    # The lower bounds would catch a counter that has gone blind.
    assert 0.8 * most_parameters < parameters <= most_parameters
    assert 0.65 * most_macs < macs <= most_macs
