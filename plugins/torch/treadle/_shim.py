"""Finds and loads the compiled module that fits the installed torch.

C++ classes of torch.distributed change between minor versions of torch, so there is one compiled
module per minor, `_treadle_torch_2_15` for torch 2.15.
"""
from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pathlib
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    Options = Any

_PREFIX = "_treadle_torch_"


def package_version() -> str:
    try:
        return importlib.metadata.version("treadle")
    except importlib.metadata.PackageNotFoundError:
        return str(load().__version__)  # used from a folder, not installed


def _built_for() -> list[str]:
    """The minor versions of torch that this package has a module for: ["2.15"]."""
    found = set()
    for file in pathlib.Path(__file__).parent.glob(f"{_PREFIX}*.so"):
        match = re.match(rf"{_PREFIX}(\d+)_(\d+)\.", file.name)
        if match:
            found.add((int(match[1]), int(match[2])))
    return [f"{major}.{minor}" for major, minor in sorted(found)]


def _advice(built_for: list[str]) -> str:
    rebuild = (
        "rebuild Treadle for this one: in its source folder, with this Python, "
        "pip install --no-build-isolation --force-reinstall --no-deps ."
    )
    if not built_for:
        return f"Reinstall it, or {rebuild}"
    return f"Install a torch that fits (pip install 'torch=={built_for[-1]}.*'), or {rebuild}"


@functools.cache
def load() -> ModuleType:
    """The compiled module. Raises ImportError that says what is installed and what would fit."""
    major, minor = torch.__version__.split(".")[:2]
    wanted = f"{major}.{minor}"
    built_for = _built_for()
    here = pathlib.Path(__file__).parent
    if wanted not in built_for:
        has = f"modules for torch {', '.join(built_for)} only" if built_for else "no compiled module at all"
        raise ImportError(
            f"treadle cannot be used with torch {torch.__version__}: the package in {here} has {has}. "
            f"{_advice(built_for)}"
        )
    try:
        return importlib.import_module(f"{__package__}.{_PREFIX}{major}_{minor}")
    except ImportError as error:
        raise ImportError(
            f"treadle's compiled module for torch {wanted} does not load with torch {torch.__version__} "
            f"({error}): it was built for another build of torch, or libtreadle is missing beside it in "
            f"{here}. {_advice([v for v in built_for if v != wanted])}"
        ) from error
