"""What can be settled about a run only when its series and its settings are known together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unstuck.runs.logfile import number
from unstuck.runs.run import Run, Series

# ours: a postclip norm equals the limit to float32 and printing precision; two clipped updates in ten show it.
AT_LIMIT = 2e-3
LEAST_AT_LIMIT = 0.2


def settle_grad_norm(run: Run) -> None:
    """Decide whether a logged `grad_norm` is the norm before or after clipping, and say so.

    `torch.nn.utils.clip_grad_norm_` returns the norm before clipping, and nearly every trainer logs that return value.
    A norm that never passes a known limit and often equals it was measured after clipping.
    """
    norm = run.get("grad_norm/preclip")
    if norm is None or "preclip" in (norm.logged_as or "grad_norm/preclip"):
        return
    limit = number(run.setting("clip_norm"))
    values = norm.values[np.isfinite(norm.values)]
    if limit and len(values) and float(values.max()) <= limit * (1 + AT_LIMIT):
        at_limit = float(np.mean(np.abs(values - limit) <= AT_LIMIT * limit))
        if at_limit >= LEAST_AT_LIMIT and "grad_norm/postclip" not in run.series:
            del run.series["grad_norm/preclip"]
            run.series["grad_norm/postclip"] = Series(
                "grad_norm/postclip", norm.updates, norm.values, norm.lines, norm.file, norm.unit, norm.logged_as
            )
            run.notes.append(
                f"{norm.logged_as} never passes the clip limit {limit:g} and equals it in {at_limit:.0%} of the lines: "
                "it is the norm after clipping."
            )
            return
    run.notes.append(f"{norm.logged_as} is taken as the norm before clipping, as torch's clip_grad_norm_ returns it.")


def settle_accuracy(run: Run) -> None:
    """Accuracies in per cent become shares: no share is above 1, and no percentage above 100."""
    for name in ("train/accuracy", "val/accuracy"):
        accuracy = run.get(name)
        values = accuracy.values[np.isfinite(accuracy.values)] if accuracy is not None else np.empty(0)
        if accuracy is not None and len(values) and values.min() >= 0 and 1 < values.max() <= 100:
            run.series[name] = replace(accuracy, values=accuracy.values / 100)
            run.notes.append(f"{accuracy.logged_as or name} is in per cent; it was divided by 100.")


def settle_times(run: Run) -> None:
    """Give the share of a step that waits for data, where a log has both times.

    A column named only `time` is the time of a step in the trainers that log `data_time` beside it (mmcv, detectron2,
    the ImageNet example of PyTorch): it stays level, while the time since the start would rise. One named only `data`
    beside it is the wait, of which no step has more than it takes (DETR and what was made from it).
    """
    _data_beside_time(run)
    data, step = run.get("time/data_ms"), run.get("time/step_ms")
    if data is None or "time/data_share" in run.series:
        return
    if step is None and (bare := run.get("time")) is not None and len(bare) > 2:
        if float(np.mean(np.diff(bare.values) > 0)) > 0.9:  # it only rises
            return
        step = replace(bare, name="time/step_ms", values=bare.values * 1000.0, unit="ms", logged_as="time")
        del run.series["time"]
        run.series["time/step_ms"] = step
    if step is None:
        return
    shared, mine, theirs = np.intersect1d(data.updates, step.updates, return_indices=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = data.values[mine] / step.values[theirs]
    good = np.isfinite(share) & (share <= 1.0)
    if good.any():
        run.series["time/data_share"] = Series(
            "time/data_share", shared[good], share[good], data.lines[mine][good], data.file, "share", data.logged_as
        )


def _data_beside_time(run: Run) -> None:
    """Take `data` for the seconds of waiting where `time` stands in the same rows and is never less."""
    data, time = run.get("data"), run.get("time")
    if data is None or time is None or "time/data_ms" in run.series or not np.array_equal(data.updates, time.updates):
        return
    if len(data) > 2 and np.all(data.values >= 0) and np.all(data.values <= time.values) and np.any(data.values > 0):
        del run.series["data"]
        run.series["time/data_ms"] = replace(
            data, name="time/data_ms", values=data.values * 1000.0, unit="ms", logged_as="data"
        )
