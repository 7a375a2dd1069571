"""Questions and answers: reading, windows, the score of spans, and a net that answers what it has learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from src.data.text.squad import Squad, read_questions, windows
from src.errors import UserError
from src.metrics.spans import SpanMetric, answerable, best_span
from src.models.bert import BERT
from src.spec.tokenizer import BOS, EOS, PAD, SEP, Tokenizer
from src.tasks.registry import make_task

CITIES = ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Quito")
RIVERS = ("the Seine", "the Tiber", "the Aker", "the Nile", "the Rimac", "the Machangara")


def entry(city: str, river: str, number: int) -> dict:
    context = f"Many people live in {city}. It lies at {river}, and its heart beats in quarter {number}0."
    asked = {"On which river?": river, "Where do they live?": city, "In which quarter?": f"{number}0"}
    qas = [
        {"id": f"{city}-{i}", "question": q, "answers": [{"text": a, "answer_start": context.index(a)}]}
        for i, (q, a) in enumerate(asked.items())
    ]
    return {"title": city, "paragraphs": [{"context": context, "qas": qas}]}


def articles() -> list[dict]:
    return [entry(city, river, n) for n, (city, river) in enumerate(zip(CITIES, RIVERS, strict=True), 1)]


@pytest.fixture
def write(tmp_path: Path):
    def written(content: object) -> str:
        path = tmp_path / "questions.json"
        path.write_text(content if isinstance(content, str) else json.dumps({"data": content, "version": "1.1"}))
        return str(path)

    return written


def data(path: str, **options) -> Squad:
    module = Squad(source="file", path=path, val_fraction=0.2, test_fraction=0.2, **({"level": "word"} | options))
    module.setup("fit")
    return module


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_a_row_holds_question_and_context_and_points_to_the_answer(write, level) -> None:
    path = write(articles())
    module = data(path, level=level)
    assert module.spec.splits == {"train": 12, "val": 3, "test": 3}
    part, decode = module.splits["train"], module.tokenizer.decode
    read = set()
    for row, (first, last) in zip(part["input"][torch.arange(12)], part["target"].tolist(), strict=True):
        tokens = row[row != PAD].tolist()
        assert (tokens[0], tokens.count(SEP), tokens[-1]) == (BOS, 1, EOS)
        question, answer = decode(tokens[1 : tokens.index(SEP)]), decode(tokens[first : last + 1])
        read.add(tuple(text.strip().replace(" ?", "?").lower() for text in (question, answer)))
    there = {(question.question.lower(), question.answer.lower()) for question in read_questions(Path(path))}
    assert len(read) == 12 and read <= there


def test_no_article_is_in_two_parts(write) -> None:
    module = data(write(articles()), level="char")
    contexts = {}
    for name, part in module.splits.items():
        texts = map(module.tokenizer.decode, part["input"][torch.arange(len(part["target"]))].tolist())
        contexts[name] = {text.partition("?")[2] for text in texts}
    assert [len(contexts[name]) for name in ("train", "val", "test")] == [4, 1, 1]
    assert len(set().union(*contexts.values())) == 6
    again = data(write(articles()), level="char", seed=7)
    assert again.spec.sha256 == module.spec.sha256  # `seed` is not that of the split


def test_windows_hold_the_whole_context_and_overlap() -> None:
    context = " ".join(f"w{i}" for i in range(50))
    tokenizer = Tokenizer.train([context, "which one ?"], "word")
    rows = windows(tokenizer.encode(["which one ?"])[0], *tokenizer.spans(context), max_tokens=26, stride=8)
    seen = set()
    for row in rows:
        assert len(row.tokens) <= 26 and row.tokens[4] == SEP
        inside = range(5, len(row.tokens) - 1)
        seen |= {position - row.offset for position in inside}
        assert row.answer(context, 5, 6) == f"w{5 - row.offset} w{6 - row.offset}"
    assert seen == set(range(50))
    assert [5 - row.offset for row in rows] == [0, 8, 16, 24, 32]


def test_training_has_the_windows_with_the_answer_and_evaluation_all(write) -> None:
    module = data(write(articles()), max_tokens=20, stride=6)
    train, test = module.splits["train"], module.splits["test"]
    x = train["input"][torch.arange(len(train["target"]))]
    assert answerable(x).gather(1, train["target"]).all()
    assert len(test["question"].unique()) == 3 and len(test["question"]) > 3


WRONG = articles()
WRONG[1]["paragraphs"][0]["qas"][2]["answers"][0] = {"text": "the Nile", "answer_start": 4}
MOVED = articles()
MOVED[1]["paragraphs"][0]["qas"][1]["answers"][0]["answer_start"] = 3
NONE = articles()
NONE[0]["paragraphs"][0]["qas"][0]["answers"] = []
LACKING = articles()
del LACKING[0]["paragraphs"][0]["context"]


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (
            WRONG,
            {},
            "question Rome-2: the answer 'the Nile' does not stand at character 4 of its context (it is nowhere",
        ),
        (
            MOVED,
            {},
            "question Rome-1: the answer 'Rome' does not stand at character 3 of its context (it stands at 20)",
        ),
        (NONE, {}, "question Paris-0: has no answer"),
        (LACKING, {}, "article 1, paragraph 1: has no 'context' that is a text"),
        ("[]", {}, "has no 'data' that is a list"),
        ('{"data": [\n{"title": }', {}, "line 2, column 11: is no JSON"),
        ([], {}, "has no questions"),
        (articles()[:2], {}, "has questions on 2 articles; train, val and test need 3 or more"),
        (
            articles(),
            {"max_tokens": 12, "stride": 8},
            "question Paris-0: has 4 tokens, so data.max_tokens=12",
        ),
        (articles(), {"max_tokens": 4}, "data.max_tokens=4 must be at least 8"),
        (articles(), {"stride": 0}, "data.stride=0 must be at least 1"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(write, content, options, expected) -> None:
    with pytest.raises(UserError) as caught:
        data(write(content), **options)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_the_best_span_ends_where_it_begins_or_later() -> None:
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 12, 2, generator=draw)
    outputs[:, :3] = outputs[:, 10:] = -torch.inf
    score, span = best_span(outputs)
    for row, total, (first, last) in zip(outputs, score, span.tolist(), strict=True):
        pairs = {(i, j): float(row[i, 0] + row[j, 1]) for i in range(3, 10) for j in range(i, 10)}
        assert (first, last) == max(pairs, key=pairs.get)
        assert total == pairs[first, last]


def test_spans_are_scored_by_question() -> None:
    exact, f1 = SpanMetric("exact_match"), SpanMetric("f1")
    # question 0: two windows, the second one's span is surer and right; 1: half right; 2: beside it
    prediction = torch.tensor([[1.0, 0, 0], [9.0, 4, 5], [5.0, 3, 6], [5.0, 0, 1]])
    target = torch.tensor([[0, 4, 5], [0, 4, 5], [1, 5, 8], [2, 2, 3]])
    for rows in (slice(0, 1), slice(1, 4)):
        exact.update(prediction[rows], target[rows])
        f1.update(prediction[rows], target[rows])
    assert exact.compute().item() == pytest.approx(1 / 3)
    assert f1.compute().item() == pytest.approx((1 + 0.5 + 0) / 3)


def test_no_answer_in_padding_question_or_special_tokens(write) -> None:
    module = data(write(articles()))
    task = make_task(module.spec, BERT.tasks)
    net = BERT(module.spec, task, width=16, num_layers=1, num_heads=2).eval()
    x = torch.nn.functional.pad(module.splits["train"]["input"][torch.arange(6)], (0, 5), value=PAD)
    x = x[:, : net.body.max_length]
    with torch.no_grad():
        outputs = net(x)
    assert torch.equal(outputs.isfinite().all(2), answerable(x))
    spans = task.predict(outputs)
    assert answerable(x).gather(1, spans).all()


def test_a_net_answers_the_questions_that_it_was_trained_on(write) -> None:
    module = data(write(articles()))
    task = make_task(module.spec, BERT.tasks)
    torch.manual_seed(0)
    net = BERT(module.spec, task, width=32, num_layers=2, num_heads=2, dropout=0.0)
    part = module.splits["train"]
    index = torch.arange(len(part["target"]))
    batch = {name: column[index] for name, column in part.items()} | {"index": index}
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        net.training_step(batch, 0).backward()
        optimizer.step()
    asked, right = 0, 0
    for question in read_questions(module.path):
        tokens = module.tokenizer.encode([question.question])[0]
        (row,) = windows(tokens, *module.tokenizer.spans(question.context), 64, 16)
        if question.context.split()[4].rstrip(".").lower() in module.tokenizer.tokens():  # of the training split
            first, last = task.predict(net.eval()(torch.tensor([row.tokens])))[0].tolist()
            asked, right = asked + 1, right + (row.answer(question.context, first, last) == question.answer)
    assert asked == 12 and right == 12


@pytest.mark.real_data
def test_xquad_is_read_whole(data_folder) -> None:
    module = Squad(root=str(data_folder), level="bpe")
    module.setup("fit")
    questions = read_questions(module.path)
    assert len(questions) == 1190
    assert sum(len(part["question"].unique()) for part in module.splits.values()) == 1190
    part = module.splits["train"]
    texts = [
        module.tokenizer.decode(row[first : last + 1].tolist()).strip()
        for row, (first, last) in zip(part["input"][torch.arange(200)], part["target"][:200].tolist(), strict=True)
    ]
    answers = {question.answer for question in questions}
    assert sum(text in answers for text in texts) > 190  # an answer may end inside of a token
