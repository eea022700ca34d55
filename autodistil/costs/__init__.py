"""What a student costs: closed forms of FLOPs, parameters and size, and the budgets that limit them.

Every cost is that of the dense model which is exported, head size included. `autodistil.costs.fvcore_check` recounts
FLOPs by tracing; it is not imported here, since it needs torch and fvcore.
"""

from autodistil.costs.budget import Budget, parse_budget
from autodistil.costs.closed_form import (
    COST_COLUMNS,
    KV_BYTES,
    EncoderShape,
    LayerTerms,
    LMHead,
    budget_cost,
    cost_table,
    flops,
    parameters,
    size_mb,
)

__all__ = [
    "COST_COLUMNS",
    "KV_BYTES",
    "Budget",
    "EncoderShape",
    "LMHead",
    "LayerTerms",
    "budget_cost",
    "cost_table",
    "flops",
    "parameters",
    "parse_budget",
    "size_mb",
]
