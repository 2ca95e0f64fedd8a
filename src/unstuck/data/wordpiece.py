"""WordPiece (Wu et al., arXiv 1609.08144) with the special tokens of BERT, learned from the training text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from unstuck.errors import UserError

# In this order they are ids 0 .. 4. [CLS] begins every window, [SEP] ends every document.
CLASS, SEPARATOR, PADDING, MASK, UNKNOWN = SPECIAL = ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")
CONTINUES = "##"


def train_wordpiece(texts: Iterable[str], vocabulary: int, *, lowercase: bool = False) -> str:
    """The text of a `tokenizer.json`. The same texts give the same pieces.

    Blanks and line ends only divide words: they are no tokens, so decoded text has single blanks.

    Args:
        texts: training text only, so that the tokenizer knows nothing of the validation text.
        vocabulary: ids wanted: five special tokens, the characters of the text, and pieces.
        lowercase: read all letters as small ones, and accented letters without their accent, as BERT uncased.

    Raises:
        UserError: the tokenizers library is not installed, or the vocabulary has no room for the characters.
    """
    try:
        import tokenizers as library
    except ImportError:
        raise UserError("WordPiece needs the training extra: pip install 'unstuck[train]'.") from None
    inner = library.Tokenizer(library.models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix=CONTINUES))
    inner.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    inner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    inner.decoder = library.decoders.WordPiece(prefix=CONTINUES)
    texts = list(texts)
    # The library numbers the characters inside words in an order that differs from run to run, and breaks ties between
    # merges by these numbers; reserved in order beforehand, they make the pieces a function of the texts.
    inside = [CONTINUES + character for character in sorted(_inner_characters(inner, texts))]
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *inside],
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    if inner.get_vocab_size() > vocabulary:
        raise UserError(
            f"data.vocabulary={vocabulary} is too small for WordPiece on this text, whose characters alone need "
            f"{inner.get_vocab_size()} ids; set data.vocabulary={2 * inner.get_vocab_size()} or more."
        )
    special = [(name, inner.token_to_id(name)) for name in (CLASS, SEPARATOR)]
    inner.post_processor = library.processors.TemplateProcessing(  # for transformers; here windows are made by hand
        single=f"{CLASS} $A", pair=f"{CLASS} $A {SEPARATOR} $B", special_tokens=special
    )
    document = json.loads(inner.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in SPECIAL]
    return json.dumps(document, ensure_ascii=False)


def _inner_characters(tokenizer: Any, texts: Iterable[str]) -> set[str]:
    """Characters that stand anywhere but at the start of a word."""
    words: set[str] = set()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    return {character for word in words for character in word[1:]}


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Ids of BERT's special tokens in a `tokenizers.Tokenizer`, those it has."""
    found = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    return {name: index for name, index in found.items() if index is not None}
