"""Arithmetic for the Triton kernels: normal numbers, GELU and smoothing, as `cpu.kernels` has them for the CPU."""

import triton
import triton.language as tl
from triton.language.random import philox_impl

_TURN = tl.constexpr(6.283185307179586)


@triton.jit
def normals_of(word_radius, word_angle):  # type: ignore[no-untyped-def]
    """Two standard normals from two words, r cos 2πu and r sin 2πu (Box–Muller), u reduced to a quarter turn."""
    u = ((word_radius >> 8).to(tl.int32).to(tl.float32) + 0.5) * 5.9604644775390625e-8
    radius = tl.sqrt(-2.0 * tl.log(u))
    u = ((word_angle >> 8).to(tl.int32).to(tl.float32) + 0.5) * 5.9604644775390625e-8
    quarter = (4.0 * u + 0.5).to(tl.int32)
    a = (u - 0.25 * quarter.to(tl.float32)) * _TURN
    z = a * a
    sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * a + a
    cosine = (2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2
    cosine = cosine * z * z - 0.5 * z + 1.0
    odd = (quarter & 1) != 0
    x = tl.where(odd, sine, cosine)
    y = tl.where(odd, cosine, sine)
    x = tl.where(((quarter + 1) & 2) != 0, -x, x)
    y = tl.where((quarter & 2) != 0, -y, y)
    return radius * x, radius * y


@triton.jit
def gelu(x):  # type: ignore[no-untyped-def]
    """x Φ(x) = max(x, 0) - u Φ(-u), u = |x|; Φ(-u) is the 16th power of a polynomial (error below 1e-6)."""
    u = tl.minimum(tl.abs(x), 5.1)
    p = -4.552063546725549e-05 * u + 0.0006922389729879797
    p = p * u - 0.0013962512603029609
    p = p * u - 0.017767148092389107
    p = p * u - 0.04777985066175461
    p = p * u + 0.9576057195663452
    p *= p
    p *= p
    p *= p
    p *= p
    return tl.maximum(x, 0.0) - u * p


@triton.jit
def smoothed(x, matrix, T: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """A X Aᵀ per channel, X a padded map: x is [T · T, BLOCK], the rows of X one after the other.

    A product of the tensor cores has at least 16 terms: below that, G = 16 / T parts of an axis stand side by side.
    matrix: [G · T, G · T], A padded with zeros to [T, T], G times on the diagonal.
    """
    G: tl.constexpr = (16 + T - 1) // T
    S: tl.constexpr = T // G
    i = tl.arange(0, G * T)
    a = tl.load(matrix + i[:, None] * (G * T) + i[None, :])
    y = tl.permute(tl.reshape(x, (T, G, S, BLOCK)), (1, 0, 2, 3))
    y = tl.dot(a, tl.reshape(y, (G * T, S * BLOCK)), input_precision=PRECISION)
    y = tl.permute(tl.reshape(y, (G, G, S, S, BLOCK)), (1, 0, 3, 2, 4))
    y = tl.dot(a, tl.reshape(y, (G * T, S * BLOCK)), input_precision=PRECISION)
    y = tl.permute(tl.reshape(y, (G, G, S, S, BLOCK)), (0, 3, 1, 2, 4))
    return tl.reshape(y, (T * T, BLOCK))


@triton.jit
def element_normals(n, image, clock, c, SIDE: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """`randomness.Stream.normals` of child n, height = width = SIDE, as a square tile: four neighbours per counter."""
    q = tl.arange(0, T * T // 4)
    row = (c[None, :] * SIDE + (q // (T // 4))[:, None]) * ((SIDE + 3) // 4) + (q % (T // 4))[:, None]
    time, image = tl.load(clock).to(tl.uint32), image.to(tl.uint32)
    key0, key1 = tl.load(clock + 1).to(tl.uint32), tl.load(clock + 2).to(tl.uint32)
    w0, w1, w2, w3 = philox_impl(row.to(tl.uint32), (n * 2).to(tl.uint32), image, time, key0, key1)
    z0, z1 = normals_of(w0, w1)
    z2, z3 = normals_of(w2, w3)
    z = tl.join(tl.join(z0, z1), tl.join(z2, z3))  # [q, channel, z0 or z1, first or second pair]
    return tl.reshape(tl.permute(z, (0, 3, 2, 1)), (T * T, BLOCK))
