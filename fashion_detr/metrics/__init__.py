"""Metrics of instance segmentation with attributes: AP_IoU and AP_IoU+F1."""

from .average_precision import FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS, FashionAveragePrecision
from .records import binary_macro_f1

__all__ = ["FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS", "FashionAveragePrecision", "binary_macro_f1"]
