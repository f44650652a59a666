"""The training step's Triton kernels against plain torch, in Triton's interpreter; their launches compiled for a GPU.

`test_in_the_interpreter` starts the interpreted tests. By hand: TRITON_INTERPRET=1 pytest tests/learning/test_gpu.py
"""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.learning import training
from repsearch.learning.objective import block_losses
from repsearch.learning.settings import Training, Variant
from repsearch.learning.training import Split, train
from repsearch.network import BatchNorm
from tests import small
from tests.triton_without_gpu import INTERPRETED, compile_instead, compiled, interpreted

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")
if INTERPRETED and find_spec("triton"):
    from repsearch.learning.gpu import functions as gpu

TYPES = {"float32": (torch.float32, 2e-5), "bfloat16": (torch.bfloat16, 2e-2)}


def random(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


def plain(x: Tensor, bias: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """GELU(BN(x)) in double precision, and the gradients of x and of the bias."""
    norm = BatchNorm(x.shape[1]).double()
    x = x.double().requires_grad_()
    with torch.no_grad():
        norm.bias.copy_(bias)
    y = F.gelu(norm(x))
    return y, *torch.autograd.grad(y, (x, norm.bias), gradient.double())


def check(x: Tensor, bias: Tensor, gradient: Tensor, tolerance: float) -> None:
    variable, shift = x.clone().requires_grad_(), bias.clone().requires_grad_()
    y = gpu.norm_gelu(variable, shift, 1e-5)
    assert y.dtype == x.dtype and y.is_contiguous(memory_format=torch.channels_last)
    computed = (y, *torch.autograd.grad(y, (variable, shift), gradient))
    assert computed[1].dtype == x.dtype and computed[2].dtype == torch.float32
    for fast, exact in zip(computed, plain(x, bias, gradient), strict=True):
        scale = max(1.0, float(exact.detach().abs().max()))
        torch.testing.assert_close(fast.double(), exact, rtol=0, atol=tolerance * scale)


class TestInterpreted:
    __test__ = INTERPRETED

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize(
        "shape", [(5, 6, 7, 7), (3, 256, 3, 3), (6, 300, 1, 1), (70, 1, 4, 4), (1, 3, 1, 3)], ids=str
    )
    def test_norm_gelu_is_plain_torch_s(self, shape: tuple[int, ...], dtype: str) -> None:
        kind, tolerance = TYPES[dtype]
        scale = 1 + random(shape[1], seed=1).abs()[:, None, None]
        x = (random(*shape) * scale + 3 * random(shape[1], seed=2)[:, None, None]).to(kind)
        check(x, random(shape[1], seed=3), random(*shape, seed=4).to(kind), tolerance)

    def test_many_groups_of_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Their number is no power of two, and the last one has fewer rows, no whole number of tiles."""
        monkeypatch.setattr(gpu, "_TILE", 32)
        monkeypatch.setattr(gpu, "_PROGRAMS", 7)
        x = random(11, 5, 5, 5)
        assert gpu._division(x)[3] == (7, 40)  # of 275 rows
        check(x, random(5, seed=1), random(11, 5, 5, 5, seed=2), 2e-5)

    def test_a_mean_that_dwarfs_the_spread(self) -> None:
        x = 1000 + random(40, 4, 6, 6)
        check(x, random(4, seed=1), random(40, 4, 6, 6, seed=2), 1e-3)  # of x itself, only 4 digits are left

    def test_a_constant_channel_passes_no_gradient(self) -> None:
        x, gradient = random(6, 4, 5, 5), random(6, 4, 5, 5, seed=1)
        x[:, 1], x[:, 2] = 7.0, 0.009 * x[:, 2]
        check(x, random(4, seed=2), gradient, 2e-5)
        x.requires_grad_()
        gpu.norm_gelu(x, torch.zeros(4), 1e-5).backward(gradient)
        assert x.grad is not None
        assert (x.grad[:, 1:3] == 0).all() and (x.grad[:, 3] != 0).any()

    def test_any_order_in_memory(self) -> None:
        x, gradient = random(4, 6, 5, 5).contiguous(), random(4, 6, 5, 5, seed=1).contiguous()
        check(x, random(6, seed=2), gradient, 2e-5)
        check(x, random(6, seed=2), torch.ones(()).expand(4, 6, 5, 5), 2e-5)

    def test_the_same_bits_again(self) -> None:
        x = random(9, 6, 5, 5)
        assert torch.equal(*(gpu.norm_gelu(x, torch.zeros(6), 1e-5) for _ in range(2)))

    @pytest.mark.parametrize("before_gelu", [False, True])
    def test_a_network_with_it_is_the_same(self, before_gelu: bool) -> None:
        net, fused = small.network(convolutions=4), small.network(convolutions=4)
        for module in fused.modules():
            if isinstance(module, BatchNorm):
                module.fused = gpu.norm_gelu
        images = small.images(6)
        gradients = []
        for network in (net, fused):
            out = network(images, False, before_gelu)
            (out.logits.square().sum() + sum(maps.square().mean() for maps in out.maps)).backward()
            gradients.append({name: p.grad for name, p in network.named_parameters() if p.requires_grad})
        for name, gradient in gradients[0].items():
            assert gradient is not None
            close = 1e-3 * float(gradient.abs().max())
            torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=close)

    @pytest.mark.parametrize("changes", [{}, {"compare": "before_gelu"}, {"squared_norm": "sum"}], ids=str)
    def test_a_run_with_it_is_the_same(self, changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
        images = small.images(20).contiguous(memory_format=torch.channels_last)
        targets = {f"block{i}": random(20, 6, side, side, seed=i) for i, side in enumerate((8, 4, 2))}
        split = Split(images, small.labels(20), {**targets, "logits": random(20, small.CLASSES)})
        few = Split(split.images[:8], split.labels[:8], {})
        settings = Training(epochs=2, batch=10, learning_rate=1e-3, learning_rate_scaling="raw", **changes)
        rows, called = [], []
        real = gpu.squared_errors
        monkeypatch.setattr(gpu, "squared_errors", lambda *arguments: called.append(1) or real(*arguments))
        for wanted in (False, True):
            monkeypatch.setattr(training, "_compiled", lambda device, wanted=wanted: wanted)
            net = small.network(convolutions=4)
            rows += [train(net, split, few, few, settings, Variant("targets", (0, 1, 2)), seed=0).epochs]
        assert len(called) == 2 * 2 * 3  # epochs, batches, blocks
        for plain, fused in zip(*rows, strict=True):
            assert fused == pytest.approx(plain, rel=1e-4)

    def test_running_statistics_are_plain_torch_s(self) -> None:
        norm = BatchNorm(6)
        norm.fused = lambda *arguments: pytest.fail("not with the batch's statistics")
        norm.register_buffer("running_mean", torch.zeros(6))
        norm.register_buffer("running_var", torch.ones(6))
        norm.track_running_stats = True
        norm.gelu(random(4, 6, 3, 3))
        norm.eval().gelu(random(4, 6, 3, 3))

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("shape", [(5, 6, 7, 7), (3, 256, 5, 5), (2, 3, 1, 1)], ids=str)
    def test_squared_errors_are_plain_torch_s(self, shape: tuple[int, ...], dtype: str) -> None:
        computed = random(*shape).to(TYPES[dtype][0]).requires_grad_()
        targets, members = random(9, *shape[1:], seed=1).half(), torch.tensor([8, 0, 3, 3, 5])[: shape[0]]
        gradient = random(shape[0], seed=2)
        fast = gpu.squared_errors(computed, targets, members)
        [exact] = block_losses([computed], [targets[members]], "sum")
        torch.testing.assert_close(fast, exact, rtol=1e-5, atol=1e-5)
        pair = [torch.autograd.grad(errors, computed, gradient)[0] for errors in (fast, exact)]
        torch.testing.assert_close(*pair)

    def test_targets_in_another_order_are_refused(self) -> None:
        computed = random(2, 3, 4, 4)
        with pytest.raises(ValueError, match="channels-last"):
            gpu.squared_errors(computed, random(2, 3, 4, 4).contiguous(), torch.arange(2))


@pytest.mark.skipif(INTERPRETED, reason="this is the process that it starts")
def test_in_the_interpreter() -> None:
    interpreted(__file__)


@pytest.mark.skipif(INTERPRETED, reason="needs Triton's compiler")
@pytest.mark.parametrize("dtype", TYPES)
def test_the_launches_compile_for_a_gpu(dtype: str) -> None:
    """Every kernel at width 256 for a GPU of compute capability 9.0; no register spills."""
    usage = compiled(f"{__name__}:compile_launches('{dtype}')")
    if usage is None:
        pytest.skip("Triton's assembler is not here")
    assert {name for name, *_ in usage} == {
        *("moments", "combine_moments", "apply", "gradient_sums", "combine_sums", "apply_gradient"),
        *("errors", "apply_errors"),
    }
    for name, registers, stack, shared in usage:
        assert stack == 0, f"{name} spills registers"
        assert registers <= 255 and shared <= 100_000, name


def compile_launches(dtype: str) -> None:
    from repsearch.learning.gpu import functions as gpu
    from repsearch.learning.gpu import kernels

    gpu.kernels = SimpleNamespace(**compile_instead(kernels))
    x = torch.zeros(250, 256, 15, 15, dtype=getattr(torch, dtype)).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = gpu.norm_gelu(x, torch.zeros(256), 1e-5)
    gpu.squared_errors(y, y.detach().half(), torch.arange(250)).sum().backward()
