"""Settings that a program prints before it trains: one `key = value` a line, an argparse Namespace, JSON, YAML, flags.

A line counts when its key is one that some dialect knows (`unstuck.config.names`); of a printed object every key is
taken. Values are read as literals, never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

from unstuck.config.dialects import CAMEL, unjoined
from unstuck.config.names import NAMES
from unstuck.config.values import OPTIMIZERS, SCHEDULES
from unstuck.runs.build import add_raw
from unstuck.runs.literal import literal_value
from unstuck.runs.logfile import parse_json
from unstuck.runs.run import Setting, Source

MAX_OBJECT = 20_000  # ours: characters of a configuration printed in one line; argparse's largest have some 10,000
MAX_DEPTH = 4  # ours: sections in sections of a printed configuration
MAX_KEYS = 2000  # ours: keys of one printed configuration
REMEMBERED, MAX_REMEMBERED = 4096, 400  # ours: lines that come again and again, and characters of one; 2 MB of them

# Spellings that are no setting of their own dialect but are printed in a header.
ALIASES = {
    "model_parameter_count": "num_parameters", "parameter_count": "num_parameters", "total_parameters":
    "num_parameters", "number_of_parameters": "num_parameters", "number_of_model_parameters": "num_parameters",
    "number_of_weights": "num_parameters", "number_of_trainable_weights": "trainable_parameters",
    "model_parameters": "num_parameters",
    "model_params": "num_parameters", "number_of_trainable_parameters": "trainable_parameters",
    "total_trainable_parameters": "trainable_parameters", "vocabulary_size": "vocab_size",
    "number_of_epochs": "num_epochs", "initial_lr": "lr", "starting_learning_rate": "learning_rate",
    "number_of_training_examples": "train_samples", "num_training_examples": "train_samples", "num_examples":
    "train_samples", "total_optimization_steps": "max_steps", "total_training_steps": "max_steps",
    "instantaneous_batch_size_per_device": "per_device_train_batch_size", "number_of_gpus": "num_gpus",
}  # fmt: skip
EXTRA = frozenset((
    "logging_steps", "log_every", "log_interval", "log_freq", "print_freq", "steps_per_epoch", "eval_iters",
    "milestones", "gamma", "momentum", "nesterov", "warmup_epochs", "lora_alpha", "save_steps", "save_every",
    "shuffle", "betas", "adam_betas",
))  # fmt: skip

_KEY = r"[A-Za-z_][\w.\-/]*"
_PAIR = re.compile(
    rf"\s*+[^\w\"'{{(\[]{{0,12}}(?:export +|set +|Overriding: +)?[\"']?(?P<key>{_KEY}(?: [A-Za-z(][\w)]*){{0,4}})[\"']?"
    r" *(?P<sign>=|:(?!//)|\.{3,}:?|[|│┃║]) *(?P<value>\S.*)"
)
# What logging puts before a line: a time, a level, the name of a logger.
_LOGGED = re.compile(
    r"(?:\[[^\]=]{1,60}\]:?[ \t]*|\d{2,4}[-/]\d\d[-/]\d\d[^A-Za-z\[]{0,24}"
    r"|(?:INFO|DEBUG|WARNING|ERROR):[\w.]{1,60}:[ \t-]*+"
    r"|[IWEDF]\d{4} [\d:.]{8,15} +\d+ [\w.-]{1,60}:\d+\] *|(?:INFO|DEBUG|WARNING|ERROR)\b[ \t:|-]*+"
    r"|[\w.\\/]{1,60} - )+"
)
_BRACKETED = re.compile(r"\s*\[ +(?=[A-Za-z])([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)?)\]\s*\Z")  # ParlAI: "[  lr: 1 ]"
_SECTION = re.compile(r"(?P<indent> *)[\"']?(?P<key>[A-Za-z_]\w*)[\"']? ?: *[{]?\s*\Z")
_OBJECT = re.compile(
    r"(?:\b[A-Z]\w*|\b(?:args?|arguments|config\w*|cfg|hparams|hyper_?parameters|params|settings|options?|opts?|flags)"
    r"\b ?[:=]?) ?[({]|^\W*\{"
)
# "[optim] lr=1e-3 name=adamw": what stands in the brackets of such a line is a section, not the name of a logger.
_LABELLED = re.compile(
    r"\s*\[(optim|optimizer|opt|sched|scheduler|lr_scheduler|schedule|model|data|dataset|loss|train|training)\]:? +"
    r"\w+ ?[=:]",
    re.I,
)
_NESTED = re.compile(
    r"\s*(?:[A-Za-z_][\w.]{0,60}\(|\{)(?=\s*[\"'A-Za-z_][\w.\"']{0,80}\s*[:=])"
)  # an object in an object
_EQUALS = re.compile(
    r"(?<![\w.-])-{0,2}([A-Za-z_][\w.\-]*)=(\"[^\"]{0,300}+\"|'[^']{0,300}+'|\[[^\]]{0,300}+\]|\([^)]{0,300}+\)|[^\s,;]+)"
)
_COLONS = re.compile(r"(?<!\S)([A-Za-z_]\w*):([^\s:]+)(?!\S)")
_COMMAS = re.compile(
    r"(?:^|[,;|] *|: )([A-Za-z][\w ]{1,30}?): ?"
    r"(\d{1,3}(?:,\d{3})+|[\w.+-]+(?: [\w.+-]+){0,2})(?= ?[;|(]| ?,(?!\d{3})|\s*$)"
)
_FLAGS = re.compile(r"(?<!\S)--?([A-Za-z_][\w.\-]+)(?:[= ]+(?!-{1,2}[A-Za-z])(\"[^\"]{0,300}+\"|'[^']{0,300}+'|\S+))?")
_CALL = re.compile(r"\b([A-Z]\w{2,40})( ?)\((?:[^()]|\([^()]{0,100}\)){1,400}+\)")
_SCHEDULERS = frozenset(name for kind, names in SCHEDULES.items() for name in names if len(name) > 8)
_LIKELY = re.compile(r"[:=|│┃║]|\.{3}| --?\w|[Vv]ocab\w* size|[KMB] param")
# "Model has 10.8M parameters, vocab size 8192", as people's own scripts say it in a sentence.
_VOCABULARY = re.compile(r"\bvocab(?:ulary)?[ _]size (?:of |is )?(\d[\d,]{0,14})\b", re.I)
_PARAMETERS = re.compile(
    r"\b(?:model|network|total)\b[^.:=\n]{0,40}? (\d[\d.,]{0,14} ?[KMB]?) (?:trainable )?param(?:eter)?s\b", re.I
)
_RUN = re.compile(r"[A-Z]*[a-z]+|[A-Z]+")  # letters up to the next word, as `CAMEL` divides them
_BARE = re.compile(r"[\w./+:@\\-]{1,80}\Z")
_WORDED = re.compile(r"[\w.+-]{1,40}(?: [\w.+-]{1,40}){1,2}\Z")
_COUNTED = re.compile(r"([-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?) ?([kKMB]?)(?:\b|$)(?: [A-Za-z/()-]+){0,3}\Z")
_DEFAULT = re.compile(r"\s*[\[(]default[:=]? ?[^\])\n]{0,80}[\])]\s*\Z", re.I)  # pix2pix prints it behind a value
_WORDS = {"true": True, "false": False, "null": None, "none": None, "yes": True, "no": False}


@cache
def known_keys() -> frozenset[str]:
    """Every spelling of a setting that some dialect knows, without the way to it."""
    spellings = (s for name in NAMES for words in name.spellings.values() for s in words)
    return frozenset({spelling.rpartition(".")[2].lower() for spelling in spellings} | EXTRA | unjoined().keys())


def known(key: str) -> str | None:
    """The key of a setting as a configuration writes it, where some dialect knows it: `Batch size` -> `batch_size`."""
    plain = re.sub(r" ?\([^)]*\)", "", key).strip().lstrip("-")
    name = CAMEL.sub("_", re.sub(r"[\s\-]+", "_", plain.replace("LoRA", "lora")))
    lower = name.lower()
    if lower in ALIASES:
        return ALIASES[lower]
    return name if lower.rpartition(".")[2] in known_keys() else None


@cache
def _last_words() -> frozenset[str]:
    """The last word of every key that is known: a line of ASCII letters without one of them holds none of the keys."""
    return frozenset(re.findall("[a-z]+", key)[-1] for key in (*known_keys(), *ALIASES)) | {"ra"}  # LoRA: Lo, RA


def is_setting(text: str) -> bool:
    """Whether a line may say something about the configuration; for a section, that the lines below it may."""
    if len(text) > MAX_OBJECT or _LIKELY.search(text) is None:
        return False
    return _says_setting(text) if len(text) <= MAX_REMEMBERED else _says_setting.__wrapped__(text)


@lru_cache(REMEMBERED)
def _says_setting(text: str) -> bool:
    if _SECTION.match(text) is not None:
        return True
    plain = text.isascii() and "\\" not in text and _CALL.search(text) is None  # the name of a class says it too
    if plain and _last_words().isdisjoint(map(str.lower, _RUN.findall(text))):
        return False
    return any(known(key) is not None for key, _ in pairs_of(text))


def pairs_of(text: str) -> list[tuple[str, Any]]:
    """The keys and values of one line; of an object all of them, else those that may be settings."""
    labelled = _LABELLED.match(text) is not None
    if (bracketed := _BRACKETED.match(text)) is not None:
        text = bracketed[1]
    if (logged := _LOGGED.match(text)) is not None:
        text = text[logged.end() :]
    if "(" in text:
        text, called = _without_calls(text)
        if called:
            named = {key for key, _ in called}
            return [pair for pair in pairs_of(text) if pair[0] not in named] + called
    if (found := _OBJECT.search(text)) is not None:
        pairs = _object(text, found.end() - 1)
        if sum(known(key) is not None for key, _ in pairs) >= 2:
            return pairs
    for pattern, least in ((_EQUALS, 3), (_COLONS, 2), (_COMMAS, 2)):
        bounded = pattern is _COMMAS  # a value of several words ends there
        pairs = [(found[1], _value(found[2], bounded)) for found in pattern.finditer(text)][:MAX_KEYS]
        if len(pairs) >= (1 if labelled else least) and any(known(key) for key, _ in pairs):
            return [(key, value) for key, value in pairs if value is not _UNREADABLE]
    if " --" in text:
        flags = [(f[1], _value(f[2]) if f[2] else True) for f in _FLAGS.finditer(text) if known(f[1])]
        if flags:
            return [(key, value) for key, value in flags if value is not _UNREADABLE]
    if text.count("{") != text.count("}"):  # pprint: the first and the last pair of a dictionary over several lines
        text = text.strip().removeprefix("{").rstrip("})")
    if (single := _PAIR.match(text)) is not None and known(single["key"]) is not None:
        value = _value(single["value"])
        return [] if value is _UNREADABLE else [(single["key"], value)]
    said = (("vocab_size", _VOCABULARY.search(text)), ("num_parameters", _PARAMETERS.search(text)))
    values = [(key, _value(found[1])) for key, found in said if found is not None]
    return [(key, value) for key, value in values if isinstance(value, int | float)]


def read_settings(lines: Iterable[tuple[int, str]], file: str) -> dict[str, Setting]:
    """Settings by key from lines of a header, in their order; later lines win.

    Args:
        lines: (line, text); an indented line below a section `name:` belongs to it.
        file: what evidence calls the file.
    """
    raw: dict[str, Setting] = {}
    sections: list[tuple[int, str]] = []
    before = 0
    for line, text in lines:
        indent = len(text) - len(text.lstrip(" "))
        if line > before + 3:  # ours: the lines between are of keys that no dialect knows
            sections.clear()
        before = line
        sections = [section for section in sections if section[0] < indent]
        if (opened := _SECTION.match(text)) is not None:
            sections.append((indent, opened["key"]))
            continue
        way = "".join(f"{name}." for _, name in sections)
        if (labelled := _LABELLED.match(text)) is not None:
            way = f"{labelled[1].lower()}."
        pairs = pairs_of(text)
        whole = len(pairs) > 2 or labelled is not None
        values = {name: value for key, value in pairs if (name := known(key) or (key if whole else None)) is not None}
        add_raw(raw, values, Source(file, line), way)
    return raw


_UNREADABLE = object()


def _value(written: str, words: bool = False) -> Any:
    """A printed value: a literal, a number with its unit, or a bare word (with `words` several); else unreadable."""
    text = _DEFAULT.sub("", written).strip().rstrip(",;\\|│┃║").strip()
    if text.count("'") % 2 == 0:
        text = re.sub(r" +#.*\Z", "", text)
    if (word := text.lower()) in _WORDS:
        return _WORDS[word]
    try:
        return literal_value(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text) if text[:1].isdigit() else text)
    except ValueError:
        pass
    if (found := _COUNTED.match(text)) is not None:
        number = float(found[1].replace(",", "")) * {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}[found[2]]
        return int(number) if number.is_integer() and "e" not in found[1].lower() else number
    return bare if _BARE.match(bare := text.strip("\"'")) or (words and _WORDED.match(bare)) else _UNREADABLE


def _without_calls(text: str) -> tuple[str, list[tuple[str, Any]]]:
    """The line with `ReduceLROnPlateau(patience=5)` as its name alone, and what such calls say.

    Only schedulers and optimizers by the names of their classes; the arguments of a scheduler belong to it.
    """
    pairs: list[tuple[str, Any]] = []

    def named(call: re.Match[str]) -> str:
        plain = re.sub(r"_", "", call[1].lower())
        scheduler = plain in _SCHEDULERS
        if not scheduler and plain not in OPTIMIZERS:
            return call[0]
        given = [
            (key, value) for key, value in _object(call[0], len(call[1]) + len(call[2])) if known(key) or scheduler
        ]
        if not given:
            return call[0]
        # `optimizer: AdamW(...)` says so itself
        if not re.search(r"[:=] ?\Z", text[: call.start()]):
            pairs.append(("scheduler" if scheduler else "optimizer", call[1]))
        pairs.extend((f"scheduler.{key}" if scheduler else key, value) for key, value in given)
        return call[1]

    return _CALL.sub(named, text), pairs


def _object(text: str, start: int, depth: int = 0) -> list[tuple[str, Any]]:
    """The pairs of `{...}` or `Name(key=value, ...)` that begins at a bracket."""
    if text[start] == "{":
        try:
            parsed = parse_json(text[start : text.rindex("}") + 1])
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            return [(str(key), value) for key, value in parsed.items()][:MAX_KEYS]
    pairs: list[tuple[str, Any]] = []
    for part in _top_level(text, start):
        key, sign, value = part.partition("=" if text[start] == "(" else ":")
        name = key.strip().strip("\"'")
        if not sign or not re.fullmatch(_KEY, name):
            continue
        if depth < MAX_DEPTH and (inner := _NESTED.match(value)) is not None:
            deeper = _object(value, inner.end() - 1, depth + 1)
            pairs += [(f"{name}.{key}", one) for key, one in deeper]
            continue
        read = _value(value)
        if read is not _UNREADABLE:
            pairs.append((name, read))
    return pairs[:MAX_KEYS]


def _top_level(text: str, start: int) -> Iterator[str]:
    """What stands between the commas of a bracket, brackets and strings in it left whole."""
    depth, quote, begin = 0, "", start + 1
    for at in range(start, len(text)):
        letter = text[at]
        if quote:
            if letter == quote and text[at - 1] != "\\":
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth <= 0:
                yield text[begin:at]
                return
        elif letter == "," and depth == 1:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]
