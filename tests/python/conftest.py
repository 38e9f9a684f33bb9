import os

# Before torch: no accelerator takes part, and thread pools would not survive the forks.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

import treadle  # noqa: F401  the ranks are forked from this process and have it, too
from ranks import Worlds

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def worlds():
    kept = Worlds()
    yield kept
    kept.close()


@pytest.fixture(params=[2, 3], ids=lambda size: f"{size}ranks")
def world(request, worlds):
    return worlds.get(request.param)


@pytest.fixture
def pair(worlds):
    return worlds.get(2)


@pytest.fixture
def trio(worlds):
    return worlds.get(3)
