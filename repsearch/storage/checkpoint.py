"""The state of a training run in a file beside its results, until they are whole."""

import io
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from repsearch.stages.runs import checkpoint_path
from repsearch.storage.partial import seal, unseal

log = logging.getLogger(__name__)
SECONDS = 60.0  # between two saves: what a kill can cost


class Checkpoint:
    """Saves the state of the run in the folder `out`, at most every `seconds`.

    key: plain data, all that decides the run. A file that is damaged or of another key is not used, and said so.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], device: torch.device, seconds: float = SECONDS) -> None:
        self.path, self.key, self.device, self.seconds = checkpoint_path(out), key, device, seconds
        self.saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        content = unseal(self.path, self.key)
        if content is not None:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
            log.info("going on from %s", self.path)
            return state
        if self.path.exists():
            log.info("%s is of another run, or damaged: starting anew", self.path)
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Save the state, if it is time to."""
        if time.monotonic() - self.saved >= self.seconds:
            content = io.BytesIO()
            torch.save(state, content)
            seal(self.path, self.key, content.getvalue())
            self.saved = time.monotonic()
