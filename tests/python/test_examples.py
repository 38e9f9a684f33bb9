"""The examples run as their users would run them."""
from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(arguments, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    return subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )


def test_language_model_under_torchrun_by_name_alone(tmp_path):
    example = EXAMPLES / "train_language_model.py"
    assert not re.search(r"^\s*(import|from) treadle", example.read_text(), re.MULTILINE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run([*torchrun, str(example), "--steps", "50"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("treadle, 2 ranks")
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", done.stdout)]
    assert len(losses) == 3 and losses[-1] < losses[0] - 1.5, done.stdout


def test_digits_over_treadle(tmp_path):
    example = str(EXAMPLES / "train_digits.py")
    done = run([sys.executable, example, "--only", "treadle", "--epochs", "13", "--output", "out"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["ranks"] for row in summary["runs"]] == [2, 4]
    for row in summary["runs"]:
        assert row["test_accuracy"] >= 0.97 and row["parameters_identical"]
    events = json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    assert {"forward", "backward", "optimizer"} <= {event["name"] for event in events}
    assert (tmp_path / "out" / "timeline.png").stat().st_size > 10_000
