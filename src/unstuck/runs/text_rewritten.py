"""A shape in the words and the order that `text_grammar` reads: English, `key: number`, one number for a tensor.

The marks of the numbers stay, in their order.
"""

from __future__ import annotations

import re

from unstuck.runs.names import GRADIENT_NORM
from unstuck.runs.text_lines import HOLE

SKIPPED = "\4"  # a number that is known to say nothing: a process, a line of source code, a device

_WRAPPER = re.compile(
    r"(?<![\w.])(?:\w{1,20}\.){0,3}(?:[Tt]ensor|float\d*|int\d+|[Aa]rray)\(\[*(\0)([^()\n]{0,200}?)\]*\)"
)
# What is drawn around a heading: "=== step 3 ===", "---------- Step 3 ----------".
_DECORATION = re.compile(r"^\s*(?:[=#*]{2,}|[-~_+]{3,})\s+(?=[A-Za-z\[])|\s+(?:[=#*]{2,}|[-~_+]{3,})\s*\Z")
_EMPTY_BRACKETS = re.compile(r"\(([^()\0\4]{0,40})\)")
# A table of a name and a value a row (stable-baselines, tabulate); names before their numbers: "(a, b) = (1, 2)".
_CELLS = re.compile(r"[|│┃║]? ?([^|│┃║\0]{0,40}[A-Za-z][^|│┃║\0]{0,40}?) ?[|│┃║] ?(\0[^|│┃║\0]{0,12}?) ?[|│┃║]?\Z")
_TUPLES = re.compile(r"\(((?:[A-Za-z][\w ./]{0,30}, ?){1,12}[A-Za-z][\w ./]{0,30})\) ?[=:] ?[(\[]([\0, \w]{1,80})[)\]]")

# What logs in other languages call things; Chinese and Japanese are written without blanks.
_FOREIGN = {
    "训练集": "train", "训练": "train", "訓練": "train", "学習率": "lr", "学习率": "lr", "學習率": "lr",
    "学習": "train", "验证集": "val", "验证": "val", "驗證": "val", "検証": "val", "测试集": "test", "测试": "test",
    "評価": "val", "评估": "val", "テスト": "test", "损失": "loss", "損失": "loss", "准确率": "accuracy",
    "正确率": "accuracy",
    "精度": "accuracy", "正解率": "accuracy", "准确度": "accuracy", "困惑度": "perplexity", "平均": "avg",
    "轮次": "epoch", "轮": "epoch", "周期": "epoch", "エポック": "epoch", "步数": "step", "步": "step",
    "ステップ": "step", "迭代次数": "iteration", "迭代": "iteration", "批次": "batch", "耗时": "time", "用时": "time",
    "时间": "time", "最佳": "best", "最好": "best", "：": ":", "，": ",", "；": ";", "（": "(", "）": ")", "＝": "=",
    "손실": "loss", "훈련": "train", "검증": "val", "정확도": "accuracy", "학습률": "lr", "학습": "train",
    "에폭": "epoch", "에포크": "epoch", "스텝": "step",
    "verlust": "loss", "schritt": "step", "lernrate": "lr", "epoche": "epoch", "genauigkeit": "accuracy",
    "perte": "loss", "étape": "step", "époque": "epoch", "précision": "accuracy", "pérdida": "loss", "época": "epoch",
    "perda": "loss", "paso": "step", "precisión": "accuracy", "потери": "loss", "эпоха": "epoch", "шаг": "step",
    "точность": "accuracy", "trainingsverlust": "train_loss", "validierungsverlust": "val_loss", "η": "lr",
}  # fmt: skip
_FOREIGN_WORD = re.compile(
    "|".join(
        rf"\b{word}\b" if re.match(r"[a-zà-ÿа-я]", word) else re.escape(word)
        for word in sorted(_FOREIGN, key=len, reverse=True)
    ),
    re.I,
)
_ARROW = re.compile(r"(?<=[A-Za-z\])]) ?(?:→|->|=>|⇒|➜) ?(?=\0)")  # "loss→2.3"
_BULLETS = re.compile("[\u2043\u2219\u25a0-\u25ff\u27a4]+")
_PICTURES = re.compile("[\u2300-\u23ff\u2600-\u27a3\u27a5-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff]+ ?")
# "Speed: 110.1 samples/sec 4001 tokens/sec 1.01 updates/sec": the last has a unit too, so that units stand behind.
_RATES_BEHIND = re.compile(r"(?:\0 ?[A-Za-z]{1,12}/s(?:ec)? ){1,8}\0 ?[A-Za-z]{1,12}/s(?:ec)?(?=[\s,|;)]|\Z)")
_LEVANTER = re.compile(r"(\0[kM]?)it/\0[kM]?it\b")  # "Progress on:train 5it/10.0kit"
# Caffe's solver: "Test net output #1: loss = 0.3 (* 1 = 0.3 loss)".
_CAFFE = re.compile(r"\b(Train|Test) net output #\0: (\S+) = (\0)(?: \(\* \0 = \0 loss\))?")
_CALLED = re.compile(
    r"\b(lr|learning_rate)\([A-Za-z]\w{0,40}\)(?=[:=])"
)  # PaddlePaddle: "lr(CosineAnnealingDecay): 0.1"
# NumPyro: "avg. loss [101-200]: 27.1"; segmentation_models.pytorch: "[00:29<00:00, 1.5it/s, dice_loss - 0.8]".
_OVER_STEPS = re.compile(r"((?:[A-Za-z]+\.? ){1,3})\[\0-\0\]: ?\0")
_DASHED = re.compile(r"(?<=, )([A-Za-z]\w{1,30}) - (?=\0(?:,|\]|\Z))")
_LAST_CELL = re.compile(r"(?<=[A-Za-z)]) +\| +(?=\0\Z)")  # trax: "Step 500: train CrossEntropyLoss | 2.31"
_IN_POWERS = re.compile(r"(?<=[A-Za-z]) ?[(\[](1e-?\d{1,2})[)\]](?= ?[:=])")  # "lr(1e-4): 3.0"
_ORDINAL = re.compile(r"第 ?(\0) ?(?:个|個)?(epoch|step|iteration|batch)")


def rewritten(body: str) -> str:
    """The shape of a row, its prefix taken off, as it is read."""
    text = GRADIENT_NORM.sub("grad_norm", _DECORATION.sub(" ", body))
    text = _WRAPPER.sub(lambda found: HOLE + SKIPPED * found[2].count(HOLE), text)
    text = english(_ARROW.sub(": ", text))
    if not text.isascii():
        text = _BULLETS.sub(" | ", _PICTURES.sub(" ", text))
    text = _LEVANTER.sub(rf"step \1, {SKIPPED}", text)
    text = _RATES_BEHIND.sub(lambda found: re.sub(rf" (?={HOLE})", ", ", found[0]), text)
    if (row := _CELLS.match(text)) is not None:
        text = f"{row[1]}: {row[2]}"
    elif text.count("|") == 1:
        text = _LAST_CELL.sub(": ", text)
    text = _IN_POWERS.sub(r"×\1", text)
    text = _CAFFE.sub(_output, _CALLED.sub(r"\1", text))
    text = _OVER_STEPS.sub(rf"{SKIPPED}{SKIPPED} | \1: {HOLE}", _DASHED.sub(r"\1: ", text))
    text = _TUPLES.sub(_paired, text)
    text = re.sub(r"'s\b|['\"`*]", "", text)
    return _EMPTY_BRACKETS.sub(lambda found: f" {found[1].strip()} ", text)


def english(text: str) -> str:
    """A text with the words for what logs print in English."""
    text = _FOREIGN_WORD.sub(
        lambda found: f" {word} " if (word := _FOREIGN[found[0].lower()]).isalpha() else word, text
    ) if not text.isascii() or _FOREIGN_WORD.search(text) else text  # fmt: skip
    if "第" in text:
        text = _ORDINAL.sub(r" \2 \1 ", re.sub(" +", " ", text))
    return text


def _output(found: re.Match[str]) -> str:
    """What Caffe prints of one output of its network, without its number and what it adds to the loss."""
    behind = SKIPPED * (found[0].count(HOLE) - 2)
    return f"{SKIPPED} | {found[1]}: {found[2]} = {HOLE}{f' | {behind}' if behind else ''}"


def _paired(found: re.Match[str]) -> str:
    """`(epoch, loss) = (1, 2.3)` as `epoch: 1, loss: 2.3`."""
    names, numbers = found[1].split(","), found[2].split(",")
    if len(names) != len(numbers) or any(number.count(HOLE) != 1 for number in numbers):
        return found[0]
    return ", ".join(f"{name.strip()}: {HOLE}" for name in names)
