import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence

from repsearch.learning.objective import block_losses, head_loss, search_based_loss
from tests import small


def test_head_loss_is_kl_from_the_searched_to_the_networks_distribution() -> None:
    logits, targets = torch.randn(5, 7), 3 * torch.randn(5, 7)
    loss = head_loss(logits, targets)
    torch.testing.assert_close(loss, kl_divergence(Categorical(logits=targets), Categorical(logits=logits)))
    other = F.kl_div(logits.log_softmax(1), targets.log_softmax(1), reduction="none", log_target=True).sum(1)
    torch.testing.assert_close(loss, other)
    torch.testing.assert_close(head_loss(targets + 4, targets), torch.zeros(5), rtol=0, atol=1e-6)


def test_head_loss_by_hand() -> None:
    """p̂ = (¾, ¼), p = (½, ½)."""
    loss = head_loss(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log())
    expected = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    torch.testing.assert_close(loss[0], expected)


def test_block_losses_mean_and_sum() -> None:
    maps, targets = [torch.zeros(2, 3, 2, 2), torch.zeros(2, 1, 1, 1)], [torch.ones(2, 3, 2, 2), torch.ones(2, 1, 1, 1)]
    targets[0][1] = 2
    assert [loss.tolist() for loss in block_losses(maps, targets, "mean")] == [[1.0, 4.0], [1.0, 1.0]]
    assert [loss.tolist() for loss in block_losses(maps, targets, "sum")] == [[12.0, 48.0], [1.0, 1.0]]


def test_half_precision_targets_are_compared_in_float32() -> None:
    [loss] = block_losses([torch.full((1, 1, 2, 2), 1e-4)], [torch.zeros(1, 1, 2, 2, dtype=torch.float16)])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss[0], torch.tensor(1e-8))


def test_the_whole_objective() -> None:
    blocks, head = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])], torch.tensor([10.0, 20.0])
    assert search_based_loss(blocks, head, 0.5, 2).tolist() == [7.0, 13.5]
    assert search_based_loss(blocks, head, 0.5, 4).tolist() == [6.0, 11.75]
    assert search_based_loss([], head, 0.5, 3).tolist() == [5.0, 10.0]


@pytest.mark.parametrize("supervised", [(), (0, 1, 2), (1, 2)])
def test_what_each_term_teaches(supervised: tuple[int, ...]) -> None:
    """KL: the head alone. Squared error: the body alone, and block 0 through the later blocks where it is skipped."""
    net, images = small.network(convolutions=4), small.images(4)

    def taught(weight: float) -> set[str]:
        net.zero_grad(set_to_none=True)
        out = net(images, True)
        targets = [torch.randn_like(out.maps[block]) for block in supervised]
        blocks = block_losses([out.maps[block] for block in supervised], targets)
        search_based_loss(blocks, head_loss(out.logits, torch.randn(4, 4)), weight, 3).sum().backward()
        return {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 1e-6}

    body = {name for name, p in net.named_parameters() if p.requires_grad and not name.startswith("head")}
    assert any(name.startswith("blocks.0") for name in body)
    assert taught(0.03) == {"head.weight"} | (body if supervised else set())
    if supervised:
        assert taught(0.0) == body
