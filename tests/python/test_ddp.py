"""DistributedDataParallel over treadle: the gradients of one process, the same bits on every rank."""
from __future__ import annotations

import contextlib
import hashlib

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 5


def make_model():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


def batch(step, size):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8 * size, 12, generator=generator), torch.randint(4, (8 * size,), generator=generator)


def train(model, shard, size):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(STEPS):
        inputs, labels = (part[shard] for part in batch(step, size))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def digest(model):
    state = hashlib.sha256()
    for tensor in model.state_dict().values():
        state.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def same_on_all_ranks(model):
    digests = [None] * dist.get_world_size()
    dist.all_gather_object(digests, digest(model))
    assert len(set(digests)) == 1, digests
    return digests[0]


def ddp(**options):
    rank, size = dist.get_rank(), dist.get_world_size()
    model = make_model()
    if rank:  # DDP must hand out rank 0's parameters
        nn.init.ones_(model[0].weight)
    wrapped = DistributedDataParallel(model, **options)
    train(wrapped, slice(8 * rank, 8 * rank + 8), size)
    same_on_all_ranks(model)

    alone = make_model()
    train(alone, slice(None), size)
    for mine, expected in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"bucket_cap_mb": 0.001}, {"static_graph": True}, {"gradient_as_bucket_view": True}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_ddp_equals_one_process(world, options):
    world.run(run_ddp, options)


def run_ddp(options):
    ddp(**options)


def ddp_like_gloo():
    rank, size = dist.get_rank(), dist.get_world_size()
    digests = []
    for backend in "treadle", "gloo":
        model = DistributedDataParallel(make_model(), process_group=dist.new_group(backend=backend))
        train(model, slice(8 * rank, 8 * rank + 8), size)
        digests.append(same_on_all_ranks(model.module))
    assert digests[0] == digests[1], "with two ranks there is only one order to add in"


def test_ddp_has_the_bits_of_gloo(pair):
    pair.run(ddp_like_gloo)


class Branches(nn.Module):
    """Uses one of two layers, by turns and by rank; has buffers."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16))
        self.heads = nn.ModuleList(nn.Linear(16, 4) for _ in range(2))

    def forward(self, inputs, which):
        return self.heads[which](self.inner(inputs))


def unused_parameters():
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(rank)
    model = DistributedDataParallel(Branches(), find_unused_parameters=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        inputs, labels = (part[8 * rank : 8 * rank + 8] for part in batch(step, size))
        with model.no_sync() if step == 1 else contextlib.nullcontext():
            nn.functional.cross_entropy(model(inputs, (step + rank) % 2), labels).backward()
        if step != 1:
            optimizer.step()
            optimizer.zero_grad()
    for mine in model.parameters():
        others = [torch.empty_like(mine) for _ in range(size)]
        dist.all_gather(others, mine.detach())
        assert all(torch.equal(mine, other) for other in others)


def test_ddp_with_unused_parameters_and_no_sync(world):
    world.run(unused_parameters)


def comm_hooks():
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    rank, size = dist.get_rank(), dist.get_world_size()

    def twice(state, bucket):
        """Reduces, then averages in a callback that communicates again."""
        future = dist.all_reduce(bucket.buffer().div_(size), async_op=True).get_future()

        def agree(finished):
            tensor = finished.value()[0]
            dist.broadcast(tensor, 0)
            return tensor

        return future.then(agree)

    # One bucket for `twice`: with more, the order of its broadcasts would be that of the completions.
    hooks = [(default_hooks.bf16_compress_hook, 0.005), (default_hooks.fp16_compress_hook, 0.005), (twice, 25)]
    for hook, bucket_cap_mb in hooks:
        model = DistributedDataParallel(make_model(), bucket_cap_mb=bucket_cap_mb)
        model.register_comm_hook(None, hook)
        train(model, slice(8 * rank, 8 * rank + 8), size)
        same_on_all_ranks(model.module)


def test_ddp_comm_hooks(world):
    world.run(comm_hooks)


def uneven_inputs():
    rank, size = dist.get_rank(), dist.get_world_size()
    model = DistributedDataParallel(make_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with model.join():
        for step in range(2 + rank):
            inputs, labels = (part[8 * rank : 8 * rank + 8] for part in batch(step, size))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    same_on_all_ranks(model.module)


def test_ddp_join_with_uneven_inputs(world):
    world.run(uneven_inputs)


def zero_redundancy():
    from torch.distributed.optim import ZeroRedundancyOptimizer

    rank, size = dist.get_rank(), dist.get_world_size()
    model = DistributedDataParallel(make_model())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-2)
    for step in range(3):
        inputs, labels = (part[8 * rank : 8 * rank + 8] for part in batch(step, size))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    same_on_all_ranks(model.module)
    optimizer.consolidate_state_dict(to=0)


def test_zero_redundancy_optimizer(world):
    world.run(zero_redundancy)
