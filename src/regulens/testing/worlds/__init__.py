"""What would the audit say if we knew the truth? Small synthetic studies with one cause each.

`make_world` builds one, `judge` gives it to analyses as an audit would, `EXPECTATIONS` declares which tests must
answer in which world and which must stay silent.
"""

from __future__ import annotations

from regulens.testing.worlds.judge import judge
from regulens.testing.worlds.kinds import KINDS, make_world
from regulens.testing.worlds.study import World

__all__ = ["KINDS", "World", "judge", "make_world"]
