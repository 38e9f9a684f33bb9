"""One rank fails, all others learn of it in bounded time, in a sentence that names rank and operation."""
from __future__ import annotations

import datetime
import os
import signal
import sys
import time

import pytest
import torch
import torch.distributed as dist

from ranks import World, raises
from treadle import _groups

SIZE = 3
VICTIM = 1
LOST_WITHIN_S = 10
MISMATCH_WITHIN_S = 5


@pytest.fixture(params=["shm", "tcp"])
def transport(request):
    return request.param


@pytest.fixture
def make_world(transport):
    made = []

    def make(seconds=60, size=SIZE):
        env = {"TREADLE_TRANSPORT": "auto" if transport == "shm" else transport}  # auto: shm on one host
        world = World(size, timeout=datetime.timedelta(seconds=seconds), env=env)
        made.append(world)
        return world

    yield make
    for world in made:
        world.broken = True  # its ranks may be stopped or dead
        world.close()


# What each rank calls again and again until it fails. Large enough that a rank may fail halfway.
ELEMENTS = 3 * 200_000
OPERATIONS = {
    "all_reduce": lambda t: dist.all_reduce(t),
    "broadcast": lambda t: (dist.broadcast(t, 0), dist.broadcast(t, 1)),
    "all_gather": lambda t: dist.all_gather_into_tensor(t, t[: t.numel() // SIZE].clone()),
    "reduce_scatter": lambda t: dist.reduce_scatter_tensor(t[: t.numel() // SIZE].clone(), t),
    "reduce": lambda t: (dist.reduce(t, 0), dist.reduce(t, 1)),
    "all_to_all": lambda t: dist.all_to_all_single(torch.empty_like(t), t),
    "barrier": lambda t: dist.barrier(),
}


def call_until_it_fails(operation):
    """When this rank learned of the failure, and the error's text."""
    tensor = torch.zeros(ELEMENTS)
    try:
        while True:
            OPERATIONS[operation](tensor)
    except dist.DistBackendError as error:
        return time.monotonic(), str(error)


def warm_up():
    dist.barrier()
    dist.all_reduce(torch.ones(1000))


def fail_victim(world, operation, how):
    world.run(warm_up)
    for rank in range(world.size):
        world.start(rank, call_until_it_fails, operation)
    time.sleep(0.3)
    begin = time.monotonic()
    os.kill(world.pid(VICTIM), how)
    survivors = [rank for rank in range(world.size) if rank != VICTIM]
    for rank, (end, text) in zip(survivors, world.collect(survivors, by=LOST_WITHIN_S + 15), strict=True):
        assert end - begin < LOST_WITHIN_S, f"rank {rank} learned of it after {end - begin:.1f} s"
        assert f"rank {VICTIM}" in text, f"rank {rank} does not name the rank: {text}"
        assert operation in text, f"rank {rank} does not name the operation: {text}"


def exits_cleanly(world, ranks):
    """After a failure the group can be ended and the process leaves by itself."""
    for rank in ranks:
        world.pipes[rank].send(None)
    for rank in ranks:
        assert world.pipes[rank].poll(10), f"rank {rank} hangs in destroy_process_group"
        assert world.pipes[rank].recv()[0] == "gone"
        world.processes[rank].join(10)
        assert world.processes[rank].exitcode == 0


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_rank(make_world, operation):
    world = make_world()
    fail_victim(world, operation, signal.SIGKILL)
    exits_cleanly(world, [0, 2])


@pytest.mark.parametrize("operation", ["all_reduce", "barrier"])
def test_stopped_rank(make_world, operation):
    world = make_world()
    fail_victim(world, operation, signal.SIGSTOP)
    exits_cleanly(world, [0, 2])


# ---- ranks that disagree ----


def all_reduce_of(count, dtype=torch.float32, operator=dist.ReduceOp.SUM):
    dist.all_reduce(torch.ones(count).to(dtype), operator)


def broadcast_from(root):
    dist.broadcast(torch.ones(4), root)


# What rank 0 and 2 call, what rank 1 calls, and what must be in the error on every rank.
MISMATCHES = {
    "shape": ((all_reduce_of, 1000), (all_reduce_of, 1001), ["1000", "1001"]),
    "shape of a large tensor": ((all_reduce_of, 3_000_000), (all_reduce_of, 10), ["3000000", "10"]),
    "dtype": ((all_reduce_of, 8, torch.float32), (all_reduce_of, 8, torch.int32), ["f32", "i32"]),
    "operator": ((all_reduce_of, 8), (all_reduce_of, 8, torch.float32, dist.ReduceOp.MAX), ["sum", "max"]),
    "operation": ((all_reduce_of, 4), (broadcast_from, 0), ["all_reduce", "broadcast"]),
    "root": ((broadcast_from, 0), (broadcast_from, 2), ["root 0", "root 2"]),
}


def disagree(function, *arguments):
    begin = time.monotonic()
    # A rank that had nothing to wait for gets the error at its next call.
    try:
        function(*arguments)
        for _ in range(3):
            dist.barrier()
    except dist.DistBackendError as error:
        return time.monotonic() - begin, str(error)
    raise AssertionError("no error")


@pytest.mark.parametrize("what", MISMATCHES)
def test_ranks_that_disagree(make_world, what):
    ours, theirs, both_sides = MISMATCHES[what]
    world = make_world()
    world.run(warm_up)
    for rank in range(SIZE):
        world.start(rank, disagree, *(theirs if rank == VICTIM else ours))
    for rank, (seconds, text) in enumerate(world.collect(range(SIZE), by=MISMATCH_WITHIN_S + 20)):
        assert seconds < MISMATCH_WITHIN_S, f"rank {rank}: {seconds:.1f} s"
        for side in both_sides:
            assert side in text, f"rank {rank} does not show {side!r}: {text}"


def send_too_much():
    begin = time.monotonic()
    try:
        if dist.get_rank() == 0:
            dist.send(torch.ones(100), 1)
            dist.barrier()  # a small message is gone before its receiver has looked at it
        else:
            dist.recv(torch.ones(101), 0)
    except dist.DistBackendError as error:
        return time.monotonic() - begin, str(error)
    raise AssertionError("no error")


def test_message_of_another_size(make_world):
    for seconds, text in make_world(size=2).run(send_too_much):
        assert seconds < MISMATCH_WITHIN_S and "400" in text and "404" in text, text


# ---- ranks that do not come ----


def wait_in_vain(operation):
    begin = time.monotonic()
    text = raises(dist.DistBackendError, OPERATIONS[operation], torch.zeros(ELEMENTS))
    return time.monotonic() - begin, text


def stay_away():
    time.sleep(4)


@pytest.mark.parametrize("operation", ["all_reduce", "barrier"])
@pytest.mark.parametrize("met", [True, False], ids=["late", "never met"])
def test_rank_that_never_comes(make_world, operation, met):
    world = make_world(seconds=2)
    if met:
        world.run(warm_up)
    for rank in range(SIZE):
        if rank == VICTIM:
            world.start(rank, stay_away)
        else:
            world.start(rank, wait_in_vain, operation)
    for rank, (seconds, text) in zip([0, 2], world.collect([0, 2], by=20), strict=True):
        assert 1.5 < seconds < 4, f"rank {rank}: {seconds:.1f} s"
        assert f"{VICTIM}" in text and operation in text, text
        assert "Timed out" in text or "timeout" in text, text


def absent_from_monitored_barrier():
    if dist.get_rank() == VICTIM:
        time.sleep(2)
        return ""
    return raises(RuntimeError, dist.monitored_barrier, timeout=datetime.timedelta(seconds=1))


def test_monitored_barrier_names_who_is_missing(make_world):
    leader, _, follower = make_world().run(absent_from_monitored_barrier)
    assert f"Rank {VICTIM} failed to pass monitoredBarrier" in leader
    assert "Rank 2 successfully reached monitoredBarrier, but received errors" in follower


# ---- ends that are asked for ----


def abort_while_others_wait():
    if dist.get_rank() == VICTIM:
        time.sleep(0.5)
        dist.distributed_c10d._abort_process_group()
        return time.monotonic(), ""
    text = raises(dist.DistBackendError, dist.all_reduce, torch.ones(5))
    return time.monotonic(), text


def test_abort_ends_the_waiting_of_all(make_world):
    results = make_world().run(abort_while_others_wait)
    for rank in 0, 2:
        end, text = results[rank]
        assert end - results[VICTIM][0] < MISMATCH_WITHIN_S
        assert "abort" in text and f"rank {VICTIM}" in text, text


def rank_that_dies_of_an_exception():
    if dist.get_rank() != VICTIM:
        return raises(dist.DistBackendError, dist.all_reduce, torch.ones(5))
    sys.last_value = ValueError("no more data")  # what the interpreter leaves after a traceback
    _groups._end_groups()
    del sys.last_value
    return ""


def test_others_hear_of_an_unhandled_exception(make_world):
    world = make_world()
    world.run(warm_up)
    results = world.run(rank_that_dies_of_an_exception)
    for rank in 0, 2:
        assert "ValueError: no more data" in results[rank] and f"rank {VICTIM}" in results[rank], results[rank]
