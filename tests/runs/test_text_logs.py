"""Every text log of the labelled collection is read by some reader, and its steps are those of its label."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from unstuck.runs.beside import read_beside
from unstuck.runs.logfile import LogFile
from unstuck.runs.readers import best_match, read_runs, text

LOGS = Path(__file__).resolve().parents[3] / "shared" / "logs"
FORMATS = ("build_nanogpt_stdout", "gpt2-qa", "llmc_stdout", "megatron_log", "modded_nanogpt_log", "nanochat_stdout",
           "nanogpt_stdout", "parameter_golf_log", "text_epoch_log", "wandb_output_log")  # fmt: skip


def labels() -> list[dict[str, Any]]:
    found = []
    for folder in (LOGS, LOGS / "generated"):
        if (folder / "labels.json").is_file():
            for label in json.loads((folder / "labels.json").read_text(encoding="utf-8")):
                path = folder / label["file"]
                if label.get("format") in FORMATS or path.suffix == ".log":
                    found.append({**label, "path": path})
    return found


pytestmark = pytest.mark.skipif(not LOGS.is_dir(), reason="needs the labelled logs of ../shared/logs")


@pytest.mark.parametrize("label", labels(), ids=lambda label: label["file"])
def test_every_text_log_is_read_with_its_steps(label: dict[str, Any]) -> None:
    assert best_match(LogFile(label["path"]))[0] is not None
    runs = read_runs(label["path"])
    assert all(run.series for run in runs)
    if label["steps"] is None or len(runs) > 1:
        return
    (run,) = runs
    last = run.updates
    if label.get("unit") == "epoch":
        assert "epoch" in run.series or run.axis == "epoch"
        last = round(max(run.series["epoch"].values)) if "epoch" in run.series else last
    if label["format"] == "gpt2-qa":  # the label is the plan; the losses are those of the evaluations before its end
        assert 0 <= last <= label["steps"]
        return
    # ours: a label counts from 0 or 1, and may be of the last training row where an evaluation or a summary follows
    assert abs(last - label["steps"]) <= max(2, 0.03 * label["steps"])


@pytest.mark.parametrize("name", ["plain_pytorch/run_006.log", "plain_pytorch/run_024.log", "keras/run_004.log",
                                  "hf_trainer/run_003.log", "nanogpt/run_005.log"])  # fmt: skip
def test_the_free_text_reader_sees_what_a_plain_reading_sees(name: str) -> None:
    path = LOGS / "generated" / name
    (run,) = text.read(LogFile(path), read_beside(path))
    assert {"train/loss", "val/loss"} <= set(run.series)
    content = path.read_text(encoding="utf-8").split("\n")
    for series in (run.series["train/loss"], run.series["val/loss"]):
        for line, value in list(zip(series.lines.tolist(), series.values.tolist(), strict=True))[
            :: max(1, len(series) // 9)
        ]:
            assert any(float(word) == value for word in _numbers(content[line - 1])), (line, value)


def _numbers(line: str) -> list[str]:
    return re.findall(r"\d+\.\d+", line)
