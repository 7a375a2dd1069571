"""Answers of language models: continued and filled-in texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch

from src.errors import UserError
from src.inference.answers.base import Columns, Request, given_texts, register_answer
from src.inference.load import Trained
from src.models.components.sampling import Generative, generate
from src.spec import TokenizedSpec
from src.spec.tokenizer import BOS, EOS, MASK, SPECIAL, UNK, Tokenizer


@register_answer("causal_lm")
def continued(
    trained: Trained,
    request: Request,
    *,
    tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    seed: int,
) -> Iterator[Columns]:
    """Continue each text with a language model."""
    model = trained.model
    texts = model.spec.input_as(TokenizedSpec)
    tokenizer = Tokenizer(texts.tokenizer)
    begin = [BOS] if texts.token_counts[BOS] else []
    for number, text in enumerate(given_texts(trained, request), start=1):
        ids = begin + tokenizer.encode([text])[0]
        if UNK in ids:
            trained.notes.append(f"text {number} has signs or words that the model's vocabulary lacks")
        written = generate(
            cast(Generative, model),
            torch.tensor([ids], device=model.device),
            tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        yield {"row": [number], "text": [text], "continued": [tokenizer.decode(written[0, len(ids) :].tolist())]}


@register_answer("masked_lm")
def filled(trained: Trained, request: Request) -> Iterator[Columns]:
    """Fill in the most probable token for each `[MASK]` of each text."""
    model = trained.model
    texts = model.spec.input_as(TokenizedSpec)
    tokenizer, longest = Tokenizer(texts.tokenizer), model.spec.input_shape[0]
    names, never = tokenizer.tokens(), torch.arange(len(SPECIAL), device=model.device)
    for number, text in enumerate(given_texts(trained, request), start=1):
        pieces = tokenizer.encode(text.split("[MASK]"))
        if len(pieces) == 1:
            raise UserError(f"text {number} has no [MASK] for the model to fill in")
        ids = [BOS, *[token for piece in pieces for token in (*piece, MASK)][:-1], EOS]
        if not texts.token_counts[BOS]:
            ids = ids[1:-1]
        if len(ids) > longest:
            raise UserError(f"text {number} has {len(ids)} tokens, the model was made for {longest}")
        tokens = torch.tensor([ids], device=model.device)
        probability, guess = model.task.predict(model(tokens))[0].index_fill(-1, never, 0).max(-1)
        hidden = (tokens[0] == MASK).nonzero().squeeze(1).tolist()
        guesses = [f"{names[guess[i]]} ({probability[i]:.3f})" for i in hidden]
        whole = torch.where(tokens[0] == MASK, guess, tokens[0])
        yield {"row": [number], "text": [text], "predicted": [tokenizer.decode(whole.tolist())], "tokens": [guesses]}
