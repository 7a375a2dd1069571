"""Tokenizer: text to token ids and back, trained on the training split, carried by every checkpoint as text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

# workers are forked after it was used; they do not tokenize, so there is nothing to be warned of
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import tokenizers as tk
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from src.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[SEP]")
PAD, UNK, BOS, EOS, MASK, SEP = range(len(SPECIAL))

Level = Literal["char", "word", "bpe"]

# of several special tokens for which another tokenizer has one and the same, the first can be written
OWNERS = (EOS, PAD, UNK, BOS, MASK, SEP)


def adopted_definition(tokenizer: str, special: Sequence[int]) -> str:
    """Definition of a `Tokenizer` that reads texts as another one, of the library `tokenizers`, does.

    Its vocabulary begins with `SPECIAL`; what else the other one has follows in the order of its ids.

    Args:
        tokenizer: the other one, in JSON.
        special: its ids for `SPECIAL`, in that order; one id may stand for several.
    """
    return json.dumps({"adopted": json.loads(tokenizer), "special": list(special)}, ensure_ascii=False)


@lru_cache(maxsize=4)
def _adopted(definition: str) -> tuple[tk.Tokenizer, tuple[int, ...], dict[int, int]]:
    """The other tokenizer, its id of each of our tokens, and our id of each of its tokens."""
    content = json.loads(definition)
    tokenizer = tk.Tokenizer.from_str(json.dumps(content["adopted"], ensure_ascii=False))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = content["special"]
    theirs = (*special, *sorted(set(tokenizer.get_vocab().values()) - set(special)))
    ours = {token: i for i, token in enumerate(theirs)}
    ours |= {special[i]: i for i in reversed(OWNERS)}
    return tokenizer, theirs, ours


class Tokenizer:
    """A vocabulary whose first six tokens are `SPECIAL`; the id of padding is 0 everywhere.

    `char` has one token for each character, `word` one for each run of letters or digits and each other sign
    (lower-cased), `bpe` byte pairs merged by frequency (Sennrich et al. 2016, arXiv:1508.07909) over bytes, so that no
    text is unknown to it.

    Args:
        definition: what `str()` of another one gave, or `adopted_definition`.

    Attributes:
        theirs: of an adopted one, the other tokenizer's id of each token; None of all others.
    """

    def __init__(self, definition: str) -> None:
        self._definition = definition
        self.theirs: tuple[int, ...] | None = None
        if definition.startswith('{"adopted"'):
            self._tokenizer, self.theirs, self._ours = _adopted(definition)
        else:
            self._tokenizer = tk.Tokenizer.from_str(definition)

    @classmethod
    def train(cls, texts: Iterable[str], level: Level = "char", size: int = 8000) -> Tokenizer:
        """A vocabulary of these texts, of at most `size` tokens; characters are always all of them."""
        if level == "char":
            # in the order of their code points, whatever the order of the texts
            tokens = [*SPECIAL, *sorted(set().union(*texts))]
            tokenizer = tk.Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=SPECIAL[UNK]))
            tokenizer.pre_tokenizer = pre_tokenizers.Split(tk.Regex(r"[\s\S]"), "isolated")
            tokenizer.decoder = decoders.Fuse()
            return cls(tokenizer.to_str())
        trainer: trainers.Trainer
        if level == "word":
            tokenizer = tk.Tokenizer(models.WordLevel(unk_token=SPECIAL[UNK]))
            tokenizer.normalizer = normalizers.Lowercase()
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
            trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
        elif level == "bpe":
            tokenizer = tk.Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=size,
                special_tokens=list(SPECIAL),
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
        else:
            raise UserError(f"data.level={level}: char, word or bpe")
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def __str__(self) -> str:
        return self._definition

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size() if self.theirs is None else len(self.theirs)

    @property
    def level(self) -> Level:
        """Unit that texts are cut into; `bpe` for a tokenizer adopted from another library."""
        if self.theirs is not None:
            return "bpe"
        decoder = json.loads(self._definition)["decoder"]
        return "word" if decoder is None else "char" if decoder["type"] == "Fuse" else "bpe"

    def tokens(self) -> list[str]:
        """All tokens in the order of their ids."""
        if self.theirs is not None:
            others = map(self._tokenizer.id_to_token, self.theirs[len(SPECIAL) :])
            return [*SPECIAL, *others]  # type: ignore[list-item, unused-ignore]  # each id has a token
        return [self._tokenizer.id_to_token(i) for i in range(len(self))]  # type: ignore[misc, unused-ignore]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without any special token but `[UNK]`."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        return encoded if self.theirs is None else [[self._ours[i] for i in ids] for ids in encoded]

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a text, and for each the characters [from, to) that it stands for."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids = encoding.ids if self.theirs is None else [self._ours[i] for i in encoding.ids]
        return ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first `[EOS]`; other special tokens are left out."""
        ids = list(ids)
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        kept = [i for i in ids if i >= len(SPECIAL) or i == UNK]
        kept = kept if self.theirs is None else [self.theirs[i] for i in kept]
        return str(self._tokenizer.decode(kept, skip_special_tokens=False))
