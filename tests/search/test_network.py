import pytest
import torch

from repsearch.search.network import SearchNetwork, max_pool
from tests import small


@pytest.fixture
def net() -> SearchNetwork:
    return small.search_network(head_bias=True)


def test_all_convolutions_but_the_first_are_skipped(net: SearchNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped, they change nothing; and they are skipped."""
    maps = torch.randn(3, 2, 6, 8, 8)
    skipped = net.logits(maps, 0, True), net.next_map(maps, 0, True)
    monkeypatch.setattr(net, "_identities", set())
    monkeypatch.setattr(net, "_folded", {})
    dense = net.logits(maps, 0, True), net.next_map(maps, 0, True)
    for without, convolved in zip(skipped, dense, strict=True):
        torch.testing.assert_close(without, convolved)

    fresh, calls, convolve = small.search_network(), [], torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda x, *more, **named: calls.append(x) or convolve(x, *more, **named)
    )
    fresh.logits(fresh.first_map(small.images(2)[None], True), 0, True)
    assert [x.shape[1] for x in calls] == [3, 24]  # whitening and block 0's first


def test_a_changed_network_takes_the_dense_path() -> None:
    plain, changed = small.search_network(), small.shaken(small.search_network())
    maps = torch.randn(3, 1, 6, 8, 8)
    assert not torch.allclose(plain.logits(maps, 0, True), changed.logits(maps, 0, True), atol=1e-3)


def test_batch_statistics_make_it_the_network_that_learns(net: SearchNetwork) -> None:
    images = small.images(5)
    out = net.network.train()(images)
    first = net.first_map(images[:, None], False)[:, 0]
    torch.testing.assert_close(first, out.maps[0])
    torch.testing.assert_close(net.next_map(first[:, None], 0, False)[:, 0], out.maps[1])
    torch.testing.assert_close(net.logits(first[:, None], 0, False)[:, 0], out.logits)
    torch.testing.assert_close(net.logits(out.maps[2][:, None], 2, False)[:, 0], out.logits)


def test_it_does_not_learn(net: SearchNetwork) -> None:
    assert not any(parameter.requires_grad for parameter in net.network.parameters())


@pytest.mark.parametrize("side", [2, 3, 6, 7, 15])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_pool_is_torch_s(side: int, layout: torch.memory_format) -> None:
    x = torch.randn(3, 5, side, side + 1).to(memory_format=layout)
    assert torch.equal(max_pool(x), torch.nn.functional.max_pool2d(x, 2))
