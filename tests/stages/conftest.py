from pathlib import Path

import pytest

from repsearch.jobs import PrepareJob
from repsearch.stages import dataset as stage_dataset
from repsearch.stages import network as stage_network
from tests.stages.made import NETWORK, search_shard


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared data set, its search network and one shard of all 40 images."""
    folder = tmp_path_factory.mktemp("made")
    stage_dataset.make(PrepareJob("sklearn:digits", 10, 40, 20), folder, folder / "d.npz")
    stage_network.make(NETWORK, folder / "d.npz", folder / "n.pt")
    search_shard(folder, 0, 40, "whole")
    return folder
