"""Treadle as a PyTorch process-group backend.

    import torch.distributed as dist
    dist.init_process_group("treadle")

From torch 2.14 on the name alone is enough; before, `import treadle` first. Importing this package
registers the name and nothing else: it starts no thread, opens no file and loads no compiled code.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed as _dist

from ._groups import create_backend as _create_backend
from ._groups import links, set_timeout, stats
from ._trace import trace

if TYPE_CHECKING:
    from ._shim import Options

__all__ = ["Options", "links", "set_timeout", "stats", "trace"]


def _register() -> None:
    """Makes "treadle" known to torch.distributed. May be called any number of times."""
    _dist.Backend.register_backend("treadle", _create_backend, extended_api=True, devices=["cpu", "cuda"])


def __getattr__(name: str) -> Any:
    if name == "Options":
        from ._shim import load

        return load().Options
    if name == "__version__":
        from ._shim import package_version

        return package_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_register()
