"""One file per format. A reader is found by its place and chosen by what is in the file, not by its name.

Each module defines:

- `FORMAT: str`, the name in `diagnose --json`;
- `confidence(head: str, path: Path) -> float`: 0 to 1, from the first 64 KiB of text (for a folder: "");
- `read(path: Path) -> list[Run]`: the runs in the file, most have one; raises `unstuck.errors.UserError` when the
  file turns out unreadable.

`read_runs(path)` picks the reader and adds the configuration found beside the log.
"""
