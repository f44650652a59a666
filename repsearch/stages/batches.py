"""How many images a search computes at a time, which has no bearing on the result: it follows the device's memory."""

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import torch

from repsearch.errors import UserError
from repsearch.progress import counter
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import Recipe

log = logging.getLogger(__name__)
T = TypeVar("T")
END = object()

CPU_BATCH_NUMBERS = 2**23  # in the populations of the images that a CPU computes at a time
GPU_MEMORY_SHARE = 0.5  # of the free memory, for the batch; short-lived tensors take the rest
GPU_BATCH_IMAGES = 512  # more do not keep a GPU busier
GPU_NUMBERS = 2**31 - 1  # in the populations of a batch on the dense path: kernels count a tensor's numbers in 32 bits


def batch_images(network: SearchNetwork, recipe: Recipe, path: SearchPath) -> int:
    """How many images of independent results (R3 `frozen`) to search at a time on the network's device."""
    numbers = recipe.population * math.prod(network.shape.layer_shapes["block0"])
    if network.device.type == "cpu":
        return max(torch.get_num_threads(), CPU_BATCH_NUMBERS // numbers)
    cached = torch.cuda.memory_reserved(network.device) - torch.cuda.memory_allocated(network.device)
    free = torch.cuda.mem_get_info(network.device)[0] + cached
    if backends.choose(network, recipe, path):
        from repsearch.search.gpu.evolve import bytes_per_image

        most, size = GPU_BATCH_IMAGES, bytes_per_image(network.shape, recipe)
    else:  # float32: the population, the mates, the pairs drawn from them, the noise and the maps of the blocks
        most, size = min(GPU_BATCH_IMAGES, GPU_NUMBERS // numbers), 4 * 8 * numbers
    return max(1, min(most, int(GPU_MEMORY_SHARE * free / size)))


def in_batches(count: int, size: int, work: Callable[[slice], T], title: str, smallest: int = 1) -> Iterator[T]:
    """`work` of consecutive ranges of 0 … count-1, at most `size` long; halved, with a warning, where memory runs out.

    title: of the progress bar and in the log. Raises UserError where not even a range of `smallest` fits into memory.
    """
    start = 0
    log.info("%s: %d images, at most %d at a time", title, count, size, extra={"done": 0, "total": count})
    with counter(count, title=title, unit="image") as bar:
        while start < count:
            part = slice(start, min(start + size, count))
            try:
                result = work(part)
            except torch.OutOfMemoryError as error:
                if size <= smallest:
                    hint = f"free it of other jobs, or lower population or width ({str(error).splitlines()[0]})"
                    raise UserError(f"the GPU's memory does not hold {size} of the images at a time: {hint}") from None
                size = -(-size // 2)
                log.warning("out of memory: continuing with batches of %d", size)
            else:
                yield result
                bar.update(part.stop - start)
                start = part.stop
                log.info("%s: %d of %d images", title, start, count, extra={"done": start, "total": count})
                continue
            torch.cuda.empty_cache()  # outside the handler, which keeps the tensors of the failed work alive


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each of which is made, in a thread of its own, while the one before is used.

    So a GPU goes on while the CPU converts and stores what it has found.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, END)
        while (item := coming.result()) is not END:
            coming = thread.submit(next, items, END)
            yield cast(T, item)
