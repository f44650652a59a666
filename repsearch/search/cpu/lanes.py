"""Sixteen float32 numbers as one value in functions compiled by Numba, and GELU of them.

Loops over the last axis are vectorised by LLVM one array at a time; a computation of many steps whose intermediate
values stay in registers needs a vector type, which Numba has not. A `Lanes` value is LLVM's <16 x float>: one register
of AVX-512, two of AVX2, four of SSE or NEON. It exists in compiled functions alone and can't be returned to Python.

    load(x, i), store(x, i, value)   x[i, :] of a C-contiguous float32 array whose last axis has 16 numbers; i is an
                                     integer, or a tuple of integers for an array of more axes; it isn't checked
    broadcast(x, i)                  sixteen times the number x[i] of a float32 array; i is not checked either
    fill(number)                     sixteen times a float32 number
    + - *                            of two Lanes, or of Lanes and a float32 number
    larger, smaller, magnitude, root per lane: maximum, minimum, absolute value, square root
    total(value)                     the sum of the lanes, a float32, added pairwise
    gelu(value)                      x Φ(x) per lane

As elsewhere in the compiled path (`kernels.compiled`), products and sums may be fused, and NaN and infinity give
undefined results: callers look for them.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from repsearch.search.cpu.kernels import FAST, F

LANES = 16
_FLAGS = tuple(FAST)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)

# A small function on Lanes, which becomes a part of its callers.
part: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", forceinline=True)
_intrinsic: Callable[..., Callable[..., Any]] = intrinsic  # whose functions lack the first argument when called


class Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__("Lanes")


lanes = Lanes()


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _indices(context, builder, kind, value):  # type: ignore[no-untyped-def]
    """An integer or a tuple of integers as a list of 64-bit integers."""
    parts = cgutils.unpack_tuple(builder, value) if isinstance(kind, types.BaseTuple) else [value]
    return [context.cast(builder, part, kind, types.intp) for part, kind in zip(parts, _kinds(kind), strict=True)]


def _kinds(index):  # type: ignore[no-untyped-def]
    """The types of the integers of an index."""
    return [*getattr(index, "types", [index])]  # of a tuple; of an integer


def _pointer(context, builder, signature, args, last):  # type: ignore[no-untyped-def]
    """Where x[i] lies. last: the known size of the last axis, which `i` does not index; 1: `i` indexes all axes."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    sizes = cgutils.unpack_tuple(builder, array.shape)
    offset, *others = _indices(context, builder, signature.args[1], args[1])
    for size, index in zip(sizes[1:], others, strict=False):
        offset = builder.add(builder.mul(offset, size), index)
    return builder.gep(array.data, [builder.mul(offset, ir.Constant(offset.type, last))])


def _checked(array, index, axes):  # type: ignore[no-untyped-def]
    """Whether x[index] leaves `axes` axes of a C-contiguous float32 array."""
    kinds = _kinds(index)
    fits = isinstance(array, types.Array) and array.layout == "C" and array.dtype == types.float32
    return fits and array.ndim == len(kinds) + axes and all(isinstance(kind, types.Integer) for kind in kinds)


@_intrinsic
def load(typing, x, i):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = builder.bitcast(_pointer(context, builder, signature, args, LANES), _VECTOR.as_pointer())
        return builder.load(pointer, align=4)

    return (lanes(x, i), lower) if _checked(x, i, 1) else None


@_intrinsic
def store(typing, x, i, value):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = builder.bitcast(_pointer(context, builder, signature, args, LANES), _VECTOR.as_pointer())
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return (types.void(x, i, value), lower) if _checked(x, i, 1) and value is lanes else None


def _fill(builder, number):  # type: ignore[no-untyped-def]
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


@_intrinsic
def broadcast(typing, x, i):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _fill(builder, builder.load(_pointer(context, builder, signature, args, 1)))

    return (lanes(x, i), lower) if _checked(x, i, 0) else None


@_intrinsic
def fill(typing, number):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return _fill(builder, args[0])

    return (lanes(types.float32), lower) if number == types.float32 else None


def _arithmetic(symbol: Callable[..., Any], instruction: str) -> None:
    """+, - or * of Lanes, or of Lanes and a number."""

    @type_callable(symbol)
    def of(context):  # type: ignore[no-untyped-def]
        def result(a, b):  # type: ignore[no-untyped-def]
            return lanes if lanes in (a, b) and {a, b} <= {lanes, types.float32} else None

        return result

    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a, b = (x if kind == lanes else _fill(builder, x) for x, kind in zip(args, signature.args, strict=True))
        return getattr(builder, instruction)(a, b, flags=_FLAGS)

    for kinds in ((lanes, lanes), (lanes, types.float32), (types.float32, lanes)):
        lower_builtin(symbol, *kinds)(lower)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _choice(comparison: str) -> Callable[..., Any]:
    @_intrinsic
    def choice(typing, a, b):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.select(builder.fcmp_ordered(comparison, *args, flags=_FLAGS), *args)

        return (lanes(a, b), lower) if a is lanes and b is lanes else None

    return choice


larger, smaller = _choice(">"), _choice("<")


def _llvm_function(name: str) -> Callable[..., Any]:
    @_intrinsic
    def function(typing, a):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind = ir.FunctionType(_VECTOR, [_VECTOR])
            declared = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
            return builder.call(declared, args)

        return (lanes(a), lower) if a is lanes else None

    return function


magnitude, root = _llvm_function("fabs"), _llvm_function("sqrt")


@_intrinsic
def total(typing, a):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        (value,), count = args, LANES
        while count > 1:
            count //= 2
            halves = [range(count), range(count, 2 * count)]
            kind = ir.VectorType(_INDEX, count)
            low, high = (builder.shuffle_vector(value, value, ir.Constant(kind, list(half))) for half in halves)
            value = builder.fadd(low, high, flags=_FLAGS)
        return builder.extract_element(value, ir.Constant(_INDEX, 0))

    return (types.float32(a), lower) if a is lanes else None


@part
def gelu(x):  # type: ignore[no-untyped-def]
    """x Φ(x) = max(x, 0) - u Φ(-u), u = |x|, with Φ(-u) = p(u)¹⁶ for a polynomial p of degree 5 (error below 1e-6).

    Beyond 5.1, u Φ(-u) is below 1e-6.
    """
    u = smaller(magnitude(x), fill(F(5.1)))
    p = u * F(-4.552063546725549e-05) + F(0.0006922389729879797)
    p = p * u + F(-0.0013962512603029609)
    p = p * u + F(-0.017767148092389107)
    p = p * u + F(-0.04777985066175461)
    p = p * u + F(0.9576057195663452)
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return larger(x, fill(F(0))) - u * p
