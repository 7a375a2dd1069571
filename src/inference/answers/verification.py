"""Embeddings of new images, and similarities of pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from src.data.core import inputs
from src.data.images import pairs
from src.inference.answers.base import Columns, Request, register_answer, source_of
from src.inference.load import Trained
from src.metrics.verification import alike
from src.tasks.verification.task import Verification


@register_answer("verification")
def embedded(trained: Trained, request: Request) -> Iterator[Columns]:
    """Embed each picture; of listed pairs give the similarity, and whether it is that of the same class."""
    model, listed = trained.model, request.file.suffix in (".csv", ".tsv")
    if listed:
        options = request.options("root", "_target_", "seed", "eval_batch_size")
        path = request.file
        root = Path(options["root"]).expanduser().absolute() if options.get("root") else path.parent
        source: inputs.Inputs = pairs.Pairs(model.spec, path=path, root=root)
        assert isinstance(model.task, Verification)
        threshold = model.task.threshold
        decides = not math.isnan(threshold)
        told = "where the validation's equal error rate lies" if decides else "unknown: the run was never validated"
        trained.notes.append(f"the threshold of the similarity is {threshold:.4f}, {told}")
    else:
        source = source_of(trained, request)
    for rows in source.batches(request.batch_size):
        outputs = model.outputs({"input": rows.input.to(model.device)})
        embeddings = model.task.predict(outputs)
        if listed:
            scores = alike(embeddings).tolist()
            decided = {"same": [score >= threshold for score in scores]} if decides else {}
            yield rows.names | {"similarity": scores} | decided
        elif str(request.output).endswith(".npz"):
            yield rows.names | {"embedding": embeddings.tolist()}
        else:
            yield rows.names | model.task.columns(embeddings.cpu())
    trained.notes += source.notes
