"""Tao's network: its LSTM by the formula, its grey variants colour by colour."""

import numpy as np
import pytest
import torch

from mtdeblur.networks.registry import create_network
from mtdeblur.networks.scale_recurrent import ConvLSTM, LSTMState


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_lstm_s_gates_are_in_the_authors_order_and_the_forget_gate_is_shifted_by_one():
    lstm = ConvLSTM(1).double()
    torch.nn.init.zeros_(lstm.gates.weight)
    rng = np.random.default_rng(1)
    i, j, f, o = rng.normal(size=4)
    lstm.gates.bias.data = torch.tensor([i, j, f, o])
    cell = rng.normal(size=(1, 1, 2, 3))
    before = LSTMState(torch.from_numpy(cell), torch.zeros(1, 1, 2, 3, dtype=torch.float64))
    after = lstm(torch.zeros(1, 1, 2, 3, dtype=torch.float64), before)
    expected = cell * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
    np.testing.assert_allclose(after.cell.detach(), expected)
    np.testing.assert_allclose(after.hidden.detach(), np.tanh(expected) * sigmoid(o))


@pytest.mark.parametrize("recurrent", [False, True])
def test_grey_the_colours_do_not_see_one_another(recurrent):
    torch.manual_seed(2)
    network = create_network("scale_recurrent", width=2, grey=True, recurrent=recurrent)
    blurred = torch.rand(1, 3, 8, 12)
    swapped = blurred[:, [2, 0, 1]]
    with torch.no_grad():
        estimate, state = network(blurred, blurred)
        second, _ = network(blurred, estimate, state)
        estimate, state = network(swapped, swapped)
        again, _ = network(swapped, estimate, state)
    torch.testing.assert_close(again, second[:, [2, 0, 1]])


def test_the_lstm_starts_from_a_state_of_zeros():
    network = create_network("scale_recurrent", width=2, recurrent=True)
    blurred = torch.rand(1, 3, 8, 8)
    zeros = LSTMState(*torch.zeros(2, 1, 8, 2, 2))
    with torch.no_grad():
        assert torch.equal(network(blurred, blurred)[0], network(blurred, blurred, zeros)[0])


def test_fresh_weights_are_drawn_as_the_authors():
    network = create_network("scale_recurrent", recurrent=True)
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            assert not parameter.any(), name
        elif name == "lstm.gates.weight":
            assert parameter.std().item() == pytest.approx(1e-3, rel=0.15)
        else:
            fans = (parameter.shape[0] + parameter.shape[1]) * parameter[0, 0].numel()
            limit = (6 / fans) ** 0.5
            assert parameter.abs().max().item() <= limit
            assert parameter.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)


def test_there_is_no_skip_from_the_input_to_the_output():
    network = create_network("scale_recurrent", width=2)
    for parameter in network.tail.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        assert not network(*torch.rand(2, 1, 3, 8, 8))[0].any()
