"""The styles of logs in which a record is printed again: layouts with names and units of our own choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.restyle_layouts import Printer, bars, blocks, csv, lines, table


@dataclass(frozen=True, slots=True)
class LogStyle:
    """A layout with its names. `suffix`: how the file's name ends."""

    printer: Printer
    suffix: str = ".log"


def _dashes(widths: list[int]) -> str:
    return "-" * (sum(widths) + 2 * len(widths) - 2)


def _grid(left: str, cross: str, right: str, dash: str) -> Callable[[list[int]], str]:
    return lambda widths: left + cross.join(dash * (width + 2) for width in widths) + right


STYLES: dict[str, LogStyle] = {
    "aligned-table": LogStyle(
        table(
            {
                "step": "step",
                "loss": "loss",
                "lr": "lr",
                "norm": "gnorm",
                "step_s": "t_step",
                "data_s": "t_data",
                "val": "val",
                "acc": "val_acc",
            },
            " ",
            _dashes,
            "",
        )
    ),
    "aligned-table-dashes": LogStyle(
        table(
            {
                "step": "iter",
                "loss": "train",
                "lr": "lr",
                "norm": "norm",
                "step_s": "ms/step*1000",
                "data_s": "data ms*1000",
                "val": "valid",
                "acc": "acc",
            },
            " ",
            _dashes,
            "-",
        )
    ),
    "walled-table": LogStyle(
        table(
            {
                "step": "Step",
                "loss": "Train loss",
                "lr": "LR",
                "norm": "|g|",
                "step_s": "Step ms*1000",
                "data_s": "Data ms*1000",
                "val": "Val loss",
                "acc": "Val acc",
            },
            "|",
            _grid("+", "+", "+", "-"),
            "",
        )
    ),
    "rich-table": LogStyle(
        table(
            {
                "step": "Iteration",
                "loss": "Loss",
                "lr": "Learning rate",
                "norm": "Grad norm",
                "step_s": "Step time (s)",
                "data_s": "Fetch (s)",
                "val": "Dev loss",
                "acc": "Dev acc",
            },
            "│",
            _grid("├", "┼", "┤", "─"),
            "—",
            header=False,
        )
    ),
    "two-tables": LogStyle(
        table(
            {
                "step": "update",
                "loss": "loss",
                "lr": "lr",
                "norm": "grad_norm",
                "step_s": "sec/it",
                "data_s": "sec/load",
                "val": "loss",
                "acc": "accuracy",
            },
            " ",
            _dashes,
            "",
            separate=True,
        )
    ),
    "blocks": LogStyle(
        blocks(
            {
                "loss": "loss",
                "lr": "learning rate",
                "norm": "gradient norm",
                "step_s": "step time (s)",
                "data_s": "data wait (s)",
                "val": "validation loss",
                "acc": "validation accuracy",
            },
            "=== {count} {n} / {total} ===",
            "    {key:<22}: {value}",
            "=== evaluation at {count} {n} ===",
        )
    ),
    "rl-blocks": LogStyle(
        blocks(
            {
                "loss": "train/loss",
                "lr": "train/lr",
                "norm": "train/grad_norm",
                "step_s": "time/iter_ms*1000",
                "data_s": "time/dataload_ms*1000",
                "val": "eval/loss",
                "acc": "eval/accuracy",
            },
            "---------- {Count} {n} ----------",
            "| {key:<24} | {value:>12} |",
            "---------- {Count} {n} ----------",
        )
    ),
    "logfmt": LogStyle(
        lines(
            "time={clock} level=info event=train {count}={n} {fields}",
            "time={clock} level=info event=eval {count}={n} {fields}",
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "grad_norm",
                "step_s": "step_s",
                "data_s": "fetch_s",
                "val": "heldout_loss",
                "acc": "heldout_acc",
                "train": "train_loss",
            },
            " ",
            ("=", ""),
        )
    ),
    "bracketed": LogStyle(
        lines(
            "Epoch [{epoch}] {Count} [{n}/{total}] {fields}",
            "Test: {Count} [{n}/{total}] {fields}",
            {
                "loss": "Loss",
                "lr": "LR",
                "norm": "Grad",
                "step_s": "Batch*1s",
                "data_s": "Data*1s",
                "val": "Loss",
                "acc": "Acc",
                "train": "Train Loss",
            },
            "  ",
            (": ", ""),
        )
    ),
    "loguru": LogStyle(
        lines(
            "{clock}.123 | INFO     | train:fit:88 - {count} {n:>5d} | {fields}",
            "{clock}.123 | SUCCESS  | train:evaluate:120 - {count} {n:>5d} | {fields}",
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "total_norm",
                "step_s": "iter_time",
                "data_s": "io*1000ms",
                "val": "dev_loss",
                "acc": "dev_acc",
                "train": "loss",
            },
            " | ",
            (" ", ""),
            "E",
            {"step": "it"},
        )
    ),
    "absl": LogStyle(
        lines(
            "I{stamp}.123456 140213 train.py:88] {count}: {n}, {fields}",
            "I{stamp}.123456 140213 train.py:120] {count}: {n}, {fields}",
            {
                "loss": "train_loss",
                "lr": "learning_rate",
                "norm": "gradnorm",
                "step_s": "seconds_per_step",
                "data_s": "data_load_seconds",
                "val": "eval_loss",
                "acc": "eval_accuracy",
            },
            ", ",
            (": ", ""),
        )
    ),
    "logging": LogStyle(
        lines(
            "{clock},123 [INFO] trainer: {Count} {n}/{total} ({percent}%) {fields}",
            "{clock},123 [INFO] trainer: Validation {count} {n}: {fields}",
            {
                "loss": "loss=",
                "lr": "lr=",
                "norm": "gnorm=",
                "step_s": "step_ms=*1000",
                "data_s": "load_ms=*1000",
                "val": "loss=",
                "acc": "acc=",
                "train": "train_loss=",
            },
            " ",
            ("", ""),
            "f",
        )
    ),
    "bar": LogStyle(
        bars(
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "gnorm",
                "step_s": "step*1000ms",
                "data_s": "data*1000ms",
                "val": "val_loss",
                "acc": "val_acc",
            }
        )
    ),
    "csv": LogStyle(
        csv(
            {
                "step": "global_step",
                "loss": "tr_loss",
                "lr": "learning_rate",
                "norm": "grad_norm",
                "step_s": "sec_per_it",
                "data_s": "loader_sec",
                "val": "heldout_loss",
                "acc": "heldout_acc",
            }
        ),
        ".csv",
    ),
    "csv-camel": LogStyle(
        csv(
            {
                "step": "Step",
                "epoch": "Epoch",
                "loss": "trainLoss",
                "lr": "learningRate",
                "norm": "gradNorm",
                "step_s": "stepTimeMs*1000",
                "data_s": "dataTimeMs*1000",
                "val": "validLoss",
                "acc": "validAcc",
            }
        ),
        ".csv",
    ),
    "dict": LogStyle(
        lines(
            "{{'{count}': {n}, {fields}}}",
            "{{'{count}': {n}, {fields}}}",
            {
                "loss": "'loss'",
                "lr": "'lr'",
                "norm": "'grad_norm'",
                "step_s": "'step_time'",
                "data_s": "'dataload_time'",
                "val": "'eval_loss'",
                "acc": "'eval_acc'",
                "train": "'train_loss'",
            },
            ", ",
            (": ", ""),
        )
    ),
    "markdown": LogStyle(
        lines(
            "- **{Count} {n}**: {fields}",
            "- **{Count} {n}** (eval): {fields}",
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "grad norm",
                "step_s": "ms per step*1000",
                "data_s": "data wait ms*1000",
                "val": "val loss",
                "acc": "val acc",
                "train": "train loss",
            },
            ", ",
            (" `", "`"),
        )
    ),
    "spaced": LogStyle(
        lines(
            "{count}: {n:<8d}{fields}",
            "{count}: {n:<8d}{fields}",
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "gradient norm",
                "step_s": "step time",
                "data_s": "loader time",
                "val": "held-out loss",
                "acc": "held-out acc",
                "train": "train loss",
            },
            "   ",
            (": ", ""),
            "E",
        )
    ),
    "two-lines": LogStyle(
        lines(
            "{count} {n}/{total} ({percent}%)\n    {fields}",
            "{count} {n}/{total} ({percent}%)\n  eval: {fields}",
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "|g|",
                "step_s": "dt_s",
                "data_s": "wait_s",
                "val": "val_loss",
                "acc": "val_acc",
                "train": "train_loss",
            },
            " | ",
            (" ", ""),
        )
    ),
    "units": LogStyle(
        lines(
            "[{bar}] {count} {n}/{total} - {fields}",
            "[{bar}] {count} {n}/{total} - {fields}",
            {
                "loss": "loss",
                "lr": "lr",
                "norm": "grad",
                "step_s": "step*1000ms",
                "data_s": "dataloading*1000ms",
                "val": "valid loss",
                "acc": "valid acc",
            },
            " - ",
            (" ", ""),
        )
    ),
}
