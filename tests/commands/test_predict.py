"""Predictions from a checkpoint alone: tables, pictures, series, texts, questions; and what cannot be used."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from src.commands.predict import predict
from src.config import compose
from src.data.series.reader import following
from src.errors import UserError
from src.experiment.build import build_model
from src.models.load import load_model
from tests.conftest import ROOT


def checkpoint(folder: Path, *overrides: str, seed: int = 0) -> Path:
    """An untrained model of a configuration, saved as a trained one is."""
    from omegaconf import OmegaConf

    config = compose([*overrides, "tracking=none"])
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(seed)
    model = build_model(config, data.spec)
    model.config = OmegaConf.to_container(config, resolve=True)
    path = folder / "model.ckpt"
    torch.save({"labbook": model.description(), "state_dict": model.state_dict()}, path)
    return path


def ask(model: Path, *overrides: str) -> None:
    config = compose([f"run={model}", *overrides], name="predict")
    predict(config)


def answers(model: Path, *overrides: str) -> list[dict[str, str]]:
    output = model.parent / "answers.csv"
    ask(model, f"output={output}", "force=true", *overrides)
    with open(output, newline="") as file:
        return list(csv.DictReader(file))


# tables --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def iris(tmp_path) -> Path:
    return checkpoint(tmp_path, "model=fnn", "data=iris")


def flowers(folder: Path, rows: list[str], header: str = "petal width (cm),name,sepal length (cm)") -> Path:
    path = folder / "flowers.csv"
    more = ",petal length (cm),sepal width (cm)"
    path.write_text("\n".join([header + more, *(f"{row},3.5,1.4" for row in rows)]) + "\n")
    return path


def test_a_table_keeps_its_order_and_its_names_whatever_the_order_of_the_columns(iris, tmp_path) -> None:
    path = flowers(tmp_path, [f"{0.1 * i},flower {i},{5 + 0.1 * i}" for i in range(7)])
    rows = answers(iris, f"data.path={path}", "data.keep=[name]", "batch_size=3")
    assert [row["name"] for row in rows] == [f"flower {i}" for i in range(7)]
    assert [row["row"] for row in rows] == [str(i) for i in range(1, 8)]
    model = load_model(iris)
    x = torch.tensor([[5 + 0.1 * i, 1.4, 3.5, 0.1 * i] for i in range(7)])
    with torch.inference_mode():
        right = model.task.predict(model(x))
    for row, p in zip(rows, right, strict=True):
        assert row["predicted"] == model.spec.class_names[int(p.argmax())]
        for name, value in zip(model.spec.class_names, p.tolist(), strict=True):
            assert float(row[f"P({name})"]) == pytest.approx(value, rel=1e-6)


def test_parquet_holds_the_same_numbers(iris, tmp_path) -> None:
    from pyarrow import parquet

    path = flowers(tmp_path, ["0.2,a,5.1", "1.8,b,6.0"])
    rows = answers(iris, f"data.path={path}")
    ask(iris, f"data.path={path}", f"output={tmp_path}/answers.parquet", "batch_size=1")
    table = parquet.read_table(tmp_path / "answers.parquet").to_pydict()
    assert table["predicted"] == [row["predicted"] for row in rows]
    assert table["probability"] == pytest.approx([float(row["probability"]) for row in rows], rel=1e-6)
    path = flowers(tmp_path, ["0.2,,5.1", "1.8,,6.0", "1.8,late,6.0"])
    ask(iris, f"data.path={path}", f"output={tmp_path}/gaps.parquet", "batch_size=1")
    assert parquet.read_table(tmp_path / "gaps.parquet")["name"].to_pylist() == [None, None, "late"]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["0.2,a,5.1", "x,b,6.0"], None, "row 2, column petal width (cm): 'x' is no finite number"),
        (["0.2,a,inf"], None, "row 1, column sepal length (cm): 'inf' is no finite number"),
        (["0.2,a,"], None, "row 1, column sepal length (cm) has no value"),
        (["0.2,a,5.1,9"], None, "row 1"),
        (["0.2,a,5.1"], "petal,name,sepal length (cm)", "has no column petal width (cm)"),
    ],
)
def test_a_bad_table_is_named_and_nothing_is_written(iris, tmp_path, rows, header, message) -> None:
    path = flowers(tmp_path, rows, *([header] if header else []))
    with pytest.raises(UserError) as error:
        ask(iris, f"data.path={path}", f"output={tmp_path}/out.csv")
    assert message in str(error.value) and "flowers.csv" in str(error.value)
    assert not list(tmp_path.glob("*out.csv*")) and not list(tmp_path.glob(".out*"))


def test_a_table_of_one_s_own_is_encoded_as_in_training(tmp_path, capsys) -> None:
    rows = [
        f"{i % 9},{('red', 'green', 'blue')[i % 3]},2024-01-{1 + i % 28:02},{('no', 'yes')[i % 2]}" for i in range(60)
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["size,colour,day,bought", *rows]) + "\n")
    model = checkpoint(tmp_path, "model=fnn", "data=csv", f"data.path={tmp_path}/mine.csv", "data.target=bought")
    with_target = answers(model, f"data.path={tmp_path}/mine.csv")
    # other columns, another order, another separator, no target; a missing value and a category that is new
    lines = [f"{i};{row.split(',')[1]};{row.split(',')[2]};{row.split(',')[0]}" for i, row in enumerate(rows)]
    (tmp_path / "new.csv").write_text("\n".join(["id;colour;day;size", *lines, "60;violet;2024-01-01;?"]) + "\n")
    capsys.readouterr()
    new = answers(model, f"data.path={tmp_path}/new.csv", "data.keep=[id]", "batch_size=7")
    assert "column colour: 1 cell of a category that training met once or not at all" in capsys.readouterr().out
    assert [row["id"] for row in new] == [str(i) for i in range(61)]
    for one, other in zip(with_target, new, strict=False):
        assert float(one["P(yes)"]) == pytest.approx(float(other["P(yes)"]), rel=1e-5)
    assert [row["id"] for row in answers(model, f"data.path={tmp_path}/new.csv")] == [row["id"] for row in new]
    assert "id" not in answers(model, f"data.path={tmp_path}/new.csv", "data.keep=[]")[0]
    assert "bought" not in with_target[0]  # what was learnt is no name of a row
    (tmp_path / "new.csv").write_text("id;colour;size\n1;red;3\n")
    with pytest.raises(UserError, match="has no column day"):
        answers(model, f"data.path={tmp_path}/new.csv")
    (tmp_path / "new.csv").write_text("colour;size;day\nred;big;2024-01-01\n")
    with pytest.raises(UserError, match="row 1, column size: 'big' is no finite number"):
        answers(model, f"data.path={tmp_path}/new.csv")


STREAM = """
import sys
from src.config import compose
from src.commands.predict import predict
from tests.process import limit_memory
for name in ("small", "large"):
    if name == "large":
        limit_memory(16)
    predict(compose([f"run={sys.argv[1]}", f"data.path={name}.csv", f"output={name}_out.csv"], "predict"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what a process allocates")
def test_predictions_stream(tmp_path) -> None:
    """300,000 rows, 32 MB of text, of which the names go to the output; the process may allocate 16 MB more."""
    rows = [f"{i % 97},{'red' if i % 3 else 'blue'},{f'customer {i % 7}':>90}.,{i % 2}" for i in range(10_000)]
    for name, times in (("small", 1), ("large", 30)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["size,colour,name,bought", *(rows * times)]) + "\n")
    options = ["data=csv", f"data.path={tmp_path}/small.csv", "data.target=bought", "data.ignore=[name]"]
    model = checkpoint(tmp_path, "model=fnn", "model.hidden_sizes=[4]", *options)
    command = [sys.executable, "-c", STREAM, str(model)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    small, large = ((tmp_path / f"{name}_out.csv").read_text().splitlines() for name in ("small", "large"))
    assert len(large) == 300_001 and large[:5_000] == small[:5_000] and large[-1].startswith("300000,customer 3.,")


def test_numbers_are_predicted_in_their_own_unit(tmp_path) -> None:
    model = checkpoint(tmp_path, "model=fnn", "data=diabetes")
    spec = load_model(model).spec
    means = ",".join(f"{mean:.4f}" for mean in spec.input.mean)
    (tmp_path / "patients.csv").write_text(",".join(spec.input.feature_names) + f"\n{means}\n")
    (row,) = answers(model, f"data.path={tmp_path}/patients.csv")
    assert 50 < float(row["predicted"]) < 300  # near the mean of the training split, 150, and not near 0


def test_the_first_rows_are_shown_however_many_come_at_a_time(iris, tmp_path, capsys) -> None:
    path = flowers(tmp_path, [f"0.{i},flower {i},5.1" for i in range(1, 9)])
    answers(iris, f"data.path={path}", "data.keep=[name]", "batch_size=1")
    out = capsys.readouterr().out
    assert all(f"flower {i} " in out for i in range(1, 9)) and "8 rows in" in out


def test_a_table_without_rows_is_refused(iris, tmp_path) -> None:
    with pytest.raises(UserError, match="flowers.csv has a header and no rows"):
        ask(iris, f"data.path={flowers(tmp_path, [])}", f"output={tmp_path}/out.csv")
    assert not (tmp_path / "out.csv").exists()


# outputs -------------------------------------------------------------------------------------------------------------


def test_an_output_that_exists_stays_unless_forced(iris, tmp_path) -> None:
    path, output = flowers(tmp_path, ["0.2,a,5.1"]), tmp_path / "mine.csv"
    output.write_text("precious")
    with pytest.raises(UserError, match="mine.csv exists: give another name, or force=true"):
        ask(iris, f"data.path={path}", f"output={output}")
    assert output.read_text() == "precious"
    ask(iris, f"data.path={path}", f"output={output}", "force=true")
    assert output.read_text().startswith("row,name,predicted")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=a.csv", "output=a.txt"], "output=a.txt: a name that ends in .csv, .parquet or .npz"),
        (["data.path=a.csv", "output=nowhere/a.csv"], "there is no folder"),
        (
            [],
            "data.path=FILE, text=TEXT for a model of texts, or num_samples=N for one that draws",
        ),
        (["data.path=a.csv", "text=hello"], "give what is to be predicted"),
        (["text=hello"], "text= is for a model of texts"),
        (["data.path=nowhere.csv"], "nowhere.csv cannot be read"),
        (["data.path=a.csv", "data.kep=[a]"], "data.kep: this model's data has no such option (did you mean keep?)"),
        (["data.path=a.csv", "beam_size=3"], "beam_size=3: FNN does not search with beams"),
        (["data.path=a.csv", "top_n=5"], "top_n=5 is for ranking, the task of run"),
        (["data.path=a.csv", "tokens=3"], "tokens=3 is for causal_lm, the task of run"),
        (["data.path=a.csv", "temperature=0.1"], "temperature=0.1 is for causal_lm, the task of run"),
        (["data.path=a.csv", "score_threshold=0.5"], "score_threshold=0.5 is for detection, the task of run"),
        (["data.path=a.csv", "class=7"], "class=7 is for num_samples, generation, the task of run"),
        (["data.path=a.csv", "explain_rows=3"], "explain_rows=3 is for explain=true"),
        (["data.path=a.csv", "seed=1"], "seed=1 is for "),
        (["data.path=a.csv", "context=x"], "context=x is for question_answering, the task of run"),
    ],
)
def test_what_cannot_be_asked(iris, tmp_path, monkeypatch, overrides, message) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        ask(iris, *overrides)
    assert message in str(error.value)
    assert not (tmp_path / "predictions.csv").exists()


def test_a_checkpoint_that_is_none_is_refused(tmp_path) -> None:
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    for name, message in (("broken.ckpt", "damaged, or no checkpoint"), ("missing.ckpt", "No such file")):
        with pytest.raises(UserError, match=message):
            ask(tmp_path / name, "data.path=a.csv", f"output={tmp_path}/p.csv")


# pictures ------------------------------------------------------------------------------------------------------------


def test_pictures_of_a_folder_are_named_and_scaled_to_the_levels_of_the_training_ones(tmp_path, capsys) -> None:
    from PIL import Image

    from src.data.images.classic import Digits

    model = checkpoint(tmp_path, "model=cnn", "data=digits")
    data = Digits()
    data.setup()
    x = data.splits["test"]["input"][:5]
    (tmp_path / "scans" / "deep").mkdir(parents=True)
    for i, picture in enumerate(x):
        grey = (picture[0].float() * 255 / 16).round().byte().numpy()
        Image.fromarray(grey).save(tmp_path / "scans" / ("deep" if i % 2 else "") / f"{i}.png")
    rows = answers(model, f"data.path={tmp_path}/scans", "batch_size=2")
    assert [row["file"] for row in rows] == ["0.png", "2.png", "4.png", "deep/1.png", "deep/3.png"]
    trained = load_model(model)
    with torch.inference_mode():
        right = trained.task.predict(trained(x[[0, 2, 4, 1, 3]]))
    assert [float(row["P(3)"]) for row in rows] == pytest.approx(right[:, 3].tolist(), rel=1e-5)
    (one,) = answers(model, f"data.path={tmp_path}/scans/2.png")
    assert one["file"] == "2.png" and float(one["P(3)"]) == pytest.approx(float(rows[1]["P(3)"]), rel=1e-5)
    for name in ("4.png", "deep/1.png"):
        (tmp_path / "scans" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match="4.png cannot be read as a picture"):
        answers(model, f"data.path={tmp_path}/scans")
    capsys.readouterr()
    fewer = answers(model, f"data.path={tmp_path}/scans", "data.on_bad=skip", "batch_size=1")
    assert [row["file"] for row in fewer] == ["0.png", "2.png", "deep/3.png"]
    assert [float(row["P(3)"]) for row in fewer] == pytest.approx([float(rows[i]["P(3)"]) for i in (0, 1, 4)], rel=1e-5)
    assert "2 of 5 pictures cannot be decoded and are left out: 4.png, deep/1.png" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"on_bad=skp is not known \(did you mean skip\?\)"):
        answers(model, f"data.path={tmp_path}/scans", "data.on_bad=skp")
    with pytest.raises(UserError, match="none of the 1 pictures in .* can be decoded"):
        answers(model, f"data.path={tmp_path}/scans/4.png", "data.on_bad=skip")


# series --------------------------------------------------------------------------------------------------------------


def quotes(path: Path, rows: int) -> Path:
    lines = [f"19{60 + i // 12}-{i % 12 + 1:02},{100 * 1.01**i:.6f},{1 + i % 7}" for i in range(rows)]
    path.write_text("\n".join(["month,price,noise", *lines]) + "\n")
    return path


@pytest.mark.parametrize("transform", ["none", "log", "diff", "log_diff"])
def test_a_forecast_is_in_the_file_s_own_unit_and_its_times_go_on(tmp_path, transform) -> None:
    """A model that answers the training mean: of a series that grows by 1 % a month, log_diff then is exactly right."""
    path = quotes(tmp_path / "quotes.csv", 60)
    options = ["data.context=6", "data.horizon=3", "data.time=month", "data.covariates=[noise]"]
    model = checkpoint(
        tmp_path, "model=lstm", "data=series", f"data.path={path}", f"data.transform={transform}", *options
    )
    content = torch.load(model, weights_only=True)
    for name in ("head.weight", "head.bias"):
        content["state_dict"][name].zero_()
    torch.save(content, model)
    rows = answers(model, f"data.path={path}")
    assert [row["month"] for row in rows] == ["1965-01", "1965-02", "1965-03"]
    assert list(rows[0]) == ["step", "month", "price"]
    train = torch.tensor([100 * 1.01**i for i in range(42)], dtype=torch.float64)  # 70 % of 60
    last = 100 * 1.01**59
    mean = {
        "none": [float(train.mean())] * 3,
        "log": [float(train.log().mean().exp())] * 3,
        "diff": [last + float(train.diff().mean()) * step for step in (1, 2, 3)],
        "log_diff": [last * 1.01**step for step in (1, 2, 3)],
    }[transform]
    # a differenced series is one row shorter, so its training split ends elsewhere by one
    assert [float(row["price"]) for row in rows] == pytest.approx(mean, rel=0.02 if transform == "diff" else 1e-4)
    with pytest.raises(UserError, match=f"has 5 rows, this model looks at the last {6 + transform.endswith('diff')}"):
        answers(model, f"data.path={quotes(tmp_path / 'short.csv', 5)}")


@pytest.mark.parametrize(
    ("times", "next_ones"),
    [
        (["1", "2", "3"], ["4", "5"]),
        (["0.5", "1.0", "1.5"], ["2", "2.5"]),
        (["1999-11", "1999-12"], ["2000-01", "2000-02"]),
        (["2000-01-01", "2000-02-01", "2000-03-01"], ["2000-04-01", "2000-05-01"]),
        (["2019-12-30", "2019-12-31"], ["2020-01-01", "2020-01-02"]),
        (["2016-07-01 22:00:00", "2016-07-01 23:00:00"], ["2016-07-02 00:00:00", "2016-07-02 01:00:00"]),
        (["2016-07-01T22:00", "2016-07-01T23:00"], ["2016-07-02T00:00", "2016-07-02T01:00"]),
        (["2016-07-01"], []),
    ],
)
def test_times_go_on_in_their_own_form(times, next_ones) -> None:
    assert following(times, 2) == next_ones


# texts ---------------------------------------------------------------------------------------------------------------


def prose(folder: Path) -> Path:
    path = folder / "prose.txt"
    path.write_text("the cat sat on the mat, and the dog sat by the door. " * 60)
    return path


def test_a_language_model_goes_on_from_a_prompt_the_same_for_the_same_seed(tmp_path, capsys) -> None:
    options = ["data=text_file", f"data.path={prose(tmp_path)}", "data.context=16", "model.width=16"]
    model = checkpoint(tmp_path, "model=gpt", *options, "model.num_layers=1")

    def written(*overrides: str) -> str:
        ask(model, "text=the cat", "tokens=12", *overrides)
        return capsys.readouterr().out

    first = written("seed=1")
    assert first == written("seed=1") != written("seed=2")
    assert first.startswith("text the cat\ncontinued ")
    assert 0 < len(first.partition("continued ")[2].removesuffix("\n")) <= 12
    greedy = written("temperature=0", "seed=3")
    assert greedy == written("top_k=1", "seed=4") == written("top_p=0.0001", "seed=5")
    (tmp_path / "prompts.txt").write_text("the dog\na door\n")
    rows = answers(model, f"data.path={tmp_path}/prompts.txt", "tokens=5")
    assert [row["text"] for row in rows] == ["the dog", "a door"] and all(len(row["continued"]) <= 5 for row in rows)
    for bad, message in (("text=", "text= is empty"), ("top_p=2", "top_p=2"), ("temperature=-1", "temperature=-1")):
        with pytest.raises(UserError, match=message):
            ask(model, bad, *(["text=the"] if "text" not in bad else []))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_recurrent_language_models_write_too(tmp_path, capsys, cell) -> None:
    options = ["task=causal_lm", "data=text_file", f"data.path={prose(tmp_path)}", "data.context=8"]
    ask(checkpoint(tmp_path, f"model={cell}", *options, "model.hidden_size=8"), "text=the cat", "tokens=20", "seed=1")
    assert 0 < len(capsys.readouterr().out.partition("continued ")[2].removesuffix("\n")) <= 20


def test_hidden_words_are_filled_in(tmp_path, capsys) -> None:
    options = ["data=text_file", "data.level=word", f"data.path={prose(tmp_path)}", "data.context=15"]
    model = checkpoint(tmp_path, "model=bert", "task=masked_lm", *options, "model.width=16", "model.num_layers=1")
    ask(model, "text=the [MASK], sat on [MASK] mat")
    out = capsys.readouterr().out
    assert "[MASK]" not in out.partition("predicted")[2] and out.count("(0.") == 2
    with pytest.raises(UserError, match=r"has no \[MASK\]"):
        ask(model, "text=the cat")
    with pytest.raises(UserError, match="has 21 tokens, the model was made for 16"):
        ask(model, f"text={'the ' * 20}[MASK]")


def labelled(folder: Path) -> Path:
    path = folder / "reviews.csv"
    rows = [f'"{word} film, {i}",{label}' for i in range(20) for word, label in (("good", "pos"), ("bad", "neg"))]
    path.write_text("\n".join(["review,label", *rows]) + "\n")
    return path


def test_texts_are_classified_from_lines_and_from_columns(tmp_path, capsys) -> None:
    path = labelled(tmp_path)
    options = ["data=text_csv", f"data.path={path}", "data.text=review", "data.level=word"]
    model = checkpoint(tmp_path, "model=gru", *options)
    by_column = answers(model, f"data.path={path}", "batch_size=7")
    assert len(by_column) == 40 and by_column[1]["text"] == "bad film, 0"
    lines = tmp_path / "lines.txt"
    lines.write_text("good film, 0\r\nbad film, 0\n")
    by_line = answers(model, f"data.path={lines}")
    pairs = zip(by_line, by_column, strict=False)
    assert all(float(one["P(pos)"]) == pytest.approx(float(other["P(pos)"]), rel=1e-5) for one, other in pairs)
    capsys.readouterr()
    ask(model, "text=a strange [one], isn't it? ${x}")  # commas, brackets and quotes mean nothing special
    out = capsys.readouterr().out
    assert "text a strange [one], isn't it? ${x}\n" in out and "vocabulary lacks: 1" in out
    ask(model, f"text={'good ' * 50}")
    assert "texts that were cut to" in capsys.readouterr().out
    lines.write_text("good\n\nbad\n")
    with pytest.raises(UserError, match="line 2 has no text"):
        answers(model, f"data.path={lines}")
    with pytest.raises(UserError, match="has no column text .known: label, review"):
        answers(model, f"data.path={path}", "data.text=text")


def test_an_encoder_decoder_writes_with_beams_where_asked(tmp_path, capsys) -> None:
    model = checkpoint(tmp_path, "model=t5", "data=dates", "data.rows=100", "model.width=16", "model.num_layers=1")
    ask(model, "text=3rd of March, 2024", "beam_size=2")
    assert capsys.readouterr().out.startswith("text 3rd of March, 2024\npredicted ")


def test_questions_are_answered_from_their_context(tmp_path, capsys) -> None:
    context = "Ada wrote the first program in London. " * 3
    at = context.index("London")
    articles = [
        {
            "title": f"a{i}",
            "paragraphs": [
                {
                    "context": context,
                    "qas": [{"id": f"q{i}", "question": "Where?", "answers": [{"text": "London", "answer_start": at}]}],
                }
            ],
        }
        for i in range(5)
    ]
    (tmp_path / "squad.json").write_text(json.dumps({"data": articles}))
    options = ["data=squad", f"data.path={tmp_path}/squad.json", "data.max_tokens=48", "data.stride=16"]
    model = checkpoint(tmp_path, "model=bert", *options, "model.width=16", "model.num_layers=1")
    ask(model, "text=Where?", f"context={context}")
    out = capsys.readouterr().out
    answer = out.partition("predicted ")[2].partition("\n")[0]
    place = int(out.partition("character ")[2])
    assert answer and context[place:].startswith(answer)
    for article in articles:  # whoever asks does not know the answer
        for question in article["paragraphs"][0]["qas"]:
            del question["answers"]
    (tmp_path / "asked.json").write_text(json.dumps({"data": articles}))
    rows = answers(model, f"data.path={tmp_path}/asked.json")
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(5)] and {row["predicted"] for row in rows} == {answer}
    with pytest.raises(UserError, match="a question needs the text that answers it"):
        ask(model, "text=Where?")
    with pytest.raises(UserError, match="has no context"):
        ask(model, "text=Where?", "context= ")


# the command ---------------------------------------------------------------------------------------------------------


def test_a_run_is_found_and_its_predictions_lie_in_the_working_directory(lab, tmp_path) -> None:
    for width in (8, 16):
        small = [f"model.hidden_sizes=[{width}]", "trainer.max_epochs=2", "tracking.system_metrics=false"]
        assert lab.train("model=fnn", "data=iris", *small).code == 0
    accuracy = {run.info.run_id: run.data.metrics["val/loss_best"] for run in lab.runs()}
    best = min(accuracy, key=accuracy.get)
    flowers(tmp_path, ["0.2,a,5.1", "1.8,b,6.0"])
    by_name = {}
    for reference in ("last", lab.runs()[0].info.run_id[:8], "best:val/loss", best):
        result = lab.run("predict", f"run={reference}", "data.path=flowers.csv", "force=true")
        assert result.code == 0, result.err
        assert f"2 rows in {tmp_path}{os.sep}predictions.csv" in result.out
        by_name[reference] = (tmp_path / "predictions.csv").read_text()
    assert len({by_name["last"], by_name[lab.runs()[0].info.run_id[:8]]}) == 1
    assert by_name["best:val/loss"] == by_name[best]
    for arguments, message in (
        (["run=best:val/wer", "data.path=flowers.csv"], "wer is no metric of a task"),
        (["run=best:val/bleu", "data.path=flowers.csv"], "no finished run"),
        (["data.path=flowers.csv"], "run: has no default"),
        (["run=last", "data.path=flowers.csv", "txt=a"], "txt: unknown option (did you mean text?)"),
        (["run=last", "data.path=flowers.csv"], "predictions.csv exists"),
    ):
        result = lab.run("predict", "output=p.csv" if "best" in arguments[0] else "seed=0", *arguments)
        assert (result.code, result.err.count("\n")) == (2, 1) and message in result.err
