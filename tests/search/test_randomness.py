import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repsearch.search.randomness import Draws, Stream, philox

# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result (the key's first word is the seed's low one).
KNOWN = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_known_answers(counter: list[int], key: list[int], expected: str) -> None:
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    words = philox((c0, c1, c2, c3), key[0] | key[1] << 32)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_normals_are_standard_normal() -> None:
    x = Stream(3, torch.arange(20), 1, 2).normals(range(50), 3, 5, 7).double()
    assert x.shape == (20, 50, 3, 5, 7)
    n = x.numel()
    assert abs(float(x.mean())) < 4 / math.sqrt(n)
    assert abs(float(x.var()) - 1) < 4 * math.sqrt(2 / n)
    assert abs(float((x**3).mean())) < 4 * math.sqrt(15 / n)
    assert abs(float((x**4).mean()) - 3) < 4 * math.sqrt(96 / n)
    uniform = torch.special.ndtr(x).flatten().sort().values
    assert float((uniform - (torch.arange(n) + 0.5) / n).abs().max()) < 2 / math.sqrt(n)  # Kolmogorov–Smirnov


def test_normals_of_one_block_are_uncorrelated() -> None:
    """The numbers of one Philox block, and neighbouring channels, rows, candidates, images, layers and generations."""
    x = Stream(0, torch.arange(2000), 0, 1).normals(range(2), 2, 2, 5).flatten(1)
    others = [Stream(0, torch.arange(2000), *time).normals(range(1), 1).flatten(1) for time in ((0, 2), (1, 1))]
    columns = torch.cat([x, x[:, :1].roll(1, 0), *others], 1)
    off_diagonal = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    assert float(off_diagonal.abs().max()) < 5 / math.sqrt(2000)


def test_pairs_are_uniform_independent_and_in_range() -> None:
    mates = 7
    pairs = Stream(1, torch.arange(100), 0, 1).pairs(range(140), mates)
    assert pairs.shape == (100, 140, 2) and pairs.dtype == torch.int64
    assert int(pairs.min()) == 0 and int(pairs.max()) == mates - 1
    cells = torch.bincount((pairs[..., 0] * mates + pairs[..., 1]).flatten(), minlength=mates**2).double()
    expected = cells.sum() / mates**2
    chi_squared = float(((cells - expected) ** 2 / expected).sum())
    freedom = mates**2 - 1
    assert abs(chi_squared - freedom) < 4 * math.sqrt(2 * freedom)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**64 - 1),
    start=st.integers(0, 10),
    stop=st.integers(11, 30),
    channels=st.integers(1, 9),
    height=st.integers(1, 5),
    image=st.integers(0, 2**31),
)
def test_a_number_depends_on_its_own_key_alone(
    seed: int, start: int, stop: int, channels: int, height: int, image: int
) -> None:
    """Not on how many numbers, candidates or images are drawn with it."""
    alone = Stream(seed, torch.tensor([image]), 2, 5)
    many = Stream(seed, torch.tensor([4, image, 9]), 2, 5)
    drawn = many.normals(range(40), 12, height, 6)[1, start:stop, :channels]
    assert torch.equal(alone.normals(range(start, stop), channels, height, 6)[0], drawn)
    assert torch.equal(alone.pairs(range(start, stop), 12)[0], many.pairs(range(40), 12)[1, start:stop])


@pytest.mark.parametrize(
    "other",
    [(1, 3, 0, 1), (1 << 32, 3, 0, 1), (0, 4, 0, 1), (0, 3, 1, 1), (0, 3, 0, 2)],
    ids=["seed", "high word of the seed", "image", "layer", "generation"],
)
def test_each_part_of_the_key_matters(other: tuple[int, int, int, int]) -> None:
    def draw(seed: int, image: int, layer: int, generation: int) -> torch.Tensor:
        return Stream(seed, torch.tensor([image]), layer, generation).normals(range(3), 8)

    assert not torch.isclose(draw(0, 3, 0, 1), draw(*other)).any()


def test_noise_and_pairs_are_drawn_from_separate_streams() -> None:
    stream = Stream(0, torch.arange(3000), 0, 1)
    x = torch.cat([stream.normals(range(1), 1, 1, 4).flatten(1), stream.pairs(range(1), 1000)[:, 0].float()], 1)
    assert float((torch.corrcoef(x.T) - torch.eye(6)).abs().max()) < 5 / math.sqrt(3000)


def test_uniforms_are_uniform() -> None:
    x = Stream(3, torch.arange(20), 1, 2).uniforms(range(50), 3, 5, 7).double()
    assert x.shape == (20, 50, 3, 5, 7) and float(x.min()) > 0 and float(x.max()) <= 1
    n, ordered = x.numel(), x.flatten().sort().values
    assert float((ordered - (torch.arange(n) + 0.5) / n).abs().max()) < 2 / math.sqrt(n)  # Kolmogorov–Smirnov


def test_an_operator_draws_new_numbers_with_each_call() -> None:
    """A mutation's first are the stream's own; a crossover's are others."""
    stream, children = Stream(0, torch.arange(3000), 0, 1), range(2, 3)
    mutation, crossover = (Draws(stream, children, torch.float64, crossover) for crossover in (False, True))
    drawn = [
        mutation.normals(2),
        mutation.normals(2),
        mutation.uniforms(2),
        crossover.normals(2),
        crossover.uniforms(2),
    ]
    assert all(x.dtype == torch.float64 for x in drawn)
    assert torch.equal(drawn[0], stream.normals(children, 2).double())
    correlations = torch.corrcoef(torch.cat(drawn, 2).flatten(1).T) - torch.eye(10)
    assert float(correlations.abs().max()) < 5 / math.sqrt(3000)
    with pytest.raises(ValueError, match="32 times at most"):
        for _ in range(32):
            mutation.uniforms(1)


def test_draws_do_not_depend_on_the_batch() -> None:
    def draw(images: list[int], children: range) -> list[torch.Tensor]:
        random = Draws(Stream(4, torch.tensor(images), 1, 3), children, torch.float32, crossover=True)
        return [random.uniforms(3), random.normals(2, 4, 5)]

    for alone, together in zip(draw([5], range(7, 9)), draw([2, 5], range(4, 12)), strict=True):
        assert torch.equal(alone[0], together[1, 3:5])
