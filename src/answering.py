"""Answers of a trained run about new rows: one way for each task, from what is asked to columns of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torchvision.transforms.functional import to_pil_image

from src import recommending
from src.data import image_pairs, letterbox, squad, unseen
from src.errors import UserError, suggest
from src.models.sampling import generate
from src.reports import attribution, detections
from src.reports.summary import SCORED
from src.tasks.answers import best_span
from src.tasks.pairs import alike
from src.text import BOS, EOS, MASK, SPECIAL, UNK, Tokenizer
from src.trained import Trained

Columns = dict[str, list[Any]]
READING = ("separator", "header", "encoding", "missing")  # options of a table's file
TEXTS = ("tokens", "pairs")  # kinds of data whose rows are texts

# one way for each kind of answer: (trained, config) -> some rows at a time -------------------------------------------


def labelled(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """One answer a row: a class, a number, a score, the text that an encoder-decoder writes."""
    model = trained.model
    source = _source(trained, config)
    folder = _came_back(trained, config) if model.task.name in SCORED and model.spec.kind == "image" else None
    explained = _explained(trained, config) if config.explain else None
    for rows in source.batches(config.batch_size):
        answers = model.predict_step({"input": rows.input.to(model.device)}, 0)
        columns = rows.names | model.task.columns(answers.cpu())
        if folder is not None:
            for place, image in zip(_places(rows), model.images(answers[:, :-1]), strict=True):
                file = folder / f"{place}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                to_pil_image(image.cpu()).save(file)
        yield columns | (explained(rows) if explained else {})
    trained.notes += source.notes


def _came_back(trained: Trained, config: DictConfig) -> Path:
    """Where pictures go that came back.

    Raises:
        UserError: the folder exists.
    """
    folder = _beside(config, "reconstructed")
    trained.notes.append(f"the pictures that came back are in {folder}")
    return folder


def _beside(config: DictConfig, what: str) -> Path:
    """A folder of pictures beside the output.

    Raises:
        UserError: it exists.
    """
    output = Path(config.output or "predictions.csv").expanduser().absolute()
    folder = output.with_name(f"{output.stem}_{what}")
    if folder.exists() and not config.force:
        raise UserError(f"{folder} exists: give another output, or force=true to write over its pictures")
    return folder


def _places(rows: unseen.Rows) -> list[str]:
    """What tells the rows apart: their files, or their numbers and parts."""
    if "file" in rows.names:
        return rows.names["file"]
    parts = rows.names.get("part", [""] * len(rows.names["row"]))
    return [f"{part} row {row}".strip() for part, row in zip(parts, rows.names["row"], strict=True)]


def _explained(trained: Trained, config: DictConfig) -> Callable[[unseen.Rows], Columns]:
    """What predictions of some rows rest on, as columns beside them; of pictures, as files of the first ones.

    Raises:
        UserError: the folder of these files exists.
    """
    model = trained.model
    if model.spec.kind != "image":
        return lambda rows: attribution.columns(model, rows.input)
    from src.reports import attribution_figures  # matplotlib: not before it is needed

    folder = _beside(config, "explained")
    trained.notes.append(f"what the first {config.explain_rows} predictions rest on is in {folder}")
    done = 0

    def draw(rows: unseen.Rows) -> Columns:
        nonlocal done
        names = _places(rows)[: config.explain_rows - done]
        if names:
            attribution_figures.save_pictures(folder, model, rows.input[: len(names)], names, done + 1)
        done += len(names)
        return {}

    return draw


def continued(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """What a language model writes after each text."""
    model = trained.model
    tokenizer = Tokenizer(model.spec.tokenizer)
    begin = [BOS] if model.spec.token_counts[BOS] else []
    for number, text in enumerate(_texts(trained, config), start=1):
        ids = begin + tokenizer.encode([text])[0]
        if UNK in ids:
            trained.notes.append(f"text {number} has signs or words that the model's vocabulary lacks")
        written = generate(
            model,
            torch.tensor([ids], device=model.device),
            config.tokens,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            seed=config.seed,
        )
        yield {"row": [number], "text": [text], "continued": [tokenizer.decode(written[0, len(ids) :].tolist())]}


def filled(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The likeliest token for each `[MASK]` of each text."""
    model = trained.model
    tokenizer, longest = Tokenizer(model.spec.tokenizer), model.spec.input_shape[0]
    names, never = tokenizer.tokens(), torch.arange(len(SPECIAL), device=model.device)
    for number, text in enumerate(_texts(trained, config), start=1):
        pieces = tokenizer.encode(text.split("[MASK]"))
        if len(pieces) == 1:
            raise UserError(f"text {number} has no [MASK] for the model to fill in")
        ids = [BOS, *(token for piece in pieces for token in (*piece, MASK))][:-1] + [EOS]
        if not model.spec.token_counts[BOS]:
            ids = ids[1:-1]
        if len(ids) > longest:
            raise UserError(f"text {number} has {len(ids)} tokens, the model was made for {longest}")
        tokens = torch.tensor([ids], device=model.device)
        probability, guess = model.task.predict(model(tokens))[0].index_fill(-1, never, 0).max(-1)
        hidden = (tokens[0] == MASK).nonzero().squeeze(1).tolist()
        guesses = [f"{names[guess[i]]} ({probability[i]:.3f})" for i in hidden]
        whole = torch.where(tokens[0] == MASK, guess, tokens[0])
        yield {"row": [number], "text": [text], "predicted": [tokenizer.decode(whole.tolist())], "tokens": [guesses]}


def answered(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The stretch of its context that answers each question: the best of all windows."""
    model, options = trained.model, trained.data_options
    tokenizer = Tokenizer(model.spec.tokenizer)
    for question in _questions(config):
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


def forecast(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The steps after the last row of a csv file, in the file's own units."""
    model, spec = trained.model, trained.model.spec
    options = trained.data_options | _options(config, ("time", "gaps"))
    series = unseen.latest(spec, _path(config), options)
    values = series.restored(model.predict_step({"input": series.input.to(model.device)}, 0)[0].cpu())
    columns: Columns = {"step": list(range(1, spec.horizon + 1))}
    if series.times:
        columns[options.get("time", "date")] = series.times
    names = spec.feature_names[: values.shape[1]]
    yield columns | {name: values[:, i].tolist() for i, name in enumerate(names)}


def detected(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The boxes of each picture in its own pixels, a row each, and the pictures with them, in a folder."""
    model, path = trained.model, _path(config)
    on_bad = _options(config, ("on_bad",)).get("on_bad", "error")
    if on_bad not in (known := ("error", "skip")):
        raise UserError(f"data.on_bad={on_bad} is not known{suggest(str(on_bad), known)}")
    source = unseen.Scenes(model.spec, path=path, on_bad=on_bad)
    folder, root = _beside(config, "boxes"), path if path.is_dir() else path.parent
    trained.notes.append(f"the pictures with their boxes are in {folder}")
    for rows in source.batches(config.batch_size):
        answers = model.predict_step({"input": rows.input.to(model.device)}, 0).cpu()
        files = rows.names["file"]
        sizes = [letterbox.dimensions(root / file) for file in files]
        images = [(file, *size) for file, size in zip(files, sizes, strict=True)]
        factors = letterbox.scales(torch.tensor(sizes), tuple(model.spec.input_shape[1:]))
        found = detections.columns(model.spec, answers, images, factors, config.least_score)
        for file in files:
            detections.save(folder / f"{file}.png", letterbox.picture(root / file), found, file, model.spec)
        yield found
    trained.notes += source.notes


def embedded(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The embedding of each picture; of listed pairs how alike the two are, and whether that makes them the same."""
    model, listed = trained.model, Path(config.data.path).suffix in (".csv", ".tsv")
    if listed:
        options = _options(config, ("root", "_target_", "seed", "eval_batch_size"))
        path = _path(config)
        root = Path(options["root"]).expanduser().absolute() if options.get("root") else path.parent
        source: unseen.Unseen = image_pairs.Pairs(model.spec, path=path, root=root)
        threshold = model.task.threshold
        decides = not math.isnan(threshold)
        told = "where the validation's equal error rate lies" if decides else "unknown: the run was never validated"
        trained.notes.append(f"the threshold of the similarity is {threshold:.4f}, {told}")
    else:
        source = _source(trained, config)
    for rows in source.batches(config.batch_size):
        outputs = model.outputs({"input": rows.input.to(model.device)})
        embeddings = model.task.predict(outputs)
        if listed:
            scores = alike(embeddings).tolist()
            decided = {"same": [score >= threshold for score in scores]} if decides else {}
            yield rows.names | {"similarity": scores} | decided
        elif str(config.output).endswith(".npz"):
            yield rows.names | {"embedding": embeddings.tolist()}
        else:
            yield rows.names | model.task.columns(embeddings.cpu())
    trained.notes += source.notes


def ranked(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The first items of each user's list, of those that the user has not taken yet."""
    return recommending.ranked(trained, _path(config), _options(config, recommending.COLUMNS), config.top)


def rated(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The rating of each row's item by its user."""
    return recommending.rated(trained, _path(config), _options(config, recommending.COLUMNS), config.batch_size)


ANSWERS: dict[str, Callable[[Trained, DictConfig], Iterator[Columns]]] = {
    "causal_lm": continued,
    "masked_lm": filled,
    "question_answering": answered,
    "forecasting": forecast,
    "detection": detected,
    "verification": embedded,
    "ranking": ranked,
    "rating": rated,
}


# what is asked -------------------------------------------------------------------------------------------------------


def _source(trained: Trained, config: DictConfig) -> unseen.Unseen:
    spec = trained.model.spec
    if spec.kind in TEXTS:
        return unseen.Texts(spec, texts=_texts(trained, config))
    if spec.kind in ("image", "table") and _path(config).suffix == ".npz":
        given = {"inputs": trained.data_options.get("inputs")} | _options(config, ("inputs", "part"))
        return unseen.Arrays(spec, path=_path(config), **given)
    if spec.kind == "image":
        on_bad = _options(config, ("on_bad",)).get("on_bad", "error")
        if on_bad not in (known := ("error", "skip")):
            raise UserError(f"data.on_bad={on_bad} is not known{suggest(str(on_bad), known)}")
        source = unseen.Sounds if spec.sound else unseen.Pictures
        return source(spec, path=_path(config), on_bad=on_bad)
    if spec.kind == "table":
        reading = {name: trained.data_options.get(name) for name in READING}
        reading |= _options(config, ("keep", *READING))
        keep, target = reading.pop("keep", None), trained.data_options.get("target")
        if reading["missing"] is None:
            del reading["missing"]
        return unseen.Table(
            spec,
            path=_path(config),
            target=None if target is None else str(target),
            keep=None if keep is None else [str(name) for name in keep],
            reading=reading,
        )
    raise UserError(f"run {trained.name}: {spec.kind} data of the task {trained.model.task.name} has no form as a file")


def _texts(trained: Trained, config: DictConfig) -> Sequence[str]:
    given = _options(config, ("text",))
    if config.text is not None:
        if not config.text.strip():
            raise UserError("text= is empty: give at least one word")
        return [config.text]
    return unseen.read_lines(_path(config), given.get("text") or trained.data_options.get("text") or "text")


def _questions(config: DictConfig) -> Sequence[squad.Question]:
    _options(config, ())
    if config.text is None:
        return squad.read_questions(_path(config), answered=False)
    if config.context is None:
        raise UserError("a question needs the text that answers it: context=TEXT")
    return [squad.Question("text", 0, config.text, config.context, "", 0)]


def _path(config: DictConfig) -> Path:
    return Path(config.data.path).expanduser().absolute()


def _options(config: DictConfig, known: Sequence[str]) -> dict[str, Any]:
    """What `data` says beside the path."""
    options: dict[str, Any] = OmegaConf.to_container(config.data, resolve=True)  # type: ignore[assignment]
    options.pop("path", None)
    for name in options:
        if name not in known:
            raise UserError(f"data.{name}: this model's data has no such option{suggest(name, known)}")
    return options
