"""What does the model's own output head say about a gene? Predicted expression (scGPT) or logit (Geneformer).

scGPT: ``decoder.fc`` of the last state at the gene's token, in bins. Geneformer: ``cls.predictions`` of the last state
at the gene's token, read at the gene's own entry of the vocabulary: an unnormalised log-odds. The gene is not masked,
so the model sees its value; the read-out asks how this prediction changes, not whether it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from regulens.errors import ParameterError
from regulens.interventions.places import output_of
from regulens.interventions.readout import Readout, Run
from regulens.interventions.tokens import column_of
from regulens.models.base import AbstractAdapter
from regulens.types.genes import GeneVocabulary

if TYPE_CHECKING:
    import torch

#: By family: the attribute of the network that holds the head, its name in the checkpoint, and the prediction of
#: states ``(token, width)`` at tokens ``(token,)``.
HEADS: dict[str, tuple[str, str, Callable[[AbstractAdapter, torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "scgpt": ("decoder", "decoder.fc", lambda adapter, state, _: adapter.module.predict(state)),
    "geneformer": (
        "cls",
        "cls.predictions",
        lambda adapter, state, tokens: adapter.module.predict(state).gather(-1, tokens[:, None])[:, 0],
    ),
}


def expression(gene: str, *, genes: GeneVocabulary) -> Readout:
    """Prediction for a gene by the model's own head.

    Parameters
    ----------
    gene
        Approved symbol.
    genes
        Vocabulary of the cells that the batch was made from (``cells.genes``).

    Returns
    -------
    Read-out of shape ``(cell,)``, float64; a bin for scGPT, a logit for Geneformer, not comparable between them. NaN
    where the gene is not among the tokens of a cell.

    Raises
    ------
    ParameterError
        At once when the cells do not have the gene; when asked of a model whose checkpoint holds no such head, whose
        family has none that regulens knows, or that does not know the gene.
    """
    column_of(gene, genes)

    def check(adapter: AbstractAdapter) -> None:
        card = adapter.card
        if card.family not in HEADS:
            message = (
                f"Expected a family whose output head regulens reads ({', '.join(HEADS)}) for expression, got "
                f"{card.family}. Use cell_embedding, hidden or later_attention."
            )
            raise ParameterError(message)
        attribute, name, _ = HEADS[card.family]
        if not hasattr(adapter.module, attribute):
            message = (
                f"Expected the output head {name} in the checkpoint of {card.name} for expression, got a checkpoint "
                "without it. Use cell_embedding, hidden or later_attention, or a checkpoint that kept its head."
            )
            raise ParameterError(message)
        column_of(gene, genes, adapter)

    def function(run: Run) -> np.ndarray:
        import torch

        cell, position = np.nonzero(run.batch.gene == column_of(gene, genes))
        out = np.full(len(run.batch.cell), np.nan)
        if len(cell) == 0:
            return out
        state = run.states[-1]
        index = [torch.as_tensor(i, device=state.device) for i in (cell, position)]
        tokens = torch.as_tensor(run.batch.tokens[cell, position], device=state.device)
        with torch.no_grad():
            out[cell] = HEADS[run.adapter.card.family][2](run.adapter, state[index[0], index[1]], tokens).cpu().numpy()
        return out

    return Readout(name=f"expression({gene})", place=output_of, function=function, check=check)
