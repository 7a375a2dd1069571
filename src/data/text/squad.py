"""Questions about texts, in the format of SQuAD v1.1 (Rajpurkar et al. 2016, arXiv:1606.05250)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

import torch
from annotated_types import Ge
from typing_extensions import override

from src.data.core.files import data_root, download, own_file, read_text, required
from src.data.core.splits import Split, tensor_of
from src.data.text.corpus import Text
from src.data.text.sequences import Sequences
from src.errors import UserError
from src.runtime.ranges import PositiveInt
from src.spec import DataSpec, TokenizedSpec
from src.spec.tokenizer import BOS, EOS, SEP, Tokenizer

KindT = TypeVar("KindT")


class Question(NamedTuple):
    """One question with its first answer; `start` counts characters of the context."""

    id: str
    article: int
    question: str
    context: str
    answer: str
    start: int


class Window(NamedTuple):
    """A row `[BOS] question [SEP] stretch of the context [EOS]`.

    Attributes:
        tokens: of the row.
        offset: position in the row less that in the whole context's tokens.
        spans: of the whole context's tokens, characters [from, to).
    """

    tokens: list[int]
    offset: int
    spans: list[tuple[int, int]]

    def answer(self, context: str, first: int, last: int) -> str:
        """The text between two positions of the row, both included."""
        return context[self.spans[first - self.offset][0] : self.spans[last - self.offset][1]].strip()


def windows(
    question: Sequence[int],
    context: Sequence[int],
    spans: list[tuple[int, int]],
    max_tokens: int,
    stride: int,
) -> list[Window]:
    """Rows of at most `max_tokens` that together hold the whole context, `stride` tokens of it apart.

    Args:
        question: its tokens.
        context, spans: its tokens and their characters, as `Tokenizer.spans` gives them.

    Raises:
        UserError: the question leaves no room for a stretch as long as the stride.
    """
    room = max_tokens - len(question) - 3
    if room < min(stride, len(context)):
        raise UserError(
            f"has {len(question)} tokens, so data.max_tokens={max_tokens} leaves {max(0, room)} for the context, "
            f"fewer than data.stride={stride}"
        )
    rows = []
    for begin in range(0, max(1, len(context) - room + stride), stride):
        tokens = [BOS, *question, SEP, *context[begin : begin + room], EOS]
        rows.append(Window(tokens, len(question) + 2 - begin, spans))
    return rows


class Squad(Text):
    """Questions whose answer is a stretch of a text. The parts share no article, so no paragraph is in two of them.

    Rows are `[BOS] question [SEP] context [EOS]`. A context too long for one row is cut into windows that overlap: in
    training those count that hold the whole answer, elsewhere all of them, and the best span of all is the answer.

    Args:
        source: `xquad` (1,190 English questions, Artetxe et al. 2019, arXiv:1910.11856, downloaded once), or `file`.
        path: of a file in the format of SQuAD v1.1, where the source is a file.
        root: folder for downloads; null: LABBOOK_DATA_ROOT, else data/ in the project.
        max_tokens: of a row, the three special ones included.
        stride: between the starts of two windows of a context, in tokens.

    Raises:
        UserError: a file that cannot be read, is no JSON or not in that format; an answer that does not stand in its
            context, or a question too long for its row (both name the question's id); fewer than three articles.
    """

    tasks = ("question_answering", "masked_lm")

    def __init__(
        self,
        *,
        source: Literal["xquad", "file"] = "xquad",
        path: str | None = None,
        root: str | None = None,
        max_tokens: Annotated[int, Ge(8)] = 384,
        stride: PositiveInt = 128,
        **options,
    ) -> None:
        super().__init__(**options)
        self.name = "xquad" if source == "xquad" else "squad"
        self.path = own_file(source, path)
        self.root = data_root(root)
        self.max_tokens = max_tokens
        self.stride = stride

    @override
    def prepare_data(self) -> None:
        if self.name == "xquad":
            self.path = download(self.name, self.root)[0]

    @override
    def load(self) -> dict[str, Split]:
        self.prepare_data()
        self.source = str(self.path)
        questions = read_questions(required(self.path))
        articles = sorted({question.article for question in questions})
        if len(articles) < 3:
            raise UserError(
                f"data.path: {self.path} has questions on {len(articles)} articles; train, val and test need 3 or "
                "more, since they share none"
            )
        chosen = self.split_rows({"all": {"input": torch.tensor(articles)}})
        groups = {}
        for name, split in chosen.items():
            inside = set(tensor_of(split, "input").tolist())
            groups[name] = [question for question in questions if question.article in inside]
        contexts = dict.fromkeys(question.context for question in groups["train"])
        tokenizer = self.fit_tokenizer([*contexts, *(question.question for question in groups["train"])])
        return {name: self._part(tokenizer, group, name == "train") for name, group in groups.items()}

    @override
    def whole(self, spec: DataSpec) -> Split:
        tokenizer = Tokenizer(spec.input_as(TokenizedSpec).tokenizer)
        return self._part(tokenizer, read_questions(self._given()), training=False)

    def _part(self, tokenizer: Tokenizer, questions: list[Question], training: bool) -> Split:
        rows: list[list[int]] = []
        columns: list[tuple[int, int, int, int]] = []  # first and last token of the answer, question, offset
        spans_of = cache(tokenizer.spans)  # several questions share a context
        asked = tokenizer.encode([question.question for question in questions])
        for number, (question, tokens) in enumerate(zip(questions, asked, strict=True)):
            try:
                cut = windows(tokens, *spans_of(question.context), self.max_tokens, self.stride)
            except UserError as error:
                raise UserError(f"data.path: {self.path}, question {question.id}: {error}") from None
            first, last = _tokens_of(question, cut[0].spans)
            for window in cut:
                target = first + window.offset, last + window.offset
                held = len(tokens) + 2 <= target[0] and target[1] < len(window.tokens) - 1
                if held or not training:
                    rows.append(window.tokens)
                    columns.append((*target, number, window.offset))
        if not rows:
            raise UserError(f"data.max_tokens={self.max_tokens}: no window holds a whole answer, raise it")
        table = torch.tensor(columns)
        return {"input": Sequences.of(rows), "target": table[:, :2], "question": table[:, 2], "offset": table[:, 3]}


def _tokens_of(question: Question, spans: list[tuple[int, int]]) -> tuple[int, int]:
    """First and last token that share a character with the answer."""
    end = question.start + len(question.answer)
    inside = [i for i, (begin, stop) in enumerate(spans) if stop > question.start and begin < end]
    return inside[0], inside[-1]


def read_questions(path: Path, answered: bool = True) -> list[Question]:
    """Read all questions of a SQuAD v1.1 file, each with its first answer.

    Args:
        path: of the file.
        answered: each question needs an answer; else answers are not looked at.

    Raises:
        UserError: not UTF-8, no JSON (line named), not in that format (place named), or an answer that does not stand
            where it is said to (question's id named).
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"data.path: {path}, line {error.lineno}, column {error.colno}: is no JSON ({error.msg})"
        ) from None
    try:
        found = list(_questions(content, answered))
    except _Misplaced as error:
        raise UserError(f"data.path: {path}{error}") from None
    if not found:
        raise UserError(f"data.path: {path} has no questions")
    return found


class _Misplaced(Exception):
    """Missing entry of a SQuAD file; the message says what and where."""


def _questions(content: object, answered: bool) -> Iterator[Question]:
    for number, article in enumerate(_get(content, "data", list, "")):
        place = f", article {number + 1}"
        for i, paragraph in enumerate(_get(article, "paragraphs", list, place)):
            where = f"{place}, paragraph {i + 1}"
            context = _get(paragraph, "context", str, where)
            for entry in _get(paragraph, "qas", list, where):
                name = _get(entry, "id", str, where)
                at = f", question {name}"
                if not answered:
                    yield Question(name, number, _get(entry, "question", str, at), context, "", 0)
                    continue
                answers = _get(entry, "answers", list, at)
                if not answers:
                    raise _Misplaced(f"{at}: has no answer; each one needs a stretch of its context")
                answer, start = _get(answers[0], "text", str, at), _get(answers[0], "answer_start", int, at)
                _check_answer(context, answer, start, at)
                yield Question(name, number, _get(entry, "question", str, at), context, answer, start)


def _get(node: object, key: str, kind: type[KindT], where: str) -> KindT:
    value = node.get(key) if isinstance(node, dict) else None
    if not isinstance(value, kind):
        words = {list: "a list", str: "a text", int: "a number"}[kind]
        raise _Misplaced(f"{where}: has no {key!r} that is {words}, as SQuAD v1.1 has")
    return value


def _check_answer(context: str, answer: str, start: int, at: str) -> None:
    if not answer.strip():
        raise _Misplaced(f"{at}: its answer is empty")
    if start < 0 or context[start : start + len(answer)] != answer:
        place = context.find(answer)
        right = f"it stands at {place}" if place >= 0 else "it is nowhere in it"
        raise _Misplaced(f"{at}: the answer {answer!r} does not stand at character {start} of its context ({right})")
