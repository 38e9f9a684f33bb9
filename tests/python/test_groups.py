"""Groups of some ranks, groups made again, and what torch builds on groups."""
from __future__ import annotations

import torch
import torch.distributed as dist

from ranks import check


def subgroups():
    rank, size = dist.get_rank(), dist.get_world_size()
    pair = dist.new_group([size - 1, 0])
    alone = [dist.new_group([r]) for r in range(size)][rank]
    tensor = torch.tensor([float(rank + 1)])
    dist.all_reduce(tensor, group=alone)
    assert tensor.item() == rank + 1
    dist.barrier(alone)
    if rank in (0, size - 1):
        for _ in range(3):
            tensor = torch.tensor([float(rank + 1)])
            dist.all_reduce(tensor, group=pair)
            assert tensor.item() == 1 + size
        dist.broadcast(tensor, src=size - 1, group=pair)
        dist.destroy_process_group(pair)
    dist.barrier()


def test_subgroups(world):
    world.run(subgroups)


def test_groups_can_be_destroyed_and_made_again(worlds):
    worlds.get(2).run(make_group_again)


def make_group_again():
    store = dist.distributed_c10d._get_default_store()
    rank, size = dist.get_rank(), dist.get_world_size()
    for _ in range(3):
        dist.destroy_process_group()
        # The same store, so the same keys: what the last group left there must not confuse this one.
        dist.init_process_group("treadle", store=store, rank=rank, world_size=size)
        tensor = torch.ones(3)
        dist.all_reduce(tensor)
        assert tensor.tolist() == [size] * 3


def detail():
    dist.set_debug_level(dist.DebugLevel.DETAIL)
    try:
        group = dist.new_group(backend="treadle")
        tensor = torch.ones(3)
        dist.all_reduce(tensor, group=group)
        assert tensor.tolist() == [float(dist.get_world_size())] * 3
    finally:
        dist.set_debug_level(dist.DebugLevel.OFF)


def test_debug_level_detail(pair):
    pair.run(detail)


def functional():
    import torch.distributed._functional_collectives as functions

    rank, size = dist.get_rank(), dist.get_world_size()
    group = dist.group.WORLD
    total = functions.all_reduce(torch.tensor([1.0, rank]), "sum", group)
    assert (total + 0).tolist() == [size, sum(range(size))]
    gathered = functions.all_gather_tensor(torch.tensor([float(rank)]), 0, group)
    assert (gathered + 0).tolist() == list(range(size))
    part = functions.reduce_scatter_tensor(torch.arange(float(size)), "avg", 0, group)
    assert (part + 0).tolist() == [float(rank)]
    moved = functions.all_to_all_single(torch.arange(float(size)), None, None, group)
    assert (moved + 0).tolist() == [float(rank)] * size


def test_functional_collectives(world):
    world.run(functional)


def distributed_tensors():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (size,))
    whole = torch.arange(24.0).reshape(6, 4)
    sharded = distribute_tensor(whole, mesh, [Shard(0)])
    check(sharded.full_tensor(), whole, "sharded and gathered")
    partial = DTensor.from_local(torch.full((2,), float(rank)), mesh, [Partial("avg")])
    mean = partial.redistribute(placements=[Replicate()]).to_local()
    check(mean, torch.full((2,), (size - 1) / 2), "partial averages")


def test_dtensor(world):
    world.run(distributed_tensors)
