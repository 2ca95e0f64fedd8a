"""Corpora, tokenizers, splits and the order of training windows. No torch here: arrays are NumPy's."""

from unstuck.data.order import DataOrder
from unstuck.data.prepare import IGNORED, TextData, prepare, windows_of
from unstuck.data.tokenizer import CharacterTokenizer, SubwordTokenizer, TextTokenizer

__all__ = [
    "IGNORED",
    "CharacterTokenizer",
    "DataOrder",
    "SubwordTokenizer",
    "TextData",
    "TextTokenizer",
    "prepare",
    "windows_of",
]
