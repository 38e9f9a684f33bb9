"""Ranks for tests: processes forked from the test's own, which already has torch loaded.

A World is `size` ranks in one process group. They live for many checks: `world.run(function, ...)`
runs a module-level function on every rank and returns what the ranks returned. A check that fails
breaks its world, and the next check gets a new one.
"""
from __future__ import annotations

import datetime
import multiprocessing
import os
import shutil
import tempfile
import time
import traceback
from typing import Any, Callable

import torch
import torch.distributed as dist

_fork = multiprocessing.get_context("fork")


class RankFailed(AssertionError):
    """A rank raised or did not answer; the text has its traceback."""


def _serve(pipe: Any, rank: int, size: int, backend: str, folder: str, options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    os.environ.update(options["env"])
    for name in [n for n in os.environ if n.startswith("TREADLE_") and n not in options["env"]]:
        del os.environ[name]
    try:
        dist.init_process_group(
            backend,
            store=dist.FileStore(os.path.join(folder, "store"), size),
            rank=rank,
            world_size=size,
            timeout=options["timeout"],
        )
        pipe.send(("ready", None))
        while (task := pipe.recv()) is not None:
            function, arguments = task
            try:
                pipe.send(("done", function(*arguments)))
            except BaseException:
                pipe.send(("failed", traceback.format_exc()))
        if dist.is_initialized():
            dist.destroy_process_group()
        pipe.send(("gone", None))
    except EOFError:
        pass  # the test process gave this world up
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


class World:
    def __init__(
        self,
        size: int,
        backend: str = "treadle",
        timeout: datetime.timedelta = datetime.timedelta(seconds=30),
        env: dict[str, str] | None = None,
    ) -> None:
        self.size = size
        self.broken = False
        self.folder = tempfile.mkdtemp(prefix="treadle-ranks-")
        self.pipes, self.processes = [], []
        options = {"timeout": timeout, "env": env or {}}
        for rank in range(size):
            here, there = _fork.Pipe()
            process = _fork.Process(
                target=_serve, args=(there, rank, size, backend, self.folder, options), daemon=True
            )
            process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)
        self.collect(range(size), by=60)

    def pid(self, rank: int) -> int:
        return self.processes[rank].pid

    def start(self, rank: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Has one rank begin; collect() later."""
        self.pipes[rank].send((function, arguments))

    def collect(self, ranks: Any, by: float = 60) -> list[Any]:
        """What these ranks returned. Raises RankFailed with the traceback of each that raised."""
        deadline = time.monotonic() + by
        results, failures = [], []
        for rank in ranks:
            if not self.pipes[rank].poll(max(0, deadline - time.monotonic())):
                failures.append(f"rank {rank} did not answer within {by} s")
                continue
            try:
                kind, value = self.pipes[rank].recv()
            except EOFError:
                kind, value = "failed", "the process is gone"
            if kind == "failed":
                failures.append(f"rank {rank}:\n{value}")
            results.append(value)
        if failures:
            self.broken = True
            raise RankFailed("\n".join(failures))
        return results

    def run(self, function: Callable[..., Any], *arguments: Any, by: float = 60) -> list[Any]:
        for rank in range(self.size):
            self.start(rank, function, *arguments)
        return self.collect(range(self.size), by)

    def close(self) -> None:
        for pipe in self.pipes:
            try:
                pipe.send(None)
            except OSError:
                pass
        give_up = time.monotonic() + (0.5 if self.broken else 10)
        for process in self.processes:
            process.join(max(0.1, give_up - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self.pipes:
            pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Worlds:
    """One living world per kind, made anew when a check broke it."""

    def __init__(self) -> None:
        self._worlds: dict[Any, World] = {}

    def get(self, size: int, **options: Any) -> World:
        key = (size, tuple(sorted((name, str(value)) for name, value in options.items())))
        world = self._worlds.get(key)
        if world is None or world.broken:
            if world is not None:
                world.close()
            world = self._worlds[key] = World(size, **options)
        return world

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()


def raises(kind: type[BaseException], function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The text of the error that the call must raise."""
    try:
        function(*arguments, **options)
    except kind as error:
        return str(error)
    raise AssertionError(f"{getattr(function, '__name__', function)} raised no {kind.__name__}")


def check(got: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Fails unless both have the same bytes; `what` says in the failure's text what was compared."""
    assert got.dtype == expected.dtype and got.shape == expected.shape, what
    same = torch.equal(got.contiguous().view(-1).view(torch.uint8), expected.contiguous().view(-1).view(torch.uint8))
    assert same, f"{what}: got {got.flatten()[:8]}, expected {expected.flatten()[:8]}"
