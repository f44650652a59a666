"""The evolution of one block on a GPU, in Triton: all images of a batch side by side.

`channel` and `element`, by the mutation (R1), have a generation each; no step of theirs waits for the host, so it is
captured once as a CUDA graph and replayed.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext, suppress

import torch
from torch import Tensor

from repsearch.network import Shape
from repsearch.search.gpu import channel, element
from repsearch.search.gpu.channel import Channel
from repsearch.search.gpu.element import Element
from repsearch.search.network import Tail
from repsearch.search.recipe import BLOCKS, Recipe

log = logging.getLogger(__name__)


def evolve(
    tail: Tail,
    labels: Tensor,
    recipe: Recipe,
    indices: Tensor,
    layer: int,
    parents: Tensor,
    loss: Tensor,
    score: Callable[[Tensor, int], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The generations of one block on a GPU: the arguments and results are those of `cpu.evolve.evolve`.

    score: with the mutation `channel` alone, that of `cpu.channel.evolve`.
    """
    generations = recipe.layers[layer].generations
    if not recipe.explorers + recipe.refiners and not tail.reevaluate:
        return parents[:, 0], loss[:, :1].expand(-1, generations)
    with torch.cuda.device(parents.device) if parents.is_cuda else nullcontext():
        batch: Channel | Element
        if recipe.mutation == "channel":
            batch = Channel(tail, labels, recipe, indices, layer, parents, loss, score)
        else:
            batch = Element(tail, labels, recipe, indices, layer, parents, loss)
        _repeat(batch.generation, generations, parents.is_cuda and score is None)  # no graph holds plain torch
    return batch.best.transpose(1, 2).unflatten(2, parents.shape[3:]), batch.history


def bytes_per_image(shape: Shape, recipe: Recipe) -> int:
    """Device memory that an image takes in `evolve`, in the layer that takes most.

    It includes the float32 parents as given and the result, but nothing else that the caller holds, such as the first
    population.
    """
    path = channel if recipe.mutation == "channel" else element
    return max(path.bytes_per_image(shape, recipe, layer) for layer in range(len(BLOCKS)))


def _repeat(step: Callable[[], None], times: int, cuda: bool) -> None:
    """step(), `times` times: on a GPU captured after the first (which compiles) and replayed.

    Where it can't be captured, the steps are launched one by one, and the log says why.
    """
    if not times:
        return
    step()
    left = times - 1
    if cuda and left > 1:
        try:
            graph = _captured(step)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # torch.AcceleratorError is one
            if "out of memory" in str(error).lower():
                raise torch.OutOfMemoryError(f"while a CUDA graph was made: {error}") from error
            log.warning("no CUDA graph, which is slower: %s", str(error).splitlines()[0])
        else:
            for _ in range(left):
                graph.replay()
            torch.cuda.current_stream().synchronize()  # the graph must outlive its replays
            return
    for _ in range(left):
        step()


def _captured(step: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of step(), which is not executed."""
    graph, stream, capturing = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.Stream()
    capturing.wait_stream(stream)
    with torch.cuda.stream(capturing):  # not `torch.cuda.graph`, which empties the allocator's cache
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            step()
        except BaseException:
            with suppress(RuntimeError):  # the end of a failed capture fails, too, and would hide the cause
                graph.capture_end()
            raise
        graph.capture_end()
    stream.wait_stream(capturing)
    return graph
