"""How many tokens and how many layers may be held at once, so that extraction stays within a bound?

What one process holds above the model's weights and the cells is, to a good approximation,

- sums: 8 bytes x recipes x layers x heads x 2 directions x regulators x targets, twice (the sums of the work in hand,
  and the running sums of the partition that it is added to);
- activations: 4 bytes x tokens x width x (states kept of every layer + about 16 for what one layer needs at a time);
- one block of regulators x tokens.

Where the sums of all layers do not fit, the cells are run several times, for a group of layers each time, and where
those of all recipes do not, for some of them at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from regulens.errors import ParameterError
from regulens.types.attention import ModelCard

#: Tokens per forward pass, padding included, unless memory asks for fewer. More gains nothing on a processor.
BATCH_TOKENS = 8192
#: Widths per token that one layer needs at a time: query, key, value and their copies by head, output, feed-forward.
_WORKING_WIDTHS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What fits.

    Parameters
    ----------
    batch_tokens
        Tokens per forward pass, padding included.
    layers
        Groups of layers ``(first, stop)``, one pass over the cells each.
    n_bytes
        Estimate of what one process then holds above weights and cells.
    recipes
        Recipes that are read in one pass; where there are more, all groups of layers are run for each lot.
    """

    batch_tokens: int
    layers: tuple[tuple[int, int], ...]
    n_bytes: int
    recipes: int = 1


def budget(
    card: ModelCard,
    *,
    n_regulators: int,
    n_targets: int,
    longest: int,
    memory: int | None = None,
    batch_tokens: int | None = None,
    n_recipes: int = 1,
) -> Budget:
    """Choose tokens per pass, and layers and recipes per pass, for a bound.

    The number of workers does not enter: the tokens decide the last bits of the numbers, and workers must not. Nor does
    the number of recipes decide them: a recipe has the same numbers alone and in company.

    Parameters
    ----------
    longest
        Tokens of the longest cell, which has to fit whole.
    memory
        Bytes per process above weights and cells; None for no bound.
    batch_tokens
        Tokens per pass; None to choose.
    n_recipes
        Recipes with sums of their own.

    Raises
    ------
    ParameterError
        When the longest cell and the sums of one layer do not fit together, or `batch_tokens` is below 1.

    Examples
    --------
    >>> from regulens.testing.toy_model import ToyAdapter
    >>> card = ToyAdapter(("A", "B")).card
    >>> budget(card, n_regulators=100, n_targets=2000, longest=500).layers
    ((0, 12),)
    >>> budget(card, n_regulators=100, n_targets=2000, longest=500, memory=40_000_000).layers
    ((0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12))
    >>> found = budget(card, n_regulators=100, n_targets=2000, longest=500, memory=160_000_000, n_recipes=4)
    >>> found.recipes, found.layers
    (4, ((0, 3), (3, 6), (6, 9), (9, 12)))
    """
    if batch_tokens is not None and batch_tokens < 1:
        message = f"Expected batch_tokens >= 1, got {batch_tokens}."
        raise ParameterError(message)
    per_layer = 2 * 8 * card.n_heads * 2 * n_regulators * n_targets
    per_token = 4 * card.width * (card.n_layers + 1 + _WORKING_WIDTHS)
    block = 4 * n_regulators * longest
    least_tokens = max(longest, batch_tokens or 0)
    if memory is None:
        chosen = BATCH_TOKENS if batch_tokens is None else batch_tokens
        n_bytes = n_recipes * card.n_layers * per_layer + max(chosen, longest) * per_token + block
        return Budget(batch_tokens=chosen, layers=((0, card.n_layers),), n_bytes=n_bytes, recipes=n_recipes)
    room = memory - block - least_tokens * per_token
    at_once = min(room // per_layer, card.n_layers)
    if at_once < 1:
        least = per_layer + block + least_tokens * per_token
        message = (
            f"Expected memory of at least {least / 1e9:.3f} GB per process for sums of one layer over {n_regulators} "
            f"regulators x {n_targets} genes and {least_tokens} tokens, got {memory / 1e9:.3f} GB. Choose fewer "
            "regulators or genes, lower batch_tokens, or allow more memory."
        )
        raise ParameterError(message)
    rest = memory - block - _evenly(card.n_layers, at_once) * per_layer
    chosen = max(int(min(BATCH_TOKENS, rest // per_token)), 1) if batch_tokens is None else batch_tokens
    sums = (memory - block - max(chosen, longest) * per_token) // per_layer
    # Many recipes and few layers a pass, or the other way round: whichever runs fewer layers of the model in all.
    recipes = min(
        range(1, min(n_recipes, sums) + 1), key=lambda r: (_layers_run(card.n_layers, n_recipes, r, sums), -r)
    )
    recipes = _evenly(n_recipes, recipes)
    at_once = _evenly(card.n_layers, min(sums // recipes, card.n_layers))
    groups = tuple((i, min(i + at_once, card.n_layers)) for i in range(0, card.n_layers, at_once))
    n_bytes = recipes * at_once * per_layer + block + max(chosen, longest) * per_token
    return Budget(batch_tokens=chosen, layers=groups, n_bytes=n_bytes, recipes=recipes)


def _evenly(n: int, at_most: int) -> int:
    """Size of groups of nearly equal size: as many groups as with `at_most` in each, less memory."""
    return -(-n // -(-n // at_most))


def _layers_run(n_layers: int, n_recipes: int, recipes: int, sums: int) -> int:
    """Layers of the model that are run in all, where each pass ends after its last layer."""
    at_once = _evenly(n_layers, min(sums // recipes, n_layers))
    return -(-n_recipes // recipes) * sum(min(i + at_once, n_layers) for i in range(0, n_layers, at_once))


@contextlib.contextmanager
def explained(found: Budget, *, jobs: int) -> Iterator[None]:
    """Turn a failed allocation, here or in a worker, into one sentence that says what to lower.

    Raises
    ------
    ParameterError
        In place of `MemoryError`, torch's out-of-memory errors, and a worker that the system has killed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not is_shortage(problem):
            raise
        several = f" in each of {jobs} processes" if jobs > 1 else ""
        first, stop = found.layers[0]
        read = f" under {found.recipes} recipes" if found.recipes > 1 else ""
        message = (
            f"Expected about {found.n_bytes / 1e9:.2f} GB of memory{several} for {found.batch_tokens} tokens and sums "
            f"of {stop - first} layers{read} at a time, got less ({type(problem).__name__}). Lower memory, "
            "batch_tokens or jobs, or choose fewer regulators or genes; with a store on disk, finished work is kept."
        )
        raise ParameterError(message) from problem


def is_shortage(problem: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    if isinstance(problem, MemoryError | torch.OutOfMemoryError | TerminatedWorkerError):
        return True
    # The processor's allocator raises a plain RuntimeError.
    return "memory" in str(problem) and "alloc" in str(problem).lower()
