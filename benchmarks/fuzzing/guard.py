"""What an input must not make the readers do, watched through Python's audit events, and the limits that it runs under.

While the guard watches, nothing may be executed (exec, eval, compile, pickle, a new process, ctypes), nothing sent
(sockets, URLs), nothing written or moved, and nothing read but the case's own files and what belongs to Python and the
package. Allowed are: importing modules of Python, its packages and `src` (which readers do when they first need them),
and `ast.parse` of text that the log or the configuration printed as a value: it builds a tree and runs nothing.
"""

from __future__ import annotations

import ast
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import unstuck

FORBIDDEN = frozenset(
    ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile",
     "pty.spawn", "pickle.find_class", "sqlite3.connect", "urllib.Request", "webbrowser.open",
     "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.link",
     "os.symlink", "os.truncate", "os.utime", "os.putenv", "os.kill")
)  # fmt: skip
FORBIDDEN_FAMILIES = ("socket.", "shutil.", "http.", "ftplib.", "smtplib.", "cpython.run_", "tempfile.")
NEEDED_BY_IMPORTS = ("marshal.loads", "code.__new__", "function.__new__", "ctypes.")
UNNAMED = "<unknown>"  # what ast.parse calls its text: a syntax error looks for a file of that name to quote from
_PATHS = sysconfig.get_paths()
OURS = tuple(
    os.path.realpath(path) + os.sep
    for path in (_PATHS["stdlib"], _PATHS["platstdlib"], _PATHS["purelib"], _PATHS["platlib"], sys.base_prefix,
                 str(Path(unstuck.__file__).parent), "/usr/share/zoneinfo")
)  # fmt: skip


class Violation(BaseException):
    """Raised where a forbidden thing would have happened; it is recorded as well, should somebody catch it."""


class TimeUp(BaseException):
    """The input used up its time."""


class _Watch:
    def __init__(self) -> None:
        self.folder: str | None = None
        self.found: list[str] = []
        self.installed = False

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            self._open(*args)
        elif event == "compile":
            if sys._getframe(1).f_code is not ast.parse.__code__ and not _importing():
                self._violation(f"compile of {args[1]!r}")
        elif event == "exec":
            if not self._may_run(args[0]):
                self._violation(f"exec of {args[0].co_filename}")
        elif event.startswith(NEEDED_BY_IMPORTS) and _importing():
            return
        elif event in FORBIDDEN or event.startswith((*NEEDED_BY_IMPORTS, *FORBIDDEN_FAMILIES)):
            self._violation(f"{event}{args!r}"[:300])

    def _open(self, path: Any, mode: str | None, flags: int) -> None:
        if isinstance(path, int) or path == UNNAMED or self.folder is None:
            return
        name = os.path.abspath(os.fsdecode(path))
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            self._violation(f"open of {name} for writing")
        if not (name + os.sep).startswith((self.folder, *OURS)) and not os.path.realpath(name).startswith(OURS):
            self._violation(f"open of {name}, which is not the case's")

    def _may_run(self, code: CodeType) -> bool:
        name = code.co_filename
        if name.startswith("<frozen ") or os.path.realpath(name).startswith(OURS):
            return True
        return name.startswith("<") and _importing()  # dataclasses and named tuples compile methods when imported

    def _violation(self, what: str) -> None:
        self.found.append(what)
        raise Violation(what)


def _importing() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


_watch = _Watch()


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """Watch the body, which may read `folder` only; yields the list that violations are written to.

    The first call installs the audit hook, which stays for the life of the process and rests outside of the body.
    """
    if not _watch.installed:
        sys.addaudithook(_watch.hook)
        _watch.installed = True
    _watch.found = []
    _watch.folder = os.path.abspath(folder) + os.sep
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # what is imported now leaves no file either
    try:
        yield _watch.found
    finally:
        _watch.folder = None
        sys.dont_write_bytecode = kept


@contextmanager
def time_limit(cpu_seconds: float, wall_seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the body after so much CPU time of this process, or so much waiting. Main thread only."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeUp("CPU" if signum == signal.SIGPROF else "waiting")

    before = signal.signal(signal.SIGPROF, stop), signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


def limit_address_space(gigabytes: int) -> None:
    """A ceiling for this process, so that a reader that takes all memory gets a MemoryError and not the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))


def reset_peak_memory() -> int:
    """Start measuring the peak anew; returns the resident bytes of now, 0 where the kernel does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _status("VmRSS")


def peak_memory() -> int:
    """The most resident bytes since `reset_peak_memory`; 0 where the kernel does not tell."""
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(key + ":")), 0)
