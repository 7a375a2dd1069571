"""Answers to questions about a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from src.data.text import squad
from src.errors import UserError
from src.inference.answers.base import Columns, Request, register_answer
from src.inference.load import Trained
from src.metrics.spans import best_span
from src.spec import TokenizedSpec
from src.spec.tokenizer import Tokenizer


@register_answer("question_answering")
def answered(trained: Trained, request: Request, *, context: str | None) -> Iterator[Columns]:
    """Find the span of its context that answers each question: the best of all windows."""
    model, options = trained.model, trained.data_options
    tokenizer = Tokenizer(model.spec.input_as(TokenizedSpec).tokenizer)
    for question in _questions(request, context):
        place = f"question {question.id}"
        if not question.question.strip() or not question.context.strip():
            raise UserError(f"{place}: has no {'context' if question.question.strip() else 'text'}")
        asked = tokenizer.encode([question.question])[0]
        try:
            windows = squad.windows(
                asked, *tokenizer.spans(question.context), options.get("max_tokens", 384), options.get("stride", 128)
            )
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        outputs = [model(torch.tensor([window.tokens], device=model.device)) for window in windows]
        scores, spans = zip(*(best_span(one) for one in outputs), strict=True)
        best = max(range(len(windows)), key=lambda i: float(scores[i]))
        first, last = spans[best][0].tolist()
        start, end = outputs[best][0].float().softmax(0).unbind(1)
        yield {
            "id": [question.id],
            "question": [question.question],
            "predicted": [windows[best].answer(question.context, first, last)],
            "probability": [float(start[first] * end[last])],
            "character": [windows[best].spans[first - windows[best].offset][0]],
        }


def _questions(request: Request, context: str | None) -> Sequence[squad.Question]:
    request.options()
    if request.text is None:
        return squad.read_questions(request.file, answered=False)
    if context is None:
        raise UserError("a question needs the text that answers it: context=TEXT")
    return [squad.Question("text", 0, request.text, context, "", 0)]
