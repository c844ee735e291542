"""Files at the root of the repository, where people look for them, that publishing needs as well."""

from importlib import metadata
from pathlib import Path

DISTRIBUTION = "fashion-detr"
TEMPLATE, LICENSE = "hub_card.md", "LICENSE"


def project_file(name: str) -> Path:
    """
    A file from the root of the repository: from there in a clone, else from what was installed.

    Raises:
        FileNotFoundError: neither has it.
    """
    root = Path(__file__).parents[2]
    if (root / TEMPLATE).is_file():
        return root / name
    files = metadata.files(DISTRIBUTION) or []
    found = next((Path(file.locate()) for file in files if file.name == name), None)
    if found is None or not found.is_file():
        raise FileNotFoundError(f"The installation of {DISTRIBUTION} lacks {name}. Install it anew, with pip.")
    return found
