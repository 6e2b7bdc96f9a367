"""The host's own model classes, set up for training. A script calls environment.enter before it imports this."""

import os
import sys

import torch

torch.set_flush_denormal(True)  # saturated losses make gradients and averages denormal, which CPUs compute slowly
sys.path.insert(0, os.environ["COMFYUI_DIR"])

from comfy.cli_args import args

args.cpu = not torch.cuda.is_available()

import comfy.latent_formats
import comfy.model_management
import comfy.ops
from comfy.ldm.wan.model import WanModel, sinusoidal_embedding_1d
from comfy.ldm.wan.vae import WanVAE

comfy.model_management.in_training = True  # rope otherwise works in place and backward raises

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
__all__ = ["DEVICE", "WanModel", "WanVAE", "comfy", "initialise", "sinusoidal_embedding_1d"]


def initialise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give every layer torch's default initialisation: the host's classes leave their memory uninitialised."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            torch.nn.modules.conv._ConvNd.reset_parameters(module)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.Linear.reset_parameters(module)
        elif isinstance(module, torch.nn.LayerNorm):
            torch.nn.LayerNorm.reset_parameters(module)
        elif isinstance(module, torch.nn.RMSNorm):
            torch.nn.RMSNorm.reset_parameters(module)
    for name, parameter in model.named_parameters():
        if name.endswith("modulation"):
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model
