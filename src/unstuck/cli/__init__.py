"""The command line: one file per command, found by its place. Adding a command edits no other file.

`cli/<command>.py` (underscores become dashes: `find_lr.py` is `unstuck find-lr`; files that start with an underscore
are not commands) defines:

- a module docstring whose first line is the one-line help that `unstuck --help` prints. It is read without importing
  the file, so it must be a literal;
- `EXAMPLE`: one or more command lines to copy, printed below the command's own `--help`;
- `command`: an ordinary function with typer annotations and a docstring (its help text). It returns None (status 0)
  or its exit status as an int. Wrong usage, `UserError`, Ctrl-C and a full or read-only disk are turned into one
  sentence by `cli.main`: let them pass. `--json` prints one document on standard output and nothing else there.

Import what the command needs inside the function: a file here imports nothing at its top but the standard library,
`typer` and `unstuck.errors`, so that help and error messages stay fast.

    \"\"\"Say hello to a run.\"\"\"

    from pathlib import Path
    from typing import Annotated

    import typer

    EXAMPLE = "unstuck hello runs/gpt-char-1 --loud"

    def command(
        run: Annotated[Path, typer.Argument(help="a run folder")],
        loud: Annotated[bool, typer.Option("--loud", help="in capitals")] = False,
    ) -> int | None:
        \"\"\"Say hello to RUN, as often as it was resumed.\"\"\"
        from unstuck.runs.readers import read_runs
        ...

Test a command with `unstuck.cli.main.main(["hello", "runs/x"])` (returns the exit status) or as a real process.
"""
