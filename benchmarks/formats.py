"""Read every log of a folder and say what each format gives and what it lacks.

    python benchmarks/formats.py [--logs ../shared/logs] [--no-write]

Writes `docs/formats.md`: one row for each reader with the series that its logs really gave. A format without a log in
the folder has the row that its own tests show; its place is marked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import all_readers, read_runs

ROOT = Path(__file__).resolve().parents[1]
# What a diagnosis is made of, and the canonical series that give it.
WANTED = {
    "training loss": ("train/loss", "train/loss_eval"),
    "validation loss": ("val/loss",),
    "learning rate": ("lr/",),
    "gradient norm": ("grad_norm/",),
    "step time": ("time/step_ms", "throughput/"),
    "data time": ("time/data_",),
}
NOT_LOGS = {".md", ".json", ".yaml", ".py"}


@dataclass(slots=True)
class Given:
    """What the logs of one format gave."""

    files: int = 0
    runs: int = 0
    has: Counter[str] = field(default_factory=Counter)
    settings: int = 0
    axes: Counter[str] = field(default_factory=Counter)

    def add(self, runs: list[Run]) -> None:
        self.files += 1
        for run in runs:
            self.runs += 1
            self.axes[run.axis] += 1
            self.settings += any(s.source.file != "case" for s in run.settings.values())
            for what, prefixes in WANTED.items():
                self.has[what] += any(name.startswith(prefixes) for name in run.series)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=ROOT.parent / "shared" / "logs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "formats.md")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    if not arguments.logs.is_dir():
        print(f"There are no logs at {arguments.logs}; give their folder with --logs.", file=sys.stderr)
        return 2
    started = time.perf_counter()
    given, refused, count = collect(arguments.logs)
    page = render(given, refused, count)
    print(page)
    print(f"{count} files in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    if not arguments.no_write:
        arguments.out.write_text(page, encoding="utf-8")
    return 0


def collect(logs: Path) -> tuple[dict[str, Given], list[tuple[str, str]], int]:
    """What each format gave, the files that were refused with the sentence, and how many were tried."""
    given: dict[str, Given] = {}
    refused: list[tuple[str, str]] = []
    count = 0
    for path in sorted(logs.rglob("*")):
        if not path.is_file() or (path.suffix in NOT_LOGS and "state" not in path.name and "summary" not in path.name):
            continue
        count += 1
        try:
            runs = read_runs(path, beside=False)
        except UserError as error:
            refused.append((str(path.relative_to(logs)), str(error).replace(f"{path} ", "")))
        else:
            given.setdefault(runs[0].format, Given()).add(runs)
    return given, refused, count


def render(given: dict[str, Given], refused: list[tuple[str, str]], count: int) -> str:
    """The Markdown page."""
    lines = [
        "# Formats",
        "",
        "`unstuck diagnose PATH` finds the format by what is in the file, not by its name. Compressed logs (gzip), "
        "UTF-16, ANSI colours and progress bars are read as they are; a folder is searched, and a resumed run in "
        "several files is joined. What nothing recognises is read as free text by its own line grammar, which is told "
        "and can be corrected with `--columns`.",
        "",
        f"What follows was read by `python benchmarks/formats.py` from {count} logs, each alone, without the "
        "configuration beside it. A column counts the runs that have it; `-` is what a format, or its logs here, do "
        "not give.",
        "",
        "| format | what it is | logs | runs | " + " | ".join(WANTED) + " | settings |",
        "|---|---|---|---|" + "---|" * (len(WANTED) + 1),
    ]
    for name, reader in sorted(all_readers().items()):
        what = (sys.modules[reader.__name__].__doc__ or "").split("\n\n")[0].replace("\n", " ").rstrip(".")  # type: ignore[attr-defined]
        one = given.get(name)
        if one is None:
            lines.append(f"| `{name}` | {what} | none here | | " + " | " * len(WANTED) + "|")
            continue
        cells = [_share(one.has[wanted], one.runs) for wanted in WANTED]
        lines.append(
            f"| `{name}` | {what} | {one.files} | {one.runs} | {' | '.join(cells)} | {_share(one.settings, one.runs)} |"
        )
    lines += ["", "## Refused", ""]
    lines += [f"- `{file}`: {sentence}" for file, sentence in refused] or ["None."]
    return "\n".join(lines) + "\n"


def _share(having: int, runs: int) -> str:
    return "-" if not having else "yes" if having == runs else f"{having} of {runs}"


if __name__ == "__main__":
    sys.exit(main())
