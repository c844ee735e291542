"""What no field of the configuration switches off, taken out of a built model of ours: `peers.py --ablation`."""

from collections.abc import Callable

from torch import nn

from fashion_detr import FashionDetrForInstanceSegmentation


def uniform_gate(model: FashionDetrForInstanceSegmentation) -> None:
    """Internal attention takes the mean of its scales, where a query weighs them by itself."""
    if not model.config.internal_attention:
        raise SystemExit("uniform_gate changes internal attention, which internal_attention=false takes out: give one.")
    for stage in model.model.stages:
        gate = stage.internal_attention.gate
        nn.init.zeros_(gate.weight).requires_grad_(False)
        nn.init.zeros_(gate.bias).requires_grad_(False)


def shared_query(model: FashionDetrForInstanceSegmentation) -> None:
    """The attribute stream of a stage starts from the query Q^(j-1) of class and mask, where it has one of its own."""
    for stage in model.model.stages:
        stage.register_forward_pre_hook(_attributes_from_queries)


def _attributes_from_queries(stage: nn.Module, arguments: tuple) -> tuple:
    queries, _, *rest = arguments
    return queries, queries, *rest


ABLATIONS: dict[str, Callable[[FashionDetrForInstanceSegmentation], None]] = {
    "uniform_gate": uniform_gate,
    "shared_query": shared_query,
}
