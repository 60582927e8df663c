"""How do sums per group and gene, and ranks against controls, come out of sparse counts? Compiled, zeros never visited.

Every sum is added cell after cell in their order, so that it does not depend on the blocks in which cells arrive.
"""

from __future__ import annotations

import numpy as np

from regulens.compiled import kernel


@kernel
def add_moments(indptr, indices, values, group, total, squares):
    """Add the values of every cell, and their squares, to ``(group, gene)`` sums; cells of group −1 are left out."""
    for cell in range(group.size):
        g = group[cell]
        if g < 0:
            continue
        for k in range(indptr[cell], indptr[cell + 1]):
            x = values[k]
            total[g, indices[k]] += x
            squares[g, indices[k]] += x * x


@kernel
def count_entries(indptr, indices, group, n):
    """Add the non-zero values of every gene among the cells in use to `n`."""
    for cell in range(group.size):
        if group[cell] >= 0:
            for k in range(indptr[cell], indptr[cell + 1]):
                n[indices[k]] += 1


@kernel
def collect(indptr, indices, values, group, first, last, free, out_values, out_groups):
    """Lay the non-zero values of the genes from `first` to `last` side by side; `free` is the next place of each."""
    for cell in range(group.size):
        g = group[cell]
        if g < 0:
            continue
        for k in range(indptr[cell], indptr[cell + 1]):
            gene = indices[k]
            if first <= gene < last:
                at = free[gene - first]
                out_values[at] = values[k]
                out_groups[at] = g
                free[gene - first] = at + 1


@kernel
def rank_sums(values, groups, size, control, u, ties):
    """Mann-Whitney's U of every group against the control group, and the tie term of both together, for one gene.

    `values` are the non-zero (positive) ones of all cells with their `groups`; the other cells of each group (`size`
    cells) are zero and tie. ``u[g]`` counts pairs in which the cell of g is above the control cell, ties half;
    ``ties[g]`` is the sum of t^3 - t over values that t cells of g and the controls share. Entry `control` is not set.
    """
    order = np.argsort(values)
    n_groups = size.size
    found = np.zeros(n_groups, np.int64)
    for k in range(groups.size):
        found[groups[k]] += 1
    zero_controls = np.float64(size[control] - found[control])
    for g in range(n_groups):
        zeros = np.float64(size[g] - found[g])
        both = zeros + zero_controls
        u[g] = 0.5 * zeros * zero_controls
        ties[g] = both * both * both - both
    here = np.zeros(n_groups, np.int64)
    below = zero_controls
    control_ties = 0.0
    start = 0
    while start < order.size:
        stop = start
        x = values[order[start]]
        while stop < order.size and values[order[stop]] == x:
            here[groups[order[stop]]] += 1
            stop += 1
        c = np.float64(here[control])
        alone = c * c * c - c
        control_ties += alone
        for k in range(start, stop):
            g = groups[order[k]]
            n = np.float64(here[g])
            if g != control and n > 0.0:
                u[g] += n * (below + 0.5 * c)
                both = n + c
                ties[g] += both * both * both - both - alone
            here[g] = 0
        below += c
        start = stop
    for g in range(n_groups):
        ties[g] += control_ties
