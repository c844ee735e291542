"""Names of models, which are folders or ids on the Hub."""

import re
from pathlib import Path

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_id(name: str) -> bool:
    """Whether it is `owner/name`, and there is no folder `owner` here."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).parent.exists()


def unlike_hub_id(name: str) -> str:
    """`./owner/name` for a folder `owner/name`, so that nobody takes it for an id, not even on another machine."""
    return f"./{name}" if _HUB_ID.fullmatch(name) and Path(name).is_dir() else name
