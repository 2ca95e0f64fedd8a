"""Mutations of bytes: single bytes, tokens and lines, records, the wrapping of the whole. All follow one `Random`."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from random import Random

from benchmarks.fuzzing import seeds
from benchmarks.fuzzing.cases import Case, Entry

LONG = 1 << 21  # ours: a line of two megabytes
TOKENS = tuple(
    token.encode()
    for token in (
        "\0", "{", "}", "[", "]", '"', "'", ",", ":", ";", "|", "=", "\t", "\n", "\r", "\r\n", "\x1b[2J", "\x1b[1m",
        "😀", "\ufeff", "\u2028", "nan", "NaN", "-inf", "Infinity", "null", "None", "true", "1e400", "-1e400", "1e-400",
        "0", "-0.0", "-1", "9" * 400, "9" * 5000, "1_000", "0x10", "1,234,567", "12%", "1e", "--", "5e-324",
        "9223372036854775807", "9223372036854775808", "-9223372036854775809", "4294967296", "1.7976931348623157e308",
        "step", "loss", "epoch", "lr", "val_loss", "iter 5: loss 1.0", "step 5: train loss 1.0, val loss 1.0",
        '{"step": 5, "loss": 1}', "resumed", "Traceback (most recent call last):", "__import__('os').system('id')",
        "!!python/object/apply:os.system", "&a [*a, *a]", "${jndi:ldap://x}", "%s%n", "../../../etc/passwd",
        "=cmd|' /C calc'!A0", "<script>", "(((((((((((a+)+)+",
    )
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
NUMBERS = ("0", "-1", "nan", "inf", "1e400", "1e308", "-1e-320", "9" * 30, "9" * 5000, "0.1", "1", "2147483648", "1e18",
           "9223372036854775807", "18446744073709551616", "-0", "007", "1e5", "3.5e-05", "")  # fmt: skip
WINDOW = 4096  # ours: a mutation that looks for something looks this far, for speed

Mutation = Callable[[Random, bytes], bytes]


def flip_bits(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def random_bytes(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    length = rng.choice((1, 2, 4, 8, 16))
    return data[:at] + rng.randbytes(length) + data[at + rng.choice((0, length)) :]


def cut(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] if rng.random() < 0.7 else data[at:]


def delete(rng: Random, data: bytes) -> bytes:
    first, last = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    return data[:first] + data[min(last, first + 200) :]


def repeat(rng: Random, data: bytes) -> bytes:
    first = rng.randrange(len(data))
    piece = data[first : first + rng.choice((1, 3, 10, 40, 200, 1000))]
    return data[:first] + piece * rng.choice((2, 3, 10, 100, 1000)) + data[first:]


def token(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(TOKENS) + data[at + rng.choice((0, 0, 1, 4)) :]


def number(rng: Random, data: bytes) -> bytes:
    """Other values for one to twelve of the numbers of a stretch."""
    start = rng.randrange(len(data))
    found = list(NUMBER.finditer(data, max(0, start - WINDOW), start + WINDOW))
    if not found:
        return token(rng, data)
    for place in sorted(rng.sample(range(len(found)), min(len(found), rng.choice((1, 1, 2, 4, 12)))), reverse=True):
        first, last = found[place].span()
        value = rng.choice(NUMBERS).encode() if rng.random() < 0.8 else str(rng.uniform(-10, 10)).encode()
        data = data[:first] + value + data[last:]
    return data


def lines(rng: Random, data: bytes) -> bytes:
    """Lines moved, doubled, dropped, shuffled or reversed."""
    rows = data.split(b"\n")
    first = rng.randrange(len(rows))
    last = rng.randint(first, min(len(rows), first + 20))
    piece = rows[first:last]
    kind = rng.randrange(6)
    if kind == 0:
        rows[first:last] = piece * rng.choice((2, 5, 50))
    elif kind == 1:
        del rows[first:last]
    elif kind == 2:
        rng.shuffle(piece)
        rows[first:last] = piece
    elif kind == 3:
        rows.reverse()
    elif kind == 4:
        rows += piece
    else:
        rows[first:last] = [b"".join(piece)]
    return b"\n".join(rows)


def separators(rng: Random, data: bytes) -> bytes:
    """One separator for another all through the text."""
    old, new = rng.sample((b",", b"\t", b";", b" ", b"|", b":", b"=", b"\n", b'"', b"'", b".", b"-", b"_", b"/"), 2)
    return data.replace(old, new)


def keys(rng: Random, data: bytes) -> bytes:
    """A word of the text for another, everywhere."""
    words = sorted(set(re.findall(rb"[A-Za-z_]\w{1,20}", data)))
    if not words:
        return token(rng, data)
    return data.replace(rng.choice(words), rng.choice((*words, *TOKENS[-22:])))


def splice(rng: Random, data: bytes) -> bytes:
    other = rng.choice(seeds.log_seeds()).data
    a, b = rng.randrange(len(data)), rng.randrange(len(other))
    return data[:a] + other[b:] if rng.random() < 0.5 else data[:a] + other[b : b + 300] + data[a:]


def lengthen(rng: Random, data: bytes) -> bytes:
    """The log goes on: its last lines again, with the numbers counting up."""
    rows = data[-WINDOW:].split(b"\n")[-rng.randint(1, 6) :]
    counted = []
    for k in range(rng.choice((10, 60, 300))):
        for row in rows:
            counted.append(NUMBER.sub(lambda m, k=k: str(int(m[0]) + k).encode() if m[0].isdigit() and len(m[0]) < 9
                                      else m[0], row))  # fmt: skip
    return data.rstrip(b"\n") + b"\n" + b"\n".join(counted) + b"\n"


def nest(rng: Random, data: bytes) -> bytes:
    opening = rng.choice((b"[", b'{"a":', b"(", b'[{"x":', b"- ", b"{a: ", b"!!"))
    at = rng.randrange(len(data))
    return data[:at] + opening * rng.choice((5, 100, 2000, 100_000)) + data[at:]


def long_line(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    piece = rng.choice((b"a", b" ", b"9", b"\\", b"=", b"loss 1 ", b"\r", b"[", b"\xff", b"1,", b'"', b"\x1b[0m"))
    return data[:at] + piece * (rng.choice((1000, 6000, LONG)) // len(piece)) + data[at:]


def records(rng: Random, data: bytes) -> bytes:
    """Payloads of a binary format changed under checksums that stay right."""
    is_wandb = data.startswith(seeds.WANDB_HEADER)
    payloads = seeds.unpack_wandb(data) if is_wandb else seeds.unpack_tfrecords(data)
    if not payloads:
        return flip_bits(rng, data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(payloads))
        if payloads[at]:
            payloads[at] = rng.choice((flip_bits, random_bytes, cut, delete, repeat, number, token))(rng, payloads[at])
    if rng.random() < 0.3:
        payloads += rng.choices(payloads, k=rng.choice((1, 5, 50)))
    return seeds.pack_wandb(payloads) if is_wandb else seeds.pack_tfrecords(payloads)


def wrap(rng: Random, data: bytes) -> bytes:
    """The whole in another encoding or container."""
    kind = rng.randrange(8)
    text = data.decode("utf-8", errors="replace")
    if kind == 0:
        return gzip.compress(data, mtime=0)
    if kind == 1:
        return gzip.compress(gzip.compress(data, mtime=0), mtime=0)
    if kind == 2:
        return b"\xef\xbb\xbf" + data
    if kind == 3:
        return text.encode("utf-16")
    if kind == 4:
        return text.encode("utf-16-be" if rng.random() < 0.5 else "utf-32")
    if kind == 5:
        return data.replace(b"\n", b"\r\n")
    if kind == 6:
        return data.replace(b"\n", b"\r")
    return b"\n".join(b"\x1b[32m%d: \x1b[0m%s" % (k, row) for k, row in enumerate(data.split(b"\n")))


def bomb(rng: Random, data: bytes) -> bytes:
    """The log again and again, megabytes of it, plain or compressed."""
    many = data * (1 + (rng.choice((1, 4)) << 20) // len(data))
    return gzip.compress(many, mtime=0) if rng.random() < 0.5 else many


USUAL: tuple[Mutation, ...] = (flip_bits, random_bytes, cut, delete, repeat, token, token, number, number, lines, lines,
                               separators, keys, keys, splice, lengthen)  # fmt: skip
RARE: tuple[Mutation, ...] = (nest, long_line, wrap, wrap)
LARGE: tuple[Mutation, ...] = (bomb, repeat, long_line, lengthen, nest)
SMALL_BYTES = 8 << 10  # ours: four times a seed; most mutants stay below, for thousands of them a minute
LARGE_BYTES = 8 << 20  # ours: several mutations may multiply; what is larger is among the hostile cases
LARGE_SHARE = 1 / 50  # ours: large mutants take some 0.3 s each, so that they cost as much as all others together


def mutated(rng: Random, data: bytes) -> bytes:
    """One to six mutations, one in eight of them a rare one; one mutant in fifty may grow large."""
    large = rng.random() < LARGE_SHARE
    limit = LARGE_BYTES if large else SMALL_BYTES
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6))):
        if not data:
            data = rng.choice(TOKENS)
        binary = data.startswith(seeds.WANDB_HEADER) or b"brain.Event:" in data[:64]
        if binary and rng.random() < 0.7:
            data = records(rng, data)
        else:
            data = rng.choice(RARE if rng.random() < 1 / 8 else USUAL)(rng, data)
        data = data[:limit]
    return rng.choice(LARGE)(rng, data)[:limit] if large and data else data


def make_case(rng: Random, found: Sequence[Case] = ()) -> Case:
    """A mutant of a seed or of a case that reached new lines; some with a configuration beside it, some in a folder."""
    base = rng.choice(found) if found and rng.random() < 0.5 else _fresh(rng)
    log = base.log
    name = rng.choice(seeds.names()) if rng.random() < 0.1 else log.name
    entries = [Entry(name, mutated(rng, log.data)), *base.entries[1:]]
    if rng.random() < 0.15:
        entries.append(_config(rng, name))
    if rng.random() < 0.02:
        entries.append(_special(rng, name))
    folder = base.folder or rng.random() < 0.05
    if folder and rng.random() < 0.5:
        other = rng.choice(seeds.log_seeds())
        entries.append(Entry(f"{rng.choice(('sub', 'checkpoint-10', 'a/b/c'))}/{other.name}", mutated(rng, other.data)))
    distinct = {entry.name: entry for entry in reversed(entries) if "\0" not in entry.name}
    return Case(base.origin, tuple(reversed(distinct.values())), folder)


def _fresh(rng: Random) -> Case:
    entry = rng.choice(seeds.log_seeds())
    return Case(entry.name, (entry,))


def _config(rng: Random, log: str) -> Entry:
    seed = rng.choice(seeds.config_seeds())
    stem = log.rpartition(".")[0] or log
    suffix = seed.name[seed.name.rindex(".") :]
    beside = rng.choice((seed.name, stem + suffix, f"{stem}.config{suffix}"))
    return Entry(beside, mutated(rng, seed.data) if rng.random() < 0.8 else seed.data)


def _special(rng: Random, log: str) -> Entry:
    name = rng.choice(("config.yaml", "config.json", "other.log", "args.json", "metrics.jsonl"))
    kind = rng.randrange(4)
    if kind == 0:
        return Entry(name, kind="fifo")
    target = (b".", b"/dev/zero", log.encode(), b"loop")[rng.randrange(4)] if kind < 3 else b"/nowhere/at/all"
    return Entry(name, target, "link")
