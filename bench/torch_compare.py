#!/usr/bin/env python3
"""Compares Treadle with Gloo where users meet them: torch's dist.all_reduce on float32 CPU tensors.

    python bench/torch_compare.py                        # 2, 4 and 8 ranks, shared memory and tcp
    python bench/torch_compare.py --ranks 2 --transports auto --sizes 8 4K 16M

Both backends have a group in the same processes and take turns, round by round, so that whatever else
the machine does meets both. The buffers of a size (up to 64 MiB of them) are used in turn; every
result is checked on every rank, outside of the timed part. An operation takes as long as it takes on
the slowest rank; a size's time is the median over the rounds of the median within a round.

Ends with 0 if every result was right, whatever the times. Run it on an idle machine. Where Gloo does
not find the host's own name, set GLOO_SOCKET_IFNAME=lo.
"""
from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

KIB, MIB = 1 << 10, 1 << 20
BUDGET_BYTES = 64 * MIB  # of the buffers that are used in turn
MOST_COPIES = 200
PERIOD = 251  # a prime: a piece of a result in a wrong place does not look right
PEERS = ("treadle", "gloo")
SIZES = "8 32 128 512 2K 8K 32K 128K 512K 2M 8M 16M 32M 64M 128M 256M"


@dataclasses.dataclass(frozen=True)
class Row:
    """One backend at one size. The JSON form has these fields, as treadle-perf has."""

    op: str
    bytes: int
    ranks: int
    transport: str  # what treadle's links were made of; gloo always uses tcp
    peer: str
    p50_us: float
    p99_us: float
    busbw_gbps: float
    correct: bool


class Buffers:
    """Tensors of one size whose sums over the ranks are known exactly."""

    def __init__(self, size_bytes: int, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        elems = size_bytes // 4
        copies = max(1, min(MOST_COPIES, BUDGET_BYTES // size_bytes))
        self.base = torch.arange(PERIOD, dtype=torch.float32).repeat(elems // PERIOD + 1)[:elems]
        self.tensors = [torch.empty(elems) for _ in range(copies)]

    def fill(self) -> None:
        for copy, tensor in enumerate(self.tensors):
            torch.add(self.base, self.rank + copy, out=tensor)

    def are_summed(self) -> bool:
        sum_of_ranks = self.ranks * (self.ranks - 1) // 2
        return all(
            torch.equal(tensor, self.base * self.ranks + (sum_of_ranks + copy * self.ranks))
            for copy, tensor in enumerate(self.tensors)
        )


def timed_pass(buffers: Buffers, group: Any) -> tuple[list[float], bool]:
    """Microseconds of one all_reduce per buffer, and whether all of them were right here."""
    buffers.fill()
    dist.barrier(group=group)
    times = []
    for tensor in buffers.tensors:
        begin = time.perf_counter()
        dist.all_reduce(tensor, group=group)
        times.append((time.perf_counter() - begin) * 1e6)
    return times, buffers.are_summed()


def over_all_ranks(times: list[list[float]], right: bool, group: Any) -> tuple[list[list[float]], bool]:
    """The slowest rank's time of each operation; whether all ranks were right."""
    flat = torch.tensor([t for one_round in times for t in one_round] + [float(not right)], dtype=torch.float64)
    dist.all_reduce(flat, op=dist.ReduceOp.MAX, group=group)
    return flat[:-1].reshape(len(times), -1).tolist(), flat[-1].item() == 0


def measure(size_bytes: int, groups: dict[str, Any], rounds: int) -> dict[str, tuple[list[list[float]], bool]]:
    """For each backend, times by round and whether all results were right."""
    buffers = Buffers(size_bytes, dist.get_rank(), dist.get_world_size())
    times: dict[str, list[list[float]]] = {peer: [] for peer in groups}
    right = {peer: True for peer in groups}
    for number in range(-1, rounds):  # round -1 warms up
        for peer in list(groups) if number % 2 else reversed(list(groups)):
            taken, is_right = timed_pass(buffers, groups[peer])
            right[peer] = right[peer] and is_right
            if number >= 0:
                times[peer].append(taken)
    return {peer: over_all_ranks(times[peer], right[peer], groups["gloo"]) for peer in groups}


def row_of(size_bytes: int, transport: str, peer: str, rounds: list[list[float]], right: bool) -> Row:
    ranks = dist.get_world_size()
    p50 = statistics.median(statistics.median(one_round) for one_round in rounds)
    every = sorted(t for one_round in rounds for t in one_round)
    p99 = every[max(0, -(-len(every) * 99 // 100) - 1)]
    busbw = size_bytes / p50 / 1e3 * 2 * (ranks - 1) / ranks
    return Row("all_reduce", size_bytes, ranks, transport, peer, round(p50, 3), round(p99, 3), round(busbw, 6), right)


def transport_of(group: Any) -> str:
    """What treadle's links to the other ranks are: "shm" or "tcp", or both."""
    import treadle

    words = {line.split(": ", 1)[1].split()[0] for line in treadle.links(group)}
    return "+".join(sorted(words - {"not"})) or "none"


def run_rank(rank: int, ranks: int, transport: str, folder: str, sizes: list[int], rounds: int) -> None:
    torch.set_num_threads(1)
    os.environ["TREADLE_TRANSPORT"] = transport
    timeout = datetime.timedelta(minutes=5)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks, timeout=timeout
    )
    groups = {"treadle": dist.new_group(backend="treadle", timeout=timeout), "gloo": dist.group.WORLD}
    rows = []
    for size_bytes in sizes:
        if rank == 0:
            print(f"{ranks} ranks, {transport}: {text_of_size(size_bytes)}", file=sys.stderr)
        found = measure(size_bytes, groups, rounds)
        label = transport_of(groups["treadle"])
        rows += [row_of(size_bytes, label, peer, *found[peer]) for peer in PEERS]
    if rank == 0:
        pathlib.Path(folder, "rows.json").write_text(json.dumps([dataclasses.asdict(row) for row in rows]))
    dist.barrier()
    dist.destroy_process_group()


def run_ranks(ranks: int, transport: str, sizes: list[int], rounds: int) -> list[Row]:
    """Forks the ranks, which inherit a loaded torch; ends all of them if one fails."""
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="torch-compare-") as folder:
        processes = [
            fork.Process(target=run_rank, args=(rank, ranks, transport, folder, sizes, rounds), daemon=True)
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        left = {process.sentinel: (rank, process) for rank, process in enumerate(processes)}
        while left:
            for sentinel in multiprocessing.connection.wait(list(left)):
                rank, process = left.pop(sentinel)
                process.join()
                if process.exitcode != 0:
                    for _, other in left.values():
                        other.kill()
                    sys.exit(f"rank {rank} of {ranks} ({transport}) ended with exit code {process.exitcode}")
        return [Row(**row) for row in json.loads(pathlib.Path(folder, "rows.json").read_text())]


def ratios(rows: list[Row], transport: str | None, ranks: int) -> dict[int, float]:
    """By size: how many times faster treadle was than gloo in the same run. None: any transport."""
    found: dict[int, float] = {}
    for mine, other in zip(rows[::2], rows[1::2]):
        if mine.ranks == ranks and transport in (None, mine.transport):
            ratio = other.p50_us / mine.p50_us
            found[mine.bytes] = min(ratio, found.get(mine.bytes, ratio))
    return found


@dataclasses.dataclass(frozen=True)
class Goal:
    text: str
    transport: str | None
    ranks: int
    holds: Callable[[float], bool]
    sizes: tuple[int, int] = (0, 1 << 62)


GOALS = [
    Goal("shm, 2 ranks: faster than gloo at every size", "shm", 2, lambda ratio: ratio > 1),
    Goal("shm, 2 ranks: 10 times faster up to 32 KiB", "shm", 2, lambda ratio: ratio >= 10, (0, 32 * KIB)),
    Goal("shm, 2 ranks: 5 times faster from 16 MiB", "shm", 2, lambda ratio: ratio >= 5, (16 * MIB, 1 << 62)),
    Goal("tcp, 2 ranks: no slower than gloo at any size", "tcp", 2, lambda ratio: ratio >= 1),
    Goal("4 ranks: no slower than gloo at any size", None, 4, lambda ratio: ratio >= 1),
    Goal("8 ranks: no slower than gloo at any size", None, 8, lambda ratio: ratio >= 1),
]


def verdict(goal: Goal, rows: list[Row]) -> str:
    low, high = goal.sizes
    found = {size: r for size, r in ratios(rows, goal.transport, goal.ranks).items() if low <= size <= high}
    if not found:
        return f"not measured: {goal.text}"
    misses = [f"{text_of_size(size)} ({ratio:.2f})" for size, ratio in found.items() if not goal.holds(ratio)]
    return f"missed: {goal.text}; at {', '.join(misses)}" if misses else f"met: {goal.text}"


def text_of_size(size_bytes: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} B"


def text_of_time(us: float) -> str:
    return f"{us:.1f} µs" if us < 1000 else f"{us / 1000:.2f} ms"


def size_from(text: str) -> int:
    units = {"K": KIB, "M": MIB, "G": 1 << 30}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not number.isdigit() or int(number) * unit % 4 or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text}: expected bytes, a multiple of 4, with or without K, M or G")
    return int(number) * unit


def processor() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"{model}, {len(os.sched_getaffinity(0))} CPUs"


def print_tables(rows: list[Row], rounds: int, markdown: bool) -> None:
    """One table per group of ranks and transport."""
    print(f"all_reduce, float32, torch {torch.__version__}; {processor()}; {rounds} rounds; median (p99)\n")
    pairs = list(zip(rows[::2], rows[1::2]))
    title = "| {:>8} | {:>22} | {:>22} | {:>14} |" if markdown else "{:>10}  {:>22}  {:>22}  {:>14}"
    for ranks, transport in dict.fromkeys((mine.ranks, mine.transport) for mine, _ in pairs):
        print(f"{'### ' if markdown else ''}{ranks} ranks, treadle over {transport}\n")
        print(title.format("size", "treadle", "gloo", "gloo / treadle"))
        if markdown:
            print("| ---: | ---: | ---: | ---: |")
        for mine, other in pairs:
            if (mine.ranks, mine.transport) != (ranks, transport):
                continue
            cells = [f"{text_of_time(r.p50_us)} ({text_of_time(r.p99_us)})" + ("" if r.correct else " WRONG") for r in (mine, other)]
            print(title.format(text_of_size(mine.bytes), *cells, f"{other.p50_us / mine.p50_us:.2f}"))
        print()
    for goal in GOALS:
        print(f"{'- ' if markdown else ''}{verdict(goal, rows)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--sizes", type=size_from, nargs="+", default=[size_from(text) for text in SIZES.split()])
    parser.add_argument("--transports", nargs="+", choices=["auto", "tcp"], default=["auto", "tcp"],
                        help="TREADLE_TRANSPORT; auto is shared memory on one host")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one object per line, as treadle-perf prints them")
    form.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if min(arguments.ranks) < 2 or arguments.rounds < 1:
        parser.error("at least 2 ranks and 1 round")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    rows: list[Row] = []
    for ranks in arguments.ranks:
        for transport in arguments.transports:
            rows += run_ranks(ranks, transport, arguments.sizes, arguments.rounds)
    if arguments.json:
        for row in rows:
            print(json.dumps(dataclasses.asdict(row)))
    else:
        print_tables(rows, arguments.rounds, arguments.markdown)
    return 0 if all(row.correct for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
