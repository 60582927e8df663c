"""What is declared of one test or claim: the settings in which it must answer, and those in which it must not."""

from __future__ import annotations

from dataclasses import dataclass, field

CLAIM = "claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one confirmatory test, or one claim, must do in which settings.

    Parameters
    ----------
    analysis
        Registered name, or ``claim``.
    test
        Name of the test or of the claim.
    answers, silent
        Keys of `SETTINGS`.
    upwards
        Whether only a positive effect is an answer; False for tests of a difference, of spread or of a trend.
    needs
        Analyses that a claim is made from.
    why
        Setting → sentence, where what is measured differs from what is declared and the cause is known.
    """

    analysis: str
    test: str
    answers: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    upwards: bool = True
    needs: tuple[str, ...] = ()
    why: dict[str, str] = field(default_factory=dict)

    @property
    def is_claim(self) -> bool:
        """Whether this is a claim, decided from several tests."""
        return self.analysis == CLAIM

    @property
    def alarms(self) -> float:
        """Share of silent worlds in which an answer is tolerated: alpha for a test, one in a hundred for a claim."""
        return 0.01 if self.is_claim else 0.05
