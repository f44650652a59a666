import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.learning.augment import augment


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _crops(image: Tensor, flip: bool, pad: int) -> list[Tensor]:
    side = image.shape[-1]
    crops = []
    for x in (image, image.flip(-1)) if flip else (image,):
        padded = F.pad(x[None], (pad,) * 4, mode="reflect")[0]
        shifts = range(2 * pad + 1)
        crops += [padded[:, top : top + side, left : left + side] for top in shifts for left in shifts]
    return crops


@pytest.mark.parametrize(("flip", "pad"), [(True, 2), (True, 0), (False, 1)])
def test_flips_and_crops_are_the_allowed_ones_and_all_occur(flip: bool, pad: int) -> None:
    image = torch.randn(3, 6, 6)
    allowed = _crops(image, flip, pad)
    augmented = augment(image.expand(600, 3, 6, 6), flip, pad, _generator())
    assert augmented.shape == (600, 3, 6, 6)
    counts = torch.zeros(len(allowed))
    for crop in augmented:
        matches = [i for i, candidate in enumerate(allowed) if torch.equal(candidate, crop)]
        assert len(matches) == 1
        counts[matches[0]] += 1
    expected = 600 / len(allowed)
    assert float(((counts - expected) ** 2 / expected).sum()) < 2 * len(allowed) + 10
    assert (counts > 0).all()


def test_each_image_has_its_own_draw_from_itself() -> None:
    images = torch.randn(8, 1, 5, 5)
    for crop, image in zip(augment(images, True, 2, _generator()), images, strict=True):
        assert any(torch.equal(crop, candidate) for candidate in _crops(image, True, 2))


def test_the_generator_decides() -> None:
    images = torch.randn(8, 1, 5, 5)
    assert torch.equal(augment(images, True, 2, _generator(1)), augment(images, True, 2, _generator(1)))
    assert not torch.equal(augment(images, True, 2, _generator(1)), augment(images, True, 2, _generator(2)))


def test_without_augmentation_nothing_is_drawn() -> None:
    images, generator = torch.randn(4, 3, 5, 5), _generator()
    assert torch.equal(augment(images, False, 0, generator), images)
    assert torch.equal(generator.get_state(), _generator().get_state())
