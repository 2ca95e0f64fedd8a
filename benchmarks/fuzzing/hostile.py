"""Cases made by hand, each against one way to break a reader: too large, too deep, quadratic, or not a file at all."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

from benchmarks.fuzzing import seeds
from benchmarks.fuzzing.cases import Case, Entry

MIB = 1 << 20
ITERATIONS = b"".join(b"iter %d: loss %.4f, time 17.44ms, mfu 9.49%%\n" % (k, 4 - k / 1000) for k in range(0, 1000, 10))
METRICS = "".join(json.dumps({"step": k, "loss": 3.0 - k / 100}) + "\n" for k in range(40)).encode()
GOOD = Entry("m.jsonl", METRICS)


class _Runs:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("id",)


def _bomb(text: bytes, gigabytes: float) -> bytes:
    """A gzip file of many members, each 16 MiB of `text`."""
    member = gzip.compress(text * (16 * MIB // len(text)), 1, mtime=0)
    return member * int(gigabytes * 64)


def _nested_gzip() -> bytes:
    data = ITERATIONS
    for _ in range(50):
        data = gzip.compress(data, mtime=0)
    return data


def _rows(count: int, row: Callable[[int], str]) -> bytes:
    return "".join(row(k) + "\n" for k in range(count)).encode()


def _laughs() -> bytes:
    names = [f"l{k}" for k in range(12)]
    rows = [f"{names[0]}: &{names[0]} [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in pairwise(names)]
    return "\n".join(rows).encode()


LOGS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "gzip bomb of log lines, 1.5 GiB": lambda: ("a.log.gz", _bomb(ITERATIONS, 1.5)),
    "gzip bomb of zeros, 4 GiB": lambda: ("a.log.gz", _bomb(b"\0", 4)),
    "gzip in gzip, fifty times": lambda: ("a.log.gz", _nested_gzip()),
    "a million opening brackets": lambda: ("metrics.jsonl", METRICS + b'{"step": 41, "loss": ' + b"[" * MIB),
    "objects in objects, a million deep": lambda: ("trainer_state.json", b'{"log_history": [' + b'{"a":' * MIB),
    "one JSON row with 100,000 keys": lambda: (
        "m.jsonl", METRICS + json.dumps({f"k{k}": k for k in range(100_000)}).encode() + b"\n"),
    "new keys in every JSON row": lambda: (
        "m.jsonl", _rows(2000, lambda k: json.dumps({"step": k, "loss": 1.0, **{f"k{k}_{i}": i for i in range(50)}}))),
    "steps that count down": lambda: ("m.jsonl", _rows(60_000, lambda k: f'{{"step": {60_000 - k}, "loss": 1.0}}')),
    "steps that start anew at every other row": lambda: (
        "m.jsonl", _rows(20_000, lambda k: f'{{"step": {k % 2}, "loss": 1.0}}')),
    "a resume before every row": lambda: (
        "m.jsonl", _rows(5000, lambda k: f'{{"event": "resumed"}}\n{{"step": {k}, "loss": 1.0}}')),
    "a header before every iteration": lambda: (
        "a.log", _rows(5000, lambda k: f"Resuming training from out\niter {k}: loss 1.0, time 1.0ms, mfu 1.0%")),
    "iterations that count down": lambda: ("a.log", _rows(30_000, lambda k: f"iter {30_000 - k}: loss 1.0")),
    "200,000 iterations": lambda: ("a.log", _rows(200_000, lambda k: f"iter {k}: loss {3 + (k * 7919 % 101) / 1000}")),
    "a loss of a million digits": lambda: ("a.log", ITERATIONS + b"iter 5: loss " + b"1" * MIB + b"\n"),
    "an iteration line of a million pairs": lambda: ("a.log", ITERATIONS + b"iter 1000: loss 1.0" + b", a 1" * MIB),
    "a line of almost pairs": lambda: ("a.log", ITERATIONS + b"iter 1000: loss 1.0 " + b"a/" * MIB),
    "spaces, 8 MiB": lambda: ("a.log", ITERATIONS + b" " * 8 * MIB),
    "empty lines, 8 MiB": lambda: ("a.log", ITERATIONS + b"\n" * 8 * MIB),
    "carriage returns, 8 MiB": lambda: ("a.log", b"loss 1.0\r" * MIB),
    "a progress bar of 100,000 states": lambda: (
        "a.log", b"".join(b"train: %d/100000 [00:01<00:09, 9it/s, loss=%d.1]\r" % (k, k % 7) for k in range(100_000))),
    "UTF-16, 16 MiB": lambda: ("a.log", (ITERATIONS.decode() * (8 * MIB // len(ITERATIONS))).encode("utf-16")),
    "colours, 4 MiB": lambda: ("a.log", b"\x1b[32m\x1b[1m\x1b[0m" * (MIB // 3) + b"\n" + ITERATIONS),
    "escape sequences without an end": lambda: ("a.log", ITERATIONS + b"\x1b[" + b"1;" * 2 * MIB),
    "a CSV of 50,000 columns": lambda: (
        "m.csv", (",".join(f"c{k}" for k in range(50_000)) + "\n" + ",".join("1" * 50_000) + "\n").encode() * 2),
    "a CSV quote that never closes": lambda: ("m.csv", b"step,loss\n1,2.0\n2,1.9\n3,\"" + b"1,2.0\n" * MIB),
    "a CSV field of a megabyte": lambda: ("m.csv", b"step,loss,text\n1,2.0," + b"x" * MIB + b"\n2,1.9,y\n3,1.8,z\n"),
    "pipes, 2 MiB": lambda: ("a.log", b" iteration 1/ 10 | lm loss: 1.0E+00 " + b"| a: 1 " * (MIB // 3)),
    "an event record of 2**63 bytes": lambda: (
        "events.out.tfevents.1", seeds.tfevents() + b"\xff" * 7 + b"\x7f" + b"\0" * 64),
    "200,000 empty event records": lambda: ("events.out.tfevents.1", seeds.pack_tfrecords([b""]) * 200_000),
    "a variable-length integer without an end": lambda: (
        "events.out.tfevents.1", seeds.pack_tfrecords([seeds.field(1, 1.7e9) + seeds.field(3, b"brain.Event:2"),
                                                       b"\xff" * MIB])),
    "messages in messages": lambda: ("events.out.tfevents.1", seeds.pack_tfrecords(_nested_messages())),
    "a datastore of zeros": lambda: ("run-a.wandb", seeds.WANDB_HEADER + bytes(4 * MIB)),
    "100,000 datastore records": lambda: (
        "run-a.wandb", seeds.pack_wandb(seeds.unpack_wandb(seeds.wandb())[:1] + [seeds.field(1, 1)] * 100_000)),
    "losses of 1e308": lambda: ("m.jsonl", _rows(300, lambda k: f'{{"step": {k}, "loss": {"-" * (k % 2)}1e308}}')),
    "losses that are denormal": lambda: ("m.jsonl", _rows(300, lambda k: f'{{"step": {k}, "loss": {k}e-322}}')),
    "losses that are all infinite": lambda: ("m.jsonl", _rows(300, lambda k: f'{{"step": {k}, "loss": -Infinity}}')),
    "losses and norms that are all NaN": lambda: (
        "m.jsonl", _rows(300, lambda k: f'{{"step": {k}, "loss": NaN, "grad_norm": NaN, "lr": NaN, "val_loss": NaN}}')),
    "a constant everywhere": lambda: (
        "m.jsonl", _rows(300, lambda k: f'{{"step": {k}, "loss": 0, "grad_norm": 0, "lr": 0, "val_loss": 0}}')),
    "steps beyond 64 bits": lambda: ("m.jsonl", _rows(300, lambda k: f'{{"step": {10**18 * k}, "loss": {k}}}')),
    "negative steps": lambda: ("m.jsonl", _rows(300, lambda k: f'{{"step": {k - 1000}, "loss": {k}}}')),
    "a pickle that runs a command": lambda: ("model.pkl", pickle.dumps(_Runs())),
    "a pickle of protocol 0": lambda: ("model.txt", pickle.dumps(_Runs(), protocol=0)),
    "a name that is no UTF-8": lambda: ("bad\udcff.log", ITERATIONS),
    "a name of 255 bytes": lambda: ("a" * 251 + ".log", ITERATIONS),
    "digits and separators of Unicode": lambda: ("a.txt", "4\u2028,\u0661 loss \u0662\n\x04\u00a01.1\n".encode()),
    "UTF-16 of almost nothing": lambda: ("a.txt", b"\xff\xfeE\0\0\x000\0\x04\x006\0"),
    "a batch of -1": lambda: ("a.log", _rows(
        40, lambda k: f" iteration {k}/ 99 | global batch size: -1 | lm loss: {3 - k / 50:.6E} | loss scale: 1.0 |")),
    "a learning rate that became infinite": lambda: ("metrics.jsonl", (
        b'{"event":"start","unstuck":"0","updates":9,"groups":{"core":{"lr_factor":1e400}}}\n'
        b'{"event":"update","update":1,"train/loss":4,"lr/core":0.1}\n'
        b'{"event":"resume","update":1,"changed":{"learning_rate":[1,2]}}\n'
        b'{"event":"update","update":2,"train/loss":4,"lr/core":0.1}\n')),
    "9,400 runs, 4 MiB": lambda: (
        "a.log", b"".join(b"step %05d/99 (0.1%%) | loss: 3.1 | lrm: 1.00 | dt: 1.0ms | mfu: 1.0\n" % (k % 6)
                          for k in range(56_000))),
    "1,400 runs, 4 MiB in 16 KB": lambda: (
        "log.txt.gz", gzip.compress(b"".join(b"%d train %d.5\n" % (k % 100, k % 7) for k in range(300_000)), mtime=0)),
    "a resume in a line of 2,000 runs": lambda: (
        "a.log", b"Resuming from checkpoint\r" + b"".join(b"step %d loss %d.5\r" % (k % 5, k % 7)
                                                          for k in range(10_000))),
    "a count that is infinite": lambda: (
        "a.log", b"=> calculated gradient accumulation steps: inf\n"
        b"num decayed parameter tensors: 1, with inf parameters\ntotal desired batch size: inf\n" 
        + b"step 1 | loss: 3.1\n" * 3),
    "a summary of seconds that are none": lambda: (
        "a.log", b"{'loss': 2.1, 'learning_rate': 0.1, 'epoch': 0.1}\n"
        b"{'train_runtime': nan, 'train_samples_per_second': 1, 'train_steps_per_second': inf, "
        b"'train_loss': 2.6, 'epoch': 1.0}\n"),
    "a colour 20,000 times": lambda: ("a.log", ITERATIONS + b"\x1b[0m" * 20_000 + b"\n"),
    "prose": lambda: ("a.txt", b"It was a dark and stormy night; the loss was great.\n" * 20_000),
}  # fmt: skip

CONFIGS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "a billion laughs": lambda: ("config.yaml", _laughs()),
    "an anchor that holds itself": lambda: ("config.yaml", b"a: &a [*a, *a]\nb: &b {c: *b}\n"),
    "YAML that calls os.system": lambda: ("config.yaml", b"a: !!python/object/apply:os.system ['id']\nlr: 1\n"),
    "YAML nested 100,000 deep": lambda: ("config.yaml", b"a: " + b"[" * 100_000),
    "YAML indented 1,000 deep": lambda: ("config.yaml", b"".join(b" " * k + b"a:\n" for k in range(1000))),
    "YAML of 3 MiB": lambda: ("config.yaml", _rows(150_000, lambda k: f"key_{k}: value {k}")),
    "JSON of 3.5 MiB": lambda: ("config.json", json.dumps({f"k{k}": k for k in range(200_000)}, indent=0).encode()),
    "JSON nested 100,000 deep": lambda: ("config.json", b'{"a":' * 100_000),
    "a JSON number of a million digits": lambda: ("config.json", b'{"lr": ' + b"9" * MIB + b"}"),
    "a JSON number of 400 digits": lambda: ("config.json", b'{"lr": 1, "batch_size": ' + b"9" * 400 + b"}"),
    "a TOML number of 5,000 digits": lambda: ("config.toml", b"batch_size = " + b"9" * 5000),
    "a YAML number of 5,000 digits": lambda: ("config.yaml", b"batch_size: " + b"9" * 5000),
    "a Python number of 400 digits": lambda: ("config.py", b"batch_size = " + b"9" * 400),
    "more steps than 64 bits count": lambda: (".env", b"STEPS=1e30\nBATCH_SIZE=1e400\nWARMUP_STEPS=-1e30\n"),
    "Python of 100,000 brackets": lambda: ("config.py", b"x = " + b"(" * 100_000),
    "Python of 100,000 minus signs": lambda: ("config.py", b"x = " + b"-" * 100_000 + b"1\nlr = 1\n"),
    "Python of a sum of 30,000": lambda: ("config.py", b"x = " + b"1 + " * 30_000 + b"1\nlr = 1\n"),
    "Python of 3 MiB": lambda: ("config.py", _rows(150_000, lambda k: f"key_{k} = {k} * 5")),
    "Python that squares": lambda: ("config.py", b"k0 = 3\n" + _rows(60, lambda k: f"k{k + 1} = k{k} * k{k}")),
    "Python of one line, 1 MiB": lambda: ("config.py", b"a=1;" * (MIB // 4 - 10)),
    "a YAML list of 400,000": lambda: ("config.yaml", b"a: [" + b"1, " * (MIB // 3 - 10) + b"1]\n"),
    "JSON of 1 MiB": lambda: ("config.json", json.dumps({f"k{k}": k for k in range(55_000)}).encode()),
    "an environment of 1 MiB": lambda: (".env", _rows(55_000, lambda k: f"K{k}=a b: c # d")),
    "an environment of blanks": lambda: (".env", b"A=x" + b" " * 500_000 + b"y # z\n"),
    "Python that grows": lambda: ("config.py", b"x = 9**9**9**9\ny = 'a' * 10**12\nz = [0] * 10**12\n"),
    "Python that runs": lambda: ("config.py", b"import os\nos.system('id')\nlr = __import__('os').system('id')\n"),
    "TOML of a deep table": lambda: ("config.toml", b"[" + b"a." * 50_000 + b"a]\nlr = 1\n"),
    "TOML of deep arrays": lambda: ("config.toml", b"a = " + b"[" * 100_000),
    "TOML of 3 MiB": lambda: ("config.toml", _rows(150_000, lambda k: f"key_{k} = {k}")),
    "an environment of 3 MiB": lambda: (".env", _rows(150_000, lambda k: f"KEY_{k}={k}")),
    "a configuration in UTF-16": lambda: ("config.yaml", "lr: 1\n".encode("utf-16")),
    "arguments that are a pickle": lambda: ("training_args.bin", pickle.dumps(_Runs())),
    "a module named as one of ours": lambda: ("numpy.py", b"raise SystemExit('executed')\n"),
}  # fmt: skip

SPECIAL: dict[str, Callable[[], tuple[Entry, ...]]] = {
    "a pipe": lambda: (Entry("a.log", kind="fifo"),),
    "a link to itself": lambda: (Entry("a.log", b"a.log", "link"),),
    "a link to nowhere": lambda: (Entry("a.log", b"/nowhere/at/all", "link"),),
    "a link to /dev/zero": lambda: (Entry("a.log", b"/dev/zero", "link"),),
    "a configuration that is a pipe": lambda: (GOOD, Entry("config.yaml", kind="fifo")),
    "a configuration that is /dev/zero": lambda: (GOOD, Entry("config.json", b"/dev/zero", "link")),
    "a configuration that is a loop": lambda: (GOOD, Entry("args.json", b"args.json", "link")),
    "a configuration that is a folder": lambda: (GOOD, Entry("config.yaml/x", b"")),
}
FOLDERS: dict[str, Callable[[], tuple[Entry, ...]]] = {
    "a folder of 2,500 files": lambda: tuple(Entry(f"{k}.txt", b"prose\n") for k in range(2500)),
    "a folder of 100 logs": lambda: tuple(replace(GOOD, name=f"{k}.jsonl") for k in range(100)),
    "folders 200 deep": lambda: (Entry("/".join(["d"] * 200) + "/a.log", ITERATIONS),),
    "a folder named metrics.jsonl": lambda: (Entry("metrics.jsonl/a.log", ITERATIONS),),
    "a folder that links to itself": lambda: (Entry("a.log", ITERATIONS), Entry("again", b".", "link")),
    "a folder of pipes and loops": lambda: (
        Entry("a.log", kind="fifo"), Entry("b.log", b"b.log", "link"), Entry("metrics.jsonl", kind="fifo")),
}  # fmt: skip


def hostile_cases() -> dict[str, Callable[[], Case]]:
    """Every case by its description; made when called, because some are large."""

    def log(name: str) -> Case:
        return Case(name, (Entry(*LOGS[name]()),))

    def config(name: str) -> Case:
        return Case(name, (GOOD, Entry(*CONFIGS[name]())))

    def special(name: str) -> Case:
        return Case(name, SPECIAL[name]())

    def folder(name: str) -> Case:
        return Case(name, FOLDERS[name](), folder=True)

    tables = ((LOGS, log), (CONFIGS, config), (SPECIAL, special), (FOLDERS, folder))
    return {name: partial(make, name) for table, make in tables for name in table}


def _nested_messages() -> list[bytes]:
    inner = b""
    for _ in range(3000):
        inner = seeds.field(5, inner)
    return [seeds.field(1, 1.7e9) + seeds.field(3, b"brain.Event:2"), inner]
