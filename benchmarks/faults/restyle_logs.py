"""Ways to print the record of a run: layouts and names of our own making, after what public training scripts print.

Each takes the neutral rows of a run and gives the text of a log. Times are given in seconds and printed in the unit
of the style. What a row does not hold is left out, or left empty in a table.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]  # step or epoch, loss, lr or lr_<group>, norm, step_s, data_s; val, acc
Printer = Callable[[list[Row], int], Iterator[str]]
UPDATE = ("loss", "lr", "norm", "step_s", "data_s")
EVALUATION = ("val", "acc")
REPEAT = 15  # ours: rows between two headers of a table


@dataclass(frozen=True, slots=True)
class LogStyle:
    """A layout with its names. `suffix`: how the file's name ends."""

    printer: Printer
    suffix: str = ".log"


def digits(value: float, form: str = "g") -> str:
    """A number to six digits: `g` shortest, `E` 3.00000E-04, `f` without an exponent."""
    if form == "E":
        return f"{value:.5E}"
    return f"{value:.8f}" if form == "f" and 1e-4 < abs(value) < 1 else f"{value:.6g}"


def told(row: Row, names: Mapping[str, str], wanted: tuple[str, ...], lr: str = "g") -> list[tuple[str, str]]:
    """(name, number) of what a row holds; a name that ends in `*1000` is printed in thousandths."""
    pairs: list[tuple[str, str]] = []
    for key in wanted:
        for own in [k for k in row if k == key or (key == "lr" and k.startswith("lr_"))]:
            name, _, scale = names.get(key, key).partition("*")
            value = row[own] * float(scale or 1)
            pairs.append((name + own.removeprefix(key), digits(value, lr if key == "lr" else "g")))
    return pairs


def place(row: Row) -> tuple[str, int]:
    return ("step", row["step"]) if "step" in row else ("epoch", row["epoch"])


def clock(number: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return (datetime.datetime(2025, 6, 1, 8, 0, 0) + datetime.timedelta(seconds=2 * number)).strftime(form)


def lines(update: str, evaluation: str, names: Mapping[str, str], between: str, around: tuple[str, str], lr: str = "g",
          count: Mapping[str, str] | None = None) -> Printer:  # fmt: skip
    """A line for each row: a beginning with {n}, {total} and {count}, then fields."""

    def printed(rows: list[Row], total: int) -> Iterator[str]:
        for at, row in enumerate(rows):
            name, n = place(row)
            if "message" in row:
                yield row["message"]
                continue
            both = "loss" in row and "val" in row
            wanted = (*UPDATE, *EVALUATION) if "loss" in row else EVALUATION
            begin = update if "loss" in row else evaluation
            own = {**names, "loss": names.get("train", names.get("loss", "loss"))} if both else names
            fields = between.join(f"{k}{around[0]}{v}{around[1]}" for k, v in told(row, own, wanted, lr))
            epoch = row.get("epoch", 1)
            named = (count or {}).get(name, name)
            yield begin.format(
                n=n, total=total, count=named, epoch=epoch, at=at, clock=clock(at), Count=named.capitalize(),
                stamp=clock(at, "%m%d %H:%M:%S"), percent=f"{100 * n / total:.1f}", fields=fields,
                bar="#" * (10 * n // total) + " " * (10 - 10 * n // total),
            )  # fmt: skip

    return printed


def _columns(rows: list[Row]) -> list[str]:
    every = [key for row in rows for key in row if key.startswith("lr_")]
    found = [k for k in (*UPDATE, *EVALUATION) if any(k in row for row in rows)]
    groups = list(dict.fromkeys(every))
    return [own for key in found for own in [key]] + groups


def table(names: Mapping[str, str], wall: str, rule: Callable[[list[int]], str], missing: str, header: bool = True,
          separate: bool = False) -> Printer:  # fmt: skip
    """Aligned columns; evaluation in the row of the update where both were printed at one step.

    Args:
        separate: evaluations in a table of their own behind the first.
    """

    def printed(rows: list[Row], total: int) -> Iterator[str]:
        rows = [row for row in rows if "message" not in row]
        first = place(rows[0])[0]
        if separate and "step" in rows[0]:
            yield from block([row for row in rows if "loss" in row], first)
            yield ""
            yield "Evaluation"
            yield from block([row for row in rows if "loss" not in row], first)
        else:
            merged: list[dict[str, Any]] = []
            for row in rows:
                if merged and place(merged[-1]) == place(row) and "val" in row and "loss" in merged[-1]:
                    merged[-1].update(row)
                else:
                    merged.append(dict(row))
            yield from block(merged, first)

    def block(rows: list[Row] | list[dict[str, Any]], first: str) -> Iterator[str]:
        keys = [first, *_columns(list(rows))]
        heads, scales = [], []
        for key in keys:
            name, _, scale = names.get(key, names.get("lr", "lr") + key[2:] if key.startswith("lr_") else key
                                       ).partition("*")  # fmt: skip
            heads.append(name)
            scales.append(float(scale or 1))
        widths = [max(10, len(head)) for head in heads]

        def line(cells: list[str]) -> str:
            inner = f" {wall} ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            return f"{wall} {inner} {wall}" if wall.strip() else inner.replace(f" {wall} ", "  ")

        for at, row in enumerate(rows):
            if at == 0 or (header and at % REPEAT == 0):
                yield from ([rule(widths)] if wall.strip() else [])
                yield line(heads)
                yield rule(widths)
            yield line([digits(row[key] * scale) if key in row else missing
                        for key, scale in zip(keys, scales, strict=True)])  # fmt: skip

    return printed


def blocks(names: Mapping[str, str], heading: str, field: str, evaluation: str) -> Printer:
    """One metric a line below a heading."""

    def printed(rows: list[Row], total: int) -> Iterator[str]:
        for row in rows:
            if "message" in row:
                yield row["message"]
                continue
            name, n = place(row)
            wanted = (*UPDATE, *EVALUATION) if "loss" in row else EVALUATION
            yield (heading if "loss" in row else evaluation).format(
                count=name, Count=name.capitalize(), n=n, total=total
            )
            for key, value in told(row, names, wanted):
                yield field.format(key=key, value=value)
            yield ""

    return printed


def csv(names: Mapping[str, str]) -> Printer:
    """Comma-separated, empty where a row has no such value."""

    def printed(rows: list[Row], total: int) -> Iterator[str]:
        rows = [row for row in rows if "message" not in row]
        first = place(rows[0])[0]
        keys = [first, *_columns(rows)]
        named = [names.get(k, names.get("lr", "lr") + k[2:] if k.startswith("lr_") else k) for k in keys]
        scales = [float(name.partition("*")[2] or 1) for name in named]
        yield ",".join(name.partition("*")[0] for name in named)
        for row in rows:
            cells = (digits(row[k] * s) if k in row else "" for k, s in zip(keys, scales, strict=True))
            yield ",".join(cells)

    return printed


def bars(names: Mapping[str, str]) -> Printer:
    """tqdm: one line that is drawn over again, the postfix behind it; evaluations on lines of their own."""

    def printed(rows: list[Row], total: int) -> Iterator[str]:
        bar = ""
        for row in rows:
            n = place(row)[1]
            if "message" in row or "loss" not in row:
                yield bar
                bar = ""
                fields = "  ".join(f"{k}: {v}" for k, v in told(row, names, EVALUATION))
                yield row.get("message", f"[eval] step {n}  {fields}")
                continue
            wanted = (*UPDATE, *EVALUATION) if "val" in row else UPDATE
            fields = ", ".join(f"{k}={v}" for k, v in told(row, names, wanted))
            drawn = "█" * (10 * n // total)
            bar += f"\r{100 * n // total:3d}%|{drawn:<10}| {n}/{total} [00:{n % 60:02d}<01:10, 12.31it/s, {fields}]"
        yield bar

    return printed


def _dashes(widths: list[int]) -> str:
    return "-" * (sum(widths) + 2 * len(widths) - 2)


def _grid(left: str, cross: str, right: str, dash: str) -> Callable[[list[int]], str]:
    return lambda widths: left + cross.join(dash * (width + 2) for width in widths) + right


STYLES: dict[str, LogStyle] = {
    "aligned-table": LogStyle(table(
        {"step": "step", "loss": "loss", "lr": "lr", "norm": "gnorm", "step_s": "t_step", "data_s": "t_data",
         "val": "val", "acc": "val_acc"}, " ", _dashes, "")),
    "aligned-table-dashes": LogStyle(table(
        {"step": "iter", "loss": "train", "lr": "lr", "norm": "norm", "step_s": "ms/step*1000", "data_s": "data ms*1000",
         "val": "valid", "acc": "acc"}, " ", _dashes, "-")),
    "walled-table": LogStyle(table(
        {"step": "Step", "loss": "Train loss", "lr": "LR", "norm": "|g|", "step_s": "Step ms*1000",
         "data_s": "Data ms*1000", "val": "Val loss", "acc": "Val acc"}, "|", _grid("+", "+", "+", "-"), "")),
    "rich-table": LogStyle(table(
        {"step": "Iteration", "loss": "Loss", "lr": "Learning rate", "norm": "Grad norm", "step_s": "Step time (s)",
         "data_s": "Fetch (s)", "val": "Dev loss", "acc": "Dev acc"}, "│", _grid("├", "┼", "┤", "─"), "—",
        header=False)),
    "two-tables": LogStyle(table(
        {"step": "update", "loss": "loss", "lr": "lr", "norm": "grad_norm", "step_s": "sec/it", "data_s": "sec/load",
         "val": "loss", "acc": "accuracy"}, " ", _dashes, "", separate=True)),
    "blocks": LogStyle(blocks(
        {"loss": "loss", "lr": "learning rate", "norm": "gradient norm", "step_s": "step time (s)",
         "data_s": "data wait (s)", "val": "validation loss", "acc": "validation accuracy"},
        "=== {count} {n} / {total} ===", "    {key:<22}: {value}", "=== evaluation at {count} {n} ===")),
    "rl-blocks": LogStyle(blocks(
        {"loss": "train/loss", "lr": "train/lr", "norm": "train/grad_norm", "step_s": "time/iter_ms*1000",
         "data_s": "time/dataload_ms*1000", "val": "eval/loss", "acc": "eval/accuracy"},
        "---------- {Count} {n} ----------", "| {key:<24} | {value:>12} |", "---------- {Count} {n} ----------")),
    "logfmt": LogStyle(lines(
        "time={clock} level=info event=train {count}={n} {fields}", "time={clock} level=info event=eval {count}={n} {fields}",
        {"loss": "loss", "lr": "lr", "norm": "grad_norm", "step_s": "step_s", "data_s": "fetch_s", "val": "heldout_loss",
         "acc": "heldout_acc", "train": "train_loss"}, " ", ("=", ""))),
    "bracketed": LogStyle(lines(
        "Epoch [{epoch}] {Count} [{n}/{total}] {fields}", "Test: {Count} [{n}/{total}] {fields}",
        {"loss": "Loss", "lr": "LR", "norm": "Grad", "step_s": "Batch", "data_s": "Data", "val": "Loss", "acc": "Acc",
         "train": "Train Loss"}, "  ", (": ", ""))),
    "loguru": LogStyle(lines(
        "{clock}.123 | INFO     | train:fit:88 - {count} {n:>5d} | {fields}",
        "{clock}.123 | SUCCESS  | train:evaluate:120 - {count} {n:>5d} | {fields}",
        {"loss": "loss", "lr": "lr", "norm": "total_norm", "step_s": "iter_s", "data_s": "io", "val": "dev_loss",
         "acc": "dev_acc", "train": "loss"}, " | ", (" ", ""), "E", {"step": "it"})),
    "absl": LogStyle(lines(
        "I{stamp}.123456 140213 train.py:88] {count}: {n}, {fields}", "I{stamp}.123456 140213 train.py:120] {count}: {n}, {fields}",
        {"loss": "train_loss", "lr": "learning_rate", "norm": "gradnorm", "step_s": "seconds_per_step",
         "data_s": "data_load_seconds", "val": "eval_loss", "acc": "eval_accuracy"}, ", ", (": ", ""))),
    "logging": LogStyle(lines(
        "{clock},123 [INFO] trainer: {Count} {n}/{total} ({percent}%) {fields}", "{clock},123 [INFO] trainer: Validation {count} {n}: {fields}",
        {"loss": "loss=", "lr": "lr=", "norm": "gnorm=", "step_s": "step_ms=*1000", "data_s": "load_ms=*1000", "val": "loss=",
         "acc": "acc=", "train": "train_loss="}, " ", ("", ""), "f")),
    "bar": LogStyle(bars(
        {"loss": "loss", "lr": "lr", "norm": "gn", "step_s": "step", "data_s": "data", "val": "val_loss", "acc": "val_acc"})),
    "csv": LogStyle(csv(
        {"step": "global_step", "loss": "tr_loss", "lr": "learning_rate", "norm": "grad_norm", "step_s": "sec_per_it",
         "data_s": "loader_sec", "val": "heldout_loss", "acc": "heldout_acc"}), ".csv"),
    "csv-camel": LogStyle(csv(
        {"step": "Step", "epoch": "Epoch", "loss": "trainLoss", "lr": "learningRate", "norm": "gradNorm",
         "step_s": "stepTimeMs*1000", "data_s": "dataTimeMs*1000", "val": "validLoss", "acc": "validAcc"}), ".csv"),
    "dict": LogStyle(lines(
        "{{'{count}': {n}, {fields}}}", "{{'{count}': {n}, {fields}}}",
        {"loss": "'loss'", "lr": "'lr'", "norm": "'grad_norm'", "step_s": "'step_time'", "data_s": "'dataload_time'",
         "val": "'eval_loss'", "acc": "'eval_acc'", "train": "'train_loss'"}, ", ", (": ", ""))),
    "markdown": LogStyle(lines(
        "- **{Count} {n}**: {fields}", "- **{Count} {n}** (eval): {fields}",
        {"loss": "loss", "lr": "lr", "norm": "grad norm", "step_s": "ms per step*1000", "data_s": "data wait ms*1000",
         "val": "val loss", "acc": "val acc", "train": "train loss"}, ", ", (" `", "`"))),
    "spaced": LogStyle(lines(
        "{count}: {n:<8d}{fields}", "{count}: {n:<8d}{fields}",
        {"loss": "loss", "lr": "lr", "norm": "gradient norm", "step_s": "step time", "data_s": "loader time",
         "val": "held-out loss", "acc": "held-out acc", "train": "train loss"}, "   ", (": ", ""), "E")),
    "two-lines": LogStyle(lines(
        "{count} {n}/{total} ({percent}%)\n    {fields}", "{count} {n}/{total} ({percent}%)\n  eval: {fields}",
        {"loss": "loss", "lr": "lr", "norm": "|g|", "step_s": "dt_s", "data_s": "wait_s", "val": "val_loss",
         "acc": "val_acc", "train": "train_loss"}, " | ", (" ", ""))),
    "units": LogStyle(lines(
        "[{bar}] {count} {n}/{total} - {fields}", "[{bar}] {count} {n}/{total} - {fields}",
        {"loss": "loss", "lr": "lr", "norm": "grad", "step_s": "step", "data_s": "dataloading", "val": "valid loss",
         "acc": "valid acc"}, " - ", (" ", ""))),
}  # fmt: skip
