"""`unstuck`: finds the command's file, runs it, and turns every mistake of the user into one sentence."""

from __future__ import annotations

import ast
import difflib
import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS_FOLDER = Path(__file__).parent
# The order of the commands' help: the way a run goes through the house (DESIGN, "Commands"). Others follow by name.
ORDER = ("demo", "diagnose", "preflight", "train", "find-lr", "fix", "prove", "sweep", "watch", "evaluate", "generate",
         "ledger", "rules")  # fmt: skip
NOT_COMMANDS = {"main"}

STATUS_USAGE = 2
# Ctrl-C ends with 2 like everything that the user stopped or has to mend: 1 would say "sick", 3 "undetermined".
STATUS_INTERRUPTED = 2
TYPER_INTERRUPTED = 130  # what typer makes of KeyboardInterrupt

# What the machine refuses, and what to do about it. Other OSErrors are faults of ours and keep their traceback.
OS_ERRORS = {
    errno.ENOSPC: "the disk is full: free some space, or name another folder",
    errno.EDQUOT: "the disk quota is used up: free some space, or name another folder",
    errno.EACCES: "permission denied: choose a folder that you may write to, or change its permissions",
    errno.EPERM: "permission denied: choose a folder that you may write to, or change its permissions",
    errno.EROFS: "the file system is read-only: name another folder",
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.EISDIR: "this is a folder, a file is needed: name a file in it",
    errno.ENOTDIR: "a part of this path is a file, not a folder: check the path",
    errno.EEXIST: "it exists already: name another path",
    errno.ENAMETOOLONG: "the name is too long: use a shorter one",
    errno.ELOOP: "the links in this path lead in a circle: check the path",
    errno.EMFILE: "too many files are open: raise the limit with `ulimit -n`",
    errno.EFBIG: "the file grew beyond the size that is allowed here: raise the limit with `ulimit -f`",
    errno.EIO: "the disk could not be read or written: check the device",
}

# Modules of the optional `train` extra: the base install reads and diagnoses without them.
TRAIN_EXTRA = {"torch", "safetensors", "tokenizers"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Args:
        arguments: without the program's name; default `sys.argv[1:]`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal in ASCII shows "?" for what it cannot show, and no traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _dispatch(words)
    except UserError as error:
        return say(str(error))
    except KeyboardInterrupt:
        return _interrupted(words)
    except BrokenPipeError:  # the reader (`| head`) has gone: what we still hold must not be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        sentence = os_sentence(error)
        if sentence is None:
            raise
        return say(sentence)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in TRAIN_EXTRA:
            raise
        return say(f"`unstuck {words[0]}` needs {error.name}, which is not installed: pip install 'unstuck[train]'.")


def os_sentence(error: OSError) -> str | None:
    """What the machine refused and what to do about it; None when it is a fault of ours."""
    if error.errno not in OS_ERRORS:
        return None
    advice = OS_ERRORS[error.errno]
    name = error.filename
    if error.errno in (errno.EACCES, errno.EPERM) and name and os.path.exists(name) and not os.access(name, os.R_OK):
        advice = "permission denied: it cannot be read; change its permissions, or name a file that you may read"
    return (f"{name}: " if name else "") + advice + "."


def command_files() -> dict[str, Path]:
    """Command name -> file, in the order of the help."""
    found = {p.stem.replace("_", "-"): p for p in COMMANDS_FOLDER.glob("[!_]*.py") if p.stem not in NOT_COMMANDS}
    order = {name: place for place, name in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(ORDER)), item[0])))


def one_line_help(path: Path) -> str:
    """The first line of a command file's docstring, read without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def overall_help() -> str:
    """What `unstuck --help` prints."""
    files = command_files()
    width = max((len(name) for name in files), default=0)
    rows = "\n".join(f"  {name:<{width}}  {one_line_help(path)}" for name, path in files.items())
    return (
        "Usage: unstuck COMMAND ...\n\n"
        "Finds out why a training run is not learning, fixes it, and proves the fix.\n\n"
        f"Commands:\n{rows}\n\n"
        "`unstuck COMMAND --help` shows a command's options and an example.\n\n"
        "Examples:\n"
        "  unstuck demo                     the whole way on a built-in corpus\n"
        "  unstuck diagnose path/to/logs    what is wrong with your own run\n"
    )


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        if len(words) > 1:
            return _run_command(words[1], ["--help"])
        sys.stdout.write(overall_help())
        return 0
    if words[0] in ("--version", "-V"):
        from unstuck import __version__

        print(f"unstuck {__version__}")
        return 0
    if words[0].startswith("-"):
        raise UserError(f"There is no option {words[0]} before the command. See `unstuck --help`.")
    return _run_command(words[0], words[1:])


def _run_command(name: str, words: list[str]) -> int:
    files = command_files()
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1)
        if near:
            raise UserError(f"There is no command '{name}'; did you mean `unstuck {near[0]}`?")
        if Path(name).exists():
            raise UserError(f"There is no command '{name}'; to look at that path: unstuck diagnose {name}")
        raise UserError(f"There is no command '{name}'. See `unstuck --help`.")

    import importlib

    import typer
    from typer.main import get_command

    module = importlib.import_module(f"unstuck.cli.{files[name].stem}")
    function: Callable[..., Any] = module.command
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, epilog=_epilog(getattr(module, "EXAMPLE", "")), context_settings={"help_option_names": HELP})(
        function
    )
    usage_error = _click_exception(typer.BadParameter)
    try:
        status = get_command(app).main(words, prog_name=f"unstuck {name}", standalone_mode=False)
    except typer.Abort:
        return _interrupted([name])
    except typer.Exit as end:
        status = end.exit_code
    except usage_error as error:
        return say(_usage_sentence(name, error))
    if status == TYPER_INTERRUPTED:
        return _interrupted([name])
    return status if isinstance(status, int) else 0


HELP = ["--help", "-h"]


def _click_exception(bad_parameter: type[Exception]) -> type[Exception]:
    """Click's base of all usage errors; older typers import click, newer ones carry their own copy."""
    return next(base for base in bad_parameter.__mro__ if base.__name__ == "ClickException")


def _epilog(example: str) -> str | None:
    """The example as the help's last paragraph; click leaves lines after \\b as they are."""
    lines = [line.strip() for line in example.strip().splitlines() if line.strip()]
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines) if lines else None


def _usage_sentence(name: str, error: BaseException) -> str:
    """A usage error in one sentence that ends in the command to try."""
    option: str | None = getattr(error, "option_name", None)
    possibilities: Sequence[str] | None = getattr(error, "possibilities", None)
    if type(error).__name__ == "NoSuchOption":
        by_name = {known.lstrip("-"): known for known in possibilities or ()}  # dashes are alike in all of them
        near = difflib.get_close_matches(str(option).lstrip("-"), by_name, n=1, cutoff=0.6)
        meant = f"; did you mean {by_name[near[0]]}?" if near else "."
        return f"`unstuck {name}` has no option {option}{meant} See `unstuck {name} --help`."
    message = " ".join(str(error.format_message() if hasattr(error, "format_message") else error).split())
    return f"{message.rstrip('.')}. See `unstuck {name} --help`."


def say(sentence: str) -> int:
    """The user's mistake as one line on standard error; returns the exit status."""
    print("unstuck: " + " ".join(sentence.split()), file=sys.stderr)
    return STATUS_USAGE


def _interrupted(words: Sequence[str]) -> int:
    command = f"`unstuck {words[0]}`" if words else "unstuck"
    print(f"\nunstuck: stopped by Ctrl-C; what {command} had already written to disk is complete.", file=sys.stderr)
    return STATUS_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
