"""Traces for Perfetto and chrome://tracing."""
from __future__ import annotations

import itertools
import json
import os
import types
from typing import Any

from ._groups import live_backends


class trace:
    """Records the operations of this rank's groups and writes them to `path` as Chrome trace JSON.

        with treadle.trace("trace.json"):
            train_one_epoch()

    or `recording = treadle.trace(path)` … `recording.stop()`. Give each rank a path of its own. The
    times are those of time.perf_counter. Groups made later are not in it; of more than `max_events`
    operations per group only the first are.
    """

    def __init__(self, path: str | os.PathLike[str], max_events: int = 100_000) -> None:
        self._path = path
        self._backends = live_backends()
        for backend in self._backends:
            backend._start_trace(max_events)

    def __enter__(self) -> trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: types.TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the recording and writes the file. Later calls do nothing."""
        backends, self._backends = self._backends, []
        if not backends:
            return
        numbers = itertools.count(1)
        events = [event for backend in backends for event in _events_of(backend, numbers)]
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump({"displayTimeUnit": "ms", "traceEvents": events}, file)


def _events_of(backend: Any, numbers: Any) -> list[dict[str, Any]]:
    rank, group = backend.rank(), backend._group_name()
    common = {"pid": rank, "tid": 0, "cat": f"treadle group {group}"}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": rank, "tid": 0, "args": {"name": f"rank {rank}"}}
    ]
    for record in backend._stop_trace():
        # Asynchronous events: operations may overlap without being nested.
        this = common | {"name": record["name"], "id": next(numbers)}
        details = {key: record[key] for key in ("sequence", "bytes", "failed")}
        end_ns = record["begin_ns"] + record["duration_ns"]
        events.append(this | {"ph": "b", "ts": record["begin_ns"] / 1000, "args": details})
        events.append(this | {"ph": "e", "ts": end_ns / 1000})
    if backend._trace_dropped():
        text = f"{backend._trace_dropped()} operations had no room in this trace"
        events.append(common | {"ph": "i", "name": text, "s": "p", "ts": 0})
    return events
