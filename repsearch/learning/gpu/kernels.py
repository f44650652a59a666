"""The Triton kernels of `functions`. x, y, gradient and result are [rows, C]; a tile is [ROWS, BLOCK]."""

import triton
import triton.language as tl


@triton.jit
def moments(  # type: ignore[no-untyped-def]
    x, parts, rows, share, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """parts [2, C, programs] ← mean, and sum of squared deviations from it, of each program's rows.

    Sums are of deviations from the mean of the first tile, so that a large mean costs no digits.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = program * share
    last = tl.minimum(first + share, rows)
    r = first + tl.arange(0, ROWS)
    real = (r < last)[:, None] & (c < C)[None, :]
    tile = tl.load(x + r.to(tl.int64)[:, None] * C + c[None, :], mask=real, other=0.0).to(tl.float32)
    centre = tl.sum(tile, 0) / tl.minimum(ROWS, last - first).to(tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    squares = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(first, last, ROWS):
        r = start + tl.arange(0, ROWS)
        real = (r < last)[:, None] & (c < C)[None, :]
        tile = tl.load(x + r.to(tl.int64)[:, None] * C + c[None, :], mask=real, other=0.0).to(tl.float32)
        away = tl.where(real, tile - centre[None, :], 0.0)
        total += away
        squares += away * away
    count = (last - first).to(tl.float32)
    away = tl.sum(total, 0) / count
    to = parts + c * programs + program
    tl.store(to, centre + away, mask=c < C)
    tl.store(to + C * programs, tl.maximum(tl.sum(squares, 0) - count * away * away, 0.0), mask=c < C)


@triton.jit
def combine_moments(  # type: ignore[no-untyped-def]
    parts, statistics, rows, share, programs, epsilon, C: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """statistics [2, C] ← mean and 1 / √(σ² + ε) of all rows."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    p = tl.arange(0, PARTS)
    real = (c < C)[:, None] & (p < programs)[None, :]
    at = parts + c[:, None] * programs + p[None, :]
    count = tl.maximum(tl.minimum(share, rows - p * share), 0).to(tl.float32)
    means = tl.load(at, mask=real, other=0.0)
    mean = tl.sum(means * count[None, :], 1) / rows
    away = tl.where(real, means - mean[:, None], 0.0)
    squares = tl.load(at + C * programs, mask=real, other=0.0) + count[None, :] * away * away
    tl.store(statistics + c, mean, mask=c < C)
    tl.store(statistics + C + c, 1.0 / tl.sqrt(tl.sum(squares, 1) / rows + epsilon), mask=c < C)


@triton.jit
def apply(  # type: ignore[no-untyped-def]
    x, bias, statistics, y, rows, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """y ← GELU of the normalised rows and the bias."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = (r < rows)[:, None] & (c < C)[None, :]
    at = r.to(tl.int64)[:, None] * C + c[None, :]
    mean, rate, shift = channels(bias, statistics, c, C)
    z = (tl.load(x + at, mask=real, other=0.0).to(tl.float32) - mean) * rate + shift
    tl.store(y + at, z * normal_distribution(z)[0], mask=real)


@triton.jit
def gradient_sums(  # type: ignore[no-untyped-def]
    x, bias, statistics, gradient, parts, rows, share, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """parts [2, C, programs] ← Σ ∂z and Σ ∂z · normalised x of each program's rows, z being what the GELU is of."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = program * share
    last = tl.minimum(first + share, rows)
    mean, rate, shift = channels(bias, statistics, c, C)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    products = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(first, last, ROWS):
        r = start + tl.arange(0, ROWS)
        real = (r < last)[:, None] & (c < C)[None, :]
        at = r.to(tl.int64)[:, None] * C + c[None, :]
        normal = (tl.load(x + at, mask=real, other=0.0).to(tl.float32) - mean) * rate
        before = before_gelu(tl.load(gradient + at, mask=real, other=0.0).to(tl.float32), normal + shift)
        total += before
        products += before * normal
    to = parts + c * programs + program
    tl.store(to, tl.sum(total, 0), mask=c < C)
    tl.store(to + C * programs, tl.sum(products, 0), mask=c < C)


@triton.jit
def combine_sums(parts, sums, programs, C: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """sums [2, C] ← those of all rows."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    p = tl.arange(0, PARTS)
    real = (c < C)[:, None] & (p < programs)[None, :]
    at = parts + c[:, None] * programs + p[None, :]
    tl.store(sums + c, tl.sum(tl.load(at, mask=real, other=0.0), 1), mask=c < C)
    tl.store(sums + C + c, tl.sum(tl.load(at + C * programs, mask=real, other=0.0), 1), mask=c < C)


@triton.jit
def apply_gradient(  # type: ignore[no-untyped-def]
    x, bias, statistics, gradient, sums, result, rows, constant,
    C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """result ← ∂x. A channel whose rate exceeds `constant` passes no gradient."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = (r < rows)[:, None] & (c < C)[None, :]
    at = r.to(tl.int64)[:, None] * C + c[None, :]
    mean, rate, shift = channels(bias, statistics, c, C)
    normal = (tl.load(x + at, mask=real, other=0.0).to(tl.float32) - mean) * rate
    before = before_gelu(tl.load(gradient + at, mask=real, other=0.0).to(tl.float32), normal + shift)
    average = tl.load(sums + c, mask=c < C, other=0.0)[None, :] / rows
    slope = tl.load(sums + C + c, mask=c < C, other=0.0)[None, :] / rows
    passed = tl.where(rate > constant, 0.0, rate * (before - average - normal * slope))
    tl.store(result + at, passed, mask=real)


@triton.jit
def channels(bias, statistics, c, C: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mean, rate and bias, [1, channels] each."""
    mean = tl.load(statistics + c, mask=c < C, other=0.0)
    rate = tl.load(statistics + C + c, mask=c < C, other=0.0)
    return mean[None, :], rate[None, :], tl.load(bias + c, mask=c < C, other=0.0)[None, :]


@triton.jit
def before_gelu(gradient, z):  # type: ignore[no-untyped-def]
    """The gradient times GELU'(z) = Φ(z) + z φ(z)."""
    below, density = normal_distribution(z)
    return gradient * (below + z * density)


@triton.jit
def normal_distribution(z):  # type: ignore[no-untyped-def]
    """Φ(z) and φ(z). Abramowitz and Stegun 26.2.17: Φ within 7.5e-8.

    Both together take 16 instructions. With the library's erf and exp, twice as many, arithmetic would take longer than
    memory does.
    """
    density = 0.3989422804014327 * tl.exp2(-0.7213475204444817 * z * z)
    r = tl.rsqrt(1.0 + 0.2316419 * tl.abs(z))  # a reciprocal square root is one instruction, a division is eight
    t = r * r
    p = 1.330274429 * t - 1.821255978
    p = p * t + 1.781477937
    p = p * t - 0.356563782
    p = p * t + 0.319381530
    tail = p * t * density
    return tl.where(z < 0.0, tail, 1.0 - tail), density


@triton.jit
def errors(computed, targets, members, errors, numbers, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """errors ← the squared error of each example. Grid: (B,)."""
    b = tl.program_id(0).to(tl.int64)
    computed += b * numbers
    targets += tl.load(members + b) * numbers
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, numbers, BLOCK):
        i = start + tl.arange(0, BLOCK)
        away = tl.load(computed + i, mask=i < numbers, other=0.0).to(tl.float32)
        away -= tl.load(targets + i, mask=i < numbers, other=0.0).to(tl.float32)
        total += away * away
    tl.store(errors + b, tl.sum(total, 0))


@triton.jit
def apply_errors(computed, targets, members, gradient, result, numbers, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """result ← the gradient of `computed`. Grid: (B, blocks of numbers)."""
    b = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    away = tl.load(computed + b * numbers + i, mask=i < numbers, other=0.0).to(tl.float32)
    at = targets + tl.load(members + b) * numbers + i
    away -= tl.load(at, mask=i < numbers, other=0.0).to(tl.float32)
    tl.store(result + b * numbers + i, 2.0 * tl.load(gradient + b) * away, mask=i < numbers)
