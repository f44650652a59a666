import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsearch import network as module
from repsearch.network import Network, Shape, whitening_filters
from repsearch.search.network import is_identity
from tests import small


@pytest.mark.parametrize(("size", "sides"), [(32, (15, 7, 3)), (28, (13, 6, 3))])
def test_geometry(size: int, sides: tuple[int, int, int]) -> None:
    net = small.network(size=size)
    assert net.shape.map_sizes == sides
    out = net(small.images(2, size), False)
    shapes = [tuple(maps.shape[1:]) for maps in out.maps] + [tuple(out.logits.shape[1:])]
    assert shapes == [(6, side, side) for side in sides] + [(small.CLASSES,)]
    assert shapes == list(net.shape.layer_shapes.values())
    before = net(small.images(2, size), before_gelu=True)
    for after, earlier in zip(out.maps, before.maps, strict=True):
        torch.testing.assert_close(after, F.gelu(earlier))
    torch.testing.assert_close(before.logits, out.logits)
    torch.testing.assert_close(out.logits, net.head(out.maps[-1].flatten(1)))


@pytest.mark.parametrize("convolutions", [2, 4, 6])
def test_depth(convolutions: int) -> None:
    net = small.network(convolutions)
    for block in net.blocks:
        assert len([m for m in block.modules() if isinstance(m, nn.Conv2d)]) == convolutions
        assert len([m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]) == convolutions
        assert [group.pool for group in block] == [True] + [False] * (convolutions // 2 - 1)
    assert [m.shape[-1] for m in net(small.images(2)).maps] == [8, 4, 2]


@pytest.mark.parametrize("changes", [{"convolutions": 3}, {"convolutions": 0}, {"size": 8}])
def test_impossible_shapes_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="convolutions" if "convolutions" in changes else "8 × 8"):
        Shape(**{"channels": 3, "size": 9, "classes": 2, **changes})
    assert Shape(channels=3, size=9, classes=2).map_sizes == (4, 2, 1)


def test_parameters() -> None:
    net = small.network()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not net.whiten.weight.requires_grad and "whiten.bias" in trained
    assert all(m.bias is None for m in net.blocks.modules() if isinstance(m, nn.Conv2d))
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones(6)) and not norm.weight.requires_grad and norm.bias.requires_grad
        assert norm.running_mean is None and norm.running_var is None
    assert len(trained) == 1 + 6 + 6 + 1  # whitening bias, convolutions, BatchNorm biases, head
    assert net.head.bias is None
    assert Network(Shape(3, 17, 4, 6, head_bias=True), net.whiten.weight).head.bias is not None


def test_dirac_initialisation() -> None:
    first, *others = [m for m in small.network(convolutions=4).blocks.modules() if isinstance(m, nn.Conv2d)]
    assert not is_identity(first)
    assert len(others) == 11 and all(is_identity(convolution) for convolution in others)
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(others[0](x), x)
    wide = small.network(width=30).blocks[0][0].conv1.weight
    assert torch.equal(wide[:24], nn.init.dirac_(torch.empty(24, 24, 3, 3)))
    bound = 1 / (24 * 9) ** 0.5  # PyTorch's default: uniform
    assert 0.9 * bound < float(wide[24:].detach().abs().max()) <= bound


def test_is_identity_looks_closely() -> None:
    convolution = small.network().blocks[1][0].conv1
    with torch.no_grad():
        convolution.weight[0, 1, 0, 0] = 1e-7
    assert not is_identity(convolution)


def _patches(images: Tensor) -> Tensor:
    return F.unfold(images, 2).transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize(("channels", "count"), [(3, 24), (1, 8)])
def test_whitening_whitens(channels: int, count: int) -> None:
    images = small.images(200, channels=channels) * 2
    filters = whitening_filters(images)
    assert filters.shape == (count, channels, 2, 2)
    half = count // 2
    assert torch.equal(filters[:half], -filters[half:])
    responses = F.conv2d(images, filters[:half]).transpose(0, 1).flatten(1)
    moment = responses @ responses.T / responses.shape[1]
    torch.testing.assert_close(moment, torch.eye(half), rtol=0, atol=0.12)
    raw = _patches(images)
    assert float((raw.T @ raw / len(raw) - torch.eye(half)).abs().max()) > 0.5  # there was something to whiten


def test_whitening_is_drawn_by_its_seed() -> None:
    images = small.images(20)
    assert torch.equal(whitening_filters(images, seed=1), whitening_filters(images, seed=1))
    assert not torch.equal(whitening_filters(images, seed=1), whitening_filters(images, seed=2))


@pytest.mark.parametrize("guarded", [True, False])
def test_constant_patches_give_bounded_filters(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but MNIST's border: eigenvalues of zero, whose filters only the epsilon bounds."""
    if not guarded:
        monkeypatch.setattr(module, "WHITENING_EPSILON", 0.0)
    largest = float(whitening_filters(torch.full((8, 1, 28, 28), -0.42)).abs().max())
    assert (largest <= 5e-4**-0.5) == guarded


@pytest.mark.parametrize("convolutions", [2, 4])
def test_constant_borders_give_gradients_of_reasonable_size(convolutions: int) -> None:
    """MNIST-like: smooth strokes, clipped, on a wide constant border."""
    strokes = F.interpolate(
        torch.randn(100, 1, 7, 7, generator=torch.Generator().manual_seed(0)), size=20, mode="bilinear"
    )
    images = (F.pad((1.5 * strokes).clamp(0, 1), (4,) * 4) - 0.1307) / 0.3081
    assert images[:, :, :4].unique().numel() == 1
    shape = Shape(channels=1, size=28, classes=4, width=8, convolutions=convolutions)
    net = Network(shape, whitening_filters(images))
    F.cross_entropy(net(images).logits, small.labels(100)).backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert 0 < float(parameter.grad.norm()) < 100, name


def test_initialisation_is_seeded_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (small.network(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)  # changes the global state
    assert torch.equal(first.head.weight, again.head.weight)
    assert torch.equal(first.head.weight, small.network(seed=1).head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_stop_gradient_keeps_the_logits_out_of_the_body() -> None:
    net = small.network()
    stopped, plain = net(small.images(4), True), net(small.images(4), False)
    assert torch.equal(stopped.logits, plain.logits)
    stopped.logits.square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["head.weight"]
