"""A few hundred fuzzed inputs through every reader, the hostile ones among them, and the fuzzer's own promises."""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import pickle
import socket
import subprocess
from pathlib import Path
from random import Random

import pytest
from benchmarks.fuzzing import guard, hostile, seeds
from benchmarks.fuzzing.cases import Case, Entry, from_json
from benchmarks.fuzzing.mutate import make_case
from benchmarks.fuzzing.run import PATIENT, run_case
from benchmarks.fuzzing.shrink import shrunk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz

# These take seconds each, or gigabytes, and are left to benchmarks/fuzz.py.
LARGE = ("iB", "0,000", "million", "anew", "every", "down", "deep table", "2,500", "100 logs", "pairs", "closes")
SMALL_HOSTILE = [name for name in hostile.hostile_cases() if not any(word in name for word in LARGE)]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=True))
def test_any_mutant_gives_runs_or_a_sentence_and_executes_nothing(tmp_path_factory, rng: Random):
    case = make_case(rng)
    outcome = run_case(case, tmp_path_factory.getbasetemp() / _made(tmp_path_factory), patience=PATIENT)
    assert outcome.failure is None, f"{outcome.failure}\n{outcome.detail}\n{case.log.name!r}: {case.log.data[:2000]!r}"


def _made(factory: pytest.TempPathFactory) -> str:
    (factory.getbasetemp() / "fuzzed").mkdir(exist_ok=True)
    return "fuzzed"


@pytest.mark.parametrize("name", SMALL_HOSTILE)
def test_a_hostile_file_gives_runs_or_a_sentence_and_executes_nothing(tmp_path: Path, name: str):
    outcome = run_case(hostile.hostile_cases()[name](), tmp_path, patience=PATIENT)
    assert outcome.failure is None, f"{outcome.failure}\n{outcome.detail}"


@pytest.mark.parametrize("entry", seeds.log_seeds(), ids=lambda entry: entry.name)
def test_a_seed_gives_runs_or_a_sentence(tmp_path: Path, entry: Entry):
    outcome = run_case(Case(entry.name, (entry,)), tmp_path, patience=PATIENT)
    assert outcome.failure is None, f"{outcome.failure}\n{outcome.detail}"


class _Runs:
    def __reduce__(self):
        return os.getpid, ()


def _write(folder: Path) -> None:
    (folder / "written").write_text("x")


FORBIDDEN = {
    "exec": lambda folder: exec("1 + 1"),
    "eval": lambda folder: eval("1 + 1"),
    "compile": lambda folder: compile("1 + 1", "log", "eval"),
    "pickle": lambda folder: pickle.loads(pickle.dumps(_Runs())),
    "a process": lambda folder: subprocess.run(["true"], check=False),
    "a shell": lambda folder: os.system("true"),
    "a socket": lambda folder: socket.socket(),
    "writing": _write,
    "deleting": lambda folder: (folder / "log").unlink(),
    "another file": lambda folder: Path("/etc/passwd").read_bytes(),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_guard_stops_and_records(tmp_path: Path, what: str):
    (tmp_path / "log").write_text("x")
    with pytest.raises(guard.Violation), guard.watching(tmp_path) as violations:
        FORBIDDEN[what](tmp_path)
    assert len(violations) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_the_guard_records_what_the_body_catches(tmp_path: Path):
    with guard.watching(tmp_path) as violations, contextlib.suppress(BaseException):
        os.system("true")
    assert violations


def test_the_guard_allows_reading_the_case_parsing_literals_and_imports(tmp_path: Path):
    (tmp_path / "log").write_text("5 * 8")
    with guard.watching(tmp_path) as violations:
        assert ast.parse((tmp_path / "log").read_text(), mode="eval")
        import wave  # a module of Python that nothing here has imported yet

        assert wave
    assert violations == []


def test_time_is_limited(tmp_path: Path):
    with pytest.raises(guard.TimeUp), guard.time_limit(0.1, 60.0):
        sum(1 for _ in itertools.count())


def test_records_packed_are_records_unpacked():
    payloads = [b"", b"a" * 5, bytes(40_000), b"end"]
    assert seeds.unpack_tfrecords(seeds.pack_tfrecords(payloads)) == payloads
    assert seeds.unpack_wandb(seeds.pack_wandb(payloads)) == payloads
    assert seeds.masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_same_seed_gives_the_same_case_and_a_case_can_be_stored():
    first, second = (make_case(Random("1/7")) for _ in range(2))
    assert first == second
    assert from_json(first.as_json()) == first


def test_a_failure_is_shrunk_to_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = b"".join(b'{"step": %d, "loss": 1.0}\n' % k for k in range(200))
    case = Case("made up", (Entry("m.jsonl", lines), Entry("config.yaml", b"lr: 1\n")))
    monkeypatch.setattr("benchmarks.fuzzing.run.MAX_SENTENCE", 0)  # every refusal counts as a failure
    case = case.with_log(b"prose\n" * 50)
    failure = run_case(case, tmp_path).failure
    assert failure is not None
    small = shrunk(case, failure, tmp_path)
    assert len(small.entries) == 1
    assert len(small.log.data) == 1


def test_a_run_can_be_stopped_and_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fuzz, "GENERATION", 20)
    monkeypatch.setattr(fuzz, "CHUNK", 10)
    # how long an input takes is the machine's affair, not this test's
    monkeypatch.setattr("benchmarks.fuzzing.run.CPU_SECONDS", 600.0)
    monkeypatch.setattr("benchmarks.fuzzing.run.WALL_SECONDS", 600.0)
    monkeypatch.setattr(fuzz, "hostile_cases", lambda: {"prose": hostile.hostile_cases()["prose"]})

    def run(name: str, inputs: int, workers: int) -> fuzz.State:
        scratch = tmp_path / f"{name}{inputs}"
        scratch.mkdir()
        (tmp_path / name).mkdir(exist_ok=True)
        return fuzz.fuzz(1, inputs, workers, tmp_path / name, scratch, quiet=True)

    whole = run("whole", 60, 1)
    run("parts", 20, 1)
    parts = run("parts", 60, 1)
    assert parts.done == whole.done == 60
    assert (parts.ended, parts.failures, parts.lines) == (whole.ended, whole.failures, whole.lines)
    assert parts.found == whole.found
