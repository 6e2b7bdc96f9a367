"""What the solvers are tested on."""

import math

import torch

SHAPE = (1, 4, 3, 5, 5)


def bent_velocity(x, timestep):
    """A velocity field that is smooth, nonlinear, and different everywhere in x and time."""
    t = timestep / 1000
    return torch.sin(1.3 * x + 2 * t) + 0.4 * x * math.cos(3 * t) - 0.2 * torch.tanh(x.flip(-1))
