"""Which tests and claims about screens must answer in which world of a screen, and which must stay silent?

Declared before anything is measured, as `regulens.testing.worlds.expectations`.
"""

from __future__ import annotations

from typing import Any

from regulens.testing.worlds.expectation import Expectation

#: Name of a setting → kind of screen and options of `make_screen_world`.
SCREEN_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "screen: no_signal": ("no_signal", {}),
    "screen: planted_network": ("planted_network", {}),
    "screen: expression_only": ("expression_only", {}),
    "screen: shared_responders": ("shared_responders", {}),
    "screen: coexpression_only": ("coexpression_only", {}),
    "screen: replicate_confounded": ("replicate_confounded", {}),
    "screen: no_signal, 10 perturbations": ("no_signal", {"n_perturbations": 10}),
    "screen: planted_network, 10 perturbations": ("planted_network", {"n_perturbations": 10}),
    "screens: no_signal twice": ("no_signal", {"second": "same"}),
    "screens: planted_network twice": ("planted_network", {"second": "same"}),
    "screens: planted_network, then another": ("planted_network", {"second": "other"}),
}

#: Parameters that make an analysis of screens affordable in many small worlds, by analysis.
SCREEN_SMALLER: dict[str, dict[str, Any]] = {}

SCREEN_EXPECTATIONS: tuple[Expectation, ...] = ()
