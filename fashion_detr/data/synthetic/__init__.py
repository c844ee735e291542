"""Synthetic ensembles: pictures of dressed figures with exact, overlapping ground truth, generated from a seed."""

from .ensembles import SyntheticEnsembles

__all__ = ["SyntheticEnsembles"]
