"""Metrics of scores that tell pairs of one class from pairs of two: equal error rate, true accepts, AUROC.

All pairs of some rows count, each once. ISO/IEC 19795-1 has the error rates; recall at 1 is that of retrieval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

FAR = 0.01  # of pairs of two classes, the share that may be accepted
EXACT = 1 << 23  # pairs up to which each score is a threshold of its own
BINS = 1 << 16  # of the scores of more pairs
CHUNK = 1 << 24  # pairs whose scores are in memory at once
POINTS = 400  # of a curve


class Rates(NamedTuple):
    """Effect of a threshold on the score, from the strictest to the mildest one, which accepts all (T,).

    Attributes:
        threshold: pairs of at least this score are accepted.
        accepted: share of the pairs of one class that is.
        false: share of the pairs of two classes that is.
    """

    threshold: Tensor
    accepted: Tensor
    false: Tensor

    @classmethod
    def of(cls, scores: Tensor, same: Tensor) -> Rates:
        """Curve of pairs (P,), each score a threshold."""
        scores, order = scores.sort(descending=True, stable=True)
        last = torch.ones_like(scores, dtype=torch.bool)
        last[:-1] = scores[1:] != scores[:-1]
        right = same[order].cumsum(0)
        wrong = torch.arange(1, len(right) + 1, device=right.device) - right
        return cls.from_counts(scores[last], right[last], wrong[last])

    @classmethod
    def from_counts(cls, threshold: Tensor, right: Tensor, wrong: Tensor) -> Rates:
        """Curve of thresholds (T,) from how many pairs of one class and of two each of them accepts, (T,) and (T,)."""
        right, wrong = right.cpu().double(), wrong.cpu().double()  # not every device has doubles
        return cls(threshold.cpu().double(), right / right[-1:], wrong / wrong[-1:])

    @property
    def known(self) -> bool:
        """True if there were pairs of both kinds."""
        return bool(len(self.threshold) and self.accepted.isfinite().all() and self.false.isfinite().all())

    def equal_error(self) -> tuple[float, float]:
        """(rate, threshold) where as many pairs of two classes are accepted as of one are refused, in shares; on a
        straight line between the two thresholds next to it.
        """
        missed, false = 1 - self.accepted, self.false
        place = int((false >= missed).long().argmax())  # the mildest one accepts all: false is 1 there, missed 0
        before_missed, before_false = (float(missed[place - 1]), float(false[place - 1])) if place else (1.0, 0.0)
        gap, step = before_missed - before_false, float(false[place] - missed[place])
        part = gap / (gap + step) if gap + step else 0.0
        rate = before_false + part * (float(false[place]) - before_false)
        return rate, float(self.threshold[place])

    def accepted_at(self, false: float = FAR) -> float:
        """The largest share of pairs of one class that a threshold accepts which accepts at most so many others."""
        return float(torch.where(self.false <= false, self.accepted, 0.0).max())

    def at(self, threshold: float) -> tuple[float, float]:
        """(accepted, false) of one threshold."""
        place = int((self.threshold >= threshold).sum()) - 1
        return (float(self.accepted[place]), float(self.false[place])) if place >= 0 else (0.0, 0.0)

    def auroc(self) -> float:
        """Probability that a pair of one class has the higher score, ties counted half."""
        zero = self.accepted.new_zeros(1)
        return float(torch.trapezoid(torch.cat([zero, self.accepted]), torch.cat([zero, self.false])))

    def thinned(self) -> Rates:
        """Few enough thresholds to be drawn, close together where few pairs are accepted."""
        count = len(self.threshold)
        if count <= POINTS:
            return self
        steps = torch.cat([torch.logspace(0, torch.tensor(float(count)).log10(), POINTS // 2, dtype=torch.float64) - 1,
                           torch.linspace(0, count - 1, POINTS // 2, dtype=torch.float64)])  # fmt: skip
        rows = steps.long().clamp(0, count - 1).unique().to(self.threshold.device)
        return Rates(*(column[rows] for column in self))


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """1 - d^2 / 2 of all pairs of rows (N, E) and (M, E) at distance d: of unit length it is the cosine (N, M)."""
    lengths = first.square().sum(1, keepdim=True) + second.square().sum(1)
    return 1 + first @ second.T - lengths / 2


def alike(rows: Tensor) -> Tensor:
    """The similarity of listed pairs: rows (P, 2, E) to (P,)."""
    return 1 - (rows[:, 0] - rows[:, 1]).square().sum(-1) / 2


class Compared(NamedTuple):
    """Some rows beside all: similarity, whether the class is the same, whether the pair counts (it is neither of a row
    with itself nor of two copies), and whether it comes the first time, each (B, N).
    """

    scores: Tensor
    same: Tensor
    counts: Tensor
    first: Tensor


def compared(rows: Tensor, target: Tensor, draw: Tensor | None = None) -> Iterator[Compared]:
    """All pairs of rows (N, E), as many at a time as fit in memory.

    Args:
        target: the class of each (N,).
        draw: of rows drawn anew, class by class, the number of the draw (N,): of a class drawn twice no row is
            compared with those of the other draw, which are the same pictures.
    """
    number = torch.arange(len(rows), device=rows.device)
    for some in number.split(max(1, CHUNK // max(1, len(rows)))):
        same = target[some].unsqueeze(1) == target
        counts = some.unsqueeze(1) != number
        if draw is not None:
            counts &= ~same | (draw[some].unsqueeze(1) == draw)
        yield Compared(similarity(rows[some], rows), same, counts, counts & (number > some.unsqueeze(1)))


def rates(rows: Tensor, target: Tensor, draw: Tensor | None = None) -> Rates:
    """Error rates over all pairs of rows (N, E)."""
    if len(rows) * (len(rows) - 1) // 2 <= EXACT:
        pairs = [(one.scores[one.first], one.same[one.first]) for one in compared(rows, target, draw)]
        scores, same = zip(*pairs, strict=True)
        return Rates.of(torch.cat(scores), torch.cat(same))
    spans = [one.scores[one.first].aminmax() for one in compared(rows, target, draw)]
    low, high = min(float(span.min) for span in spans), max(float(span.max) for span in spans)
    width = max(high - low, 1e-12) / BINS
    right = wrong = torch.zeros(BINS, dtype=torch.int64, device=rows.device)
    for one in compared(rows, target, draw):
        place = ((high - one.scores) / width).long().clamp(0, BINS - 1)
        right = right + torch.bincount(place[one.first & one.same], minlength=BINS)
        wrong = wrong + torch.bincount(place[one.first & ~one.same], minlength=BINS)
    threshold = high - width * torch.arange(1, BINS + 1, dtype=torch.float64)
    return Rates.from_counts(threshold, right.cumsum(0), wrong.cumsum(0))


def nearest_is_right(rows: Tensor, target: Tensor, draw: Tensor | None = None) -> float:
    """Share of the rows whose most alike other row is of their class, of those that have another one of it."""
    right = total = 0
    for one in compared(rows, target, draw):
        best = one.scores.masked_fill(~one.counts, -torch.inf).argmax(1, keepdim=True)
        asked = (one.same & one.counts).any(1)
        right += int((one.same.gather(1, best).squeeze(1) & asked).sum())
        total += int(asked.sum())
    return right / total if total else torch.nan


def contrast(rows: Tensor, target: Tensor, temperature: float, draw: Tensor | None = None) -> float:
    """The supervised contrastive loss of all rows as one batch; see `supcon`."""
    losses = []
    for one in compared(rows, target, draw):
        logits = (one.scores / temperature).masked_fill(~one.counts, -torch.inf)
        share = logits - logits.logsumexp(1, keepdim=True)
        wanted = one.same & one.counts
        asked = wanted.any(1)
        losses.append(-(share.masked_fill(~wanted, 0).sum(1)[asked] / wanted.sum(1)[asked]))
    return float(torch.cat(losses).mean()) if losses else torch.nan


class PairMetric(tm.Metric):
    """Base of the metrics of all pairs of an epoch's rows, which it keeps.

    Takes embeddings (N, E) with their classes (N,), or with class and draw (N, 2); or the similarity of listed pairs
    (P,) with whether each is of one class (P,) bool, which have no nearest row and no contrast.
    """

    full_state_update = False
    rows: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, rows: Tensor, target: Tensor) -> None:
        """Keep rows and what is known of their classes."""
        self.rows.append(rows)
        self.target.append(target)

    def gathered(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """All rows so far, their classes, and their draws where rows were drawn anew."""
        rows, target = (torch.cat(part) if isinstance(part, list) else part for part in (self.rows, self.target))
        return (rows, target[:, 0], target[:, 1]) if target.ndim == 2 else (rows, target, None)

    def rates(self) -> Rates:
        """Error rates of all pairs so far."""
        rows, target, draw = self.gathered()
        return Rates.of(rows, target) if rows.ndim == 1 else rates(rows, target, draw)


class VerificationMetrics(PairMetric):
    """All verification metrics by name; each is not a number where it has no pair to be told from.

    Args:
        temperature: divisor of the similarities in the contrastive loss.

    Attributes:
        threshold: where the equal error rate lies, once computed.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.threshold = torch.nan

    def compute(self) -> dict[str, Tensor]:
        """Metrics of all pairs so far, as scalars."""
        rows, target, draw = self.gathered()
        found = self.rates()
        eer, self.threshold = found.equal_error() if found.known else (torch.nan, torch.nan)
        figures = {
            "eer": eer,
            "tar_at_1_percent": found.accepted_at() if found.known else torch.nan,
            "auroc": found.auroc() if found.known else torch.nan,
        }
        if rows.ndim == 2:
            figures["recall_at_1"] = nearest_is_right(rows, target, draw)
            figures["loss"] = contrast(rows, target, self.temperature, draw)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}


class VerificationCurve(PairMetric):
    """Thresholds, accepted and falsely accepted shares, few enough to be drawn, each (T,); and the equal error rate."""

    @override
    def compute(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Curve of all pairs so far: three tensors (T,) and a scalar."""
        found = self.rates()
        eer = found.equal_error()[0] if found.known else torch.nan
        return (*found.thinned(), torch.tensor(eer, dtype=torch.float64))
