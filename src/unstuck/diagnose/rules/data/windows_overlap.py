"""One epoch shows the same tokens many times, because the windows overlap.

Finds
A stride between training windows that is smaller than the window; a number of samples that is the number of tokens
rather than tokens / window; a log that counts several times the data set's tokens in one epoch.

Why it matters
An "epoch" is then not an epoch: planned updates, warm-up and schedule are that many times too long, and the second half
of it only repeats the first. In incident I1 windows of stride 1 made 254,976 samples of 256,000 tokens, so one honest
pass was 42 iterations and the plan said 42,496.

Evidence needed
The stride and the context; or samples and tokens of one epoch and the context; or the logged tokens and epochs beside
the tokens of the data.

Not when
The stride belongs to a convolution, to evaluation or to answers within long documents (`doc_stride`); samples are texts
of their own; the data are no token stream (forecasting windows overlap by design). A window's half or quarter seen
again is a note: up to four passes over the same text are nearly as good as new text (Muennighoff et al.).

Remedy
Set the stride to the window and plan updates, warm-up and horizon anew.

References
Incident I1. Muennighoff et al., arXiv 2305.16264 (four passes are nearly as good as new data, sixteen bring nothing).
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.own_keys import as_number, own_settings
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.runs import Setting, Source
from unstuck.runs.names import normalise
from unstuck.wording import plural

STRIDES = frozenset({"stride", "window_stride", "data_stride", "train_stride", "sequence_stride", "sliding_stride",
                     "sample_stride"})  # fmt: skip
NO_WINDOWS = frozenset(
    {"conv", "convolution", "cnn", "patch", "pool", "pooling", "kernel", "model", "encoder", "vision"}
)
LANGUAGE = ("causal-lm", "masked-lm", "seq2seq")
PASSES_THAT_HELP = 4.0  # arXiv 2305.16264: up to four passes over a text are nearly as good as new text
# A stride k is read from counts only where chance gives an equal count less than once in a thousand: numbers of
# windows of neighbouring strides lie tokens / k^2 apart.
CHANCE = 1e-3
COUNTED = 1.5  # the logged tokens of an epoch may hold padding and the last short batch


@rule(code="DA006", stages="PC", severity="warning", explains=("schedule-wrong-horizon",))
def check(case: Case) -> Outcome:
    context = as_number(case.setting("context"))
    if not context or context < 2:
        return CouldNotCheck(("context",))
    context = int(context)
    if not _is_language(case):
        return CouldNotCheck(("train_tokens",))
    stride = _stride(case)
    if stride is not None:
        value, setting = stride
        if value >= context:
            return Clear(f"windows of {context} tokens start {value:g} apart")
        title = f"Windows of {context} tokens start {value:g} apart ({setting.key}): one epoch shows each token"
        return _found(case, title, context / value, value, setting.key, setting.source)
    by_count = _counted_stride(case, int(context))
    if by_count is not None:
        return by_count
    by_log = _counted_tokens(case)
    if by_log is not None:
        return by_log
    if case.run.format == "unstuck-run":
        return Clear("unstuck's windows do not overlap")
    if case.setting("train_samples") and case.setting("train_tokens"):
        return Clear("the number of samples does not follow from overlapping windows")
    return CouldNotCheck(("stride", "train_samples and train_tokens"))


def _is_language(case: Case) -> bool:
    task = case.setting("task")
    return task in LANGUAGE or (task is None and bool(case.setting("vocabulary") or case.setting("train_tokens")))


def _stride(case: Case) -> tuple[float, Setting] | None:
    for setting in own_settings(case.run, STRIDES):
        value = as_number(setting.value)
        if value is not None and value >= 1 and not NO_WINDOWS & set(normalise(setting.key).split("_")):
            return value, setting
    return None


def _counted_stride(case: Case, context: int) -> Found | None:
    """samples = (tokens - context) / stride, give or take one, for a stride below the context."""
    samples, tokens = as_number(case.setting("train_samples")), as_number(case.setting("train_tokens"))
    if not samples or not tokens or tokens <= context or samples < 2:
        return None
    stride = round((tokens - context) / samples)
    if not 1 <= stride < context or stride * stride / tokens > CHANCE:
        return None
    windows = (tokens - context) / stride
    if not -1 <= samples - windows <= 1 + 1 / stride:
        return None
    setting = case.run.settings["train_samples"]
    title = (
        f"{samples:,.0f} samples of {tokens:,.0f} tokens are windows of {context} that start "
        f"{plural(stride, 'token')} apart: one epoch shows each token"
    )
    return _found(case, title, context / stride, float(stride), setting.key, setting.source)


def _counted_tokens(case: Case) -> Found | None:
    """The log's tokens in one of the log's epochs, against the tokens of the data."""
    tokens, epoch, size = case.run.get("tokens"), case.run.get("epoch"), case.setting("train_tokens")
    if tokens is None or epoch is None or not size or len(tokens) < 2 or len(epoch) < 2:
        return None
    last = int(min(tokens.updates[-1], epoch.updates[-1]))
    seen, passed, begun = tokens.at(last), epoch.at(last), epoch.values[0]
    size = as_number(size)
    if not size or not seen or not passed or passed - begun < 1:
        return None
    factor = (seen - float(tokens.values[0])) / (passed - float(begun)) / size
    if factor < PASSES_THAT_HELP * COUNTED:
        return None
    title = f"One epoch of the log holds {factor * size:,.0f} tokens of data that have {size:,}: it shows each token"
    return _found(case, title, factor, factor, "tokens", tokens.source(len(tokens) - 1))


def _found(case: Case, title: str, factor: float, value: float, key: str, source: Source | None) -> Found:
    last = int(case.run.updates)
    context, batch, tokens = (as_number(case.setting(name)) for name in ("context", "batch_size", "train_tokens"))
    per_pass = tokens / context / batch if context and batch and tokens else None
    detail = (
        f"One honest pass over {tokens:,.0f} tokens is {per_pass:,.0f} micro-batches of {batch:g}." if per_pass else ""
    )
    evidence = (Evidence(key, (0, last), "times that one epoch shows a token", factor, PASSES_THAT_HELP, source),)
    severity: Severity | None = None if factor > PASSES_THAT_HELP else "note"
    facts: dict[str, object] = {"factor": factor, "key": key, "stride": value, "context": context}
    return Found(f"{title} {factor:.4g} times", evidence, 0.9, severity, detail, facts)
