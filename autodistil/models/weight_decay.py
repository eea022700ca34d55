"""Which parameters weight decay is for: what multiplies activations, told by the type of module and not by its name.

Those are the weights of linear maps and convolutions. Left alone are what is added or scales one by one (biases, norms,
DINOv2's `lambda1`, special tokens) and tables (words, positions, MPNet's relative biases): a row of these that a batch
does not touch has no gradient, so decay alone would move it away from the teacher's.
"""

from __future__ import annotations

from torch import nn

_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def decayed_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the parameters of a model that weight decay is for."""
    return frozenset(f"{name}.weight" for name, module in model.named_modules() if isinstance(module, _MAPS))
