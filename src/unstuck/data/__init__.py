"""Corpora, tokenizers, splits and the order of training windows. No torch here: arrays are NumPy's."""

from unstuck.data.order import DataOrder
from unstuck.data.prepare import TextData, prepare
from unstuck.data.tokenizer import CharacterTokenizer, SubwordTokenizer, TextTokenizer

__all__ = ["CharacterTokenizer", "DataOrder", "SubwordTokenizer", "TextData", "TextTokenizer", "prepare"]
