"""Arithmetic for the compiled CPU path: loops over channels, the last axis, that LLVM turns into vector instructions.

Each agrees with its torch counterpart (`randomness`, `F.gelu`, `operators`) up to float32 rounding, as tests check.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import config, njit

log = logging.getLogger(__name__)

# The files that are compiled, or whose constants are.
_HERE = Path(__file__).parent
SOURCES = [*sorted(_HERE.glob("*.py")), _HERE.parent / "operators.py", _HERE.parent / "randomness.py"]


def cache_folder(sources: Sequence[Path], parent: str = "") -> Path:
    """Where compiled functions are stored: a folder for this state of the sources.

    It is in `parent` if given, else next to the sources, in the user's cache or in a temporary folder: the first that
    can be written to. Numba itself watches only the file of a function, not those of the functions that it calls.
    """
    state = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    near, user = sources[0].parent / "__pycache__", Path(os.path.expanduser("~")) / ".cache" / "repsearch"
    for candidate in (Path(parent),) if parent else (near, user):
        folder = candidate / f"numba-{state}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="repsearch-numba-"))


config.CACHE_DIR = str(cache_folder(SOURCES, config.CACHE_DIR))  # type: ignore[attr-defined]  # NUMBA_CACHE_DIR


def announce(function: Any) -> None:
    """Says so in the log where a function's first call is going to compile it, which takes long."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-*.nbi"
    if not function.signatures and not any(Path(config.CACHE_DIR).rglob(name)):  # type: ignore[attr-defined]
        log.info("compiling the search for this machine: about half a minute, once for this version of the code")


F = np.float32
I = np.int32  # noqa: E741
U = np.uint64
_LOW = U(0xFFFFFFFF)

# Fused multiply-add is allowed, reordering is not. error_model: a check for division by zero would prevent vectors.
FAST = {"contract", "nsz", "nnan", "ninf"}
compiled: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
# Called by compiled functions alone: without the code to call it from Python, which takes long to compile.
_UNWRAPPED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
internal: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", **_UNWRAPPED)
inlined: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", inline="always")
# Without fastmath, even that of the caller.
exact: Callable[..., Any] = njit(nogil=True, fastmath=False, error_model="numpy", cache=True)
reordering: Callable[..., Any] = njit(nogil=True, fastmath=True, error_model="numpy", cache=True)


@inlined
def philox(x0, x1, x2, x3, k0, k1):  # type: ignore[no-untyped-def]
    """`randomness.philox` for one counter: four words (as uint64) from four words and the key's two halves."""
    for _ in range(10):
        p0, p1 = x0 * U(0xD2511F53), x2 * U(0xCD9E8D57)
        x0, x1 = (p1 >> U(32)) ^ x1 ^ k0, p1 & _LOW
        x2, x3 = (p0 >> U(32)) ^ x3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + U(0x9E3779B9)) & _LOW, (k1 + U(0xBB67AE85)) & _LOW
    return x0, x1, x2, x3


@inlined
def _uniform(word):  # type: ignore[no-untyped-def]
    """(0, 1], in steps of 2⁻²⁴."""
    return (F(I(word >> U(8))) + F(0.5)) * F(2.0**-24)


@inlined
def _log(x):  # type: ignore[no-untyped-def]
    """Natural logarithm of a normal positive float32 (Cephes' logf)."""
    bits = F(x).view(np.int32)
    exponent = (bits - I(0x3F3504F3)) >> I(23)
    m = I(bits - (exponent << I(23))).view(np.float32) - F(1)
    z = m * m
    y = F(7.0376836292e-2) * m - F(1.1514610310e-1)
    y = y * m + F(1.1676998740e-1)
    y = y * m - F(1.2420140846e-1)
    y = y * m + F(1.4249322787e-1)
    y = y * m - F(1.6668057665e-1)
    y = y * m + F(2.0000714765e-1)
    y = y * m - F(2.4999993993e-1)
    y = y * m + F(3.3333331174e-1)
    e = F(exponent)
    return m + (y * m * z - F(2.12194440e-4) * e - F(0.5) * z) + F(0.693359375) * e


@inlined
def _box_muller(word_radius, word_angle):  # type: ignore[no-untyped-def]
    """Two standard normals from two words: r cos θ, r sin θ; θ = 2π u is reduced to a quarter turn (Cephes' sinf)."""
    radius = np.sqrt(F(-2) * _log(_uniform(word_radius)))
    u = _uniform(word_angle)
    quarter = I(F(4) * u + F(0.5))
    a = (u - F(0.25) * F(quarter)) * F(6.283185307179586)
    z = a * a
    sine = ((F(-1.9515295891e-4) * z + F(8.3321608736e-3)) * z - F(1.6666654611e-1)) * z * a + a
    cosine = (F(2.443315711809948e-5) * z - F(1.388731625493765e-3)) * z + F(4.166664568298827e-2)
    cosine = cosine * z * z - F(0.5) * z + F(1)
    odd = (quarter & I(1)) != 0
    x, y = (sine if odd else cosine), (cosine if odd else sine)
    x = -x if ((quarter + I(1)) & I(2)) != 0 else x
    y = -y if (quarter & I(2)) != 0 else y
    return radius * x, radius * y


@compiled
def normals(out, height, width, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """`randomness.Stream.normals` of one candidate, into out [≥ height · width + 3, channels]."""
    blocks = (width + 3) // 4
    for h in range(height):
        for q in range(blocks):
            s = h * width + 4 * q  # the surplus of a row is overwritten by the next row
            for c in range(out.shape[1]):
                w0, w1, w2, w3 = philox(U((c * height + h) * blocks + q), slot, image, time, k0, k1)
                a, b = _box_muller(w0, w1)
                d, e = _box_muller(w2, w3)
                out[s, c], out[s + 1, c], out[s + 2, c], out[s + 3, c] = a, b, d, e


@compiled
def normals_by_channel(out, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """As `normals` of one position, into out [channels]."""
    for c in range(len(out)):
        w0, w1, _, _ = philox(U(c), slot, image, time, k0, k1)
        out[c], _ = _box_muller(w0, w1)


@compiled
def normals_by_row(out, drawn, counters, side, slot, image, time, k0, k1):  # type: ignore[no-untyped-def]
    """As `normals`, one row of a narrow map at a time. out: [side, side · C]; drawn: [4, blocks · C], overwritten.

    counters: [blocks · C] uint64, the first row's counters in the order (block of four positions, channel).
    """
    blocks = (side + 3) // 4
    channels = len(counters) // blocks
    for h in range(side):
        for n in range(len(counters)):
            w0, w1, w2, w3 = philox(counters[n] + U(h * blocks), slot, image, time, k0, k1)
            a, b = _box_muller(w0, w1)
            d, e = _box_muller(w2, w3)
            drawn[0, n], drawn[1, n], drawn[2, n], drawn[3, n] = a, b, d, e
        for position in range(side):
            row, numbers = out[h, position * channels :], drawn[position % 4, position // 4 * channels :]
            for c in range(channels):
                row[c] = numbers[c]


@inlined
def _gelu(x):  # type: ignore[no-untyped-def]
    """x Φ(x), with erf as a ratio of two polynomials (error below 1e-6)."""
    t = x * F(0.7071067811865476)
    t = t if t > F(-4) else F(-4)
    t = t if t < F(4) else F(4)
    z = t * t
    p = F(-2.72614225801306e-10) * z + F(2.77068142495902e-08)
    p = p * z - F(2.10102402082508e-06)
    p = p * z - F(5.69250639462346e-05)
    p = p * z - F(7.34990630326855e-04)
    p = p * z - F(2.95459980854025e-03)
    p = p * z - F(1.60960333262415e-02)
    q = F(-1.45660718464996e-05) * z - F(2.13374055278905e-04)
    q = q * z - F(1.68282697438203e-03)
    q = q * z - F(7.37332916720468e-03)
    q = q * z - F(1.42647390514189e-02)
    return F(0.5) * x * (F(1) + t * p / q)


@compiled
def copy(x, out):  # type: ignore[no-untyped-def]
    for s in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[s, c] = x[s, c]


@compiled
def norm_gelu_twice(x, count, first_scale, first_shift, second_scale, second_shift):  # type: ignore[no-untyped-def]
    """x[:count] ← GELU(BN₂(GELU(BN₁(x)))), in place, each BN one scale and shift per lane: a block without pooling."""
    for s in range(count):
        for n in range(x.shape[1]):
            y = _gelu(x[s, n] * first_scale[n] + first_shift[n])
            x[s, n] = _gelu(y * second_scale[n] + second_shift[n])


@compiled
def max_pool(x, side, out, out_side):  # type: ignore[no-untyped-def]
    """2 × 2 max-pooling of x [side², C] into out: the first out_side × out_side of its (side // 2)² positions."""
    for i in range(out_side):
        for j in range(out_side):
            s = 2 * i * side + 2 * j
            for c in range(x.shape[1]):
                a = x[s, c] if x[s, c] > x[s + 1, c] else x[s + 1, c]
                b = x[s + side, c] if x[s + side, c] > x[s + side + 1, c] else x[s + side + 1, c]
                out[i * out_side + j, c] = a if a > b else b


@compiled
def _smooth_axis(x, out, matrix, reach, lines, step, line):  # type: ignore[no-untyped-def]
    """One axis of `smooth`: out[j] = Σ_t matrix[j, t] x[t], t within `reach` of j, four terms at a time.

    Element j of line i is row i · line + j · step of x and out.
    """
    side = matrix.shape[0]
    for i in range(lines):
        for j in range(side):
            low, high = max(0, j - reach), min(side, j + reach + 1)
            to = i * line + j * step
            for t in range(low, high, 4):
                t1, t2, t3 = min(t + 1, high - 1), min(t + 2, high - 1), min(t + 3, high - 1)
                m0 = matrix[j, t]
                m1 = matrix[j, t1] if t + 1 < high else F(0)
                m2 = matrix[j, t2] if t + 2 < high else F(0)
                m3 = matrix[j, t3] if t + 3 < high else F(0)
                s0, s1, s2, s3 = i * line + t * step, i * line + t1 * step, i * line + t2 * step, i * line + t3 * step
                if t == low:
                    for c in range(x.shape[1]):
                        out[to, c] = (m0 * x[s0, c] + m1 * x[s1, c]) + (m2 * x[s2, c] + m3 * x[s3, c])
                else:
                    for c in range(x.shape[1]):
                        out[to, c] += (m0 * x[s0, c] + m1 * x[s1, c]) + (m2 * x[s2, c] + m3 * x[s3, c])


@compiled
def _smooth_along_rows(x, out, taps, reach, edge, channels):  # type: ignore[no-untyped-def]
    """The other axis of a narrow map, where a row of x is [side · C]: a neighbour is `channels` lanes away.

    taps: [2 · n ≥ 2 · reach + 1, side · C], the weights of the neighbours -reach … reach, then zeros.
    edge: [≥ side · C + len(taps) · C], overwritten by a row between zeros.
    """
    lanes = x.shape[1]
    for n in range(len(edge)):
        edge[n] = F(0)
    for h in range(x.shape[0]):
        padded_row = edge[reach * channels :]  # slices: an index that might be negative would prevent vectors
        for n in range(lanes):
            padded_row[n] = x[h, n]
        for d in range(0, len(taps), 2):
            first, second = edge[d * channels :], edge[(d + 1) * channels :]
            if d == 0:
                for n in range(lanes):
                    out[h, n] = taps[d, n] * first[n] + taps[d + 1, n] * second[n]
            else:
                for n in range(lanes):
                    out[h, n] += taps[d, n] * first[n] + taps[d + 1, n] * second[n]


@compiled
def smooth(x, out, between, matrix, reach, taps, edge):  # type: ignore[no-untyped-def]
    """`operators.smooth`: A X Aᵀ for the banded A = `matrix` [side, side], A_jt = 0 where |j - t| > reach.

    x, out, between: [side², C], or [side, side · C] for narrow maps; x and out may be one array. taps, edge: see
    `_smooth_along_rows`, for narrow maps.
    """
    side = matrix.shape[0]
    if x.shape[0] == side and side > 1:
        _smooth_along_rows(x, between, taps, reach, edge, x.shape[1] // side)
        _smooth_axis(between, out, matrix, reach, 1, 1, 0)
    else:
        _smooth_axis(x, between, matrix, reach, side, 1, side)
        _smooth_axis(between, out, matrix, reach, side, side, 1)


@compiled
def moments(x, mean, variance, centre, total, squares):  # type: ignore[no-untyped-def]
    """Mean and variance of each channel over the map x, into mean and variance [C].

    x: [rows, lanes], lane n holding channel n mod C; centre, total, squares: [lanes], overwritten. Sums are taken
    around one of the channel's values, so that a small variance around a large mean keeps its digits.
    """
    rows, lanes, channels = x.shape[0], x.shape[1], len(mean)
    middle = (rows // 2, lanes // channels // 2 * channels)
    value = x[middle[0], middle[1] :]
    for start in range(0, lanes, channels):
        part = centre[start:]
        for c in range(channels):
            part[c] = value[c]
    for n in range(lanes):
        total[n] = F(0)
        squares[n] = F(0)
    threes = rows // 3 * 3
    for s in range(0, threes, 3):
        for n in range(lanes):
            a, b, d = x[s, n] - centre[n], x[s + 1, n] - centre[n], x[s + 2, n] - centre[n]
            total[n] += a + b + d
            squares[n] += a * a + b * b + d * d
    for s in range(threes, rows):
        for n in range(lanes):
            a = x[s, n] - centre[n]
            total[n] += a
            squares[n] += a * a
    for start in range(channels, lanes, channels):
        for c in range(channels):
            total[c] += total[start + c]
            squares[c] += squares[start + c]
    share = F(channels) / F(rows * lanes)
    for c in range(channels):
        shift = total[c] * share
        mean[c] = centre[c] + shift
        square = squares[c] * share - shift * shift
        variance[c] = square if square > F(0) else F(0)


@reordering
def head_logits(features, weights, logits):  # type: ignore[no-untyped-def]
    """features [n, D] · weights [K, D]ᵀ → logits [n, K]; n a multiple of 4: four rows share a read of weights."""
    for n in range(0, features.shape[0], 4):
        for k in range(weights.shape[0]):
            a = b = c = d = F(0)
            for j in range(weights.shape[1]):
                w = weights[k, j]
                a += w * features[n, j]
                b += w * features[n + 1, j]
                c += w * features[n + 2, j]
                d += w * features[n + 3, j]
            logits[n, k], logits[n + 1, k], logits[n + 2, k], logits[n + 3, k] = a, b, c, d
