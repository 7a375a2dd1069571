"""Nets of transformers: a folder's weights and tokenizer, random ones, LoRA, attributions, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers as tk
import torch
from omegaconf import OmegaConf

from src.analysis.explain import attribution
from src.commands.predict import predict
from src.config import compose
from src.data.text.modality import token_names
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.experiment.build import build_model
from src.models.components.sampling import generate
from src.models.load import load_model
from src.models.pretrained import Pretrained
from src.runtime.signals import Signals
from src.spec import Classes, DataSpec, TableSpec, TextSpec
from src.spec.tokenizer import BOS, EOS, MASK, PAD, SEP, SPECIAL, UNK, Tokenizer
from src.tasks.registry import make_task
from src.training.callbacks.checkpoint import save_atomically

transformers = pytest.importorskip("transformers", reason="extra hf")

VOCABULARY = 40
SPEC = DataSpec(
    name="rows",
    tasks=("classification", "binary", "masked_lm", "question_answering", "causal_lm"),
    splits={"train": 8},
    input=TextSpec((24,), token_counts=tuple(range(1, VOCABULARY + 1))),
    target=Classes(("bad", "good"), (4, 4)),
)
TINY = {"hidden_size": 16, "num_attention_heads": 2}
GOOD, BAD = ("lovely", "bright", "warm"), ("dull", "cold", "empty")


def model(task: str = "classification", spec: DataSpec = SPEC, **options) -> Pretrained:
    torch.manual_seed(0)
    return Pretrained(spec, make_task(spec, Pretrained.tasks, name=task), **({"config": TINY} | options)).eval()


def rows(lengths: tuple[int, ...] = (24, 9, 17, 12)) -> torch.Tensor:
    """Rows `[BOS] question [SEP] context [EOS]` of these lengths, padded to the longest."""
    draw = torch.Generator().manual_seed(1)
    x = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randint(len(SPECIAL), VOCABULARY, (length,), generator=draw)
        row[0], row[4], row[length - 1] = BOS, SEP, EOS
    return x


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        model(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# folders in the form of Hugging Face ----------------------------------------------------------------------------------


def sentences() -> list[tuple[str, str]]:
    words = {"good": GOOD, "bad": BAD}
    return [
        (f"a {words[label][i % 3]} film with {words[label][(i + 1) % 3]} scenes", label)
        for i in range(30)
        for label in words
    ]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("texts") / "films.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in sentences()))
    return str(path)


def wordpieces(folder: Path) -> None:
    """A tokenizer as BERT's, whose special tokens have other ids than ours."""
    texts = [text for text, _ in sentences()]
    letters = sorted(set("".join(texts)) - {" "})
    halves = [piece for word in (*GOOD, *BAD) for piece in (word[:3], f"##{word[3:]}")]
    # given, since training one draws among pairs that are equally frequent (tokenizers 0.23.3)
    known = ["[unused]", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[PAD]", "film", "with", "scenes", *halves]
    known += [*letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(known))}
    tokenizer = tk.Tokenizer(tk.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tk.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tk.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tk.decoders.WordPiece()
    tokenizer.add_special_tokens(known[:6])
    names = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def saved(folder: Path, kind: str, family: str, vocabulary: int = 80, **settings) -> torch.nn.Module:
    torch.manual_seed(3)
    made = transformers.AutoConfig.for_model(kind, vocab_size=vocabulary, **settings)
    net = getattr(transformers, family).from_config(made).eval()
    net.save_pretrained(folder)
    return net


BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    saved(folder, "bert", "AutoModelForMaskedLM", max_position_embeddings=32, pad_token_id=5, **BERT)
    wordpieces(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    """A net with one special token for all, and a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = tk.Tokenizer(tk.models.BPE())
    tokenizer.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tk.decoders.ByteLevel()
    alphabet = tk.pre_tokenizers.ByteLevel.alphabet()
    trainer = tk.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for text, _ in sentences()], trainer)
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|end|>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    saved(
        folder,
        "gpt2",
        "AutoModelForCausalLM",
        tokenizer.get_vocab_size(),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=32,
    )
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    """A net whose decoder starts from padding, and a tokenizer of likely pieces, which has no mask and no start."""
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = tk.Tokenizer(tk.models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = tk.pre_tokenizers.Metaspace(), tk.decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tk.trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([text for text, _ in sentences()], trainer)
    names = dict(zip(("pad_token", "eos_token", "unk_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    sizes = {"d_model": 16, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32}
    saved(folder, "t5", "AutoModelForSeq2SeqLM", decoder_start_token_id=0, **sizes)
    return folder


def assembled(*overrides: str, folder: Path = Path()) -> Parts:
    torch.set_num_threads(1)
    given = ["model=pretrained", "trainer=cpu", "trainer.max_epochs=1", "data.batch_size=16", "tracking=none"]
    parts = assemble(compose([*given, *overrides]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    return parts


def test_a_folder_s_tokenizer_reads_texts_as_it_did_and_special_tokens_are_ours(bert) -> None:
    ours = Tokenizer(Pretrained.pretrained_tokenizer(name=str(bert)))
    theirs = transformers.AutoTokenizer.from_pretrained(bert)
    text = "a lovely film with brightest scenes"
    (ids,) = ours.encode([text])
    assert min(ids) >= len(SPECIAL)
    assert [ours.theirs[i] for i in ids] == theirs(text, add_special_tokens=False).input_ids
    assert [ours.theirs[i] for i in [BOS, *ids, EOS]] == [3, *theirs(text, add_special_tokens=False).input_ids, 2]
    assert [ours.theirs[i] for i in (PAD, UNK, MASK, SEP)] == [5, 4, 1, 2]
    assert ours.decode([BOS, *ids, EOS, PAD]) == text
    assert ours.encode(["a \u2603 film"])[0][1] == UNK and UNK not in ids
    assert ours.tokens()[: len(SPECIAL)] == list(SPECIAL)
    assert len(ours) == len(ours.tokens()) == len(theirs) + 1  # [EOS] and [SEP] are one of theirs
    spans = ours.spans(text)
    assert spans[0] == ids and text[slice(*spans[1][1])] in text.split()[1]
    assert Tokenizer(str(ours)).encode([text]) == [ids]


def test_hidden_tokens_have_the_logits_of_the_folder_s_net(bert, table) -> None:
    parts = assembled(f"model.name={bert}", "data=text_csv", f"data.path={table}", "task=masked_lm")
    net, x = parts.model.eval(), parts.data.head("train", 8)["input"]
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(bert).eval()
    ids = torch.tensor(Tokenizer(net.spec.input.tokenizer).theirs)
    with torch.no_grad():
        expected = theirs(input_ids=ids[x], attention_mask=(x != PAD).long()).logits[..., ids]
        found = net(x)
    real = [i for i in range(len(ids)) if i != SEP]  # which shares its id with [EOS]
    torch.testing.assert_close(found[x != PAD][:, real], expected[x != PAD][:, real])
    assert (found[..., SEP] < -1000).all()


def test_the_next_token_has_the_probability_that_the_folder_s_net_gives_it(gpt2, tmp_path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(text for text, _ in sentences()))
    options = ["data=text_file", f"data.path={tmp_path}/a.txt", "data.context=16", f"model.name={gpt2}"]
    parts = assembled(*options)
    net, x = parts.model.eval(), parts.data.head("train", 4)["input"]
    ids = torch.tensor(Tokenizer(net.spec.input.tokenizer).theirs)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(gpt2).eval()
    batch = net.task.prepare({"input": x})
    with torch.no_grad():
        loss = net.task.evaluate_batch(net.outputs(batch), batch).loss
        given = ids[batch["input"]]
        expected = torch.nn.functional.cross_entropy(
            theirs(given).logits.flatten(0, 1).float(), ids[batch["target"]].flatten()
        )
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)  # five synonyms of <|end|> take nothing away
    start = torch.tensor([[BOS, *Tokenizer(net.spec.input.tokenizer).encode(["a lovely"])[0]]])
    cached, plain = (generate(net, start, 8, cached=cached, seed=1) for cached in (True, False))
    assert torch.equal(cached, plain) and cached.shape[1] > start.shape[1]


def test_a_target_has_the_logits_of_the_folder_s_net_and_beams_write_it(t5, tmp_path) -> None:
    for name, texts in zip("ab", zip(*sentences(), strict=True), strict=True):
        (tmp_path / name).write_text("\n".join(texts))
    paths = [f"data.source_path={tmp_path}/a", f"data.target_path={tmp_path}/b"]
    parts = assembled("data=lines", *paths, f"model.name={t5}", "model.beam_size=2", "data.by_length=false")
    net, batch = parts.model.eval(), parts.data.head("train", 8)
    ids = torch.tensor(Tokenizer(net.spec.input.tokenizer).theirs)
    source, target = batch["input"], batch["target"][:, :-1]
    assert (ids[target[:, 0]] == 0).all() and (ids[source][source == EOS] == 1).all()
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(t5).eval()
    with torch.no_grad():
        expected = theirs(ids[source], attention_mask=(source != PAD).long(), decoder_input_ids=ids[target]).logits
        found = net(source, target)
        written = net.predict_step(batch, 0)
    kept = [i for i in range(len(ids)) if i not in (BOS, MASK, SEP)]
    torch.testing.assert_close(found[..., kept], expected[..., ids[kept]], rtol=1e-4, atol=1e-5)
    assert (found[..., [BOS, MASK, SEP]] < -1000).all()
    assert written.shape == (8, net.length) and not torch.isin(written, torch.tensor([UNK, BOS, MASK, SEP])).any()


@pytest.mark.parametrize("pooling", ["first", "mean", "last"])
def test_a_class_comes_from_the_folder_s_net(bert, table, pooling) -> None:
    options = [f"model.name={bert}", "data=text_csv", f"data.path={table}", f"model.pooling={pooling}"]
    net = assembled(*options).model.eval()
    theirs = transformers.AutoModel.from_pretrained(bert).state_dict()
    mine = net.body.state_dict()
    assert {name for name in mine if name not in theirs} == set()
    same = {name for name in mine if torch.equal(mine[name], theirs[name])}
    assert {name for name in mine if not name.startswith("pooler.")} <= same  # which its own head does not have


TRAINED = ["optimizer.lr=1e-2", "trainer.max_epochs=30", "data.batch_size=8", "model.pooling=mean", "explain=true"]


def test_a_trained_net_is_asked_and_explained_when_its_folder_is_gone(bert, table, tmp_path, capsys) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    parts = assembled(f"model.name={folder}", "data=text_csv", f"data.path={table}", *TRAINED, folder=tmp_path)
    parts.trainer.fit(parts.model, datamodule=parts.data)
    shutil.rmtree(folder)
    best = tmp_path / "best.ckpt"
    again, batch = load_model(best), parts.data.head("train", 32)
    again.task.eval()
    parts.model.load_state_dict(torch.load(best, weights_only=True)["state_dict"])
    with torch.no_grad():
        outputs = again(batch["input"])
        assert torch.equal(outputs, parts.model.eval()(batch["input"]))
    assert (outputs.argmax(1) == batch["target"]).all()
    (values,) = attribution.attributions(again, batch["input"]).values()
    test = attribution.deletion(again, batch["input"], values)
    assert test.meaningful
    names = [token_names(again.spec.input.tokenizer, ids) for ids in batch["input"].tolist()]
    first = [row[int(value.argmax())] for row, value in zip(names, values, strict=True)]
    deciding = {piece for word in (*GOOD, *BAD) for piece in pieces(again.spec, word)}
    assert sum(piece in deciding for piece in first) >= 0.8 * len(first)
    predict(compose([f"run={best}", "text=a lovely film with warm scenes", "explain=true"], "predict"))
    shown = capsys.readouterr().out
    assert "good" in shown and "why" in shown


def test_hidden_and_next_tokens_are_told_from_a_checkpoint(bert, gpt2, table, tmp_path, capsys) -> None:
    (tmp_path / "a.txt").write_text("\n".join(text for text, _ in sentences()))
    corpus = ["data=text_file", f"data.path={tmp_path}/a.txt", "data.context=16", f"model.name={gpt2}"]
    hidden = ["data=text_csv", f"data.path={table}", f"model.name={bert}", "task=masked_lm"]
    for options, asked in ((hidden, ["text='a [MASK] film'"]), (corpus, ["text='a lovely'", "tokens=5"])):
        net = assembled(*options).model
        path = tmp_path / f"{net.task.name}.ckpt"
        save_atomically({"state_dict": net.state_dict(), "labbook": net.description()}, path)
        predict(compose([f"run={path}", *asked], "predict"))
        shown = capsys.readouterr().out
        assert ("predicted" if net.task.name == "masked_lm" else "continued") in shown and "a " in shown


def pieces(spec: DataSpec, word: str) -> list[str]:
    tokenizer = Tokenizer(spec.input.tokenizer)
    return token_names(spec.input.tokenizer, tokenizer.encode([word])[0])


@pytest.mark.slow
def test_a_folder_from_the_command_line(lab, bert, table, tmp_path) -> None:
    """Training, its pictures, and the same test figures again, without the folder."""
    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    given = ["model=pretrained", f"model.name={folder}", "data=text_csv", f"data.path={table}", *TRAINED]
    result = lab.train(*given, "trainer=cpu", "threads=1")
    assert result.code == 0, result.err
    run = lab.runs()[0]
    assert run.data.metrics["test/accuracy"] > 0.9 and "removing by integrated gradients" in result.out
    shutil.rmtree(folder)
    again = lab.run("evaluate", "run=last", "resamples=0", "explain=true")
    assert again.code == 0, again.err
    folder = lab.artifacts(run.info.run_id) / "evaluations" / "1"
    measured = json.loads((folder / "metrics.json").read_text())
    assert "explained_rows.png" in {path.name for path in folder.iterdir()}
    for name in ("test/accuracy", "test/loss"):
        assert run.data.metrics[name] == found(measured, name)


def found(measured: dict, name: str) -> float:
    values = measured["metrics"]
    return values.get(name, values.get(name.removeprefix("test/")))


# random weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "architecture"),
    [("classification", "roberta"), ("masked_lm", "distilbert"), ("causal_lm", "llama"), ("binary", "gpt2")],
)
def test_other_architectures_pad_and_reload_alike(task, architecture, tmp_path) -> None:
    net, x = model(task, architecture=architecture), rows((20, 9, 17, 12))
    with torch.no_grad():
        outputs, alone = net(x), net(x[1:2, :9])[0]
    per_token = net.task.per_token
    torch.testing.assert_close(outputs[1, :9] if per_token else outputs[1], alone, rtol=1e-4, atol=1e-5)
    config = {"_target_": "src.models.Pretrained", "architecture": architecture, "config": TINY}
    net.config = {"model": config, "task": {"name": task}}
    path = tmp_path / "model.ckpt"
    save_atomically({"state_dict": net.state_dict(), "labbook": net.description()}, path)
    with torch.no_grad():
        assert torch.equal(load_model(path)(x), outputs)


def test_the_second_segment_begins_after_the_separator() -> None:
    net, x = model("question_answering"), rows()
    seen = net._read(x)["token_type_ids"]
    assert (seen[:, :5] == 0).all() and (seen[:, 5:] == 1).all()
    with torch.no_grad():
        outputs = net(x)
    assert (outputs[:, :5] == -math.inf).all() and outputs[0, 5:-1].isfinite().all()


def test_attention_maps_leave_padding_out() -> None:
    x = rows()
    with torch.no_grad():
        net = model()
        before = net(x)
        ((weights, queries, *_),) = net.attention({"input": x}).values()
        assert torch.equal(net(x), before)
    assert weights.shape == (2, 4, 2, 24, 24) and torch.equal(queries, x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 2, 24))
    assert weights.transpose(0, 1).movedim(-1, 1)[x == PAD].abs().max() == 0


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_words_that_decide_are_attributed(architecture) -> None:
    net, x = model(architecture=architecture), rows()
    (values,) = attribution.attributions(net, x).values()
    assert values.shape == x.shape and (values[x < len(SPECIAL)] == 0).all()
    assert (values[x >= len(SPECIAL)] != 0).any()
    with torch.no_grad():
        whole, empty = net(x), net(attribution.baseline(net, x))
    drop = (whole - empty).gather(1, whole.argmax(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(values.sum(1), drop, rtol=0.05, atol=1e-4)  # Sundararajan's completeness


def test_an_encoder_fine_tunes_from_its_own_pretraining(table, tmp_path) -> None:
    """init_from: the net has another name under the other head."""
    options = ["data=text_csv", f"data.path={table}", "model.config={hidden_size:16,num_attention_heads:2}"]
    first = assembled(*options, "task=masked_lm")
    path = tmp_path / "best.ckpt"
    save_atomically({"state_dict": first.model.state_dict(), "labbook": first.model.description()}, path)
    from src.experiment.resume import find_start

    config = compose(["model=pretrained", "trainer=cpu", *options, f"init_from={path}"])
    second = assemble(config, Signals(), find_start(config)).model
    before = first.model.body.base_model.state_dict()
    after = second.body.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in after)


# LoRA -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "architecture"), [("classification", "bert"), ("causal_lm", "gpt2")])
def test_lora_begins_unchanged_and_changes_its_matrices_alone(task, architecture, tmp_path) -> None:
    pytest.importorskip("peft")
    x = rows()
    plain, net = (model(task, architecture=architecture, lora={"rank": rank}) for rank in (0, 2))
    net.load_state_dict({name: t for name, t in plain.state_dict().items() if name.startswith("head.")}, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(net(x), plain(x))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.train().parameter_groups(), lr=0.01)
    thin = {name for name in before if ".lora_" in name}
    learned = thin | {name for name in before if name.startswith("head.")}
    count = sum(before[name].numel() for name in learned)
    assert count == sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert thin and count < 0.5 * sum(tensor.numel() for tensor in before.values())
    batch = {"input": x, "target": torch.tensor([0, 1, 1, 0]), "index": torch.arange(4)}
    for _ in range(2):
        optimizer.zero_grad()
        net.training_step(batch, 0).backward()
        optimizer.step()
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == learned
    options = {"architecture": architecture, "config": TINY, "lora": {"rank": 2}}
    net.config = {"model": {"_target_": "src.models.Pretrained", **options}, "task": {"name": task}}
    path = tmp_path / "model.ckpt"
    save_atomically({"state_dict": net.state_dict(), "labbook": net.description()}, path)
    with torch.no_grad():
        assert torch.equal(load_model(path)(x), net.eval()(x))


def test_lora_beside_a_folder_s_weights(bert, table) -> None:
    pytest.importorskip("peft")
    options = [f"model.name={bert}", "data=text_csv", f"data.path={table}", "model.lora.rank=4", "optimizer.lr=1e-2"]
    net = assembled(*options).model
    theirs = transformers.AutoModel.from_pretrained(bert).state_dict()
    name = "encoder.layer.0.attention.self.query"
    assert torch.equal(net.body.get_submodule(name).base_layer.weight, theirs[f"{name}.weight"])


@pytest.mark.parametrize(("freeze", "eval_stays"), [("head_only", True), ("all", False)])
def test_what_is_frozen_stays(freeze, eval_stays) -> None:
    net = model(freeze=freeze).train()
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    assert net.body.training is not eval_stays and net.head.training


# what is refused ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_built_is_refused_in_one_line() -> None:
    assert refusal(architecture="brt").startswith("model.architecture=brt is none of transformers for texts (did you")
    assert "such as bert, roberta" in refusal(architecture="xqzzq")
    assert refusal(task="masked_lm", architecture="gpt2") == (
        "gpt2: a decoder serves classification, binary, causal_lm, not masked_lm"
    )
    assert "model.config.hiden_size: bert has no such value (did you mean hidden_size?)" in refusal(
        config={"hiden_size": 3}
    )
    assert refusal(config={"hidden_size": 10, "num_attention_heads": 4}).startswith("model.config: ")
    assert "model.config: bert cannot be made of it" in refusal(config={"hidden_size": "wide"})
    assert "query" in refusal(lora={"rank": 2, "targets": ["qury"]})
    assert "model.lora.rnk: LoRA has no such option (did you mean rank?)" in refusal(lora={"rnk": 2})
    assert "model.lora.rank=-1: a whole number" in refusal(lora={"rank": -1})
    assert "model.freeze=all: LoRA (model.lora.rank=2) freezes" in refusal(freeze="all", lora={"rank": 2})
    assert "model.freeze=head_only is for a head of its own" in refusal(task="causal_lm", freeze="head_only")


def message(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        assembled(*overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_lack_something_are_named_with_what(bert, table, tmp_path) -> None:
    data = ["data=text_csv", f"data.path={table}"]
    nowhere = tmp_path / "nowhere" / "bert"
    assert message(*data, f"model.name={nowhere}") == f"model.name={nowhere}: there is no such folder"
    for missing, told in (
        ("config.json", "has no config.json, which a model's folder has"),
        ("model.safetensors", "has no weights (model.safetensors), which a model's folder has"),
        ("tokenizer.json", "has no tokenizer (tokenizer.json), which its weights need"),
    ):
        folder = tmp_path / missing
        shutil.copytree(bert, folder)
        (folder / missing).unlink()
        assert message(*data, f"model.name={folder}") == f"model.name={folder}: {folder} {told}"
    (folder / "tokenizer.json").write_text("{")
    assert f"the tokenizer in {folder} cannot be used" in message(*data, f"model.name={folder}")
    shutil.copy(bert / "tokenizer.json", folder)
    (folder / "model.safetensors").write_bytes(b"none")
    assert f"the weights in {folder} cannot be used" in message(*data, f"model.name={folder}")
    assert "is for random weights" in message(*data, f"model.name={bert}", "model.architecture=bert")
    (tmp_path / "long.csv").write_text(f"text,label\n{'film ' * 50},a\n" + "a film,b\na film,a\n" * 9)
    long = message("data=text_csv", f"data.path={tmp_path}/long.csv", f"model.name={bert}")
    assert long.endswith("has 52 tokens, this net has positions for 32: data.max_tokens=32")


def test_a_name_on_the_hub_without_a_network_says_where_to_put_it(no_network, monkeypatch, tmp_path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = message("data=topics", "model.name=nobody/nothing")
    assert told.startswith("model.name=nobody/nothing: no such folder, not in the cache of Hugging Face, and https://")
    assert told.endswith("put its files into a folder and give model.name=FOLDER")


@pytest.mark.parametrize(("package", "options"), [("transformers", []), ("peft", ["model.lora.rank=2"])])
def test_without_the_extra_one_line_says_what_to_install(package, options, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    told = message("data=topics", *options)
    assert told.endswith(f"needs {package}: pip install 'labbook[hf]'")


def test_data_of_another_kind_and_tasks_of_another_form_are_refused() -> None:
    with pytest.raises(UserError, match="model Pretrained takes text or text_pairs data"):
        build_model(compose(["model=pretrained"]), replace(SPEC, input=TableSpec((3,))))
    config = compose(["model=pretrained", "model.architecture=t5", "task=masked_lm"])
    with pytest.raises(UserError, match="task=masked_lm does not fit data=rows and this model"):
        build_model(config, SPEC)
    assert OmegaConf.is_config(config)
