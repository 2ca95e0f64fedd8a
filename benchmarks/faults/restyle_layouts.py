"""Ways to print the record of a run: layouts of our own making, after what public training scripts print.

Each takes the neutral rows of a run and gives the text of a log. Times are given in seconds and printed in the unit
of the style. What a row does not hold is left out, or left empty in a table.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]  # step or epoch, loss, lr or lr_<group>, norm, step_s, data_s; val, acc
Printer = Callable[[list[Row], int], Iterator[str]]
UPDATE = ("loss", "lr", "norm", "step_s", "data_s")
EVALUATION = ("val", "acc")
REPEAT = 15  # ours: rows between two headers of a table


def digits(value: float, form: str = "g") -> str:
    """A number to six digits: `g` shortest, `E` 3.00000E-04, `f` without an exponent."""
    if form == "E":
        return f"{value:.5E}"
    return f"{value:.8f}" if form == "f" and 1e-4 < abs(value) < 1 else f"{value:.6g}"


def named(written: str) -> tuple[str, float, str]:
    """Name, factor and unit behind the number, of `name*1000ms`."""
    name, _, scaled = written.partition("*")
    factor = scaled.rstrip("ms")
    return name, float(factor or 1), scaled.removeprefix(factor)


def told(row: Row, names: Mapping[str, str], wanted: tuple[str, ...], lr: str = "g") -> list[tuple[str, str]]:
    """(name, number) of what a row holds."""
    pairs: list[tuple[str, str]] = []
    for key in wanted:
        for own in [k for k in row if k == key or (key == "lr" and k.startswith("lr_"))]:
            name, scale, unit = named(names.get(key, key))
            number = digits(row[own] * scale, lr if key == "lr" else "g")
            pairs.append((name + own.removeprefix(key), number + unit))
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
            own = {**names, "loss": names.get("train", names["loss"])} if both else names
            if both and own["val"].lower() == names["loss"].lower():
                own |= {"val": f"Val {names['val']}", "acc": f"Val {names['acc']}"}
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
        first = place(rows[0])[0]
        if separate and "step" in rows[0]:
            yield from block([row for row in rows if "val" not in row], first)
            yield ""
            yield "Evaluation"
            yield from block([row for row in rows if "val" in row], first)
        else:
            merged: list[dict[str, Any]] = []
            for row in rows:
                if (
                    "message" not in row
                    and merged
                    and place(merged[-1]) == place(row)
                    and "val" in row
                    and "loss" in merged[-1]
                ):
                    merged[-1].update(row)
                else:
                    merged.append(dict(row))
            yield from block(merged, first)

    def block(rows: list[Row] | list[dict[str, Any]], first: str) -> Iterator[str]:
        keys = [first, *_columns(list(rows))]
        heads, scales = [], []
        both = any("loss" in row and "val" in row for row in rows) and names["loss"] == names["val"]
        for key in keys:
            name, _, scale = names.get(key, names.get("lr", "lr") + key[2:] if key.startswith("lr_") else key
                                       ).partition("*")  # fmt: skip
            heads.append(f"val_{name}" if both and key == "val" else name)
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
            if "message" in row:
                yield row["message"]
                continue
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
            about = "" if "step" in row else "Epochs: "
            share = f"{about}{100 * n // total:3d}%"
            bar += f"\r{share}|{drawn:<10}| {n}/{total} [00:{n % 60:02d}<01:10, 12.31it/s, {fields}]"
        yield bar

    return printed
