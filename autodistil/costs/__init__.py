"""What a student costs: closed forms of FLOPs, parameters and size, and the budgets that limit them.

Every cost is that of the dense model which is exported, head size included. `autodistil.costs.fvcore_check` recounts
FLOPs by tracing; it is not imported here, since it needs torch and fvcore.
"""
