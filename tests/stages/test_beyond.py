"""Stages that go beyond the paper: several runs of each image, networks that were learned, ensembles."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from repsearch.data import prepared as datasets
from repsearch.errors import UserError
from repsearch.jobs import DescribeJob, EnsembleJob, LearnedNetworkJob
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.stages import ensemble as stage_ensemble
from repsearch.stages import learned as stage_learned
from repsearch.stages import targets as stage_targets
from repsearch.stages import train as stage_train
from repsearch.storage import networks, targets
from repsearch.storage.files import digest
from repsearch.storage.manifest import read_manifest
from tests.stages.made import CPU, RECIPE, search_shard, train_job


def test_runs_are_one_more_axis_of_a_shard_and_are_learned(made: Path, tmp_path: Path) -> None:
    """The first run is the search of one run, to the bit."""
    several = replace(RECIPE, runs=3)
    one, _ = targets.read(*targets.paths(made / "whole.json"))
    manifest = search_shard(made, 0, 40, "runs", several)
    arrays, attributes = targets.read(*targets.paths(manifest))
    assert attributes["recipe"]["runs"] == 3
    for name in one:
        own = name in ("indices", "labels", "initial_cross_entropy")
        assert np.array_equal(arrays[name] if own else arrays[name][:, 0], one[name]), name
        assert own or arrays[name].shape == (40, 3, *one[name].shape[1:])
    stage_targets.make(DescribeJob("digits", "tiny"), [manifest], tmp_path / "facts.json")
    facts = read_manifest(tmp_path / "facts.json")
    assert facts["cross_entropy_logits"] == pytest.approx(arrays["final_cross_entropy"].mean())
    job = train_job("targets", several)
    for how in ("draw", "mean", "first"):
        chosen = replace(job, training=replace(job.training, runs=how))
        stage_train.make(chosen, made / "d.npz", made / "n.pt", [manifest], tmp_path / how, CPU)
    epochs = {how: (tmp_path / how / "epochs.csv").read_text() for how in ("draw", "mean", "first")}
    assert len(set(epochs.values())) == 3
    out = tmp_path / "one"
    stage_train.make(train_job("targets", RECIPE), made / "d.npz", made / "n.pt", [made / "whole.json"], out, CPU)
    assert (tmp_path / "one/epochs.csv").read_text() == epochs["first"]


def test_a_learned_network_is_searched_and_learned_on_with(made: Path, tmp_path: Path) -> None:
    """§6: its targets are of its own activations; a run that starts from it begins where it ended."""
    first = tmp_path / "first"
    stage_train.make(train_job("targets", RECIPE), made / "d.npz", made / "n.pt", [made / "whole.json"], first, CPU)
    job = LearnedNetworkJob("digits", "plain", "targets", "tiny", 1, 0)
    for name in ("d.npz", "d.json"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    for _ in range(2):
        stage_learned.make(job, first / "summary.json", tmp_path / "n.pt")
    learned = networks.read(tmp_path / "n.pt")[0].state_dict()
    ended = torch.load(first / "weights.pt", weights_only=True)["weights"]
    assert learned.keys() == ended.keys() and all(torch.equal(learned[name], ended[name]) for name in ended)

    manifest = search_shard(tmp_path, 0, 40, "again")
    arrays, attributes = targets.read(*targets.paths(manifest))
    untrained, _ = targets.read(*targets.paths(made / "whole.json"))
    assert attributes["network"] == read_manifest(tmp_path / "n.json")["sha256"] and attributes["path"] == "dense"
    assert not np.array_equal(arrays["targets/block0"], untrained["targets/block0"])
    on = train_job("targets", RECIPE)
    on = replace(on, training=replace(on.training, start="search", learning_rate=0.0))
    stage_train.make(on, tmp_path / "d.npz", tmp_path / "n.pt", [manifest], tmp_path / "on", CPU)
    accuracies = [json.loads((path / "summary.json").read_text())["test_accuracy"] for path in (first, tmp_path / "on")]
    assert accuracies[0] == accuracies[1]
    with pytest.raises(UserError, match=r"again\.zarr\.zip has network"):  # the targets are not the untrained network's
        stage_train.make(on, made / "d.npz", made / "n.pt", [manifest], tmp_path / "other", CPU)
    (first / "weights.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"weights\.pt is missing or not what"):
        stage_learned.make(job, first / "summary.json", tmp_path / "n.pt")


def test_a_run_that_goes_on_trains_what_a_fresh_one_trains(made: Path, tmp_path: Path) -> None:
    """R19: neither the whitening filters nor BatchNorm's weights."""
    job = train_job("labels", None, learning_rate=8.0)
    on = replace(job, training=replace(job.training, start="search"))
    stage_train.make(on, made / "d.npz", made / "n.pt", [], tmp_path, CPU)
    before = networks.read(made / "n.pt")[0].state_dict()
    after = torch.load(tmp_path / "weights.pt", weights_only=True)["weights"]
    frozen = [name for name in before if name == "whiten.weight" or ("norm" in name and name.endswith("weight"))]
    assert len(frozen) == 1 + 6 and all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_the_search_of_a_learned_network_is_of_its_own_activations(made: Path, tmp_path: Path) -> None:
    """Without generations, noise and normalisation its targets are what the network computes: biases included."""
    job = train_job("labels", None, bias_scale=64.0, learning_rate=8.0)
    stage_train.make(job, made / "d.npz", None, [], tmp_path / "run", CPU)
    for name in ("d.npz", "d.json"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    learned = LearnedNetworkJob("digits", "plain", "labels", "none", 1, 0)
    stage_learned.make(learned, tmp_path / "run/summary.json", tmp_path / "n.pt")
    still = tuple(replace(layer, generations=0) for layer in RECIPE.layers)
    recipe = replace(RECIPE, layers=still, initial_noise=0.0, normalise_start=False, statistics_images=30)
    arrays, _ = targets.read(*targets.paths(search_shard(tmp_path, 0, 40, "still", recipe)))
    data, network = datasets.read(tmp_path / "d.npz"), networks.load(tmp_path / "n.pt").train()
    assert (
        max(float(norm.bias.detach().abs().max()) for norm in network.modules() if hasattr(norm, "running_mean")) > 0.01
    )
    with torch.no_grad():  # the statistics are those of the training images
        outputs = network(torch.from_numpy(data.normalised(data.images[data.train])))
    for layer, computed in zip(SEARCH_LAYERS, [*outputs.maps, outputs.logits], strict=True):
        searched = torch.from_numpy(arrays[f"targets/{layer}"][data.train]).float()
        torch.testing.assert_close(searched, computed, atol=5e-3, rtol=5e-3)


def test_an_ensemble_is_the_mean_of_its_members(made: Path, tmp_path: Path) -> None:
    job = train_job("targets", RECIPE)
    for seed in range(3):
        one = replace(job, seed=seed)
        stage_train.make(one, made / "d.npz", made / "n.pt", [made / "whole.json"], tmp_path / str(seed), CPU)
    summaries = [tmp_path / str(seed) / "summary.json" for seed in range(3)]
    kind = EnsembleJob("digits", "seeds", 0, job.training.evaluation_batch, "float32")
    stage_ensemble.make(kind, made / "d.npz", summaries, tmp_path / "e.csv", CPU)
    frame = pd.read_csv(tmp_path / "e.csv")
    values = frame.set_index("measure")["value"]
    accuracies = [json.loads(path.read_text())["test_accuracy"] for path in summaries]
    assert values["member"] == pytest.approx(np.mean(accuracies), abs=1e-5)
    assert any(values["best"] == pytest.approx(accuracy, abs=1e-5) for accuracy in accuracies)
    data = datasets.read(made / "d.npz")
    images = torch.from_numpy(data.normalised(data.test_images))
    models = [networks.load(path.with_name("weights.pt")) for path in summaries]
    with torch.no_grad():
        mean = torch.stack([model(images).logits.softmax(1) for model in models]).mean(0)
    expected = (mean.argmax(1).numpy() == data.test_labels).mean()
    assert values["ensemble"] == pytest.approx(expected, abs=1e-5)
    assert 0 < values["disagreement"] < 1 and 0 < values["distance_block1"] < 2
    assert values["candidates"] == RECIPE.candidates * 40  # one search, of all images
    assert values["image_passes"] == 3 * 30 * 2  # members, training images, epochs
    assert (frame["members"] == 3).all() and (frame["recipe_digest"] == digest(RECIPE.to_dict())).all()
    with pytest.raises(UserError, match="needs two members at least"):
        stage_ensemble.make(kind, made / "d.npz", summaries[:1], tmp_path / "one.csv", CPU)
