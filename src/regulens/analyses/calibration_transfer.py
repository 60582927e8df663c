"""Do probabilities learned on one screen hold on another? Frozen, with the new base rate, and learned there anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regulens.analyses.judged import METRICS, RAW, ece_moved, judge
from regulens.analyses.probabilities import TEST
from regulens.stats.calibrators import CALIBRATORS, MAPS, fit_base_rate, shift_prevalence

#: Ways of reading a score on the second screen.
FROZEN, SHIFTED, LOCAL = "frozen", "frozen_new_base_rate", "local"
BASE_FROZEN, BASE_LOCAL = "base_rate_frozen", "base_rate_local"
WAYS = (RAW, FROZEN, SHIFTED, LOCAL, BASE_FROZEN, BASE_LOCAL)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transferred:
    """Probabilities of the second screen's pairs, each way judged on all of its perturbations.

    Parameters
    ----------
    metrics
        Shape ``(way, metric)``, mean over deals.
    ece_moved
        Shape ``(way, perturbation)``: how the ECE moves without a perturbation of the second screen.
    """

    metrics: np.ndarray
    ece_moved: np.ndarray

    def of(self, way: str) -> dict[str, float]:
        """Metrics of one way, by name."""
        return dict(zip(METRICS, self.metrics[WAYS.index(way)].tolist()))


def transfer(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray, np.ndarray], parts: np.ndarray, *,
    to_unit: str, calibrator: str,
) -> Transferred:  # fmt: skip
    """Read one score on a second screen in all of `WAYS`.

    Frozen: map and calibrator from all pairs of the first screen. New base rate: the frozen odds times the ratio of
    base rates, the second screen's taken from the three quarters of its perturbations that are not judged. Local: map
    and calibrator from those three quarters. The four quarters of a deal together judge every pair once.

    Parameters
    ----------
    first
        Score and label of every pair of the first screen.
    second
        Score, label and perturbation of every pair of the second one.
    parts
        From `quarters`, of the second screen's perturbations.
    """
    s1, y1 = first
    s2, y2, g2 = second
    n_groups = parts.shape[1]
    mapped = MAPS[to_unit].fit(s1)
    u1, u2 = mapped(s1), mapped(s2)
    old = float(y1.mean())
    frozen = CALIBRATORS[calibrator](u1, y1)(u2)
    deals = len(parts) // 4
    metrics, moved = np.zeros((deals, len(WAYS), len(METRICS))), np.zeros((len(WAYS), n_groups))
    for d in range(deals):
        p = np.tile(u2, (len(WAYS), 1))
        p[WAYS.index(FROZEN)], p[WAYS.index(BASE_FROZEN)] = frozen, fit_base_rate(u1, y1)(u2)
        for part in parts[4 * d : 4 * d + 4]:
            held = part[g2] == TEST
            rest = ~held
            if not held.any():
                continue
            new = float(y2[rest].mean())
            p[WAYS.index(BASE_LOCAL), held] = new
            both = 0 < old < 1 and 0 < new < 1
            p[WAYS.index(SHIFTED), held] = (
                shift_prevalence(frozen[held], old=old, new=new) if both else frozen[held]
            )  # fmt: skip
            local = MAPS[to_unit].fit(s2[rest])
            p[WAYS.index(LOCAL), held] = CALIBRATORS[calibrator](local(s2[rest]), y2[rest])(local(s2[held]))
        for w in range(len(WAYS)):
            metrics[d, w] = judge(p[w], y2)
            moved[w] += ece_moved(p[w], y2, g2, n_groups) / deals
    return Transferred(metrics=metrics.mean(axis=0), ece_moved=moved)
