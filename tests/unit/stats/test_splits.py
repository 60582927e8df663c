"""Splits keep units whole, balance what they are asked to balance, and notice a leak."""

from __future__ import annotations

import numpy as np
import pytest

from regulens.errors import ParameterError, StatisticsError
from regulens.rng import stream
from regulens.stats.splits import Split, assert_no_leak, gene_folds, split_by, two_way_blocks


def test_units_stay_whole_and_shares_are_met():
    rng = stream(0, "split")
    unit = rng.integers(0, 40, 4000)
    split = split_by(unit, (0.5, 0.3, 0.2), rng)
    assert_no_leak(split.part, unit)
    np.testing.assert_allclose([split.rows(k).mean() for k in range(3)], (0.5, 0.3, 0.2), atol=0.03)


def test_positives_are_balanced_and_no_part_is_empty():
    unit = np.repeat(np.arange(6), 10)
    weight = np.where(unit == 2, 10.0, 0.1)
    split = split_by(unit, (0.5, 0.5), stream(0, "w"), weight=weight)
    assert split.rows(split.part[unit == 2][0]).sum() < 60
    lonely = split_by(np.arange(2), (0.999, 0.001), stream(0, "x"))
    assert {0, 1} == set(lonely.part.tolist())


def test_a_leak_is_noticed():
    with pytest.raises(StatisticsError, match="Split by unit, not by row"):
        Split(part=np.array([0, 1, 1]), unit=np.array([4, 4, 5]), n_parts=2)


def test_split_is_frozen_and_checked():
    split = split_by(np.arange(5), (0.5, 0.5), stream(0, "f"))
    with pytest.raises(ValueError, match="read-only"):
        split.part[0] = 1
    with pytest.raises(ParameterError):
        split.rows(2)
    with pytest.raises(ParameterError):
        Split(part=np.array([0, 3]), unit=np.array([0, 1]), n_parts=2)
    with pytest.raises(ParameterError):
        Split(part=np.array([0]), unit=np.array([0, 1]), n_parts=2)
    for fractions in ((1.0,), (0.7, 0.7), (0.5, -0.5), (0.2,) * 5 + (0.0,)):
        with pytest.raises(ParameterError, match="fractions"):
            split_by(np.arange(5), fractions, stream(0, "f"))


def test_gene_folds_are_even():
    assert sorted(np.bincount(gene_folds(11, 4, stream(0, "g"))).tolist()) == [2, 3, 3, 3]
    with pytest.raises(ParameterError):
        gene_folds(3, 4, stream(0, "g"))


def test_blocks_test_each_pair_once_and_share_no_gene():
    regulator, target = (a.ravel() for a in np.indices((12, 12)))
    fold = gene_folds(12, 4, stream(0, "g"))
    tested = np.zeros(regulator.size, dtype=int)
    for train, test in two_way_blocks(regulator, target, fold, 4):
        tested += test
        used = set(regulator[train]) | set(target[train])
        assert not used & (set(regulator[test]) | set(target[test]))
        assert train.any()
    assert (tested == 1).all()
