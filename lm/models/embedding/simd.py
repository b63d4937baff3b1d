"""Vector operations for kernels, with the same result on every processor.

Numba vectorizes a sum only if the compiler may reorder its additions, in an order that depends on the
processor. Here the order is fixed: ``LANES`` running sums, each a chain of fused multiply-adds, are added
in pairs at the end. A vector is a run of ``blocks * LANES`` float32 values of a C-contiguous array, which
begins at an offset into the array's values.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from infra.compute.arrays import F32

LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)


def pad_to_lanes(size: int) -> int:
    """Return the number of values of whole blocks that hold ``size`` values."""
    return -(-size // LANES) * LANES


class _Vector:
    """A vector argument: generates the loads and stores of its blocks."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> None:
        self._builder, self._offset = builder, offset
        self._data = context.make_array(kind)(context, builder, array).data

    def _pointer(self, block: Any) -> Any:
        start = self._builder.mul(block, ir.Constant(self._offset.type, LANES))
        address = self._builder.gep(self._data, [self._builder.add(self._offset, start)])
        return self._builder.bitcast(address, _VECTOR.as_pointer())

    def load(self, block: Any) -> Any:
        return self._builder.load(self._pointer(block), align=4)

    def store(self, block: Any, value: Any) -> None:
        self._builder.store(value, self._pointer(block), align=4)


def _multiply_add(builder: Any, x: Any, y: Any, z: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [x, y, z])


def _spread(builder: Any, value: Any) -> Any:
    """Return a vector of one value."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, zeros)


def _sum_lanes(builder: Any, vector: Any) -> Any:
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        low, high = (
            builder.shuffle_vector(
                vector,
                vector,
                ir.Constant(ir.VectorType(_INDEX, lanes), list(range(start, start + lanes))),
            )
            for start in (0, lanes)
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.Constant(_INDEX, 0))


def _dot(typing_context: Any, x: Any, i: Any, y: Any, j: Any, blocks: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        first = _Vector(context, builder, kinds[0], arguments[0], arguments[1])
        second = _Vector(context, builder, kinds[2], arguments[2], arguments[3])
        sums = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, arguments[4]) as loop:
            a, b = first.load(loop.index), second.load(loop.index)
            builder.store(_multiply_add(builder, a, b, builder.load(sums)), sums)
        return _sum_lanes(builder, builder.load(sums))

    return types.float32(x, types.intp, y, types.intp, types.intp), generate


def _add_scaled(
    typing_context: Any,  # noqa: ARG001
    y: Any,
    j: Any,  # noqa: ARG001
    scale: Any,  # noqa: ARG001
    x: Any,
    i: Any,  # noqa: ARG001
    blocks: Any,  # noqa: ARG001
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        target = _Vector(context, builder, kinds[0], arguments[0], arguments[1])
        added = _Vector(context, builder, kinds[3], arguments[3], arguments[4])
        scales = _spread(builder, arguments[2])
        with cgutils.for_range(builder, arguments[5]) as loop:
            a, b = added.load(loop.index), target.load(loop.index)
            target.store(loop.index, _multiply_add(builder, scales, a, b))
        return context.get_dummy_value()

    return types.none(y, types.intp, types.float32, x, types.intp, types.intp), generate


def _adagrad_pair(
    typing_context: Any,  # noqa: ARG001
    x: Any,
    i: Any,  # noqa: ARG001
    y: Any,
    j: Any,  # noqa: ARG001
    slope: Any,  # noqa: ARG001
    lr: Any,  # noqa: ARG001
    blocks: Any,  # noqa: ARG001
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds, count = signature.args, arguments[6]
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), f"llvm.sqrt.v{LANES}f32"
        )
        slopes, rates = _spread(builder, arguments[4]), _spread(builder, arguments[5])
        length = builder.mul(count, ir.Constant(count.type, LANES))
        sides = []
        for kind, array, at in (
            (kinds[0], arguments[0], arguments[1]),
            (kinds[2], arguments[2], arguments[3]),
        ):
            squares = _Vector(context, builder, kind, array, builder.add(at, length))
            sides.append((_Vector(context, builder, kind, array, at), squares))
        with cgutils.for_range(builder, count) as loop:
            values = [side[0].load(loop.index) for side in sides]
            for (vector, squares), value, other in zip(sides, values, values[::-1], strict=True):
                gradient, sums = builder.fmul(slopes, other), squares.load(loop.index)
                step = builder.fdiv(builder.fmul(rates, gradient), builder.call(root, [sums]))
                vector.store(loop.index, builder.fsub(value, step))
                squares.store(loop.index, _multiply_add(builder, gradient, gradient, sums))
        return context.get_dummy_value()

    arguments = (x, types.intp, y, types.intp, types.float32, types.float32, types.intp)
    return types.none(*arguments), generate


# dot(x, i, y, j, blocks): the inner product of the vectors of x at i and of y at j.
dot = cast("Callable[[F32, Any, F32, Any, int], Any]", intrinsic(_dot))
# add_scaled(y, j, scale, x, i, blocks): add scale times the vector of x at i to that of y at j.
add_scaled = cast("Callable[[F32, Any, Any, F32, Any, int], None]", intrinsic(_add_scaled))
# adagrad_pair(x, i, y, j, slope, lr, blocks): descend the slope of the product of the vectors of x at i and of y at j
# with AdaGrad. Each is followed by a vector of 1 plus its sums of squared gradients, which grow after the step.
adagrad_pair = cast("Callable[[F32, Any, F32, Any, Any, Any, int], None]", intrinsic(_adagrad_pair))
