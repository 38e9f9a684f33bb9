"""A broken or missing package must not break `import torch`; asking for the backend says what is wrong.

Each case runs in a Python of its own that sees a changed copy of the installed package first.
"""
from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

import treadle

PACKAGE = pathlib.Path(treadle.__file__).parent
ENTRY_POINTS = """
[torch.distributed.backends]
treadle = treadle:_register
[torch.backends]
treadle = _treadle_autoload:register
"""

USE = """
    import torch
    import torch.distributed as dist
    print("torch is imported")
    try:
        dist.init_process_group("treadle", store=dist.HashStore(), rank=0, world_size=1)
        tensor = torch.ones(2)
        dist.all_reduce(tensor)
        print("works", tensor.tolist())
        dist.destroy_process_group()
    except Exception as error:
        while error:
            print(f"{type(error).__name__}: {error}")
            error = error.__cause__
"""


@pytest.fixture
def site(tmp_path):
    """A folder with a copy of the package, installed as far as Python can tell."""
    shutil.copytree(PACKAGE, tmp_path / "treadle", ignore=shutil.ignore_patterns("__pycache__", "bin"))
    shutil.copy(PACKAGE.parent / "_treadle_autoload.py", tmp_path)
    information = tmp_path / "treadle-99.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: treadle\nVersion: 99\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def python(site, code):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    environment["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shim_of(site):
    return next((site / "treadle").glob("_treadle_torch_*.so"))


def test_the_copy_works_by_name_alone(site):
    assert "works [1.0, 1.0]" in python(site, USE)


def test_package_that_raises(site):
    (site / "treadle" / "__init__.py").write_text('raise RuntimeError("half an upgrade")\n')
    output = python(site, USE)
    assert "torch is imported" in output and "half an upgrade" in output


def test_missing_shim(site):
    shim_of(site).unlink()
    output = python(site, USE)
    assert "torch is imported" in output
    assert f"ImportError: treadle cannot be used with torch {torch.__version__}" in output
    assert "no compiled module" in output and "Reinstall" in output


def test_shim_for_another_torch(site):
    shim = shim_of(site)
    shim.rename(shim.with_name("_treadle_torch_2_99.so"))
    output = python(site, USE)
    assert "torch is imported" in output
    assert f"torch {torch.__version__}" in output and "torch 2.99 only" in output
    assert "pip install 'torch==2.99.*'" in output and "rebuild" in output


def test_shim_that_does_not_load(site):
    shim_of(site).write_bytes(b"not a library")
    output = python(site, USE)
    assert "torch is imported" in output and "does not load" in output


def test_autoload_of_older_torch(site):
    code = """
        import torch, sys
        torch.__version__ = "2.12.1"  # the autoload looks here; nothing else does before a group is made
        import _treadle_autoload
        _treadle_autoload.register()
        assert "treadle" not in sys.modules, "the package must not be imported yet"
        import torch.distributed as dist
        creator = dist.Backend._plugins["TREADLE"].creator_fn
        torch.__version__ = "{version}"
        dist.init_process_group("treadle", store=dist.HashStore(), rank=0, world_size=1)
        dist.barrier()
        print(creator.__module__, "works")
    """.replace("{version}", torch.__version__)
    assert "_treadle_autoload works" in python(site, code)


def test_autoload_swallows_everything(site):
    code = """
        import sys, types
        sys.modules["torch"] = types.ModuleType("torch")  # lacks everything
        import _treadle_autoload
        _treadle_autoload.register()
        print("silent")
    """
    assert "silent" in python(site, code)


def test_import_starts_no_thread_and_opens_no_descriptor(site):
    code = """
        import os, torch, torch.distributed
        def held():
            return len(os.listdir("/proc/self/task")), sorted(os.listdir("/proc/self/fd"))
        before = held()
        import treadle
        assert held() == before, (before, held())
        print(treadle.__version__)
    """
    assert python(site, code).strip() == "99"


def test_unknown_setting_is_refused(site):
    output = python(site, "    import os\n    os.environ['TREADLE_TRANSPROT'] = 'tcp'\n" + USE.lstrip("\n"))
    assert "TREADLE_TRANSPROT" in output and "works" not in output


def test_entry_points_of_the_installation():
    """The pyproject must publish what these tests rely on."""
    groups = {e.group: e.value for e in importlib.metadata.entry_points(name="treadle")}
    assert groups.get("torch.distributed.backends") == "treadle:_register"
    assert groups.get("torch.backends") == "_treadle_autoload:register"
