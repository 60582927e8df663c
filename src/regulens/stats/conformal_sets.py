"""Which labels cannot be ruled out? Split conformal sets of a binary label when pairs come in exchangeable groups.

Nonconformity is ``1 - p(label)`` (F19); the set of a pair holds the labels whose nonconformity does not exceed a
threshold. Pairs of one perturbation are not exchangeable with those of another one by one, perturbations are. So the
threshold counts groups, and every statement is about a *new group*:

- `Calibrating.one_per_group`: one random pair of every group, the ``ceil((K + 1)(1 - alpha))``-th smallest of K. A
  random pair of a new group is covered with probability in ``[1 - alpha, 1 - alpha + 1/(K + 1)]`` (Dunn, Wasserman &
  Ramdas 2022).
- `Calibrating.hierarchical`: all pairs, each group with weight ``1/(K + 1)`` spread over its pairs, the last share at
  infinity; in ``[1 - alpha, 1 - alpha + 2/(K + 1)]`` (Lee, Barber & Willett 2023), with less noise from the draw.
- `Calibrating.whole_group`: with probability ``1 - delta`` at least ``1 - alpha`` of the new group's own pairs are
  covered.

All hold without ties; ties are broken by one random number per pair. With fewer groups than ``1/alpha - 1`` the
threshold is infinite: every set holds both labels, which covers and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import betabinom

from regulens.errors import ParameterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Largest nonconformity that a set lets in, with the tie-breaker up to which an equal one comes in."""

    score: float
    tie: float = 1.0

    def lets_in(self, score: np.ndarray, tie: np.ndarray) -> np.ndarray:
        """Bool: at most the threshold, in the order of (score, tie)."""
        return (score < self.score) | ((score == self.score) & (tie <= self.tie))


NEVER_OUT = Threshold(score=np.inf)


def fewest_groups(alpha: float) -> int:
    """Calibrating groups below which every set holds both labels.

    >>> fewest_groups(0.1), fewest_groups(0.05)
    (9, 19)
    """
    return int(np.ceil(1 / alpha - 1 - 1e-9))


def smallest(score: np.ndarray, tie: np.ndarray, alpha: float) -> Threshold:
    """The ``ceil((n + 1)(1 - alpha))``-th smallest of n exchangeable scores; infinite where that is beyond n.

    Examples
    --------
    >>> smallest(np.array([0.1, 0.4, 0.2, 0.3]), np.zeros(4), 0.4).score
    0.3
    >>> smallest(np.array([0.1]), np.zeros(1), 0.1).score
    inf
    """
    place = int(np.ceil((len(score) + 1) * (1 - alpha) - 1e-9))
    if place > len(score):
        return NEVER_OUT
    k = np.lexsort((tie, score))[place - 1]
    return Threshold(score=float(score[k]), tie=float(tie[k]))


def _by_group(group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs group by group in the order given, and where each group starts and how many pairs it has."""
    small = group.astype(np.uint16) if n_groups < 2**16 else group  # short integers are sorted by counting
    size = np.bincount(group, minlength=n_groups)
    return np.argsort(small, kind="stable"), np.cumsum(size) - size, size


def one_of_each(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random pair of every group that has any, as indices.

    Examples
    --------
    >>> one_of_each(np.array([4, 4, 1]), np.random.default_rng(0)).tolist()
    [2, 0]
    """
    if not len(group):
        return np.zeros(0, dtype=np.int64)
    order, start, size = _by_group(group, int(group.max()) + 1)
    there = size > 0
    return order[start[there] + (rng.random(int(there.sum())) * size[there]).astype(np.int64)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibrating:
    """Nonconformity of the true label of calibrating pairs, in ascending order.

    Parameters
    ----------
    order
        The pairs as they were given, from the smallest (score, tie) on, shape ``(pair,)``.
    score, tie
        In that order.
    group
        Number of the group, 0 .. `n_groups` − 1, in that order.
    """

    order: np.ndarray
    score: np.ndarray
    tie: np.ndarray
    group: np.ndarray
    n_groups: int

    @classmethod
    def build(cls, score: np.ndarray, tie: np.ndarray, group: np.ndarray) -> Calibrating:
        """Sort pairs.

        Parameters
        ----------
        score
            ``1 - p(true label)``, shape ``(pair,)``.
        tie
            Random numbers in [0, 1), same shape.
        group
            Integers, same shape.
        """
        if not score.shape == tie.shape == group.shape or score.ndim != 1:
            message = (
                f"Expected one score, tie-breaker and group per pair, got shapes {score.shape}, {tie.shape} and "
                f"{group.shape}. Give all pairs of all calibrating groups."
            )
            raise ParameterError(message)
        order = np.argsort(score, kind="stable")
        step = np.diff(score[order], prepend=score[order[:1]]) != 0
        if not step[1:].all():  # the order of lexsort((tie, score)): whole steps by score, parts of a step by tie
            order = order[np.argsort(np.cumsum(step) + tie[order], kind="stable")]
        names, number = np.unique(group, return_inverse=True)
        return cls(order=order, score=score[order], tie=tie[order], group=number[order], n_groups=len(names))

    def part(self, mask: np.ndarray) -> Calibrating:
        """Some of the pairs (`mask`: bool, as they were given); a group without any is no group of it."""
        keep = mask[self.order]
        group = self.group[keep]
        there = np.bincount(group, minlength=self.n_groups) > 0
        return Calibrating(
            order=self.order[keep], score=self.score[keep], tie=self.tie[keep], group=(np.cumsum(there) - 1)[group],
            n_groups=int(there.sum()),
        )  # fmt: skip

    def _at(self, place: int) -> Threshold:
        if place >= len(self.score):
            return NEVER_OUT
        return Threshold(score=float(self.score[place]), tie=float(self.tie[place]))

    def one_per_group(self, alpha: float, rng: np.random.Generator) -> Threshold:
        """Threshold from one random pair of every group."""
        chosen = one_of_each(self.group, rng)
        return smallest(self.score[chosen], self.tie[chosen], alpha)

    def hierarchical(self, alpha: float) -> Threshold:
        """Threshold from all pairs, every group with the same weight however many pairs it has.

        Examples
        --------
        >>> given = Calibrating.build(np.array([0.1, 0.4, 0.2, 0.3]), np.zeros(4), np.arange(4))
        >>> given.hierarchical(0.4).score  # groups of one pair: the finite-sample quantile
        0.3
        """
        size = np.bincount(self.group, minlength=self.n_groups)
        reached = np.cumsum((1.0 / np.maximum(size, 1))[self.group])  # in groups: the last is their number
        return self._at(int(np.searchsorted(reached, (self.n_groups + 1) * (1 - alpha) - 1e-9)))

    def whole_group(self, alpha: float, delta: float) -> Threshold:
        """Threshold under which a new group's own coverage is at least ``1 - alpha`` with probability ``1 - delta``.

        Every group's own ``ceil((1 - alpha) n)``-th smallest score is one number per group; their finite-sample
        quantile at ``1 - delta`` is the threshold. Needs ``1/delta - 1`` groups.
        """
        by_group, start, size = _by_group(self.group, self.n_groups)  # ascending scores inside every group
        own = by_group[start + np.ceil(size * (1 - alpha) - 1e-9).astype(np.int64) - 1]
        return smallest(self.score[own], self.tie[own], delta)


def sets(p: np.ndarray, tie: np.ndarray, no: Threshold, yes: Threshold) -> np.ndarray:
    """Which labels every pair's set holds, bool ``(pair, 2)``: column 0 "no response", column 1 "response".

    Parameters
    ----------
    p
        Probability of a response, shape ``(pair,)``.
    no, yes
        Thresholds of the two labels; the same one unless the method has one per class.
    """
    return np.stack([no.lets_in(p, tie), yes.lets_in(1 - p, tie)], axis=1)


def undercoverage_p(covered: int, n_test: int, n_cal: int, alpha: float) -> float:
    """p of "so few of `n_test` new groups' random pairs are covered", if groups are exchangeable.

    With one pair per group and no ties the number covered is beta-binomial: coverage given the calibrating groups
    varies, so the plain binomial rejects too often.

    Parameters
    ----------
    covered
        Test groups whose one random pair is covered, of `n_test`.
    n_cal
        Calibrating groups, one pair each.

    Examples
    --------
    >>> undercoverage_p(0, 3, 5, 0.1)  # infinite threshold: everything must be covered
    0.0
    >>> round(undercoverage_p(8, 10, 19, 0.1), 3)
    0.267
    """
    place = int(np.ceil((n_cal + 1) * (1 - alpha) - 1e-9))
    if place > n_cal:
        return float(covered >= n_test)
    return float(betabinom.cdf(covered, n_test, place, n_cal + 1 - place))
