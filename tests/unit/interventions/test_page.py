"""The example of the page runs, and the error that the page quotes is the one that is raised."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from regulens.errors import ParameterError
from regulens.interventions import ablate_heads, intervene, later_attention

PAGE = (Path(__file__).parents[3] / "docs" / "interventions.md").read_text()


def test_the_example_runs():
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    seen: dict = {"__name__": "page"}
    exec(compile(block, "interventions.md", "exec"), seen)
    embedding, expression, attention = seen["effect"]
    assert embedding.shape[0] == 8 and np.abs(embedding).max() > 0
    for values in (expression, attention):
        assert np.abs(values[~np.isnan(values)]).max() > 0


def test_the_quoted_error_is_the_one_raised(folders, cells):
    from regulens import models

    (quoted,) = re.findall(r"^> (Expected.*?)\n\n", PAGE, flags=re.M | re.S)
    first, rest = quoted.replace("\n> ", " ").split("…)")
    adapter = models.load(str(folders["scgpt"]))
    batch = adapter.tokenize(cells, np.arange(2), seed=0)
    readout = later_attention(5, 1, "G0", "G1", genes=cells.genes, direction="target_attends")
    with pytest.raises(ParameterError) as caught:
        intervene(adapter, ablate_heads([(5, 0)])).read(batch, readout)
    assert str(caught.value).startswith(first) and str(caught.value).endswith(rest)
