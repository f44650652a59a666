"""Training runs as TensorBoard's event files, made from what the runs wrote: training knows nothing of them."""

import logging
from pathlib import Path

from repsearch.errors import UserError
from repsearch.results.listing import find
from repsearch.results.runs import read_csv
from repsearch.storage.files import cannot_write, read_json

log = logging.getLogger(__name__)


def convert(results: Path, out: Path) -> int:
    """Write one folder of event files per finished run, in place of former ones: each column of epochs.csv by epoch,
    and test_accuracy at the epoch that validation chose. Returns the number of runs.

    Raises UserError for a folder without runs, a run that can't be read, and where the package is missing.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise UserError("event files need the package tensorboard: pip install 'repsearch[tensorboard]'") from None

    summaries = find(results)
    for summary in summaries:
        run, epochs = summary.parent, read_csv(summary.with_name("epochs.csv"), ["epoch"])
        stated = read_json(summary)
        folder = out / run.relative_to(results / "runs")
        try:
            for former in folder.glob("events.out.tfevents.*"):
                former.unlink()
            with SummaryWriter(folder) as writer:
                for name in epochs.select_dtypes("number").columns.drop("epoch"):
                    for epoch, value in zip(epochs["epoch"], epochs[name], strict=True):
                        writer.add_scalar(name, value, int(epoch))
                epoch, accuracy = stated.get("epoch_chosen"), stated.get("test_accuracy")
                if isinstance(epoch, int) and isinstance(accuracy, float):
                    writer.add_scalar("test_accuracy", accuracy, epoch)
        except OSError as error:
            raise UserError(cannot_write(folder, error)) from None
    log.info("%d runs: tensorboard --logdir %s", len(summaries), out)
    return len(summaries)
