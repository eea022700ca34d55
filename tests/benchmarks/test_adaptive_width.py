"""A feed-forward network in quarters is the whole one, or its leading part, for each token."""

import torch
from adaptive_width import LEARNERS, SHARES, AdaptiveWidth, Shape, measured, wanted_learners
from torch.nn.functional import gelu


def test_each_token_gets_the_learners_that_it_wants():
    torch.manual_seed(0)
    network, states = AdaptiveWidth(12).eval(), torch.randn(40, 12)
    wanted = wanted_learners(40)
    found = network(states, wanted)
    for row, output, learners in zip(states, found, wanted.tolist(), strict=True):
        inner = torch.cat([one.weight for one in network.inner[:learners]])
        bias = torch.cat([one.bias for one in network.inner[:learners]])
        outer = torch.cat([one.weight for one in network.outer[:learners]], 1)
        expected = outer @ gelu(inner @ row + bias) + network.outer[0].bias
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    chosen = network.gate(states).argmax(1) + 1
    torch.testing.assert_close(network(states), network(states, chosen))


def test_shares_and_the_row():
    wanted = wanted_learners(1000)
    assert [int((wanted == number + 1).sum()) / 1000 for number in range(LEARNERS)] == list(SHARES)
    assert len(wanted_learners(3)) == 3
    row = measured(Shape(16, 20), 2, "cpu", work=3_200)
    assert 0.5 < row["FLOPs, of the whole"] < 0.9, "half, and the gate, which is much of so narrow a network"
