"""Messages between two ranks, and objects of any kind, over treadle."""
from __future__ import annotations

import torch
import torch.distributed as dist

from ranks import check, raises


def messages():
    rank, size = dist.get_rank(), dist.get_world_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    for count in 0, 1, 1000, 300_000:
        got = torch.zeros(count)
        pending = dist.isend(torch.full((count,), float(rank)), right)
        dist.recv(got, left)
        pending.wait()
        check(got, torch.full((count,), float(left)), f"{count} elements around")
    sends = [dist.isend(torch.tensor([rank * 100 + tag]), right, tag=tag) for tag in range(8)]
    got = {tag: torch.zeros(1, dtype=torch.int64) for tag in range(8)}
    for work in [dist.irecv(got[tag], left, tag=tag) for tag in reversed(range(8))] + sends:
        work.wait()
    assert [got[tag].item() for tag in range(8)] == [left * 100 + tag for tag in range(8)]


def test_messages(world):
    world.run(messages)


def batched():
    rank, size = dist.get_rank(), dist.get_world_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    got = [torch.zeros(1000), torch.zeros(2)]
    operations = [
        dist.P2POp(dist.isend, torch.full((1000,), float(rank)), right, tag=1),
        dist.P2POp(dist.irecv, got[0], left, tag=1),
        dist.P2POp(dist.isend, torch.full((2,), -float(rank)), right, tag=2),
        dist.P2POp(dist.irecv, got[1], left, tag=2),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    check(got[0], torch.full((1000,), float(left)), "batched")
    check(got[1], torch.full((2,), -float(left)), "batched, second tag")


def test_batched_messages(world):
    world.run(batched)


def refused_messages():
    rank = dist.get_rank()
    assert "itself" in raises((RuntimeError, ValueError), dist.group.WORLD.send, [torch.ones(1)], rank, 0)
    assert "not supported" in raises(RuntimeError, dist.recv, torch.ones(1))


def test_messages_that_are_refused(pair):
    pair.run(refused_messages)


def exchanged_in_place():
    rank, size = dist.get_rank(), dist.get_world_size()
    for count in 4, 70_000:
        parts = [torch.full((count,), 10.0 * rank + k) for k in range(size)]
        dist.all_to_all(parts, parts)
        for k, part in enumerate(parts):
            check(part, torch.full((count,), 10.0 * k + rank), f"list, {count}")
        whole = torch.cat([torch.full((count,), 10.0 * rank + k) for k in range(size)])
        dist.all_to_all_single(whole, whole, [count] * size, [count] * size)
        check(whole, torch.cat([torch.full((count,), 10.0 * k + rank) for k in range(size)]), f"single, {count}")


def test_all_to_all_in_place(world):
    world.run(exchanged_in_place)


def objects():
    rank, size = dist.get_rank(), dist.get_world_size()
    mine = {"rank": rank, "text": "x" * (rank * 1000), "list": list(range(rank))}
    everyone = [None] * size
    dist.all_gather_object(everyone, mine)
    assert [o["rank"] for o in everyone] == list(range(size)) and len(everyone[1]["text"]) == 1000
    shared = [mine, rank] if rank == 1 else [None, None]
    dist.broadcast_object_list(shared, src=1)
    assert shared[0]["rank"] == 1 and shared[1] == 1
    gathered = [None] * size if rank == 0 else None
    dist.gather_object(mine, gathered, dst=0)
    if rank == 0:
        assert [o["rank"] for o in gathered] == list(range(size))
    got = [None]
    dist.scatter_object_list(got, [f"for {r}" for r in range(size)] if rank == 0 else None, src=0)
    assert got == [f"for {rank}"]


def test_object_collectives(world):
    world.run(objects)
