"""Neural operator: the solver's checks, a trained run on test trajectories, and incident I2's settings beside it.

    python -m benchmarks.navier_stokes solver                           half a minute on one core
    python -m benchmarks.navier_stokes test runs/navier-stokes          one step ahead on the test trajectories
    python -m benchmarks.navier_stokes ablation --seeds 2               what each part is worth, on the quick variant
    python -m benchmarks.navier_stokes incident FOLDER --seconds 510    a plain loop with the settings of incident I2

`incident` writes FOLDER/metrics.jsonl and FOLDER/config.json as a home-made loop would, for `unstuck diagnose`. Model,
data and normalisation are those of the recipe navier-stokes in neuraloperator's own form; the settings are the
incident's (shared/INCIDENTS.md, I2): batch 8 unshuffled, loss summed over the batch, AdamW at 2e-5,
reduce-on-plateau with patience 5, clipping at 2, the pre-clip norm in the log.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unstuck.config.recipe import load_recipe
from unstuck.config.sections.fields import FieldsConfig
from unstuck.data import navier_stokes as solver
from unstuck.data.fields import FieldsData, prepare_fields
from unstuck.evaluate.operator_losses import relative_l2
from unstuck.train.tasks.operator import measure_pairs

VISCOSITY = 1e-3


def worst(found: Tensor, wanted: Tensor) -> float:
    """Largest relative L2 error over the fields."""
    return float(relative_l2(found.flatten(0, -3), wanted.flatten(0, -3)).max())


def check_solver() -> None:
    """Taylor-Green vortex, convergence in time and space, balance of enstrophy; prints Markdown tables."""
    x = torch.arange(64, dtype=torch.float64) / 64
    print("| Taylor-Green vortex, 64 x 64, viscosity 0.01, t = 1, dt | relative L2 error |\n|---|---|")
    wave = torch.cos(2 * math.pi * x)
    start = (4 * math.pi * wave[:, None] * wave[None, :])[None]
    exact = start * math.exp(-8 * math.pi**2 * 0.01)
    for dt in (0.1, 0.05, 0.025, 0.0125):
        found = solver.simulate(start, viscosity=0.01, forcing_NN=None, times=[1.0], dt=dt)[:, 0]
        print(f"| {dt} | {worst(found, exact):.2e} |")

    fields = solver.random_fields(8, 64, torch.Generator().manual_seed(1)).double()
    times = [1.0, 10.0, 30.0, 50.0]

    def solve(start: Tensor, dt: float) -> Tensor:
        force = solver.forcing(start.shape[-1], torch.float64)
        return solver.simulate(start, viscosity=VISCOSITY, forcing_NN=force, times=times, dt=dt)

    # One time unit ahead from each of these records: what a pair of the data set is made with.
    records = solve(fields, 0.0125)
    begin = torch.cat((fields, records[:, 1], records[:, 2]))
    force = solver.forcing(64, torch.float64)

    def ahead(dt: float) -> Tensor:
        return solver.simulate(begin, viscosity=VISCOSITY, forcing_NN=force, times=[1.0], dt=dt)

    fine = ahead(0.00125)
    print("\n| dt | error one time unit ahead, worst of 24 fields, against dt 0.00125 |\n|---|---|")
    for dt in (0.1, 0.05, 0.025, 0.0125):
        print(f"| {dt} | {worst(ahead(dt), fine):.2e} |")

    print(f"\n| points | error at t = {', '.join(f'{t:g}' for t in times)} against 128 x 128, worst of 4 |\n|---|---|")
    reference = solve(solver.resample(fields[:4], 128), 0.025)
    for points in (32, 48, 64):
        found = solve(solver.resample(fields[:4], points), 0.025)
        kept = min(points, 64)
        errors = [
            worst(solver.resample(found[:, i], 64), solver.resample(solver.resample(reference[:, i], 128), 64))
            for i in range(len(times))
        ]
        print(f"| {kept} x {kept} | {', '.join(f'{e:.1e}' for e in errors)} |")

    # Without forcing: d/dt enstrophy = -nu mean |grad w|^2, and none of it without viscosity.
    strong = 10 * fields
    still = solver.simulate(strong, viscosity=0.0, forcing_NN=None, times=[1.0], dt=0.005)[:, 0]
    change = (solver.enstrophy(still) / solver.enstrophy(strong) - 1).abs().max()
    print(f"\nEnstrophy after t = 1 without viscosity and forcing, dt 0.005: changed by at most {change:.1e}.")


def test(checkpoint: Path) -> None:
    """Relative errors one step ahead over every pair of the test trajectories."""
    from unstuck.train.load import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    assert isinstance(loaded.config.data, FieldsConfig)
    data = prepare_fields(loaded.config.data)
    print(json.dumps({"checkpoint": str(loaded.path)} | errors(loaded.model, data), indent=1))


def errors(model: torch.nn.Module, data: FieldsData) -> dict[str, object]:
    """Of the test pairs: means, the worst, and the mean by time of the input."""
    measured = measure_pairs(model, *data.test_pairs(), device=torch.device("cpu"), autocast=nullcontext)
    by_time = {}
    for t in (0, 1, 2, 5, 10, 20, 30, 40, data.test.shape[1] - 2):
        if t < data.test.shape[1] - 1:
            pair = data.test[:, t], data.test[:, t + 1]
            found = measure_pairs(model, *pair, device=torch.device("cpu"), autocast=nullcontext)
            by_time[str(t)] = round(found.loss, 5)
    return {
        "fields": measured.targets,
        "relative_l2": measured.loss,
        **measured.further,
        "relative_l2_by_time": by_time,
    }


CHANGES: dict[str, tuple[str, ...]] = {
    "navier-stokes:quick": (),
    "positions: periodic": ("model.positions=periodic",),
    "positions: grid": ("model.positions=grid",),
    "whole field instead of the change": ("model.predict_change=false",),
    "no symmetries": ("data.symmetries=false",),
    "grid, whole field, no symmetries": (
        "model.positions=grid", "model.predict_change=false", "data.symmetries=false",
    ),
    "loss h1": ("task.loss=h1",),
    "schedule: constant": ("schedule.kind=constant",),
    "schedule: linear": ("schedule.kind=linear",),
    "schedule: plateau": ("schedule.kind=plateau", "schedule.floor=0.01", "evaluation.every_updates=25"),
    "schedule: restarts, 3 cycles": ("schedule.kind=restarts", "schedule.cycles=3"),
    "learning rate 1e-3": ("optimizer.learning_rate=1e-3",),
    "learning rate 2e-3": ("optimizer.learning_rate=2e-3",),
    "learning rate 8e-3": ("optimizer.learning_rate=8e-3",),
    "learning rate 2e-5": ("optimizer.learning_rate=2e-5",),
    "beta2 0.999": ("optimizer.beta2=0.999",),
    "batch 16, half the updates": ("training.batch_size=16", "training.updates=300"),
    "batch 4, twice the updates": ("training.batch_size=4", "training.updates=1200"),
}  # fmt: skip


def ablation(seeds: int, only: str) -> None:
    """Validation errors of the quick variant with one change each, same fields; prints a Markdown table as it goes."""
    from unstuck.train.run import train

    print("| change | relative L2 by seed | relative H1 |\n|---|---|---|", flush=True)
    for name, changes in CHANGES.items():
        if not re.search(only, name):
            continue
        l2, h1 = [], []
        for seed in range(1, seeds + 1):
            recipe = load_recipe("navier-stokes:quick", [*changes, f"seed={seed}", "training.threads=1"])
            with tempfile.TemporaryDirectory() as folder:
                train(recipe, folder=Path(folder) / "run", report=False)
                lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
            last = [row for row in map(json.loads, lines) if row["event"] == "evaluation"][-1]
            by_h1 = "val/relative_l2" in last
            l2.append(last["val/relative_l2" if by_h1 else "val/loss"])
            h1.append(last["val/loss" if by_h1 else "val/relative_h1"])
        print(f"| {name} | {', '.join(f'{e:.4f}' for e in l2)} | {', '.join(f'{e:.4f}' for e in h1)} |", flush=True)


class InTheirForm(torch.nn.Module):
    """neuraloperator's FNO with its grid, whole fields predicted, in normalised units; for `errors`."""

    def __init__(self, data: FieldsData) -> None:
        super().__init__()
        from neuralop.models import FNO

        self.fno = FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=24)
        self.fit = data.normalisation()

    def forward(self, fields: Tensor) -> Tensor:
        inputs = (fields - self.fit.input_mean) / self.fit.input_deviation
        found: Tensor = self.fno(inputs[:, None])[:, 0]
        return found * self.fit.target_deviation + self.fit.target_mean


def incident(folder: Path, seconds: float) -> None:
    """Train with the incident's settings for so many seconds of CPU time, simulation not counted."""
    config = load_recipe("navier-stokes", []).config
    assert isinstance(config.data, FieldsConfig)
    data = prepare_fields(config.data)
    torch.manual_seed(1)
    model = InTheirForm(data)
    settings = {
        "learning_rate": 2e-5, "batch_size": 8, "optimizer": "adamw", "grad_clip": 2.0, "shuffle": False,
        "lr_scheduler": "ReduceLROnPlateau", "patience": 5, "factor": 0.5, "weight_decay": 1e-4,
        "loss_reduction": "sum", "task": "regression", "init_from": "scratch",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=5, factor=0.5)
    inputs, targets = torch.from_numpy(data.train_inputs), torch.from_numpy(data.train_targets)
    started, step, epoch = time.process_time(), 0, 0
    with open(folder / "metrics.jsonl", "w") as log:
        while time.process_time() - started < seconds:
            epoch += 1
            for first in range(0, len(inputs), 8):
                part = slice(first, first + 8)
                loss = relative_l2(model(inputs[part]), targets[part]).sum()
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
                step += 1
                if step % 5 == 0:
                    rate = optimizer.param_groups[0]["lr"]
                    row = {
                        "step": step,
                        "epoch": epoch,
                        "train_loss": loss.item(),
                        "grad_norm": float(norm),
                        "lr": rate,
                    }
                    log.write(json.dumps(row) + "\n")
                if time.process_time() - started > seconds:
                    break
            pairs = data.validation_inputs, data.validation_targets
            measured = measure_pairs(model, *pairs, device=torch.device("cpu"), autocast=nullcontext)
            schedule.step(measured.loss)
            log.write(json.dumps({"step": step, "epoch": epoch, "val_loss": measured.loss}) + "\n")
            log.flush()
            print(
                f"epoch {epoch} step {step} val {measured.loss:.4f} lr {optimizer.param_groups[0]['lr']:g}", flush=True
            )
    result = {"updates": step, "epochs": epoch, "cpu_seconds": time.process_time() - started}
    result |= errors(model, data)
    (folder / "summary.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("solver")
    commands.add_parser("test").add_argument("checkpoint", type=Path)
    third = commands.add_parser("ablation")
    third.add_argument("--seeds", type=int, default=2)
    third.add_argument("--only", default="", help="regular expression: changes to run")
    second = commands.add_parser("incident")
    second.add_argument("folder", type=Path)
    second.add_argument("--seconds", type=float, default=510.0, help="CPU time")
    asked = parser.parse_args()
    np.seterr(all="raise", under="ignore")
    if asked.command == "solver":
        check_solver()
    elif asked.command == "test":
        test(asked.checkpoint)
    elif asked.command == "ablation":
        ablation(asked.seeds, asked.only)
    else:
        incident(asked.folder, asked.seconds)


if __name__ == "__main__":
    main()
