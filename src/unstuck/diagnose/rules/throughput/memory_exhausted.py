"""The run ended in an out-of-memory error.

Finds
An error that says so at the end of the log (CUDA, ROCm, Apple, XLA and CPU allocators, Python's MemoryError, the
kernel's or the job scheduler's out-of-memory killer); says whether it came in an evaluation, at the start or late.

Why it matters
Everything after the last checkpoint is lost, and the same command will end in the same place.

Evidence needed
The program's own output up to its end. Tables of metrics do not hold it.

Not when
The run went on after the error (a batch was skipped, or it was started again), reached its planned end, or ended in
another error.

Remedy
Half the batch and twice the accumulation keep the global batch, and with it the learning rate; a smaller evaluation
batch where the evaluation failed; checkpointing of activations where the batch is 1.

References
PyTorch, CUDA semantics, memory management. The Linux kernel ends a process with SIGKILL, which shells report as exit
code 137 (128 + 9). Slurm: "Detected 1 oom_kill event".
"""

from __future__ import annotations

import re

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Event

# What allocators and killers print: torch and CUDA ("CUDA out of memory", OutOfMemoryError, CUBLAS_STATUS_ALLOC_FAILED,
# cudaErrorMemoryAllocation; HIP and MPS alike), XLA and TensorFlow (RESOURCE_EXHAUSTED, ResourceExhaustedError, "OOM
# when allocating"), torch's CPU allocator, libc's ENOMEM, Python, the kernel and Slurm.
SAYS_SO = re.compile(
    r"out of memory|outofmemory|cudaerrormemoryallocation|cublas_status_alloc_failed|resource_?exhausted|"
    r"oom when allocating|(?:can(?:'|no)t|not enough memory: you tried to|unable to) allocate|cannot allocate memory|"
    r"\bmemoryerror\b|oom[-_ ]?kill",
    re.I,
)
# SIGKILL alone: the kernel's killer sends it, and so do people and schedulers.
MAYBE = re.compile(r"^\s*killed\s*$|exit(?:ed with)?[ _](?:code|status)\W*137\b|\bsigkill\b|signal 9\b", re.I | re.M)
AMOUNT = re.compile(r"tried to allocate ([\d.]+ ?[KMGT]i?B|\d+ bytes)", re.I)
IN_EVALUATION = re.compile(r"(?<![a-z])(?:eval|valid)", re.I)
EARLY = 10  # updates: what does not fit at all ends within the first few, optimizer states come with the first
SHOWN = 160  # ours: characters of the message


@rule(code="TH003", stages="L", severity="error")
def check(case: Case) -> Outcome:
    last = case.run.updates
    events = case.run.events
    errors = list(case.run.events_of("error"))
    went_on = max((at for at, event in enumerate(events) if event.kind in ("resume", "start", "end")), default=-1)
    fatal = [event for event in events[went_on + 1 :] if event.kind == "error" and _ends(event, case)]
    told = next((e for e in fatal if SAYS_SO.search(e.text)), None) or next(
        (e for e in fatal if MAYBE.search(e.text)), None
    )
    if told is not None:
        return _found(case, told, last)
    if any(SAYS_SO.search(event.text) for event in errors):
        return Clear("the run went on after it")
    if errors:
        return Clear("the run ended in another error")
    planned = case.planned_updates
    if any(True for _ in case.run.events_of("end")) or (planned and last >= planned - 1):
        return Clear("the run reached its end")
    return CouldNotCheck(("the program's output up to its end",))


def _ends(event: Event, case: Case) -> bool:
    """Whether nothing was logged after the event."""
    at = event.update
    if at is not None and at < case.run.updates:
        return False
    line = event.source.line if event.source is not None else None
    if line is None or event.source is None:
        return True
    return not any(s.file == event.source.file and len(s) and s.lines.max() > line for s in case.run.series.values())


def _found(case: Case, event: Event, last: int) -> Found:
    sure = bool(SAYS_SO.search(event.text))
    at = last if event.update is None else event.update
    evaluation, batch = case.setting("evaluation_batch_size"), case.setting("batch_size")
    every = case.setting("evaluation_every")
    larger = bool(evaluation and batch and evaluation > batch)
    at_evaluation = isinstance(every, int) and every > 0 and last > 0 and last % every == 0
    in_evaluation = bool(IN_EVALUATION.search(event.text)) or (larger and at_evaluation)
    where = "in the evaluation at" if in_evaluation else "at"
    amount = AMOUNT.search(event.text)
    asked = f", which asked for {amount[1]}" if amount else ""
    line = next((x.strip() for x in event.text.splitlines() if SAYS_SO.search(x) or MAYBE.search(x)), event.text)
    what = "out of memory" if sure else "killed, as the kernel does when memory runs out"
    planned = f" of {case.planned_updates:,}" if case.planned_updates and case.planned_updates > at else ""
    cause = "evaluation" if in_evaluation else "start" if at <= EARLY else "later"
    return Found(
        title=f"The run ended {where} update {at:,}{planned}: {what}{asked}",
        evidence=(Evidence("events", (at, at), line[:SHOWN], float(at), None, event.source),),
        confidence=0.97 if sure else 0.5,
        severity="error" if sure else "warning",
        detail=_detail(cause, sure),
        facts={"update": at, "cause": cause, "sure": sure, "asked": amount[1] if amount else None},
    )


def _detail(cause: str, sure: bool) -> str:
    told = {
        "evaluation": "Evaluation keeps what it collects (logits, predictions) and may use another batch size.",
        "start": "It ended within the first updates: this batch does not fit at all.",
        "later": "Many updates fitted before: a longer batch, memory that grows (tensors kept with their graph), "
        "fragmentation, or another program on the device.",
    }[cause]
    return told if sure else told + " SIGKILL may also come from a person or a scheduler's time limit."
