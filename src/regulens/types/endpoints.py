"""What a number is held against, and by which procedure: `Endpoint` and `Protocol`, carried by every result."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """What a score is held against. A number of one endpoint never supports a claim about the other."""

    REFERENCE_RECOVERY = "reference_recovery"
    PERTURBATION_RESPONSE = "perturbation_response"


class Protocol(StrEnum):
    """``corrected`` is sound and feeds verdicts; ``published`` repeats a source's procedure, defects included."""

    CORRECTED = "corrected"
    PUBLISHED = "published"
