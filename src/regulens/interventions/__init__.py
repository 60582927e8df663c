"""What does a model do when a part of it, or of its input, is changed? Interventions, recordings, read-outs.

Importing this package loads no torch; running a model does.
"""

from __future__ import annotations

from regulens.interventions.ablate import ablate_heads, ablate_mlp
from regulens.interventions.expression import expression
from regulens.interventions.intervene import Intervened, intervene
from regulens.interventions.intervention import NULL, Intervention
from regulens.interventions.means import Means, component_means
from regulens.interventions.patch import gene_positions, patch
from regulens.interventions.places import EMBEDDING, Component, Place, Stage, all_components, head, mlp
from regulens.interventions.readout import Readout, cell_embedding, hidden, later_attention
from regulens.interventions.recording import Recording, record
from regulens.interventions.tokens import ablate_gene, set_gene_value, swap_gene_value
from regulens.interventions.verify import verify_interventions

__all__ = [
    "Component",
    "EMBEDDING",
    "Intervened",
    "Intervention",
    "Means",
    "NULL",
    "Place",
    "Readout",
    "Recording",
    "Stage",
    "ablate_gene",
    "ablate_heads",
    "ablate_mlp",
    "all_components",
    "cell_embedding",
    "component_means",
    "expression",
    "gene_positions",
    "head",
    "hidden",
    "intervene",
    "later_attention",
    "mlp",
    "patch",
    "record",
    "set_gene_value",
    "swap_gene_value",
    "verify_interventions",
]
