"""Two real processes, started by torchrun, against one: the same global batch gives the same losses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.train.conftest import Make, losses, rows
from unstuck.train.run import train

RUNS = Path(__file__).parent / "distributed_runs.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LIMIT = 150  # seconds; a machine that others use too

# Muon and AdamW, n-gram tables with sparse gradients, rows that do not divide by two, clipping, accumulation.
MUON = ("training.updates=50", "training.clip_norm=0.3", "training.accumulation=2", "model.width=18", "model.heads=3",
        "model.ngrams=2", "evaluation.layer_gradients=true", "evaluation.every_updates=10", "checkpoint.keep=3",
        "optimizer.weight_decay=0.1")  # fmt: skip
ENDLESS = ["training.updates=100000", "evaluation.every_updates=1000000", "checkpoint.every_updates=null"]
ADAMW = ("training.updates=50", "training.clip_norm=0.3", "model.architecture=gpt2", "model.tied_head=true",
         "model.bias=true", "optimizer.kind=adamw")  # fmt: skip


def torchrun(*words: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.Popen(
        [*TORCHRUN, *words],
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What it wrote to standard error until its end; a hang leaves nothing running."""
    try:
        return process.communicate(timeout=LIMIT)[1]
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes
        process.communicate(timeout=60)
        raise


def in_two_processes(recipe_file: Path, folder: Path, cases: list[tuple[str, list[str], str | None]]) -> None:
    """Runs the cases; the last one is stopped as a terminal's Ctrl-C does it, once it has made some updates."""
    process = torchrun(str(RUNS), str(recipe_file), str(folder), json.dumps(cases), cwd=folder)
    wait_for(folder / cases[-1][0] / "metrics.jsonl", 5000, process)
    os.killpg(process.pid, signal.SIGINT)
    errors = ended(process)
    assert rows(folder / cases[-1][0], "end"), errors[-4000:]


def norms(folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows(folder, "update"):
        found |= {f"{row['update']} {key}": value for key, value in row.items() if key.startswith("grad_norm/")}
    return found


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    last = max(folder.glob("checkpoints/update-*"))
    files = [load_file(last / f"{part}.safetensors") for part in ("model", "optimizer")]
    return {name: tuple(tensor.shape) for file in files for name, tensor in file.items()}


def validated(folder: Path) -> dict[int, float]:
    return {row["update"]: row["val/loss"] for row in rows(folder, "evaluation")}


def test_two_processes_give_the_losses_of_one_resume_each_others_checkpoints_and_stop_together(
    tiny: Make, recipe_file: Path, tmp_path: Path
) -> None:
    one = {}
    for name, settings in (("muon", MUON), ("adamw", ADAMW)):
        one[name] = train(tiny(*settings, "training.batch_size=8"), folder=tmp_path / name, report=False).folder
    half_done = tmp_path / "half-done"  # by one process, after 40 updates
    shutil.copytree(one["muon"], half_done)
    for later in sorted(half_done.glob("checkpoints/update-*"))[1:]:
        shutil.rmtree(later)
    (half_done / "summary.json").unlink()

    in_two_processes(
        recipe_file,
        tmp_path,
        [
            ("muon-ddp", [*MUON, "training.sharding=ddp"], None),
            ("muon-fsdp", [*MUON, "training.sharding=fsdp"], None),
            ("adamw-fsdp", [*ADAMW, "training.sharding=fsdp"], None),
            ("resumed", ["training.batch_size=4", "training.sharding=fsdp"], "half-done"),
            ("mistake", ["optimizer.groups=[{name: x, pattern: no_such_tensor}]"], None),
            ("stopped", ENDLESS, None),
        ],
    )
    for name in ("muon-ddp", "muon-fsdp", "adamw-fsdp", "half-done"):
        alone, together = one["adamw" if "adamw" in name else "muon"], tmp_path / name
        assert losses(together) == pytest.approx(losses(alone), abs=1e-5), name
        assert norms(together) == pytest.approx(norms(alone), rel=1e-3, abs=1e-6), name
        assert shapes(together) == shapes(alone), name
        assert validated(together) == pytest.approx(validated(alone), abs=1e-5), name
    assert "no_such_tensor" in (tmp_path / "mistake.error").read_text()
    assert not (tmp_path / "mistake").exists()

    (stopped,) = rows(tmp_path / "stopped", "end")
    assert stopped["stopped_by"] == "user"
    assert (tmp_path / "stopped" / "checkpoints" / f"update-{stopped['update']:08d}" / "state.json").is_file()

    for name in ("muon-ddp", "muon-fsdp"):  # what two processes left after 45 updates, one goes on with
        shutil.rmtree(max((tmp_path / name).glob("checkpoints/update-*")))
        recipe = tiny(*MUON, "training.batch_size=8", f"training.sharding={name[5:]}")
        train(recipe, resume=tmp_path / name, report=False)
        assert losses(tmp_path / name) == pytest.approx(losses(one["muon"]), abs=1e-5), name
        resumed = rows(tmp_path / name, "resume")[-1]
        assert resumed["update"] == 45
        assert "1 process instead of 2" in " ".join(resumed["dropped"])


PATIENT = """
import sys, time
from datetime import timedelta
from unstuck.train import distributed
distributed.SILENCE = timedelta(seconds=2)
with distributed.processes() as share:
    made = distributed.first_alone(share, lambda: time.sleep(5 * (share.rank == 0)) or f"made by {share.rank}")
    open(f"{sys.argv[1]}/{share.rank}", "w").write(made)
"""


def test_the_others_wait_for_the_first_to_prepare_its_data_longer_than_for_one_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    errors = ended(torchrun(str(tmp_path / "patient.py"), str(tmp_path), cwd=tmp_path))
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["made by 0", "made by 1"], errors[-2000:]


def wait_for(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None, process.communicate()[1][-4000:]
        assert time.monotonic() < end
        time.sleep(0.1)
