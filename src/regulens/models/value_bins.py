"""How does a real-valued expression become an embedding in scFoundation and AIDO.Cell? A soft choice among bins.

Source: Hao et al. 2024, Nature Methods 21:1481 (scFoundation, auto-discretisation); AIDO.Cell (Ho et al. 2024) uses
the same formula. For a value x, with a leaky ReLU of slope 0.1 and a table of bin embeddings T::

    a = leaky(W1 x + b1);   w = softmax(alpha a + W2 a + b2);   e = w T

Two numbers are no values but marks: a masked and a padded position get a row of their own instead of e.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SLOPE = 0.1


def embed_values(
    values: torch.Tensor,
    first: nn.Linear,
    second: nn.Linear,
    table: torch.Tensor,
    *,
    alpha: float,
    marks: tuple[tuple[float, torch.Tensor], ...] = (),
) -> torch.Tensor:
    """Embedding of values.

    Parameters
    ----------
    values
        Shape ``(cell, position)``.
    first, second
        1 → bins and bins → bins.
    table
        Bin embeddings, shape ``(bin, width)``.
    alpha
        Weight of the direct path into the softmax.
    marks
        Pairs of a number and a row of shape ``(1, width)``: positions that hold exactly that number get that row.

    Returns
    -------
    Shape ``(cell, position, width)``.

    Examples
    --------
    Two bins; with all weights zero both are chosen equally, and a mark overrides that.

    >>> first, second = nn.Linear(1, 2), nn.Linear(2, 2)
    >>> for p in [*first.parameters(), *second.parameters()]:
    ...     _ = nn.init.zeros_(p)
    >>> table = torch.tensor([[0.0], [1.0]])
    >>> x = torch.tensor([[3.0, -1.0]])
    >>> embed_values(x, first, second, table, alpha=1.0, marks=((-1.0, torch.tensor([[7.0]])),)).flatten().tolist()
    [0.5, 7.0]
    """
    a = F.leaky_relu(first(values.unsqueeze(-1)), SLOPE)
    out = torch.softmax(alpha * a + second(a), dim=-1) @ table
    for number, row in marks:
        marked = values == number
        if bool(marked.any()):
            out = torch.where(marked.unsqueeze(-1), row, out)
    return out
