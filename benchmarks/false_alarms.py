"""How often each rule raises a false alarm on synthetic healthy runs.

    python benchmarks/false_alarms.py [--seeds 50] [--first-seed 0] [--shape NAME] [--verbose]

Twenty-two shapes of a healthy run (each drawn anew for every seed: length, noise, log interval, evaluation interval,
gap) are put through every rule. A finding of severity error or warning is a false alarm; notes are counted apart.
Nothing here is taken from a real log; thresholds of the rules are not fitted to it: it shows what they do.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.diagnose.engine import Diagnosis, all_rules, diagnose
from unstuck.runs import Run, Series, Setting, Source

Generator = np.random.Generator
Values = np.ndarray[Any, np.dtype[np.float64]]


class Maker:
    """Puts one made-up run together."""

    def __init__(self, name: str, seed: int) -> None:
        self.rng = np.random.default_rng([seed, *name.encode()])
        self.run = Run(f"{name}/{seed}", "made-up")

    def log(self, name: str, updates: Values, values: Values) -> None:
        updates = np.asarray(updates).astype(np.int64)
        lines = np.arange(1, len(updates) + 1)
        self.run.series[name] = Series(name, updates, np.asarray(values, dtype=np.float64), lines, self.run.source)

    def settings(self, **values: Any) -> None:
        for key, value in values.items():
            self.run.settings[key] = Setting(value, key, Source(self.run.source))

    def noise(self, n: int, sd: float, *, r: float = 0.0, tails: float | None = None) -> Values:
        """Noise of standard deviation sd: AR(1) with correlation r, Student t with `tails` degrees of freedom."""
        white = (
            self.rng.normal(size=n) if tails is None else self.rng.standard_t(tails, n) / math.sqrt(tails / (tails - 2))
        )
        out = np.empty(n)
        state = 0.0
        for i in range(n):
            state = r * state + math.sqrt(1 - r * r) * white[i]
            out[i] = state
        return sd * out


def cosine(u: Values, peak: float, warmup: int, total: int, floor: float) -> Values:
    ramp = np.minimum(1.0, u / max(1, warmup))
    share = np.clip((u - warmup) / max(1, total - warmup), 0, 1)
    return peak * np.where(u < warmup, ramp, floor + (1 - floor) * 0.5 * (1 + np.cos(math.pi * share)))


def power_law(u: Values, start: float, floor: float, exponent: float, knee: float) -> Values:
    """From `start` at update 0 towards `floor`, as (1 + u / knee)^-exponent."""
    return floor + (start - floor) * (1 + u / knee) ** -exponent


def pretraining(m: Maker, **changes: Any) -> None:
    """A GPT-2-like run: cosine, every k-th update logged, norms, speed and evaluations beside it."""
    rng = m.rng
    total = changes.get("total", int(rng.integers(1000, 20000)))
    every = changes.get("every", int(rng.choice([1, 5, 10])))
    sd = changes.get("sd", float(rng.uniform(0.01, 0.08)))
    vocabulary = 50257
    warmup = max(20, total // int(rng.integers(20, 60)))
    peak = 6e-4
    knee, exponent = warmup / 2, float(rng.uniform(0.35, 0.6))
    floor = float(rng.uniform(1.8, 2.6))
    start = math.log(vocabulary) * float(rng.uniform(1.0, 1.03))

    def curve(u: Values) -> Values:
        level = power_law(np.maximum(0.0, u - warmup * 0.1), start, floor, exponent, knee)
        bump = changes.get("bump", 0.0) * np.exp(-(((u - warmup) / (0.2 * warmup)) ** 2))
        anneal = changes.get("anneal", 0.0) * np.clip((u / total - 0.8) / 0.2, 0, 1)
        return level + bump - anneal

    u = np.arange(1, total + 1, every).astype(np.float64)
    m.log("train/loss", u, curve(u) + m.noise(len(u), sd, r=changes.get("r", 0.0), tails=changes.get("tails")))
    if "anneal" in changes:
        ramp = np.minimum(1.0, u / warmup)
        m.log("lr/all", u, peak * ramp * (1 - np.clip((u / total - 0.8) / 0.2, 0, 1)))
        schedule = "wsd"
    else:
        m.log("lr/all", u, cosine(u, peak, warmup, total, 0.1))
        schedule = "cosine"
    norms = (0.3 + 3 * np.exp(-u / warmup)) * np.exp(rng.normal(0, 0.25, len(u))) * (1 + u / total)
    m.log("grad_norm/preclip", u, norms)
    speed = 50_000 * np.exp(m.noise(len(u), 0.03, r=0.5))
    speed[rng.random(len(u)) < 0.01] *= 0.4
    speed[:2] *= 0.1
    m.log("throughput/tokens_per_second", u, speed)
    if changes.get("val", True):
        k = max(1, total // int(rng.integers(8, 40)))
        at = np.arange(0, total + 1, k).astype(np.float64)
        gap = float(rng.uniform(0.0, 0.04))
        val = curve(at) + gap * at / total + m.noise(len(at), changes.get("val_sd", float(rng.uniform(0.001, 0.01))))
        m.log("val/loss", at, val)
        m.settings(evaluation_every=k, validation_tokens=200_000)
    m.settings(
        learning_rate=peak,
        min_learning_rate=peak * 0.1 if schedule == "cosine" else 0.0,
        schedule=schedule,
        warmup_updates=warmup,
        horizon_updates=total,
        updates=total,
        batch_size=16,
        accumulation=int(changes.get("accumulation", 8)),
        context=1024,
        clip_norm=1.0,
        optimizer="adamw",
        vocabulary=vocabulary,
        parameters=124_000_000,
        train_tokens=10_000_000_000,
        start="fresh",
        task="causal-lm",
    )


def tiny_batch(m: Maker) -> None:
    """Every update logged, a batch of a few sequences, much scatter, heavy tails."""
    pretraining(m, every=1, sd=float(m.rng.uniform(0.15, 0.35)), tails=5.0, total=int(m.rng.integers(800, 6000)))
    m.settings(batch_size=2, accumulation=1, context=256)


def skewed(m: Maker) -> None:
    """Losses of single sequences: noise skewed upwards, from a gamma distribution."""
    pretraining(m, every=1, sd=0.01, total=int(m.rng.integers(800, 5000)))
    loss = m.run.series["train/loss"]
    shape = float(m.rng.uniform(4, 40))
    extra = (m.rng.gamma(shape, 1.0, len(loss)) / shape - 1) * float(m.rng.uniform(0.2, 0.8))
    m.log("train/loss", loss.updates.astype(np.float64), loss.values + extra)
    m.settings(batch_size=2, accumulation=1, context=256)


def smoothed_log(m: Maker) -> None:
    """A log whose values are running averages: strongly autocorrelated noise."""
    pretraining(m, every=1, r=float(m.rng.uniform(0.6, 0.9)), total=int(m.rng.integers(1000, 6000)))


def character_model(m: Maker) -> None:
    """nanoGPT's shakespeare_char in size: clipped at 1.0 most of the time, few evaluations, linear decay."""
    rng, total = m.rng, int(m.rng.integers(300, 3000))
    start, floor = math.log(65) * float(rng.uniform(1.0, 1.04)), float(rng.uniform(1.0, 1.4))
    warmup = max(10, total // 20)

    def curve(u: Values) -> Values:
        return power_law(u, start, floor, 0.7, total / 40)

    u = np.arange(1, total + 1).astype(np.float64)
    m.log("train/loss", u, curve(u) + m.noise(total, float(rng.uniform(0.03, 0.08))))
    m.log("lr/all", u, 1e-3 * np.minimum(u / warmup, (total - u) / (total - warmup)))
    m.log("grad_norm/preclip", u, float(rng.uniform(0.8, 2.5)) * np.exp(rng.normal(0, 0.2, total)))
    at = np.arange(0, total + 1, max(1, total // 10)).astype(np.float64)
    m.log("val/loss", at, curve(at) + 0.1 * at / total + m.noise(len(at), 0.008))
    m.settings(
        learning_rate=1e-3, min_learning_rate=0.0, schedule="linear", warmup_updates=warmup, horizon_updates=total,
        updates=total, batch_size=12, context=64, accumulation=1, clip_norm=1.0, optimizer="adamw", vocabulary=65,
        parameters=800_000, start="fresh", task="causal-lm", train_tokens=1_000_000,
    )  # fmt: skip


def fine_tuning(m: Maker) -> None:
    """A pretrained model: a short fall, then nearly flat; the log holds means of 10 updates."""
    rng, total = m.rng, int(m.rng.integers(300, 3000))
    start, floor = float(rng.uniform(3.2, 4.0)), float(rng.uniform(2.6, 3.0))

    def curve(u: Values) -> Values:
        return power_law(u, start, floor, 1.0, total / float(rng.uniform(10, 30)))

    u = np.arange(10, total + 1, 10).astype(np.float64)
    m.log("train/loss", u, curve(u) + m.noise(len(u), float(rng.uniform(0.02, 0.1))))
    m.log("lr/all", u, 5e-5 * np.minimum(u / (0.05 * total), (total - u) / (0.95 * total)))
    m.log("grad_norm/preclip", u, float(rng.uniform(0.5, 4)) * np.exp(rng.normal(0, 0.3, len(u))))
    at = np.linspace(0, total, int(rng.integers(5, 20))).astype(int).astype(np.float64)
    rate = 1.0 - 0.02 * at / total
    m.log("val/loss", at, curve(at) * rate + m.noise(len(at), float(rng.uniform(0.002, 0.01))))
    m.settings(
        learning_rate=5e-5, schedule="linear", warmup_share=0.05, horizon_updates=total, updates=total, batch_size=8,
        accumulation=4, context=256, clip_norm=1.0, optimizer="adamw", vocabulary=50257, start="pretrained",
        parameters=124_000_000, task="causal-lm", train_tokens=total * 8192 // 3,
    )  # fmt: skip


def still_running(m: Maker) -> None:
    """The log of a run that has done a tenth to two thirds of its updates."""
    pretraining(m)
    reached = int(m.run.updates * m.rng.uniform(0.1, 0.67))
    m.run.series = {name: series.between(0, reached) for name, series in m.run.series.items()}


def smoothed_targets(m: Maker) -> None:
    """Label smoothing in the objective, the cross-entropy in the log."""
    pretraining(m)
    m.settings(label_smoothing=0.02)


def lora(m: Maker) -> None:
    """LoRA at ten times the rate of full fine-tuning."""
    fine_tuning(m)
    lr = m.run.series["lr/all"]
    m.log("lr/all", lr.updates.astype(np.float64), lr.values * 4)
    m.settings(learning_rate=2e-4, lora_rank=16, parameters=800_000)


def classifier_by_epoch(m: Maker) -> None:
    """One row per epoch, training and validation loss of a classifier that generalises; nothing is configured."""
    rng, epochs = m.rng, int(m.rng.integers(6, 40))
    e = np.arange(1, epochs + 1).astype(np.float64)
    level = float(rng.uniform(0.2, 0.4))
    train = power_law(e - 1, 0.69, level * 0.8, 1.0, epochs / 4)
    val = power_law(e - 1, 0.66, level, 1.0, epochs / 4)
    m.log("train/loss", e * 100, train + m.noise(epochs, 0.004))
    m.log("val/loss", e * 100, val + m.noise(epochs, 0.006))
    m.settings(task="classification", optimizer="adam", learning_rate=1e-3, batch_size=32, epochs=epochs)


def regression(m: Maker) -> None:
    """A neural operator: relative error from 1 to a few hundredths, one row per epoch."""
    epochs = int(m.rng.integers(40, 200))
    e = np.arange(1, epochs + 1).astype(np.float64)
    curve = power_law(e, 1.0, 0.01, 1.2, 8)
    m.log("train/loss", e * 125, curve * np.exp(m.noise(epochs, 0.03)))
    m.log("val/loss", e * 125, 1.1 * curve * np.exp(m.noise(epochs, 0.03)))
    m.log("lr/all", e * 125, 1e-3 * 0.5 * (1 + np.cos(math.pi * e / epochs)))
    m.settings(task="regression", optimizer="adamw", learning_rate=1e-3, schedule="cosine", updates=epochs * 125)


def few_rows(m: Maker) -> None:
    """Six to twenty-four rows, means over many updates each, of a small model that learns: power law or exponential."""
    rng, n = m.rng, int(m.rng.choice([6, 8, 12, 16, 24]))
    start, every = float(rng.choice([4.57, 2.3, 1.0])), int(rng.integers(50, 400))
    x = np.arange(1, n + 1) / n
    knee = float(rng.uniform(0.05, 0.5))
    fall = (1 + x / knee) ** -float(rng.uniform(0.6, 1.2)) if rng.random() < 0.5 else np.exp(-x / knee)
    level = start * (rng.uniform(0.05, 0.4) + 0.55 * fall)
    sd, u = 10 ** float(rng.uniform(-3, -1)), x * n * every
    m.log("train/loss", u, level * np.exp(m.noise(n, sd, tails=4.0 if rng.random() < 0.3 else None)))
    m.log("val/loss", u, 1.05 * level * np.exp(m.noise(n, sd / 3)))
    m.log("grad_norm/preclip", u, float(rng.uniform(0.2, 3)) * np.exp(m.noise(n, float(rng.uniform(0.05, 0.4)))))
    m.log("lr/all", u, cosine(u, 1e-3, 0, n * every, 0.0))
    m.settings(optimizer="adamw", learning_rate=1e-3, schedule="cosine", updates=n * every, parameters=100_000,
               task="regression")  # fmt: skip


def warm_restarts(m: Maker) -> None:
    """Planned cosine cycles: the loss goes up a little at each restart."""
    pretraining(m, val=False)
    total = m.run.setting("updates")
    u = m.run.series["train/loss"].updates.astype(np.float64)
    cycles = 4
    phase = (u * cycles / (total + 1)) % 1.0
    lr = 6e-4 * (0.05 + 0.95 * 0.5 * (1 + np.cos(math.pi * phase)))
    m.log("lr/all", u, lr)
    loss = m.run.series["train/loss"].values + 0.15 * (lr / 6e-4) * (u > total / cycles)
    m.log("train/loss", u, loss)
    m.settings(schedule="restarts", schedule_cycles=cycles, warmup_updates=0)


def dropout_by_epoch(m: Maker) -> None:
    """One row per epoch: the training loss is the epoch's mean with dropout, the validation loss that of its end."""
    rng, epochs = m.rng, int(m.rng.integers(8, 30))
    knee, floor = float(rng.uniform(0.5, 4)), float(rng.uniform(0.2, 0.9))
    fine = power_law(np.arange(0, epochs, 0.05), 2.3, floor, 1.0, knee)
    means = fine.reshape(epochs, -1).mean(axis=1)
    ends = power_law(np.arange(1, epochs + 1).astype(np.float64), 2.3, floor, 1.0, knee)
    e, samples = np.arange(1, epochs + 1).astype(np.float64), int(rng.integers(200, 5000))
    gap = float(rng.uniform(0.0, 0.03)) * e / epochs * (2.3 - floor)
    m.log("train/loss", e * 100, means * float(rng.uniform(1.05, 1.3)) * np.exp(m.noise(epochs, 0.004)))
    fixed = 1 + float(rng.normal()) / math.sqrt(samples)  # the error of the sample, the same in every evaluation
    m.log("val/loss", e * 100, (ends + gap) * fixed * np.exp(m.noise(epochs, 0.015)))
    m.log("epoch", e * 100, e)
    m.settings(task="classification", optimizer="adamw", learning_rate=1e-3, batch_size=64, train_samples=6400,
               validation_samples=samples, epochs=epochs)  # fmt: skip


def few_validation_tokens(m: Maker) -> None:
    """A fixed validation set of a few hundred to a few thousand tokens: its error is the same in every evaluation."""
    pretraining(m, val_sd=float(m.rng.uniform(0.0005, 0.003)))
    tokens = int(m.rng.integers(300, 8000))
    val = m.run.series["val/loss"]
    m.log("val/loss", val.updates.astype(np.float64), val.values * (1 + float(m.rng.normal()) / math.sqrt(tokens)))
    m.settings(validation_tokens=tokens, patience=5)


def wandering_validation(m: Maker) -> None:
    """A validation level that wanders by a few per cent with a memory of several evaluations, in a noisy run."""
    pretraining(m, sd=float(m.rng.uniform(0.05, 0.15)))
    val = m.run.series["val/loss"]
    wander = m.noise(len(val), float(m.rng.uniform(0.005, 0.02)), r=float(m.rng.uniform(0.3, 0.9)))
    m.log("val/loss", val.updates.astype(np.float64), val.values * (1 + wander))


def constant_rate(m: Maker) -> None:
    """A short run at a constant rate whose loss still falls as a power law, under the noise of small batches."""
    total = int(m.rng.integers(300, 2000))
    pretraining(m, total=total, every=int(m.rng.choice([1, 5])), sd=float(m.rng.uniform(0.05, 0.2)))
    u = m.run.series["train/loss"].updates.astype(np.float64)
    m.log("lr/all", u, 6e-4 * np.minimum(1.0, u / m.run.setting("warmup_updates")))
    m.settings(schedule="constant", min_learning_rate=6e-4)


def averaged_weights(m: Maker) -> None:
    """Validation of averaged weights: far behind training at first, level with it later."""
    pretraining(m)
    val = m.run.series["val/loss"]
    behind = float(m.rng.uniform(0.3, 2)) * np.exp(-val.updates / (m.run.updates * float(m.rng.uniform(0.02, 0.15))))
    m.log("val/loss", val.updates.astype(np.float64), val.values + behind * (val.updates > 0))


SHAPES: dict[str, Callable[[Maker], None]] = {
    "power law, cosine": pretraining,
    "warm-up bump": lambda m: pretraining(m, bump=float(m.rng.uniform(0.1, 0.4))),
    "heavy tails": lambda m: pretraining(m, tails=4.0, every=1, total=int(m.rng.integers(1000, 5000))),
    "tiny batch": tiny_batch,
    "skewed noise": skewed,
    "WSD with decay phase": lambda m: pretraining(m, anneal=float(m.rng.uniform(0.1, 0.3))),
    "noisy validation": lambda m: pretraining(m, val_sd=float(m.rng.uniform(0.02, 0.06))),
    "smoothed log": smoothed_log,
    "character model": character_model,
    "fine-tuning": fine_tuning,
    "label smoothing, unsmoothed log": smoothed_targets,
    "still running": still_running,
    "LoRA": lora,
    "classifier by epoch": classifier_by_epoch,
    "regression by epoch": regression,
    "few rows": few_rows,
    "planned warm restarts": warm_restarts,
    "dropout by epoch": dropout_by_epoch,
    "few validation tokens": few_validation_tokens,
    "wandering validation": wandering_validation,
    "constant rate": constant_rate,
    "averaged weights": averaged_weights,
}


def healthy_run(shape: str, seed: int) -> Run:
    """The healthy run of that shape and seed; the same every time."""
    maker = Maker(shape, seed)
    SHAPES[shape](maker)
    return maker.run


def measure(
    seeds: range, shapes: list[str] | None = None, report: Callable[[str, int, Diagnosis], None] | None = None
) -> tuple[int, Counter[tuple[str, str]], Counter[str], Counter[str]]:
    """Runs looked at, alarms by (rule, shape), notes by rule, and how often each rule could answer."""
    alarms: Counter[tuple[str, str]] = Counter()
    notes: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    count = 0
    for shape in shapes or list(SHAPES):
        for seed in seeds:
            diagnosis = diagnose(healthy_run(shape, seed))
            count += 1
            answered.update(diagnosis.clear)
            for finding in diagnosis.findings:
                answered[finding.rule.name] += 1
                if finding.severity == "note":
                    notes[finding.rule.name] += 1
                else:
                    alarms[finding.rule.name, shape] += 1
            if report is not None:
                report(shape, seed, diagnosis)
    return count, alarms, notes, answered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="runs of each shape")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--shape", choices=sorted(SHAPES), help="only this shape")
    parser.add_argument("--verbose", action="store_true", help="print each false alarm")
    arguments = parser.parse_args()

    def tell(shape: str, seed: int, diagnosis: Diagnosis) -> None:
        for finding in diagnosis.findings:
            if arguments.verbose and finding.severity != "note":
                print(f"{shape}, seed {seed}: {finding.rule.name} ({finding.severity}): {finding.found.title}")

    began = time.perf_counter()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    shapes = [arguments.shape] if arguments.shape else None
    count, alarms, notes, answered = measure(seeds, shapes, tell)
    print(f"\n{count} healthy runs in {time.perf_counter() - began:.0f} s\n")
    print("| rule | answered | false alarms | rate | upper 95 % | notes | worst shape |")
    print("|---|---|---|---|---|---|---|")
    for name in all_rules():
        by_shape = {shape: n for (rule, shape), n in alarms.items() if rule == name}
        total = sum(by_shape.values())
        worst = max(by_shape, key=lambda s: by_shape[s]) + f" ({max(by_shape.values())})" if by_shape else ""
        if not answered[name]:
            print(f"| {name} | 0 | | | | | |")
            continue
        # Wilson's upper bound, z 1.645 (one-sided 95 %)
        n, p, z = answered[name], total / answered[name], 1.645
        upper = (p + z * z / (2 * n) + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
        print(f"| {name} | {n} | {total} | {p:.2%} | {upper:.2%} | {notes[name]} | {worst} |")
    print(f"\nRuns with no error or warning at all: at least {count - sum(alarms.values())} of {count}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
