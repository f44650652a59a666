"""Stage: evaluate an ensemble of learned networks, from the weights of its members' runs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repsearch import metrics
from repsearch.data import prepared as datasets
from repsearch.errors import UserError
from repsearch.jobs import EnsembleJob
from repsearch.learning import ensembles
from repsearch.learning.precision import choose
from repsearch.learning.settings import Training
from repsearch.learning.training import evaluated, predict
from repsearch.search.recipe import BLOCKS
from repsearch.stages import cache
from repsearch.storage import networks
from repsearch.storage.files import write_csv
from repsearch.storage.manifest import verify, write_manifest

log = logging.getLogger(__name__)
ALL_OF = ("recipe_digest", "precision", "code_version")  # of the members
FACTS = ("augmentation", "train_images", "validation_images", "test_images", "width", "depth", "epochs")


def make(job: EnsembleJob, dataset: Path, members: Sequence[Path], out: Path, device: torch.device) -> None:
    """Write a CSV of measures, one per row: measure, value; and what the ensemble was made from.

    members: the runs' summaries, in order. Measures, accuracies in [0, 1] and of the test images: member, the mean
    member; best, the one that is best on the held-out images; ensemble, the mean of all members' probabilities;
    weighted, with the weights, and picked, of those members (how many: picked_members), that are best on the held-out
    images (`learning.ensembles`). disagreement: the share of test images that two members classify differently.
    distance_BLOCK: cosine distance of two members' maps of a held-out image (§4.5). Both are means over pairs.
    candidates: of all searches; image_passes: of all training, images × epochs × depth.

    Raises UserError for a run that is missing or was altered, and for fewer than two.
    """
    if cache.up_to_date(job, out, dataset, *members):
        return
    if len(members) < 2:
        raise UserError("an ensemble needs two members at least: name the summary.json of each")
    data, summaries = datasets.read(dataset), [verify(summary) for summary in members]
    settings = Training(evaluation_batch=job.evaluation_batch, precision=choose(job.precision, device))
    models = [networks.load(summary.with_name("weights.pt")).to(device) for summary in members]

    def images(pixels: Any) -> Tensor:
        values = torch.from_numpy(data.normalised(pixels)).to(device)
        return values.contiguous(memory_format=torch.channels_last)

    held_out, test = images(data.images[data.validation]), images(data.test_images)
    chosen_on, tested = (
        torch.stack([predict(model, part, settings).softmax(1).cpu() for model in models]) for part in (held_out, test)
    )
    labels = torch.from_numpy(data.labels[data.validation])
    values = measures(chosen_on, labels, tested, torch.from_numpy(data.test_labels))
    for block, name in enumerate(BLOCKS):  # one at a time: the maps of all members can fill the memory
        maps = [evaluated(model, held_out, settings).maps[block] for model in models]
        distances = [metrics.cosine_distance(maps[a], maps[b]).mean() for a in range(len(maps)) for b in range(a)]
        values[f"distance_{name}"] = float(torch.stack(distances).mean())
    searched = {summary["recipe"]: summary["candidates"] * _images(summary) for summary in summaries}
    values["candidates"] = float(sum(searched.values()))  # members may share a search
    values["image_passes"] = float(sum(s["train_images"] * s["epochs"] * s["depth"] for s in summaries))
    facts = {"dataset": job.dataset, "kind": job.kind, "repeat": job.repeat, "members": len(members)}
    facts |= {name: summaries[0][name] for name in FACTS}
    facts |= {name: "+".join(sorted({summary[name] for summary in summaries} - {""})) for name in ALL_OF}
    key = cache.key(job, dataset, *members)
    frame = pd.DataFrame({"measure": list(values), "value": list(values.values())})
    write_csv(out, frame.assign(**facts, evaluated_by=key["code"]))
    write_manifest(cache.manifest_path(job, out), key, [out], {})
    member, ensemble = (100 * values[name] for name in ("member", "ensemble"))
    log.info("%d members: %.2f %%, their ensemble %.2f %%", len(members), member, ensemble)


def measures(held_out: Tensor, labels: Tensor, tested: Tensor, test_labels: Tensor) -> dict[str, float]:
    """`make`'s accuracies and disagreement, from the members' probabilities [M, N, K] of held-out and test images and
    their labels [N].
    """
    singles = [ensembles.accuracy(member, test_labels) for member in tested]
    best = int(np.argmax([ensembles.accuracy(member, labels) for member in held_out]))
    weights, picked = ensembles.mixture_weights(held_out, labels), ensembles.picked(held_out, labels)
    return {
        "member": float(np.mean(singles)),
        "best": singles[best],
        "ensemble": ensembles.accuracy(tested.mean(0), test_labels),
        "weighted": ensembles.accuracy((weights[:, None, None] * tested.double()).sum(0), test_labels),
        "picked": ensembles.accuracy(tested[picked].mean(0), test_labels),
        "picked_members": float(len(picked)),
        "disagreement": ensembles.disagreement(tested),
    }


def _images(summary: dict[str, Any]) -> int:
    """The number of images in a run's search, held-out ones included (figure 5)."""
    return int(summary["train_images"] + summary["validation_images"])
