"""Works, futures, coalescing, several threads, and what the package tells about it."""
from __future__ import annotations

import copy
import datetime
import gc
import json
import os
import threading
import time

import torch
import torch.distributed as dist

import treadle
from ranks import World, raises


def many_in_flight():
    size = dist.get_world_size()
    tensors = [torch.full((n,), float(n)) for n in (1, 1000, 100_000, 0, 17) * 4]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    for work in reversed(works):
        assert work.wait()
    for tensor in tensors:
        assert (tensor == tensor.numel() * size).all()
    assert all(work.is_completed() for work in works)


def test_many_operations_in_flight(world):
    world.run(many_in_flight)


def futures():
    size = dist.get_world_size()
    tensor = torch.ones(1000)
    work = dist.all_reduce(tensor, async_op=True)
    value = work.get_future().wait()
    assert isinstance(value, list) and value[0] is tensor or torch.equal(value[0], tensor)
    assert (tensor == size).all()
    work.wait()
    done = work.get_future()
    assert done.done() and torch.equal(done.value()[0], tensor)


def test_future_holds_a_list_of_tensors(world):
    world.run(futures)


def callback_that_communicates():
    size = dist.get_world_size()

    def again(future):
        tensor = future.value()[0]
        dist.all_reduce(tensor)  # blocks inside a callback
        return tensor

    results = []
    for _ in range(10):
        works = dist.all_reduce(torch.ones(50_000), async_op=True)
        results.append(works.get_future().then(again).wait())
    assert all((r == size * size).all() for r in results)


def test_callback_may_wait_for_another_all_reduce(world):
    world.run(callback_that_communicates)


def polled():
    size = dist.get_world_size()
    tensor = torch.ones(64, 2)[:, 0]  # copied out by whoever sees the end
    work = dist.all_reduce(tensor, async_op=True)
    end = time.monotonic() + 30
    while not work.is_completed():
        assert time.monotonic() < end
        time.sleep(0.001)
    assert work.is_success() and (tensor == size).all()


def test_work_can_be_polled(world):
    world.run(polled)


def dropped():
    rank, size = dist.get_rank(), dist.get_world_size()
    tensor = torch.ones(200_000)
    for _ in range(20):
        dist.all_reduce(torch.rand(200_000), async_op=True)  # nobody keeps tensor or work
        gc.collect()
    dist.all_reduce(tensor)
    assert (tensor == size).all()
    dist.isend(torch.tensor([float(rank)]), (rank + 1) % size)
    got = torch.zeros(1)
    dist.recv(got, (rank - 1) % size)
    assert got.item() == (rank - 1) % size


def test_dropped_works_keep_their_tensors(world):
    world.run(dropped)


def coalesced():
    rank, size = dist.get_rank(), dist.get_world_size()
    tensors = [torch.full((n,), float(rank)) for n in (3, 0, 5000)]
    with dist._coalescing_manager(async_ops=True) as manager:
        for tensor in tensors:
            dist.all_reduce(tensor)
    manager.wait()
    assert all((t == sum(range(size))).all() for t in tensors)

    outputs = [torch.zeros(size * n) for n in (2, 300)]
    with dist._coalescing_manager():
        for output in outputs:
            dist.all_gather_into_tensor(output, torch.full((output.numel() // size,), float(rank)))
    for output in outputs:
        assert output.view(size, -1).mean(1).tolist() == list(range(size))

    output = torch.zeros(4)
    with dist._coalescing_manager():
        dist.reduce_scatter_tensor(output, torch.full((4 * size,), float(rank)))
    assert (output == sum(range(size))).all()

    group = dist.group.WORLD  # unlike operations in one group
    group._start_coalescing(torch.device("cpu"))
    a, b = torch.ones(10), torch.full((7,), float(rank))
    dist.all_reduce(a, async_op=True)
    dist.broadcast(b, 1, async_op=True)
    work = group._end_coalescing(torch.device("cpu"))
    values = work.get_future().wait()
    assert len(values) == 2 and (a == size).all() and (b == 1).all()


def test_coalescing(world):
    world.run(coalesced)


def left_open():
    group = dist.group.WORLD
    group._start_coalescing(torch.device("cpu"))  # torch does not end it if the code in between raises
    for _ in range(3):
        tensor = torch.ones(1)
        group.allreduce([tensor], _at_once()).wait()
        assert tensor.item() == dist.get_world_size()
    group._start_coalescing(torch.device("cpu"))
    tensor = torch.ones(1)
    group.allreduce([tensor], _at_once())
    group._end_coalescing(torch.device("cpu")).wait()
    assert tensor.item() == dist.get_world_size()


def _at_once():
    options = dist.AllreduceOptions()
    options.asyncOp = False
    return options


def test_coalescing_left_open(pair):
    pair.run(left_open)


def waiting_threads():
    size = dist.get_world_size()
    tensors = [torch.ones(20_000) for _ in range(16)]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    failures = []

    def wait(start):
        try:
            for work in works[start::4] + works:  # the second time they are done
                work.wait()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and all((t == size).all() for t in tensors)


def test_four_threads_wait(world):
    world.run(waiting_threads)


def expired_wait():
    rank = dist.get_rank()
    tensor = torch.ones(1000)
    if rank == 1:
        time.sleep(1)
    work = dist.all_reduce(tensor, async_op=True)
    if rank == 0:
        begin = time.monotonic()
        text = raises(dist.DistBackendError, work.wait, datetime.timedelta(milliseconds=100))
        assert time.monotonic() - begin < 0.9 and "Timed out" in text and "all_reduce" in text, text
    work.wait()  # the operation itself goes on
    assert (tensor == dist.get_world_size()).all()


def test_expired_wait_leaves_the_operation_running(pair):
    pair.run(expired_wait)


def told(folder):
    rank, size = dist.get_rank(), dist.get_world_size()
    before = treadle.stats()["0"]["by_operation"].get("broadcast", {}).get("operations", 0)
    path = os.path.join(folder, f"trace-{rank}.json")
    with treadle.trace(path):
        for _ in range(3):
            dist.broadcast(torch.ones(100), 0)
        dist.broadcast(torch.ones(100), 0, async_op=True).wait()
    now = treadle.stats()["0"]
    assert now["by_operation"]["broadcast"]["operations"] == before + 4
    assert now["rank"] == rank and now["size"] == size and now["error"] == ""
    with open(path) as file:
        events = [e for e in json.load(file)["traceEvents"] if e["ph"] == "b"]
    assert [e["name"] for e in events] == ["broadcast"] * 4
    assert all(e["args"]["bytes"] == 400 and not e["args"]["failed"] for e in events)
    assert len({e["args"]["sequence"] for e in events}) == 4
    assert len(treadle.links()) == size - 1


def test_stats_trace_and_links(world, tmp_path):
    world.run(told, str(tmp_path))


def options():
    given = treadle.Options(datetime.timedelta(seconds=17))
    assert copy.deepcopy(given).timeout == copy.copy(given).timeout == datetime.timedelta(seconds=17)
    group = dist.new_group(backend="treadle", pg_options=given)
    backend = group._get_backend(torch.device("cpu"))
    assert backend.options.timeout == datetime.timedelta(seconds=17)
    assert dist.get_backend(group) == "treadle" and backend.name() == "treadle"
    tensor = torch.ones(1)
    assert group.allreduce([tensor]).timeout == datetime.timedelta(seconds=17)
    treadle.set_timeout(3, group)
    assert backend.options.timeout == datetime.timedelta(seconds=3)
    assert given.timeout == datetime.timedelta(seconds=17), "the caller's own object"
    dist.barrier()


def test_options_and_timeouts(pair):
    pair.run(options)


def profiled():
    with torch.profiler.profile(record_shapes=True) as profile:
        tensor = torch.ones(3, 4)
        dist.all_reduce(tensor)
        dist.all_reduce(tensor, async_op=True).wait()
        dist.broadcast(tensor, 0)
    events = [e for e in profile.events() if e.name.startswith("treadle:")]
    assert sorted(e.name for e in events) == ["treadle:all_reduce"] * 2 + ["treadle:broadcast"]
    assert all(e.is_async and [3, 4] in e.input_shapes for e in events)


def test_profiler_shows_operations(pair):
    pair.run(profiled)


def in_forked_child():
    dist.barrier()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = raises(dist.DistBackendError, dist.all_reduce, torch.ones(1))
        except BaseException as error:
            text = f"other: {error!r}"
        os.write(writing, text.encode())
        dist.destroy_process_group()
        os._exit(0)
    os.close(writing)
    text = os.read(reading, 10_000).decode()
    assert os.waitpid(child, 0)[1] == 0
    assert "forked" in text and "create a" in text, text
    tensor = torch.ones(1)
    dist.all_reduce(tensor)  # the child disturbed nothing
    assert tensor.item() == dist.get_world_size()


def test_forked_child_is_refused_and_disturbs_nothing():
    # A world of its own: Gloo groups, which other tests leave behind, hang or crash in a forked child.
    world = World(2)
    try:
        world.run(in_forked_child)
    finally:
        world.close()
