"""FSDP2 (fully_shard) on CPU over treadle: in-place all-gathers, averaging reduce-scatters."""
from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from test_ddp import batch, make_model


def fsdp(precision, divide_factor):
    rank, size = dist.get_rank(), dist.get_world_size()
    policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=precision) if precision else MixedPrecisionPolicy()
    mesh = init_device_mesh("cpu", (size,))
    model, alone = make_model(), make_model()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    if divide_factor:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(divide_factor)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference = torch.optim.SGD(alone.parameters(), lr=0.1)
    losses = []
    for step in range(4):
        inputs, labels = batch(step, size)
        mine = slice(8 * rank, 8 * rank + 8)
        loss = nn.functional.cross_entropy(model(inputs[mine]).float(), labels[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        whole = nn.functional.cross_entropy(alone(inputs), labels)
        reference.zero_grad()
        (whole * (size / divide_factor) if divide_factor else whole).backward()
        reference.step()
        losses.append(loss.item())
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if precision is None else {"rtol": 0.05, "atol": 0.01}
    for (name, mine), expected in zip(model.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.full_tensor(), expected.detach(), msg=lambda m: f"{name}: {m}", **tolerance)
    return losses


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_fsdp2_equals_one_process(pair, precision):
    pair.run(fsdp, precision, None)


def test_fsdp2_with_a_divide_factor_uses_premul_sum(pair):
    pair.run(fsdp, None, 4.0)


def hybrid():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    model = make_model()
    fully_shard(model, mesh=mesh)
    for step in range(2):
        inputs, labels = batch(step, 1)
        nn.functional.cross_entropy(model(inputs), labels).backward()
    for parameter in model.parameters():
        assert torch.isfinite(parameter.grad.full_tensor()).all()


def test_hybrid_sharding_over_two_dimensions(worlds):
    worlds.get(4).run(hybrid)
