"""A page to try a model: `fashion-detr demo`, or `build_app` for a Space of your own. It needs the extra `demo`."""

from .app import build_app

__all__ = ["build_app"]
