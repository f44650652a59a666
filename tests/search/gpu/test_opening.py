"""The pass over the first convolution's result, in Triton's interpreter and compiled for a GPU."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from tests.triton_without_gpu import INTERPRETED, compile_instead, compiled, interpreted

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")


class TestInterpreted:
    __test__ = INTERPRETED

    @pytest.mark.parametrize(("count", "channels", "side"), [(3, 256, 5), (2, 6, 31), (1, 70, 2)])
    def test_it_pools_and_activates_twice(self, count: int, channels: int, side: int) -> None:
        from repsearch.search.gpu.opening import pooled

        generator = torch.Generator().manual_seed(0)
        x = torch.randn(count, channels, side, side, generator=generator).bfloat16()
        shift, scale, second = torch.randn(3, channels, generator=generator)
        found = pooled(x, shift, scale, second)
        y = F.gelu(F.max_pool2d(x.double(), 2) + shift[:, None, None])
        expected = F.gelu(y * scale[:, None, None] + second[:, None, None])
        assert found.dtype == torch.float32 and found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-6)


@pytest.mark.skipif(INTERPRETED, reason="this is the process that it starts")
def test_in_the_interpreter() -> None:
    interpreted(__file__)


@pytest.mark.skipif(INTERPRETED, reason="needs Triton's compiler")
def test_it_compiles_for_a_gpu() -> None:
    usage = compiled(f"{__name__}:compile_launches()")
    if usage is None:
        pytest.skip("Triton's assembler is not here")
    assert usage and all(stack == 0 for _, _, stack, _ in usage)


def compile_launches() -> None:
    from repsearch.search.gpu import opening

    opening.pool_twice = SimpleNamespace(**compile_instead(opening)).pool_twice
    opening.pooled(torch.zeros(2, 256, 31, 31).bfloat16(), *torch.zeros(3, 256))
