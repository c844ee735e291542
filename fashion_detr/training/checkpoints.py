"""Checkpoints that a killed run can go on from: sealed when complete, and checked before they are used."""

import hashlib
import json
import logging
import os
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, sort_checkpoints

SEAL = "seal.json"
# In a checkpoint that transformers makes after SIGTERM (`enable_jit_checkpoint`) until it is complete.
IN_PROGRESS = "checkpoint-is-incomplete.txt"

logger = logging.getLogger(__name__)


def seal(checkpoint: Path) -> None:
    """Writes down what a complete checkpoint consists of: its files, each with the digest of its content."""
    content = json.dumps(_digests(checkpoint), indent=1)
    unfinished = checkpoint / f"{SEAL}.unfinished"
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(checkpoint / SEAL)  # at once, or not at all


def break_seal(checkpoint: Path) -> None:
    """Before a checkpoint is written anew: until it is sealed again, it does not count."""
    (checkpoint / SEAL).unlink(missing_ok=True)


def fault(checkpoint: Path) -> str | None:
    """Why a run should not go on from a checkpoint; `None` if it is as it was when it was sealed."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "it was not written to its end"
    except ValueError:
        return f"its {SEAL} is damaged"
    found = _digests(checkpoint)
    missing = sorted(set(sealed) - set(found))
    if missing:
        return f"{missing[0]} is missing"
    changed = sorted(name for name, digest in sealed.items() if found[name] != digest)
    return f"{changed[0]} is damaged" if changed else None


def last_sound_checkpoint(output_dir: Path) -> Path | None:
    """The latest checkpoint of a run that is complete and undamaged; says which ones it passes over, and why."""
    for checkpoint in map(Path, reversed(sort_checkpoints(str(output_dir), PREFIX_CHECKPOINT_DIR))):
        reason = fault(checkpoint)
        if reason is None:
            return checkpoint
        logger.warning("Passing over %s: %s", checkpoint, reason)
    return None


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not name.startswith(SEAL) and name != IN_PROGRESS:
                with path.open("rb") as file:
                    digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
