"""Process groups over Treadle: how they are made, found again and ended."""
from __future__ import annotations

import atexit
import copy
import datetime
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from ._shim import load

_TORCHS_DEFAULT_TIMEOUT = datetime.timedelta(minutes=30)


def create_backend(opts: Any, pg_options: Any | None) -> Any:
    """What torch.distributed calls to make the backend of one process group."""
    shim = load()
    _end_groups_at_exit()
    return shim.ProcessGroupTreadle(
        store=opts.store,
        rank=opts.group_rank,
        size=opts.group_size,
        options=_options_of(opts, pg_options),
        group_name=opts.group_id,
        global_ranks=list(opts.global_ranks_in_group),
        parent=_context_owner(),
    )


def _options_of(opts: Any, pg_options: Any | None) -> Any:
    """A copy of the user's options, with the group's names and timeout filled in."""
    shim = load()
    if pg_options is None:
        options = shim.Options(opts.timeout)
    elif isinstance(pg_options, shim.Options):
        options = copy.copy(pg_options)
        if options.timeout == _TORCHS_DEFAULT_TIMEOUT:
            options.timeout = opts.timeout
    else:
        raise TypeError(f"pg_options of a treadle group must be treadle.Options, not {type(pg_options).__name__}")
    options.group_name = opts.group_id
    options.global_ranks_in_group = list(opts.global_ranks_in_group)
    return options


def _backends_of(group: Any) -> Iterator[Any]:
    """The treadle backends of one process group; as a rule one, which serves all its devices."""
    shim, seen = load(), set()
    for device in group._device_types:
        backend = group._get_backend(device)
        backend = getattr(backend, "wrapped_pg", backend)  # TORCH_DISTRIBUTED_DEBUG=DETAIL
        if isinstance(backend, shim.ProcessGroupTreadle) and id(backend) not in seen:
            seen.add(id(backend))
            yield backend


def _context_owner() -> Any | None:
    """The default group's backend, whose connections later groups share."""
    world = distributed_c10d.GroupMember.WORLD
    if world is None:
        return None
    return next((b for b in _backends_of(world) if b._usable_here()), None)


def live_backends() -> list[Any]:
    """The treadle backends of all groups that this rank is in."""
    groups = list(distributed_c10d._world.pg_map)
    return [b for group in groups for b in _backends_of(group) if b._usable_here()]


@functools.cache
def _end_groups_at_exit() -> None:
    atexit.register(_end_groups)


def _end_groups() -> None:
    """Ends what the program did not end, while threads still run and Python's lock can be had.

    After an unhandled exception the other ranks are told at once, instead of waiting for a rank that
    will never come.
    """
    failure = getattr(sys, "last_value", None)
    for backend in live_backends():
        if failure is not None:
            backend._abort_because(f"the process ends with {type(failure).__name__}: {failure}")
        backend.shutdown()


def _group_backends(group: Any | None) -> list[Any]:
    group = dist.group.WORLD if group is None else group
    if group is None:
        raise ValueError("the default process group is not initialized: call init_process_group first")
    backends = list(_backends_of(group)) if isinstance(group, dist.ProcessGroup) else []
    if not backends:
        raise ValueError(f"{group} is no process group over treadle")
    return backends


def set_timeout(timeout: datetime.timedelta | float, group: Any | None = None) -> None:
    """Sets how long later operations of `group` may take; a number means seconds."""
    if not isinstance(timeout, datetime.timedelta):
        timeout = datetime.timedelta(seconds=timeout)
    for backend in _group_backends(group):
        backend.set_timeout(timeout)


def links(group: Any | None = None) -> list[str]:
    """What carries the data to each rank of the process: ["rank 1: shm", ...]."""
    return [line for backend in _group_backends(group) for line in backend._links()]


def stats() -> dict[str, dict[str, Any]]:
    """What each group of this rank has done so far, by group name.

    "operations" and "bytes" count finished operations and the bytes of their inputs; "seconds" adds
    up how long they took, from the call to the end, so that operations side by side count twice;
    "seconds_waited" is how long callers stood still for them. "by_operation" has the same by name.
    "error" says why a group is broken, or is empty.
    """
    result = {}
    for backend in live_backends():
        totals = {"rank": backend.rank(), "size": backend.size(), "error": backend._failure()}
        result[backend._group_name()] = totals | backend._stats()
    return result
