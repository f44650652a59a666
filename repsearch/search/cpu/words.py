"""Sixteen 32-bit words as one value in functions compiled by Numba, for random numbers (compare `lanes`).

`Words` is LLVM's <16 x i32>. A product of two words has 64 bits, so that Philox works on `Wide` values, <8 x i64>:
eight words with anything in the high halves, which no operation looks at except `high`.

    ramp(start, step)        Wide: start + step · (0, 1, … 7), all uint64
    spread(number)           Wide: eight times a uint64
    product(a, number)       Wide: the 64-bit products of eight words and a number below 2³²
    high(a)                  Wide: the high halves of all 64 bits
    a ^ b                    of two Wide, or of a Wide and a uint64
    interleave(a, b)         Words: a₀, b₀, a₁, b₁, … of two Wide
    + - & ^ << >>            of two Words, or of Words and an integer; >> brings in zeros
    signed_shift(w, n)       Words: to the right by n bits, bringing in copies of the sign
    to_lanes(w)              Lanes: the words, as signed integers, rounded to float32
    bits(x), from_bits(w)    Lanes to Words and back, bit by bit
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from repsearch.search.cpu.lanes import LANES, lanes

_intrinsic: Callable[..., Callable[..., Any]] = intrinsic  # whose functions lack the first argument when called
_WIDE = ir.VectorType(ir.IntType(64), LANES // 2)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


class Words(types.Type):
    def __init__(self) -> None:
        super().__init__("Words")


class Wide(types.Type):
    def __init__(self) -> None:
        super().__init__("Wide")


words, wide = Words(), Wide()


@register_model(Words)
class _WordsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WORDS)


@register_model(Wide)
class _WideModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WIDE)


def _constant(kind, numbers):  # type: ignore[no-untyped-def]
    return ir.Constant(kind, [ir.Constant(kind.element, number) for number in numbers])


def _fill(builder, kind, number):  # type: ignore[no-untyped-def]
    """The vector whose elements are all `number`, an integer of any width."""
    width = kind.element.width
    if number.type.width != width:
        number = (builder.trunc if number.type.width > width else builder.zext)(number, kind.element)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    mask = ir.VectorType(ir.IntType(32), kind.count)
    return builder.shuffle_vector(one, undefined, ir.Constant(mask, [0] * kind.count))


def _operator(symbol: Callable[..., Any], instruction: str, kind: types.Type, vector: ir.VectorType) -> None:
    """A binary operator of two vectors, or of a vector and an integer."""

    @type_callable(symbol)
    def of(context):  # type: ignore[no-untyped-def]
        def result(a, b):  # type: ignore[no-untyped-def]
            return kind if a is kind and (b is kind or isinstance(b, types.Integer)) else None

        return result

    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a, b = args
        return getattr(builder, instruction)(a, b if signature.args[1] is kind else _fill(builder, vector, b))

    for second in (kind, types.Integer):
        lower_builtin(symbol, kind, second)(lower)


_operator(operator.xor, "xor", wide, _WIDE)
_operator(operator.xor, "xor", words, _WORDS)
_operator(operator.and_, "and_", words, _WORDS)
_operator(operator.add, "add", words, _WORDS)
_operator(operator.sub, "sub", words, _WORDS)
_operator(operator.lshift, "shl", words, _WORDS)
_operator(operator.rshift, "lshr", words, _WORDS)


@_intrinsic
def spread(typing, number):  # type: ignore[no-untyped-def]
    return wide(types.uint64), lambda context, builder, signature, args: _fill(builder, _WIDE, args[0])


@_intrinsic
def ramp(typing, start, step):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        first, each = (_fill(builder, _WIDE, number) for number in args)
        return builder.add(first, builder.mul(each, _constant(_WIDE, range(_WIDE.count))))

    return wide(types.uint64, types.uint64), lower


@_intrinsic
def product(typing, a, number):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        low = builder.and_(args[0], _constant(_WIDE, [0xFFFFFFFF] * _WIDE.count))
        return builder.mul(low, _fill(builder, _WIDE, args[1]))

    return (wide(a, types.uint64), lower) if a is wide else None


@_intrinsic
def high(typing, a):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.lshr(args[0], _constant(_WIDE, [32] * _WIDE.count))

    return (wide(a), lower) if a is wide else None


@_intrinsic
def interleave(typing, a, b):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        first, second = (builder.bitcast(value, _WORDS) for value in args)
        order = [index for n in range(0, LANES, 2) for index in (n, LANES + n)]
        return builder.shuffle_vector(first, second, ir.Constant(_WORDS, order))

    return (words(a, b), lower) if a is wide and b is wide else None


@_intrinsic
def signed_shift(typing, w, n):  # type: ignore[no-untyped-def]
    def lower(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ashr(args[0], _fill(builder, _WORDS, args[1]))

    return (words(w, types.int64), lower) if w is words else None


@_intrinsic
def to_lanes(typing, w):  # type: ignore[no-untyped-def]
    return lanes(words), lambda context, builder, signature, args: builder.sitofp(args[0], _FLOATS)


@_intrinsic
def bits(typing, x):  # type: ignore[no-untyped-def]
    return words(lanes), lambda context, builder, signature, args: builder.bitcast(args[0], _WORDS)


@_intrinsic
def from_bits(typing, w):  # type: ignore[no-untyped-def]
    return lanes(words), lambda context, builder, signature, args: builder.bitcast(args[0], _FLOATS)
