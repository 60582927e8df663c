"""What does a small demonstration model learn, and is it better than knowing each gene's mean? Masked prediction.

One task per family, each the published pre-training objective: scGPT predicts the binned value of masked genes
(squared error, head ``decoder.fc``), Geneformer predicts which gene sits at a masked rank (cross-entropy, head
``cls.predictions``). A held-out error comes with the error of a predictor that knows only each gene's mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from regulens.models.geneformer import Geneformer
from regulens.models.scgpt import ScGPT

#: Folds of the held-out masks: every held-out token is masked in exactly one of them.
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequences:
    """Tokenised cells without padding: per cell the token ids and, for scGPT, the bins; `origin` is the data set."""

    tokens: list[np.ndarray]
    values: list[np.ndarray] | None
    origin: np.ndarray

    def take(self, index: np.ndarray) -> Sequences:
        """Cells at `index`."""
        values = None if self.values is None else [self.values[i] for i in index]
        return Sequences(tokens=[self.tokens[i] for i in index], values=values, origin=self.origin[index])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Cropped and masked cells, right-padded, shape ``(cell, position)`` each."""

    tokens: torch.Tensor
    values: torch.Tensor | None
    ranks: torch.Tensor
    mask: torch.Tensor
    hidden: torch.Tensor


class Task(Protocol):
    """What training needs to know about a family."""

    fraction: float

    def prepare(self, train: Sequences) -> None:
        """Set what is better set than learned, from training cells only."""
        ...

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean loss over the hidden positions."""
        ...

    def held_out(self, train: Sequences, test: Sequences, rng: np.random.Generator) -> dict[str, Any]:
        """Errors on cells that were not trained on, beside those of knowing each gene's mean."""
        ...


def make_batch(
    cells: Sequences, index: np.ndarray, *, crop: int, fraction: float, first: int, rng: np.random.Generator
) -> Batch:
    """Crop cells to random subsets of tokens and choose the tokens to hide.

    Parameters
    ----------
    cells, index
        Cells and the rows to take.
    crop
        Longest sequence. Kept tokens stay in order and keep their rank.
    fraction
        Share of tokens to hide, at least one.
    first
        Leading special tokens, which are neither cropped nor hidden.
    """
    length = min(crop, max(len(cells.tokens[i]) for i in index))
    shape = (len(index), length)
    tokens, ranks = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    values = np.zeros(shape, dtype=np.float32)
    mask, hidden = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for n, i in enumerate(index):
        own = np.arange(len(cells.tokens[i]))
        if len(own) > crop:
            rest = np.sort(rng.permutation(len(own) - first)[: crop - first]) + first
            own = np.concatenate([own[:first], rest])
        m = len(own)
        tokens[n, :m], ranks[n, :m], mask[n, :m] = cells.tokens[i][own], own, True
        if cells.values is not None:
            values[n, :m] = cells.values[i][own]
        chosen = rng.permutation(m - first)[: max(1, round(fraction * (m - first)))] + first
        hidden[n, chosen] = True
    return Batch(
        tokens=torch.from_numpy(tokens),
        values=None if cells.values is None else torch.from_numpy(values),
        ranks=torch.from_numpy(ranks),
        mask=torch.from_numpy(mask),
        hidden=torch.from_numpy(hidden),
    )


def _folds(n: int, first: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of every position, −1 for leading special tokens."""
    return np.concatenate([np.full(first, -1), rng.permutation(n - first) % FOLDS])


def gene_means(tokens: list[np.ndarray], values: list[np.ndarray], rows: int) -> np.ndarray:
    """Mean value per vocabulary id over cells in which it was a token; the overall mean where it never was."""
    ids, flat = np.concatenate(tokens), np.concatenate(values).astype(np.float64)
    n = np.bincount(ids, minlength=rows)
    sums = np.bincount(ids, weights=flat, minlength=rows)
    return np.where(n > 0, sums / np.maximum(n, 1), flat.mean())


def _baseline(train: Sequences, values: list[np.ndarray], rows: int) -> dict[int, np.ndarray]:
    """Per data set, `gene_means` over its training cells: the strictest reading of "each gene's mean"."""
    out = {}
    for origin in np.unique(train.origin):
        own = np.flatnonzero(train.origin == origin)
        out[int(origin)] = gene_means([train.tokens[i] for i in own], [values[i] for i in own], rows)
    return out


class ScGPTTask:
    """Predict the bins of masked genes from the genes that are left."""

    first = 1
    fraction = 0.4

    def __init__(self, network: ScGPT, *, mask_value: float) -> None:
        self.network, self.mask_value = network, mask_value

    def prepare(self, train: Sequences) -> None:
        """Nothing to set."""

    def _predict(self, batch: Batch) -> torch.Tensor:
        values = torch.where(batch.hidden, torch.tensor(self.mask_value), batch.values)
        return self.network.predict(self.network(batch.tokens, values, batch.mask))

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean squared error of the hidden bins."""
        return F.mse_loss(self._predict(batch)[batch.hidden], batch.values[batch.hidden])

    @torch.no_grad()
    def held_out(self, train: Sequences, test: Sequences, rng: np.random.Generator) -> dict[str, Any]:
        """Mean squared error of hidden bins; baseline: the gene's mean bin over training cells of the data set."""
        self.network.eval()
        rows = self.network.encoder.embedding.num_embeddings
        means = _baseline(train, train.values, rows)
        model, mean, origin = [], [], []
        for tokens, values, o in zip(test.tokens, test.values, test.origin):
            fold = _folds(len(tokens), self.first, rng)
            for f in range(FOLDS):
                own = fold == f
                batch = Batch(
                    tokens=torch.from_numpy(tokens)[None],
                    values=torch.from_numpy(values)[None],
                    ranks=torch.arange(len(tokens))[None],
                    mask=torch.ones(1, len(tokens), dtype=torch.bool),
                    hidden=torch.from_numpy(own)[None],
                )
                predicted = self._predict(batch)[0].double().numpy()
                model.append((predicted[own] - values[own]) ** 2)
                mean.append((means[int(o)][tokens[own]] - values[own]) ** 2)
                origin.append(np.full(own.sum(), o))
        return _compare("mean squared error of masked bins", model, mean, origin)


class GeneformerTask:
    """Predict which gene sits at a masked rank from the genes that are left."""

    first = 0
    #: Published: 0.15. A short training gets more out of a pass with more to predict.
    fraction = 0.3

    def __init__(self, network: Geneformer, *, mask_id: int) -> None:
        self.network, self.mask_id = network, mask_id

    @torch.no_grad()
    def prepare(self, train: Sequences) -> None:
        """Start the output biases at the logarithms of the genes' frequencies, so that training begins above them."""
        bias = self.network.cls.predictions.bias
        counts = np.bincount(np.concatenate(train.tokens), minlength=len(bias)) + 1.0
        bias.copy_(torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32)))

    def _logits(self, batch: Batch) -> torch.Tensor:
        tokens = torch.where(batch.hidden, self.mask_id, batch.tokens)
        return self.network.predict(self.network(tokens, batch.mask, batch.ranks)[batch.hidden])

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the hidden genes."""
        return F.cross_entropy(self._logits(batch), batch.tokens[batch.hidden])

    @torch.no_grad()
    def held_out(self, train: Sequences, test: Sequences, rng: np.random.Generator) -> dict[str, Any]:
        """Cross-entropy against gene frequencies, and error of masked genes' expression ranks against each gene's mean.

        Notes
        -----
        The rank error: the masked genes of a cell are put in the masked places in the order of their expected rank,
        once by the model (its probability of the gene at each place) and once by the gene's mean relative rank over
        training cells of the data set. Both know the same masked genes and places. The error is the mean squared
        difference of relative rank (0 first, 1 last).
        """
        self.network.eval()
        rows = self.network.bert.embeddings.word_embeddings.num_embeddings
        relative = [np.arange(len(t)) / max(len(t) - 1, 1) for t in train.tokens]
        means = _baseline(train, relative, rows)
        frequency = {}
        for o in np.unique(train.origin):
            ids = np.concatenate([train.tokens[i] for i in np.flatnonzero(train.origin == o)])
            n = np.bincount(ids, minlength=rows) + 1.0
            frequency[int(o)] = np.log(n / n.sum())
        parts: dict[str, list[np.ndarray]] = {k: [] for k in ("ce", "ce0", "rank", "rank0", "origin")}
        for tokens, o in zip(test.tokens, test.origin):
            fold = _folds(len(tokens), self.first, rng)
            places = np.arange(len(tokens)) / max(len(tokens) - 1, 1)
            for f in range(FOLDS):
                own = fold == f
                if not own.any():
                    continue
                batch = Batch(
                    tokens=torch.from_numpy(tokens)[None],
                    values=None,
                    ranks=torch.arange(len(tokens))[None],
                    mask=torch.ones(1, len(tokens), dtype=torch.bool),
                    hidden=torch.from_numpy(own)[None],
                )
                log_p = torch.log_softmax(self._logits(batch).double(), -1).numpy()
                ids, true = tokens[own], places[own]
                parts["ce"].append(-log_p[np.arange(len(ids)), ids])
                parts["ce0"].append(-frequency[int(o)][ids])
                weight = np.exp(log_p[:, ids] - log_p[:, ids].max(axis=0))  # (place, gene)
                expected = true @ weight / weight.sum(axis=0)
                for key, score in (("rank", expected), ("rank0", means[int(o)][ids])):
                    placed = np.empty(len(ids))
                    placed[np.argsort(score, kind="stable")] = true
                    parts[key].append((placed - true) ** 2)
                parts["origin"].append(np.full(len(ids), o))
        first = _compare(
            "cross-entropy of masked genes (nats)", parts["ce"], parts["ce0"], parts["origin"], against="gene_frequency"
        )
        second = _compare("mean squared error of masked relative ranks", parts["rank"], parts["rank0"], parts["origin"])
        return {**second, "second": first}


def _compare(
    what: str,
    model: list[np.ndarray],
    other: list[np.ndarray],
    origin: list[np.ndarray],
    *,
    against: str = "gene_mean",
) -> dict[str, Any]:
    """Mean errors of the model and of the predictor it is held `against`, overall and per data set."""
    a, b, o = np.concatenate(model), np.concatenate(other), np.concatenate(origin)
    by = {int(k): {"model": float(a[o == k].mean()), against: float(b[o == k].mean())} for k in np.unique(o)}
    return {"measure": what, "model": float(a.mean()), against: float(b.mean()), "n": len(a), "by_data_set": by}
