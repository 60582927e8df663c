"""What would the audit say if we knew the truth? Small synthetic studies with one cause each.

`make_world` builds one of a reference, `make_screen_world` one of a screen of perturbations; `judge` gives it to
analyses as an audit would, `EXPECTATIONS` declares which tests must answer in which world and which must stay silent.
"""

from __future__ import annotations

from regulens.testing.worlds.judge import judge
from regulens.testing.worlds.kinds import KINDS, make_world
from regulens.testing.worlds.screens import SCREEN_KINDS, ScreenWorld, make_screen_input, make_screen_world
from regulens.testing.worlds.study import World

__all__ = [
    "KINDS",
    "SCREEN_KINDS",
    "ScreenWorld",
    "World",
    "judge",
    "make_screen_input",
    "make_screen_world",
    "make_world",
]
