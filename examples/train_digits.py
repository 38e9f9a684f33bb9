"""Trains a convolutional network on handwritten digits with DistributedDataParallel: over Treadle
with 2 and with 4 ranks on this machine, then the same over Gloo.

    python examples/train_digits.py

Shows a table and leaves in demo-output/: summary.json, timeline.png (one step of each backend) and
trace.json (the same step of every rank, for https://ui.perfetto.dev). Ends with 0 only if Treadle
reached 97 % on the test images and all ranks ended with the same bits in every parameter.
"""
import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

GOAL = 0.97
GLOBAL_BATCH = 64  # the same for every number of ranks, so that all runs do the same training
TEST_IMAGES = 360
RUNS = [("treadle", 2), ("treadle", 4), ("gloo", 2), ("gloo", 4)]


def digits():
    """scikit-learn's bundled digits, 8 x 8 pixels: training images, training labels, test …"""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32)[order].unsqueeze(1) / 16
    labels = torch.tensor(data.target)[order]
    return images[TEST_IMAGES:], labels[TEST_IMAGES:], images[:TEST_IMAGES], labels[:TEST_IMAGES]


def network():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 96, 3, padding=1), nn.ReLU(),
        nn.Conv2d(96, 96, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96 * 2 * 2, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10),
    )  # fmt: skip


@dataclasses.dataclass
class Span:
    """Something that took place in a step; seconds of time.perf_counter, one clock on one host."""

    name: str
    lane: str  # "compute" or "network"
    begin: float
    end: float


@dataclasses.dataclass
class Result:
    """What one rank found out."""

    accuracy: float
    digest: str
    steps: list[list[Span]]


class Recorder:
    """Collects the spans of every step, those of the all-reduces included."""

    def __init__(self):
        self.steps = []

    def begin_step(self):
        self.steps.append([])

    @contextlib.contextmanager
    def span(self, name):
        begin = time.perf_counter()
        yield
        self.steps[-1].append(Span(name, "compute", begin, time.perf_counter()))

    def all_reduce(self, _, bucket):
        """DDP's own all-reduce as a hook, with a clock beside it; the same for every backend."""
        step, begin = self.steps[-1], time.perf_counter()
        work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        name = f"bucket {bucket.index()}, {bucket.buffer().nbytes / 1024:.0f} KiB"

        def finished(future):
            step.append(Span(name, "network", begin, time.perf_counter()))
            return future.value()[0]

        return work.get_future().then(finished)


def train(rank, ranks, epochs, report):
    torch.manual_seed(0)
    images, labels, test_images, test_labels = digits()
    recorder = Recorder()
    model = DistributedDataParallel(network(), bucket_cap_mb=0.25)
    model.register_comm_hook(None, recorder.all_reduce)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.CrossEntropyLoss()
    torch.manual_seed(1 + rank)  # dropout differs by rank
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for whole in order.split(GLOBAL_BATCH)[: len(order) // GLOBAL_BATCH]:
            mine = whole.chunk(ranks)[rank]
            recorder.begin_step()
            with recorder.span("forward"):
                loss = loss_of(model(images[mine]), labels[mine])
            with recorder.span("backward"):
                loss.backward()
            with recorder.span("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
        report(epoch + 1, loss.item())
    model.eval()
    with torch.no_grad():
        right = (model.module(test_images).argmax(1) == test_labels).float().mean().item()
    return Result(right, digest(model.module), recorder.steps)


def digest(model):
    state = hashlib.sha256()
    for parameter in model.parameters():
        state.update(parameter.detach().numpy().tobytes())
    return state.hexdigest()


def rank_main(rank, backend, ranks, epochs, folder, queue):
    """One rank, as torchrun would start it."""
    torch.set_num_threads(1)
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=ranks)

    def report(epoch, loss):
        if rank == 0:
            queue.put((epoch, loss))

    result = train(rank, ranks, epochs, report)
    torch.save(result, f"{folder}/result-{rank}")
    dist.destroy_process_group()


def run(backend, ranks, epochs, progress):
    """Results of all ranks, by rank."""
    task = progress.add_task(f"{backend}, {ranks} ranks", total=epochs, loss="")
    with tempfile.TemporaryDirectory() as folder:
        queue = mp.get_context("fork").SimpleQueue()
        # Forked, so that the ranks need not load torch again.
        processes = mp.start_processes(
            rank_main, (backend, ranks, epochs, folder, queue), nprocs=ranks, join=False, start_method="fork"
        )
        ended = False
        while not ended:
            ended = processes.join(timeout=0.1)
            while not queue.empty():
                epoch, loss = queue.get()
                progress.update(task, completed=epoch, loss=f"loss {loss:.4f}")
            progress.refresh()
        return [torch.load(f"{folder}/result-{rank}", weights_only=False) for rank in range(ranks)]


# ---- what the runs tell ----


def covered(spans):
    """Seconds in which at least one of the spans was under way."""
    total, until = 0.0, 0.0
    for span in sorted(spans, key=lambda s: s.begin):
        total += max(0.0, span.end - max(span.begin, until))
        until = max(until, span.end)
    return total


def begin_of(step):
    return min(span.begin for span in step)


def length_of(step):
    return max(span.end for span in step) - begin_of(step)


def settled(result):
    """The steps after the first fifth, in which buckets are rebuilt and caches fill."""
    return range(len(result.steps) // 5, len(result.steps))


def typical_step(results):
    """The number of the step whose length on rank 0 is the median."""
    return sorted(settled(results[0]), key=lambda i: length_of(results[0].steps[i]))[len(settled(results[0])) // 2]


def summary_of(backend, ranks, results):
    first = results[0]
    steps = [first.steps[i] for i in settled(first)]
    in_network = [covered([span for span in step if span.lane == "network"]) for step in steps]
    return {
        "backend": backend,
        "ranks": ranks,
        "step_ms": statistics.median(length_of(step) for step in steps) * 1000,
        "communication_ms": statistics.median(in_network) * 1000,
        "test_accuracy": first.accuracy,
        "parameters_identical": len({result.digest for result in results}) == 1,
        "parameters_sha256": first.digest,
    }


def show_table(summaries):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Handwritten digits, {os.cpu_count()} CPUs, one thread per rank")
    for heading in "backend", "ranks", "step", "in communication", "test accuracy", "parameters on all ranks":
        table.add_column(heading, justify="left" if heading in ("backend", "parameters on all ranks") else "right")
    for row in summaries:
        same = "identical" if row["parameters_identical"] else "[bold red]DIFFERENT"
        table.add_row(
            row["backend"], str(row["ranks"]), f"{row['step_ms']:.2f} ms", f"{row['communication_ms']:.2f} ms",
            f"{row['test_accuracy']:.1%}", f"{same} ({row['parameters_sha256'][:10]})",
        )  # fmt: skip
    Console().print(table)


COLOURS = {"forward": "#4878a8", "backward": "#e49444", "optimizer": "#85b66f", "network": "#c23b4b"}


def draw_timeline(results, ranks, path):
    """One typical step of rank 0 for each backend, on one scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    backends = [backend for backend, count in results if count == ranks]
    figure, axes = plt.subplots(len(backends), 1, sharex=True, figsize=(11, 2.2 * len(backends) + 1.2), squeeze=False)
    for axis, backend in zip(axes[:, 0], backends, strict=True):
        found = results[backend, ranks]
        step = found[0].steps[typical_step(found)]
        draw_step(axis, step)
        axis.set_title(f"{backend}, {ranks} ranks: one step of rank 0, {length_of(step) * 1000:.2f} ms", loc="left")
    axes[-1, 0].set_xlabel("milliseconds since the step began")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    labels = [name if name != "network" else "all-reduce of a bucket" for name in COLOURS]
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=150)


def draw_step(axis, step):
    start = begin_of(step)
    buckets = sorted({span.name for span in step if span.lane == "network"})
    lanes = ["compute", *buckets]
    for span in step:
        lane = lanes.index(span.name if span.lane == "network" else "compute")
        colour = COLOURS["network" if span.lane == "network" else span.name]
        axis.barh(lane, (span.end - span.begin) * 1000, left=(span.begin - start) * 1000, color=colour, height=0.7)
    axis.set_yticks(range(len(lanes)), lanes)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def write_trace(results, path):
    """Chrome trace JSON: a process per rank and run, its typical step on two lanes."""
    events, process = [], 0
    for (backend, ranks), found in results.items():
        number = typical_step(found)
        start = min(begin_of(result.steps[number]) for result in found)
        for rank, result in enumerate(found):
            process += 1
            name = f"{backend}, {ranks} ranks: rank {rank}"
            events.append({"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}})
            for order, span in enumerate(result.steps[number]):
                common = {"pid": process, "tid": span.lane, "cat": span.lane, "name": span.name}
                begin, end = ((moment - start) * 1e6 for moment in (span.begin, span.end))
                if span.lane == "compute":
                    events.append(common | {"ph": "X", "tid": 0, "ts": begin, "dur": end - begin})
                else:  # buckets overlap, which only asynchronous events may
                    this = common | {"tid": 1, "id": process * 1000 + order}
                    events += [this | {"ph": "b", "ts": begin}, this | {"ph": "e", "ts": end}]
    path.write_text(json.dumps({"displayTimeUnit": "ms", "traceEvents": events}))


def train_all(runs, epochs):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"),
        TextColumn("{task.fields[loss]}"), TimeElapsedColumn(),
    ]  # fmt: skip
    # Without a thread of its own: the ranks are forked from this process.
    with Progress(*columns, auto_refresh=False) as progress:
        return {(backend, ranks): run(backend, ranks, epochs, progress) for backend, ranks in runs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("demo-output"))
    parser.add_argument("--only", help="backend to run, for a quick look")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    results = train_all([r for r in RUNS if arguments.only in (None, r[0])], arguments.epochs)
    summaries = [summary_of(*key, found) for key, found in results.items()]
    show_table(summaries)

    arguments.output.mkdir(parents=True, exist_ok=True)
    facts = {"torch": torch.__version__, "cpus": os.cpu_count(), "epochs": arguments.epochs, "global_batch": GLOBAL_BATCH}
    (arguments.output / "summary.json").write_text(json.dumps(facts | {"runs": summaries}, indent=2) + "\n")
    draw_timeline(results, 2, arguments.output / "timeline.png")
    write_trace(results, arguments.output / "trace.json")
    print(f"In {arguments.output}/: summary.json, timeline.png, trace.json (open it in https://ui.perfetto.dev)")

    failures = [
        f"{row['backend']} with {row['ranks']} ranks: accuracy {row['test_accuracy']:.1%}, "
        f"parameters {'identical' if row['parameters_identical'] else 'DIFFERENT'}"
        for row in summaries
        if row["backend"] == "treadle" and not (row["test_accuracy"] >= GOAL and row["parameters_identical"])
    ]
    for failure in failures:
        print(f"FAILED: {failure} (wanted: at least {GOAL:.0%}, identical)", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
