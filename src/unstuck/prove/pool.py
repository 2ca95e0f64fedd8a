"""Trials as processes: one per core with one thread each, kept on disk when finished, killed when no longer needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.json_ready import number
from unstuck.prove.proof import Role, Trial
from unstuck.prove.trial import trial_key

POLL_SECONDS = 0.05
GRACE_SECONDS = 1.0  # between asking a worker to end and killing it
# Two single-thread runs side by side give 22,292 tokens/s on 2 cores, one run with two threads 19,131 (PERFORMANCE.md)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Job:
    """A trial to run. `fresh`: do not take it from disk and do not keep it (repeatability, measuring speed)."""

    setting: Role
    seed: int
    config: Config
    fresh: bool = False


@dataclass(slots=True)
class _Running:
    job: Job
    key: str
    folder: Path
    process: subprocess.Popen[bytes]
    slot: int
    read_to: int = 0


@dataclass(slots=True)
class Done:
    """A finished job with what its worker measured besides the trial's own numbers."""

    job: Job
    trial: Trial
    seconds_per_update: float
    seconds_besides_steps: float


@dataclass(slots=True)
class Pool:
    """Runs jobs in order, `workers` at a time. Use as a context manager: leaving it ends every child.

    Attributes:
        folder: holds one folder per finished trial, named by its key.
        gpus: give each worker one of so many devices; 0: CPU.
    """

    folder: Path
    workers: int
    gpus: int = 0
    _running: list[_Running] = field(default_factory=list)
    _started: int = 0

    def __enter__(self) -> Pool:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep_leftovers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(
        self,
        jobs: Sequence[Job],
        *,
        progress: Callable[[int], None] | None = None,
        deadline: float | None = None,
    ) -> Iterator[Done]:
        """Each job's outcome as it ends, those already on disk first; stop iterating to drop the rest.

        Args:
            progress: called with updates done since the last call, over all trials.
            deadline: `time.monotonic()` value at which running trials are killed and the iteration ends.

        Raises:
            UserError: a trial cannot run; the sentence of its training, or where its output is.
        """
        waiting: list[Job] = []
        for job in jobs:
            kept = None if job.fresh else self._kept(job)
            if kept is None:
                waiting.append(job)
            else:
                if progress:
                    progress(kept.trial.updates)
                yield kept
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.workers:
                    self._start(waiting.pop(0))
                if deadline is not None and time.monotonic() > deadline:
                    return
                for entry in list(self._running):
                    finished = entry.process.poll() is not None
                    self._report(entry, progress)
                    if finished:
                        self._running.remove(entry)
                        yield self._finish(entry)
                time.sleep(POLL_SECONDS)
        finally:
            self.stop()

    def stop(self) -> None:
        """End every child, by force where it does not end at once; what they had not finished is removed."""
        for entry in self._running:
            _close(entry.process)  # the worker ends when its standard input does
        until = time.monotonic() + GRACE_SECONDS
        for entry in self._running:
            try:
                entry.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                entry.process.kill()
                entry.process.wait()
            shutil.rmtree(entry.folder, ignore_errors=True)
        self._running.clear()

    def _start(self, job: Job) -> None:
        key = trial_key(job.config)
        self._started += 1
        folder = self.folder / f"{key}-{self._started}.{os.getpid()}"
        folder.mkdir()
        spec = {"config": job.config.model_dump(mode="json"), "setting": job.setting, "seed": job.seed}
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        environment = {**os.environ, **ONE_THREAD}
        slot = min(set(range(self.workers)) - {entry.slot for entry in self._running})
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self.gpus)
        with open(folder / "output.txt", "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "unstuck.prove.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us alone; we end the children
            )
        self._running.append(_Running(job, key, folder, process, slot))

    def _report(self, entry: _Running, progress: Callable[[int], None] | None) -> None:
        """Count the update events that the trial has written since the last look."""
        if progress is None:
            return
        with contextlib.suppress(FileNotFoundError), open(entry.folder / "run" / "metrics.jsonl", "rb") as file:
            file.seek(entry.read_to)
            new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            entry.read_to += len(new)
            count = new.count(b'"event": "update"') + new.count(b'"event":"update"')
            if count:
                progress(count)

    def _finish(self, entry: _Running) -> Done:
        _close(entry.process)
        if entry.process.returncode != 0:
            raise UserError(self._why_failed(entry))
        done = _read(entry.job, entry.folder / "result.json", reused=False)
        if not entry.job.fresh:
            with contextlib.suppress(OSError):  # another comparison has finished the same trial meanwhile: keep its own
                os.rename(entry.folder, self.folder / entry.key)
        shutil.rmtree(entry.folder, ignore_errors=True)
        return done

    def _why_failed(self, entry: _Running) -> str:
        mistake = entry.folder / "mistake.txt"
        if mistake.exists():
            return mistake.read_text(encoding="utf-8")
        output = self.folder / f"failed-{entry.key}.txt"
        shutil.copyfile(entry.folder / "output.txt", output)
        shutil.rmtree(entry.folder, ignore_errors=True)
        lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        status = entry.process.returncode
        ending = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        last = lines[-1] if lines else "it printed nothing"
        return f"A trial ({entry.job.setting}, seed {entry.job.seed}) {ending}: {last}. Its output is in {output}."

    def _kept(self, job: Job) -> Done | None:
        path = self.folder / trial_key(job.config) / "result.json"
        return _read(job, path, reused=True) if path.exists() else None

    def _sweep_leftovers(self) -> None:
        """Remove what a process that was killed outright had not finished."""
        for folder in self.folder.glob("*.*"):
            owner = folder.name.rpartition(".")[2]
            if folder.is_dir() and owner.isdigit() and not _alive(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus(config: Config) -> int:
    """NVIDIA devices that the trials will use; 0 where they run on the CPU. Asks the driver, not torch."""
    if config.training.device == "cpu" or shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return sum(line.startswith("GPU ") for line in listing.splitlines())


def _read(job: Job, path: Path, *, reused: bool) -> Done:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    trial = Trial(
        job.setting,
        job.seed,
        int(result["updates"]),
        number(result["val_loss"]),
        number(result["untrained"]),
        result["tokens"],
        int(result["examples"]),
        float(result["seconds"]),
        reused,
    )
    return Done(job, trial, float(result["seconds_per_update"]), float(result["seconds_besides_steps"]))


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
