"""What the machine offers: device, threads, number format, compilation - each choice with its reason."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from unstuck.config.schema import TrainingConfig
from unstuck.errors import UserError
from unstuck.train.distributed import processes_here
from unstuck.wording import plural


@dataclass(frozen=True, slots=True)
class Machine:
    """The choices made for this run; `reasons` has a sentence for each field."""

    device: torch.device
    threads: int
    precision: str  # float32 or bfloat16 (autocast; weights and optimizer stay float32)
    compiled: bool
    reasons: dict[str, str]

    def autocast(self) -> AbstractContextManager[object]:
        """The context that forward passes run in."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


# torch.compile on a CPU: 26-28 s cold for 0-7 % (shared/PERFORMANCE.md), so ten minutes repay it at best.
CPU_COMPILE_SECONDS = 27.0
CPU_COMPILE_GAIN = 0.04
# On a GPU compilation takes about a minute and gains tens of percent (torchtitan, nanoGPT: 1.3-2x): worth it for
# anything longer than a few minutes. Assumption until measured here: 2,000 updates are.
GPU_COMPILE_UPDATES = 2_000


def choose(config: TrainingConfig, stored_threads: int | None = None) -> Machine:
    """Choose device, threads, precision and compilation.

    Args:
        config: what the recipe asks for.
        stored_threads: of the run that is resumed; the order of sums, and so the last bit, depends on it.

    Raises:
        UserError: what was asked for is not here, or would be slower.
    """
    reasons: dict[str, str] = {}
    device = _device(config.device, reasons)
    cores = max(1, usable_cores() // processes_here())
    of_openmp = _openmp_threads()
    wish = of_openmp or cores
    threads = config.threads or stored_threads or wish
    if config.threads:
        reasons["threads"] = "as asked"
    elif stored_threads and stored_threads != wish:
        now = f"OMP_NUM_THREADS is {of_openmp}" if of_openmp else plural(cores, "core is usable", "cores are usable")
        reasons["threads"] = f"as before the resume, so that losses stay the same bit for bit; {now}"
    elif of_openmp:
        reasons["threads"] = "OMP_NUM_THREADS"
    else:
        reasons["threads"] = "every core that this process may use"
        if processes_here() > 1:
            reasons["threads"] += f": its part of {usable_cores()} for {processes_here()} processes"
    precision = _precision(config.precision, device, reasons)
    compiled = config.compile == "always"
    if config.compile != "auto":
        reasons["compiled"] = "as asked"
    elif device.type == "cuda":
        compiled = (config.updates or GPU_COMPILE_UPDATES) >= GPU_COMPILE_UPDATES  # a length in epochs is long
        reasons["compiled"] = f"about a minute at the start, repaid from {GPU_COMPILE_UPDATES} updates on"
    else:
        reasons["compiled"] = (
            f"compiling takes {CPU_COMPILE_SECONDS:.0f} s on a CPU and gains about {CPU_COMPILE_GAIN:.0%}"
        )
    return Machine(device, threads, precision, compiled, reasons)


def prepare(machine: Machine) -> None:
    """Set the process up: threads, and an allocator that keeps the memory of one step for the next."""
    torch.set_num_threads(machine.threads)
    if machine.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32: what bfloat16 autocast leaves in float32
    elif sys.platform == "linux":
        _keep_freed_memory()


def memory_used(device: torch.device) -> dict[str, int]:
    """Bytes that tensors take on this process's GPU, now and at most since the last call; of a CPU nothing."""
    if device.type != "cuda":
        return {}
    found = {
        "memory/gpu_bytes": torch.cuda.memory_allocated(device),
        "memory/gpu_peak_bytes": torch.cuda.max_memory_allocated(device),
    }
    torch.cuda.reset_peak_memory_stats(device)
    return found


def usable_cores() -> int:
    """Cores this process may run on (a container or taskset may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _openmp_threads() -> int | None:
    """What OMP_NUM_THREADS asks for; of a list, one number a level of nesting, the first. None where it is no number.

    torchrun sets it to 1 for several processes where nobody has set it (torch/distributed/run.py), so there 1 is not
    taken for anybody's wish.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    threads = int(first) if first.isascii() and first.isdecimal() else 0
    return threads if threads > 1 or (threads == 1 and processes_here() == 1) else None


def _device(asked: str, reasons: dict[str, str]) -> torch.device:
    if asked == "auto" and not torch.cuda.is_available():
        reasons["device"] = "no GPU was found"
        return torch.device("cpu")
    if processes_here() > 1 and asked in ("auto", "cuda"):
        own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if own >= there:
            raise UserError(
                f"{processes_here()} processes need as many GPUs, and {there} are visible; start torchrun with "
                f"--nproc-per-node {max(1, there)}, or train with training.device=cpu."
            )
        reasons["device"] = f"GPU {own} for process {own} of this machine"
        return torch.device("cuda", own)
    if asked == "auto":
        reasons["device"] = "the first GPU"
        return torch.device("cuda")
    reasons["device"] = "as asked"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UserError(f"training.device {asked!r} is not a device; use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        visible = plural(torch.cuda.device_count(), "GPU is visible", "GPUs are visible")
        raise UserError(f"training.device is {asked}, but {visible}; use auto or cpu.")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"training.device {asked!r} is not supported yet; use auto, cpu, cuda or cuda:N.")
    return device


def _precision(asked: str, device: torch.device, reasons: dict[str, str]) -> str:
    fast, why = bfloat16_is_fast(device)
    if asked == "float32":
        reasons["precision"] = "as asked"
        return asked
    if asked == "bfloat16":
        if not fast:
            raise UserError(
                f"training.precision=bfloat16 is refused: {why}, and bfloat16 then runs at 0.30 times the speed of "
                "float32. Use training.precision=auto."
            )
        reasons["precision"] = f"as asked; {why}"
        return asked
    reasons["precision"] = why
    return "bfloat16" if fast else "float32"


def bfloat16_is_fast(device: torch.device) -> tuple[bool, str]:
    """Whether bfloat16 autocast beats float32 on this device, and why."""
    if device.type == "cuda":
        # Ampere (8.0) is the first with bfloat16 tensor cores; older cards emulate it.
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return True, "this GPU has bfloat16 tensor cores"
        return False, "this GPU has no bfloat16 tensor cores"
    has = torch.cpu.get_capabilities()
    for instruction, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if has.get(instruction):
            return True, f"this CPU multiplies bfloat16 natively ({name})"
    return False, "this CPU has no bfloat16 instructions (AMX or AVX512-BF16)"


def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks: by default each tensor above 128 KiB is mapped and faulted in anew (mallopt(3)).

    Measured with lean model code: 1.07 times the tokens per second (shared/PERFORMANCE.md).
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        return  # musl and others have no mallopt; only speed is lost
