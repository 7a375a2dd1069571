"""Text: tokenizers, windows and padded sequences, batches of like length, language modelling, and broken files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
import torch

from src.data.core.samplers import ByLength
from src.data.text.classification import TextClassification
from src.data.text.corpus import Corpus
from src.data.text.sequences import Sequences
from src.errors import UserError
from src.spec.tokenizer import BOS, EOS, MASK, PAD, SPECIAL, UNK, Tokenizer
from src.tasks.registry import make_task
from tests.conftest import Lab

PLAY = "To be, or not to be: that is the question.\n" * 40


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def ready(data):
    data.prepare_data()
    data.setup("fit")
    return data


# tokenizers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["char", "bpe"])
def test_text_comes_back_as_it_was(level) -> None:
    tokenizer = Tokenizer.train([PLAY], level, 300)
    assert tokenizer.level == level
    assert tuple(tokenizer.tokens()[: len(SPECIAL)]) == SPECIAL
    again = Tokenizer(str(tokenizer))
    (ids,) = again.encode(["To be\nor not"])
    assert again.decode(ids) == "To be\nor not"
    assert again.decode([BOS, *ids, EOS, *ids, PAD]) == "To be\nor not"
    assert max(ids) < len(again)


def test_words_are_lower_case_and_rare_ones_unknown() -> None:
    tokenizer = Tokenizer.train(["the cat and the dog"], "word", len(SPECIAL) + 1)
    assert tokenizer.encode(["The cat"]) == [[len(SPECIAL), UNK]]
    assert tokenizer.level == "word" and tokenizer.decode([len(SPECIAL), UNK]) == "the [UNK]"


def test_unknown_characters_are_unknown_to_char_and_known_to_bpe() -> None:
    assert Tokenizer.train(["abc"], "char").encode(["aß"])[0][1] == UNK
    tokenizer = Tokenizer.train(["abc"], "bpe", 300)
    assert tokenizer.decode(tokenizer.encode(["ß€"])[0]) == "ß€"


def test_spans_say_where_tokens_come_from() -> None:
    ids, spans = Tokenizer.train(["red rose"], "word").spans("red  rose")
    assert len(ids) == 2 and spans == [(0, 3), (5, 9)]


# sequences -----------------------------------------------------------------------------------------------------------


def test_windows_foretell_every_token_once() -> None:
    text = torch.arange(10, 33)
    windows = Sequences.windows(text, 6, 5)
    rows = windows[torch.arange(len(windows))]
    foretold = torch.cat([row[1:][row[1:] != PAD] for row in rows])
    assert torch.equal(foretold, text[1:])
    assert torch.equal(rows[1][:6], text[5:11])
    assert len(Sequences.windows(text, 6, 1)) == len(text) - 5


def test_a_batch_is_as_wide_as_its_longest_row() -> None:
    column = Sequences.of([[7, 8], [9], [10, 11, 12]])
    assert column.shape == (3, 3)
    assert column[torch.tensor([1, 0])].tolist() == [[9, 0], [7, 8]]
    part = column.subset(torch.tensor([2, 1]))
    assert part[torch.arange(2)].tolist() == [[10, 11, 12], [9, 0, 0]]
    assert part.digest() != column.digest() == Sequences.of([[7, 8], [9], [10, 11, 12]]).digest()


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("tokens", [None, 60])
def test_batches_of_like_length_hold_every_row_once(tokens, world_size) -> None:
    lengths = torch.randint(1, 21, (203,), generator=torch.Generator().manual_seed(0))
    epochs = []
    for epoch in (0, 1):
        ranks = [ByLength(lengths, 8, seed=3, tokens=tokens, rank=r, world_size=world_size) for r in range(world_size)]
        batches = [list(sampler.batches(epoch)) for sampler in ranks]
        assert len({len(b) for b in batches} | {len(sampler) for sampler in ranks}) == 1
        rows = torch.cat([row for rank in batches for row in rank])
        assert rows.sort().values.tolist() == list(range(203))
        for batch in batches[0]:
            assert len(batch) <= 8 + 1 and len(batch) > 0
            assert tokens is None or len(batch) * int(lengths[batch].max()) <= tokens + 20
        epochs.append([b.tolist() for b in batches[0]])
        assert [b.tolist() for b in ranks[0].batches(epoch, 5)] == epochs[-1][5:]  # resumed
    assert epochs[0] != epochs[1] and len(epochs[0]) == len(epochs[1])
    padded = sum(len(b) * int(lengths[b].max()) for b in ranks[0].batches(0)) * world_size
    assert padded < 1.15 * int(lengths.sum()) + 21 * 8


def test_a_row_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(UserError, match="^data.batch_tokens=5: the longest row has 9 tokens$"):
        ByLength(torch.tensor([3, 9]), 8, seed=0, tokens=5)


# data ----------------------------------------------------------------------------------------------------------------


def test_a_text_is_split_by_position_and_the_vocabulary_is_of_the_training_part(tmp_path) -> None:
    path = tmp_path / "my.txt.gz"
    path.write_bytes(gzip.compress(("abcde " * 100 + "z" * 100).encode()))
    data = ready(Corpus(source="file", path=str(path), context=8, val_fraction=0.1, test_fraction=0.2))
    assert "z" not in Tokenizer(data.spec.input.tokenizer).tokens()
    assert data.spec.input_shape == (9,) and data.spec.input.characters_per_token == 1
    assert sum(data.spec.input.token_counts) == 490
    val = data.splits["val"]["input"]
    assert set(val[torch.arange(len(val))].flatten().tolist()) <= {UNK, PAD}
    none = ready(Corpus(source="file", path=str(path), context=8, test_fraction=0.0))
    assert set(none.splits) == {"train", "val"} and sum(none.spec.input.token_counts) == 630


def test_labelled_texts_are_rows_between_begin_and_end(tmp_path) -> None:
    path = tmp_path / "my.tsv"
    rows = [f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}" for i in range(40)]
    path.write_text("\n".join(["review\tsentiment", *rows]))
    options = {"source": "file", "path": str(path), "text": "review", "label": "sentiment", "level": "word"}
    data = ready(TextClassification(**options))
    assert data.spec.tasks[0] == "binary" and data.spec.class_names == ("0", "1")
    assert sum(data.spec.splits.values()) == 40
    batch = data.head("train", 40)
    tokenizer = Tokenizer(data.spec.input.tokenizer)
    for ids, label in zip(batch["input"].tolist(), batch["target"].tolist(), strict=True):
        assert ids[0] == BOS and ids[4] == EOS
        assert tokenizer.decode(ids).split()[0] == ("good" if label else "bad")
    short = ready(TextClassification(**options, max_tokens=3))
    cut = short.head("train", 40)["input"]
    assert cut.shape[1] == 3 and set(cut[:, 2].tolist()) == {EOS}
    assert short.describe()["texts_cut"] == 40 and data.describe()["texts_cut"] == 0


@pytest.mark.real_data
def test_downloads_are_read_from_their_files(data_folder) -> None:
    root = str(data_folder)
    shakespeare = ready(Corpus(source="tiny_shakespeare", root=root, test_fraction=0.0))
    assert len(Tokenizer(shakespeare.spec.input.tokenizer)) == 65 + len(SPECIAL)
    names = ready(TextClassification(source="names", root=root))
    assert names.spec.num_classes == 18 and sum(names.spec.splits.values()) == 20_050
    sst2 = ready(TextClassification(source="sst2", root=root, level="word"))
    assert sst2.spec.splits == {"train": 6920, "val": 872, "test": 1821}
    assert sst2.spec.class_counts == (3310, 3610)


def test_broken_text_is_refused_in_one_line(tmp_path) -> None:
    def refused(message: str, content: bytes | None, kind=Corpus, name: str = "my.csv", **options) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            ready(kind(source="file", path=str(path), **options))
        assert "\n" not in str(caught.value)

    refused("no.txt cannot be read", None, name="no.txt")
    refused("my.gz cannot be read .*ended before", gzip.compress(b"x" * 5000)[:-12], name="my.gz")
    refused("my.gz cannot be read", b"no archive", name="my.gz")
    refused("my.csv is empty", b" \n ")
    refused("my.csv, line 2: byte 0xff is not UTF-8", b"one\ntwo \xff")
    refused("the train split has 24 tokens, data.context=64 needs more", b"x" * 30)
    refused("data.context=0 must be at least 1", b"x" * 30, context=0)
    refused("leave no training text", b"x" * 30, val_fraction=0.6, test_fraction=0.5)
    table = {"kind": TextClassification}
    refused(r"has no column text \(did you mean tekst\?\)", b"tekst,label\na,b", **table)
    refused("my.csv, line 3: column label is empty", b"text,label\na,b\nc,\n", **table)
    refused("my.csv, line 2: column text is empty", b"text,label\n ,b\n", **table)
    refused("has a header and no rows", b"text,label\n", **table)
    refused(r"one class only \(b\)", b"text,label\na,b\nc,b\n", **table)
    for options, message in (
        ({"level": "sentence"}, "data.level=sentence: char, word or bpe"),
        ({"batch_tokens": 100}, "data.batch_tokens=100 needs data.by_length=true"),
        ({"by_length": True, "drop_last": True}, "data.drop_last does not go with data.by_length"),
        ({"max_tokens": 2}, "data.max_tokens=2 must be at least 3"),
    ):
        refused(message, b"text,label\na,b\nc,d\n", **table, **options)


# language modelling --------------------------------------------------------------------------------------------------


def task_on(text: str, name: str):
    path = Path(text)
    data = ready(Corpus(source="file", path=str(path), context=16))
    return data, make_task(data.spec, (name,))


@pytest.fixture
def play(tmp_path) -> str:
    (tmp_path / "play.txt").write_text(PLAY)
    return str(tmp_path / "play.txt")


def test_the_next_token_is_the_target_and_padding_counts_nowhere(play) -> None:
    data, task = task_on(play, "causal_lm")
    batch = task.prepare({"input": torch.tensor([[7, 8, 9, PAD], [7, 7, PAD, PAD]])})
    assert batch["input"].tolist() == [[7, 8, 9], [7, 7, PAD]]
    assert batch["target"].tolist() == [[8, 9, PAD], [7, PAD, PAD]]
    logits = torch.randn(2, 3, task.num_outputs, generator=torch.Generator().manual_seed(0))
    judged = task.eval().evaluate_batch(logits, batch)
    p = logits.log_softmax(-1)
    losses = [-p[0, 0, 8], -p[0, 1, 9], -p[1, 0, 7]]
    assert judged.loss.item() == pytest.approx(sum(losses).item() / 3, rel=1e-5)
    metrics = task.metrics()
    metrics.update(task.prediction(judged.outputs), judged.target)
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values["loss"] == pytest.approx(judged.loss.item(), rel=1e-5)
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    assert values["bits_per_character"] == pytest.approx(values["loss"] / math.log(2))
    counts = torch.tensor(data.spec.input.token_counts, dtype=torch.float64)
    counts[len(SPECIAL) :] += 1
    unigram = -(counts / counts.sum()).log()
    expected = (unigram[8] + unigram[9] + unigram[7]).item()
    assert task.baseline(judged.target, judged.reference)[:, 0].sum().item() == pytest.approx(expected, rel=1e-5)


def test_hidden_tokens_are_a_share_and_the_same_at_every_evaluation(play) -> None:
    _, task = task_on(play, "masked_lm")
    tokens = torch.randint(len(SPECIAL), task.num_outputs, (400, 50))
    tokens[:, 0], tokens[:, -1] = BOS, PAD
    batch = {"input": tokens, "index": torch.arange(400)}
    hidden = task.prepare(batch)
    chosen = hidden["target"] != PAD
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(hidden["target"][chosen], tokens[chosen])
    assert torch.equal(hidden["input"][~chosen], tokens[~chosen])
    assert chosen[:, 1:-1].float().mean().item() == pytest.approx(0.15, abs=0.01)
    masked = (hidden["input"] == MASK)[chosen].float().mean().item()
    kept = (hidden["input"] == tokens)[chosen].float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.03) and 0.09 < kept < 0.16  # 10 %, and chance
    assert (hidden["input"] >= MASK)[chosen].all()
    again = task.prepare({"input": tokens[200:], "index": torch.arange(200, 400)})
    assert torch.equal(again["input"], hidden["input"][200:])
    torch.manual_seed(1)
    first, second = task.prepare(batch, training=True), task.prepare(batch, training=True)
    assert not torch.equal(first["input"], second["input"])
    torch.manual_seed(1)
    assert torch.equal(task.prepare(batch, training=True)["input"], first["input"])


def test_a_text_is_modelled_from_the_command_line(lab: Lab) -> None:
    path = lab.folder / "play.txt"
    path.write_text(PLAY * 3)
    result = lab.train(
        "model=gpt", "data=text_file", f"data.path={path}", "data.context=16", "model.width=32", "model.num_layers=2",
        "trainer.max_epochs=8", "optimizer.lr=1e-2", "tracking.system_metrics=false",
    )  # fmt: skip
    assert result.code == 0, result.err
    (run,) = lab.runs()
    metrics = run.data.metrics
    assert metrics["test/perplexity"] < 0.5 * metrics["baseline/perplexity"]
    assert metrics["test/bits_per_character"] == pytest.approx(metrics["test/loss"] / math.log(2), rel=1e-6)
