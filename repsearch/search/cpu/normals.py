"""The normal numbers of `randomness.Stream` for sixteen channels at a time: Philox 4×32-10 and Box–Muller."""

from repsearch.search.cpu.compiling import F, U, compiled, part
from repsearch.search.cpu.lanes import LANES, load, root, store
from repsearch.search.cpu.words import (
    bits,
    from_bits,
    high,
    interleave,
    product,
    ramp,
    signed_shift,
    spread,
    to_lanes,
)

_LOW = U(0xFFFFFFFF)


@compiled
def philox(x0, x1, x2, x3, k0, k1):  # type: ignore[no-untyped-def]
    """`randomness.philox` for one counter: four words (as uint64) from four words and the key's two halves."""
    for _ in range(10):
        p0, p1 = x0 * U(0xD2511F53), x2 * U(0xCD9E8D57)
        x0, x1 = (p1 >> U(32)) ^ x1 ^ k0, p1 & _LOW
        x2, x3 = (p0 >> U(32)) ^ x3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + U(0x9E3779B9)) & _LOW, (k1 + U(0xBB67AE85)) & _LOW
    return x0, x1, x2, x3


@part
def _round(x0, x1, x2, x3, k0, k1):  # type: ignore[no-untyped-def]
    p0, p1 = product(x0, U(0xD2511F53)), product(x2, U(0xCD9E8D57))
    return high(p1) ^ x1 ^ k0, p1, high(p0) ^ x3 ^ k1, p0


@part
def _two_rounds(x, k0, k1, n):  # type: ignore[no-untyped-def]
    x = _round(*x, k0 + U(n) * U(0x9E3779B9), k1 + U(n) * U(0xBB67AE85))
    return _round(*x, k0 + U(n + 1) * U(0x9E3779B9), k1 + U(n + 1) * U(0xBB67AE85))


@part
def _philox_wide(x0, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """`philox` for eight counters (x0, slot, image, time). No loop: LLVM would not unroll it for every processor."""
    x = x0, spread(slot), spread(image), spread(time)
    x = _two_rounds(x, k0, k1, 0)
    x = _two_rounds(x, k0, k1, 2)
    x = _two_rounds(x, k0, k1, 4)
    x = _two_rounds(x, k0, k1, 6)
    return _two_rounds(x, k0, k1, 8)


@part
def _minus_two_log(x):  # type: ignore[no-untyped-def]
    """-2 ln x of normal positive numbers: x = 2ᵉ (1 + f), √½ ≤ 1 + f < √2 (relative error below 1e-7)."""
    shifted = bits(x) - 0x3F3504F3
    exponent = to_lanes(signed_shift(shifted, 23))
    f = from_bits((shifted & 0x7FFFFF) + 0x3F3504F3) - F(1)
    p = f * F(-0.17444710433483124) + F(0.2873368561267853)
    p = p * f + F(-0.2990453243255615)
    p = p * f + F(0.33124786615371704)
    p = p * f + F(-0.39913666248321533)
    p = p * f + F(0.5000414848327637)
    p = p * f + F(-0.6666837334632874)
    p = p * f + F(0.9999997615814209)
    p = p * f + F(-2.0)
    return exponent * F(-1.3862943611198906) + p * f


@part
def _box_muller(radius_words, angle_words):  # type: ignore[no-untyped-def]
    """r cos 2πu and r sin 2πu. With u = ¼ + a or ¾ + a, |a| < ¼, these are ∓ r sin 2πa and ± r cos 2πa."""
    radius = root(_minus_two_log(to_lanes(radius_words >> 8) * F(2.0**-24) + F(2.0**-25)))
    radius = from_bits(bits(radius) ^ (angle_words & 0x80000000))  # u's highest bit: ¼ or ¾
    a = to_lanes(signed_shift((angle_words << 1) ^ 0x80000000, 9)) * F(2.0**-24) + F(2.0**-25)
    z = a * a
    sine = z * F(-39.536705017089844) + F(76.5497817993164)
    sine = sine * z + F(-81.60100555419922)
    sine = sine * z + F(41.34165573120117)
    sine = (sine * z + F(-6.283185005187988)) * a
    cosine = z * F(56.24238204956055) + F(-85.2403335571289)
    cosine = cosine * z + F(64.9345932006836)
    cosine = cosine * z + F(-19.739171981811523)
    cosine = cosine * z + F(0.9999999403953552)
    return radius * sine, radius * cosine


@compiled
def normals(out, words, height, width, channel, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """`randomness.Stream.normals` of one candidate, channels `channel` to `channel` + 15.

    out: [≥ height · width + 3, 16] float32, where the surplus of a row of the map is overwritten by the next row.
    words: [≥ height · ⌈width / 4⌉ · 4, 16] float32, overwritten.
    """
    blocks = (width + 3) // 4
    _draw(words, height * blocks, channel, slot, image, time, k0, k1)
    for h in range(height):
        for q in range(blocks):
            n, s = 4 * (h * blocks + q), h * width + 4 * q
            x, y = _box_muller(bits(load(words, n)), bits(load(words, n + 1)))
            store(out, s, x)
            store(out, s + 1, y)
            x, y = _box_muller(bits(load(words, n + 2)), bits(load(words, n + 3)))
            store(out, s + 2, x)
            store(out, s + 3, y)


@compiled
def _draw(words, counters, channel, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """The words of so many counters of each channel, four after each other; in a loop of its own, to save registers."""
    step = U(counters)  # from a channel's counters to the next one's
    for n in range(counters):
        first = U(channel) * step + U(n)
        a0, a1, a2, a3 = _philox_wide(ramp(first, step + step), slot, image, time, k0, k1)
        b0, b1, b2, b3 = _philox_wide(ramp(first + step, step + step), slot, image, time, k0, k1)
        store(words, 4 * n, from_bits(interleave(a0, b0)))
        store(words, 4 * n + 1, from_bits(interleave(a1, b1)))
        store(words, 4 * n + 2, from_bits(interleave(a2, b2)))
        store(words, 4 * n + 3, from_bits(interleave(a3, b3)))


@compiled
def normals_by_channel(out, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """As `normals` of one position, of all channels: out [blocks of 16 channels, 16]."""
    for block in range(len(out)):
        first = U(LANES * block)
        a0, a1, _, _ = _philox_wide(ramp(first, U(2)), slot, image, time, k0, k1)
        b0, b1, _, _ = _philox_wide(ramp(first + U(1), U(2)), slot, image, time, k0, k1)
        x, _ = _box_muller(interleave(a0, b0), interleave(a1, b1))
        store(out, block, x)
