"""Names of models, which are folders or ids on the Hub."""

import re
from pathlib import Path

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_id(name: str) -> bool:
    """An id is `owner/name`, where no folder `owner` is here."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).parent.exists()


def unlike_hub_id(name: str) -> str:
    """A folder `owner/name` as `./owner/name`: no id to anybody, even where there is no such folder."""
    return f"./{name}" if _HUB_ID.fullmatch(name) and Path(name).is_dir() else name
