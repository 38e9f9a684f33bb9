"""Every collective of torch.distributed over treadle, against values computed without communication.

Inputs are small integers, so that sums are exact in every type and in any order.
"""
from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from ranks import check, raises

SIZES = [(), (0,), (1,), (3, 5), (1021,), (70_001,)]
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
COMPLEX = [torch.complex64, torch.complex128]
NUMBERS = FLOATS + INTEGERS
MOVED = NUMBERS + COMPLEX + [torch.bool, torch.uint16, torch.uint32, torch.float8_e4m3fn, torch.float8_e5m2]
OPERATORS = ["SUM", "AVG", "MIN", "MAX", "PRODUCT", "BAND", "BOR", "BXOR", "PREMUL_SUM"]


def name_of(value):
    return str(value).removeprefix("torch.")


def values(rank, shape, dtype, salt=0):
    """Small integers that differ by rank and position."""
    count = torch.Size(shape).numel()
    numbers = (torch.arange(count) * 7 + rank * 3 + salt) % 5 + (rank % 2)
    if dtype == torch.bool:
        return (numbers % 2 == 0).reshape(shape)
    return numbers.to(dtype).reshape(shape)


def fold(operator, parts):
    """What a reduction of `parts` must give."""
    exact = torch.stack([p.to(torch.float64) if p.is_floating_point() else p for p in parts])
    if operator == "SUM":
        result = exact.sum(0)
    elif operator == "AVG":
        result = exact.sum(0) / len(parts)
    elif operator == "PREMUL_SUM":
        result = (exact * 0.5).sum(0)
    elif operator == "PRODUCT":
        result = exact.prod(0)
    elif operator in ("MIN", "MAX"):
        result = exact.amin(0) if operator == "MIN" else exact.amax(0)
    else:
        function = {"BAND": torch.bitwise_and, "BOR": torch.bitwise_or, "BXOR": torch.bitwise_xor}[operator]
        result = exact[0]
        for part in exact[1:]:
            result = function(result, part)
    return result.to(parts[0].dtype)


def reduce_op(operator):
    return dist._make_nccl_premul_sum(0.5) if operator == "PREMUL_SUM" else getattr(dist.ReduceOp, operator)


def applies(operator, dtype):
    if operator in ("AVG", "PREMUL_SUM"):
        return dtype.is_floating_point
    if operator in ("BAND", "BOR", "BXOR"):
        return not dtype.is_floating_point
    return True


# ---- all_reduce, reduce, reduce_scatter ----


def all_reduce(operator, dtype):
    rank, size = dist.get_rank(), dist.get_world_size()
    for shape in SIZES:
        tensor = values(rank, shape, dtype)
        expected = fold(operator, [values(r, shape, dtype) for r in range(size)])
        dist.all_reduce(tensor, reduce_op(operator))
        check(tensor, expected, f"{operator} of {dtype} {shape}")


@pytest.mark.parametrize("dtype", NUMBERS, ids=name_of)
@pytest.mark.parametrize("operator", OPERATORS)
def test_all_reduce(world, operator, dtype):
    world.run(all_reduce if applies(operator, dtype) else all_reduce_is_refused, operator, dtype)


def all_reduce_is_refused(operator, dtype):
    text = raises(RuntimeError, dist.all_reduce, torch.ones(4).to(dtype), reduce_op(operator))
    assert "unsupported reduction operation" in text and "all_reduce" in text, text
    text = raises(
        RuntimeError, dist.reduce_scatter_tensor,
        torch.ones(4).to(dtype), torch.ones(4 * dist.get_world_size()).to(dtype), reduce_op(operator),
    )
    assert "unsupported reduction operation" in text, text


def all_reduce_of_other_types():
    rank, size = dist.get_rank(), dist.get_world_size()
    for dtype in COMPLEX:
        tensor = torch.full((5,), complex(rank, 1), dtype=dtype)
        dist.all_reduce(tensor)
        check(tensor, torch.full((5,), complex(sum(range(size)), size), dtype=dtype), f"SUM of {dtype}")
    for operator, expected in ("SUM", True), ("MAX", True), ("BOR", True), ("MIN", False), ("PRODUCT", False):
        tensor = torch.tensor([rank == 0])
        dist.all_reduce(tensor, getattr(dist.ReduceOp, operator))
        assert tensor.item() is expected, operator
    text = raises(RuntimeError, dist.all_reduce, torch.ones(2).to(torch.float8_e4m3fn))
    assert "invalid tensor type" in text, text


def test_all_reduce_of_complex_and_bool(world):
    world.run(all_reduce_of_other_types)


def nan_and_zero_signs():
    rank = dist.get_rank()
    tensor = torch.tensor([float("nan") if rank == 1 else 1.0, -0.0 if rank == 0 else 0.0])
    least = tensor.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    assert least[0].isnan() and torch.signbit(least[1])
    most = tensor.clone()
    dist.all_reduce(most, dist.ReduceOp.MAX)
    assert most[0].isnan() and not torch.signbit(most[1])


def test_min_and_max_keep_nan_and_order_zeros(world):
    world.run(nan_and_zero_signs)


def strided_tensors():
    rank, size = dist.get_rank(), dist.get_world_size()
    base = values(rank, (6, 8), torch.float32)
    column = base[:, 2]
    image = values(rank, (2, 3, 4, 5), torch.float32).to(memory_format=torch.channels_last)
    dist.all_reduce(column)
    dist.all_reduce(image)
    check(base[:, 2], fold("SUM", [values(r, (6, 8), torch.float32)[:, 2] for r in range(size)]), "column")
    check(base[:, 1], values(rank, (6, 8), torch.float32)[:, 1], "its neighbour")
    check(image, fold("SUM", [values(r, (2, 3, 4, 5), torch.float32) for r in range(size)]), "channels last")
    got = torch.zeros(6, 2)[:, 0]
    got.copy_(column)
    dist.broadcast(got, 1)
    check(got, column, "broadcast to a column")
    outputs = [torch.zeros(3, 4).t() for _ in range(size)]
    dist.all_gather(outputs, values(rank, (4, 3), torch.float32))
    for r, output in enumerate(outputs):
        check(output, values(r, (4, 3), torch.float32), "gathered into a transposed tensor")
    parameter = torch.nn.Parameter(torch.full((3,), float(rank)))
    dist.broadcast(parameter, 1)
    assert parameter.tolist() == [1.0] * 3


def test_tensors_with_gaps(world):
    world.run(strided_tensors)


def reduce_to_root(operator, dtype):
    rank, size = dist.get_rank(), dist.get_world_size()
    for root in range(size):
        for shape in SIZES:
            tensor = values(rank, shape, dtype)
            dist.reduce(tensor, root, reduce_op(operator))
            parts = [values(r, shape, dtype) for r in range(size)]
            check(tensor, fold(operator, parts) if rank == root else parts[rank], f"root {root} {shape}")


@pytest.mark.parametrize("operator, dtype", [("SUM", torch.float32), ("MAX", torch.int64), ("AVG", torch.bfloat16)])
def test_reduce_leaves_other_ranks_alone(world, operator, dtype):
    world.run(reduce_to_root, operator, dtype)


def reduce_scatter(operator, dtype):
    rank, size = dist.get_rank(), dist.get_world_size()
    op = reduce_op(operator)
    for count in 0, 1, 7, 1021, 30_001:
        pieces = [[values(r, (count,), dtype, salt=target) for target in range(size)] for r in range(size)]
        expected = fold(operator, [pieces[r][rank] for r in range(size)])
        output = torch.empty(count, dtype=dtype)
        dist.reduce_scatter(output, pieces[rank], op)
        check(output, expected, f"list of {count}")
        flat = torch.cat(pieces[rank])
        output = torch.empty(count, dtype=dtype)
        dist.reduce_scatter_tensor(output, flat, op)
        check(output, expected, f"tensor of {count}")
        dist.reduce_scatter_tensor(flat[rank * count : (rank + 1) * count], flat, op)  # in place
        check(flat[rank * count : (rank + 1) * count], expected, f"in place, {count}")


@pytest.mark.parametrize(
    "operator, dtype",
    [("SUM", torch.float32), ("AVG", torch.float32), ("AVG", torch.bfloat16), ("PREMUL_SUM", torch.float32),
     ("SUM", torch.float16), ("MAX", torch.int32), ("BOR", torch.uint8)],
)  # fmt: skip
def test_reduce_scatter(world, operator, dtype):
    world.run(reduce_scatter, operator, dtype)


def reduce_scatter_unequal():
    rank, size = dist.get_rank(), dist.get_world_size()
    output = torch.empty(rank * 3 + 1)
    dist.reduce_scatter(output, [torch.full((r * 3 + 1,), float(rank + r)) for r in range(size)])
    check(output, torch.full((rank * 3 + 1,), float(sum(r + rank for r in range(size)))), "unequal pieces")


def test_reduce_scatter_of_unequal_pieces(world):
    world.run(reduce_scatter_unequal)


def premul_by_tensor():
    tensor = torch.full((4,), float(dist.get_rank() + 1))
    dist.all_reduce(tensor, dist._make_nccl_premul_sum(torch.tensor([0.25])))
    check(tensor, torch.full((4,), 0.25 * sum(range(1, dist.get_world_size() + 1))), "premul_sum")


def test_premul_sum_by_a_tensor(world):
    world.run(premul_by_tensor)


# ---- broadcast, gathers, scatter, all_to_all ----


def moving(dtype):
    rank, size = dist.get_rank(), dist.get_world_size()

    def part(r, count, salt=0):
        return values(r, (count,), torch.float32, salt).to(dtype)

    for count in 0, 1, 1021, 30_001:
        for root in range(size):
            tensor = part(rank, count)
            dist.broadcast(tensor, root)
            check(tensor, part(root, count), f"broadcast {count} from {root}")
        outputs = [torch.empty(count, dtype=dtype) for _ in range(size)]
        dist.all_gather(outputs, part(rank, count))
        for r in range(size):
            check(outputs[r], part(r, count), f"all_gather {count}")
        flat = torch.empty(size * count, dtype=dtype)
        dist.all_gather_into_tensor(flat, part(rank, count))
        check(flat, torch.cat([part(r, count) for r in range(size)]), f"all_gather_into_tensor {count}")
        flat.view(torch.uint8).zero_()
        own = flat[rank * count : (rank + 1) * count]
        own.copy_(part(rank, count))
        dist.all_gather_into_tensor(flat, own)
        check(flat, torch.cat([part(r, count) for r in range(size)]), f"in place {count}")
        flat.view(torch.uint8).zero_()
        dist.all_gather(list(flat.chunk(size)) if count else [flat] * size, part(rank, count))
        check(flat, torch.cat([part(r, count) for r in range(size)]), f"views of one buffer {count}")
        got = torch.empty(size * count, dtype=dtype)
        dist.all_to_all_single(got, torch.cat([part(rank, count, salt=to) for to in range(size)]))
        check(got, torch.cat([part(r, count, salt=rank) for r in range(size)]), f"all_to_all_single {count}")


@pytest.mark.parametrize("dtype", MOVED, ids=name_of)
def test_collectives_that_only_move(world, dtype):
    world.run(moving, dtype)


def gather_and_scatter():
    rank, size = dist.get_rank(), dist.get_world_size()
    for root in range(size):
        for shape in SIZES:
            mine = values(rank, shape, torch.int64)
            outputs = [torch.empty_like(mine) for _ in range(size)] if rank == root else None
            dist.gather(mine, outputs, dst=root)
            if rank == root:
                for r in range(size):
                    check(outputs[r], values(r, shape, torch.int64), f"gather {shape}")
            inputs = [values(r, shape, torch.int64, salt=root) for r in range(size)] if rank == root else None
            got = torch.empty_like(mine)
            dist.scatter(got, inputs, src=root)
            check(got, values(rank, shape, torch.int64, salt=root), f"scatter {shape}")


def test_gather_and_scatter(world):
    world.run(gather_and_scatter)


def unequal_all_gather():
    rank, size = dist.get_rank(), dist.get_world_size()
    outputs = [torch.empty(r * 4 + 1) for r in range(size)]
    dist.all_gather(outputs, torch.full((rank * 4 + 1,), float(rank)))
    for r in range(size):
        check(outputs[r], torch.full((r * 4 + 1,), float(r)), "unequal all_gather")


def test_all_gather_of_unequal_tensors(world):
    world.run(unequal_all_gather)


def all_to_all():
    rank, size = dist.get_rank(), dist.get_world_size()

    def rows(source, target):  # differ by direction; some are none
        return (source * 2 + target) % 4

    sent = [torch.full((rows(rank, r), 3), float(10 * rank + r)) for r in range(size)]
    expected = [torch.full((rows(r, rank), 3), float(10 * r + rank)) for r in range(size)]
    got = [torch.zeros(rows(r, rank), 3) for r in range(size)]
    dist.all_to_all(got, sent)
    for r in range(size):
        check(got[r], expected[r], f"all_to_all from {r}")
    flat = torch.zeros(sum(rows(r, rank) for r in range(size)), 3)
    dist.all_to_all_single(
        flat, torch.cat(sent), [rows(r, rank) for r in range(size)], [rows(rank, r) for r in range(size)]
    )
    check(flat, torch.cat(expected), "all_to_all_single with splits")


def test_all_to_all_of_unequal_pieces(world):
    world.run(all_to_all)


# ---- barriers ----


def barriers():
    dist.barrier()
    dist.barrier(async_op=True).wait()
    dist.monitored_barrier()
    dist.monitored_barrier(wait_all_ranks=True)


def test_barriers(world):
    world.run(barriers)


# ---- arguments that a rank refuses by itself ----


def refused_arguments():
    rank, size = dist.get_rank(), dist.get_world_size()
    group = dist.group.WORLD
    one, two = torch.ones(1), torch.ones(2)
    cases = [
        ("requires a single-element", lambda: group.allreduce([one, two], dist.AllreduceOptions())),
        ("unsupported layout", lambda: dist.all_reduce(torch.eye(3).to_sparse())),
        ("invalid root rank", lambda: group.broadcast([one], _broadcast_from(size))),
        ("invalid root tensor", lambda: group.broadcast([one], _broadcast_from(0, tensor=1))),
        ("invalid tensor size", lambda: dist.all_gather_into_tensor(torch.ones(size + 1), one)),
        ("invalid tensor type", lambda: group.allgather([[torch.ones(1, dtype=torch.int32)] * size], [one])),
        ("should be equal to world size", lambda: dist.all_gather([torch.ones(1)] * (size + 1), one)),
        ("invalid tensor size", lambda: dist.reduce_scatter_tensor(one, torch.ones(size + 1))),
        ("invalid tensor size", lambda: dist.all_to_all_single(torch.ones(size), torch.ones(size), [1] * size, [2] * size)),
        ("invalid tensor size", lambda: dist.all_to_all_single(torch.ones(size + 1), torch.ones(size + 1))),
    ]  # fmt: skip
    for phrase, call in cases:
        text = raises((RuntimeError, ValueError, TypeError), call)
        assert phrase in text, f"{phrase!r} is not in {text!r}"
        if "treadle" in text:
            assert f"on rank {rank} of {size}" in text, text
    dist.barrier()  # and the group still works


def _broadcast_from(root, tensor=0):
    options = dist.BroadcastOptions()
    options.rootRank, options.rootTensor = root, tensor
    return options


def test_arguments_that_are_refused(pair):
    pair.run(refused_arguments)
