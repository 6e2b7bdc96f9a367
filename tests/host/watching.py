"""What the tests of the two experts look at a run with, and evaluations of a model without our sampler."""

import comfy.model_management
import comfy.samplers
import torch


def free_memory(monkeypatch, free_bytes):
    """From now on the host finds so many bytes free, on every device."""

    def get_free_memory(device=None, torch_free_too=False):
        return (free_bytes, free_bytes) if torch_free_too else free_bytes

    monkeypatch.setattr(comfy.model_management, "get_free_memory", get_free_memory)


def watched(model):
    """A clone, and the (batch size, which conds) of every call it gets."""
    seen, clone = [], model.clone()

    def wrapper(apply_model, args):
        seen.append((args["input"].shape[0], sorted(args["cond_or_uncond"])))
        return apply_model(args["input"], args["timestep"], **args["c"])

    clone.set_model_unet_function_wrapper(wrapper)
    return clone, seen


class Evaluate(comfy.samplers.Sampler):
    """One evaluation of the model where it is asked, nothing of ours."""

    def __init__(self, x, sigma):
        self.x, self.sigma = x, sigma

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *args, **kwargs):
        return model_wrap(self.x, self.x.new_full((len(self.x),), self.sigma), **extra_args)


def velocity_of(model, conditioning, cfg):
    """(x, timestep) -> v of that model through the host's own guider."""

    def velocity(x, timestep):
        sigma = timestep / 1000
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(conditioning(1), conditioning(2))
        guider.set_cfg(cfg)
        start = torch.zeros_like(x)
        # process_latent_out of the guider undone: denoised in the model's own scale
        found = guider.sample(x, start, Evaluate(x, sigma), torch.tensor([sigma, 0.0]), disable_pbar=True)
        return (x - model.model.process_latent_in(found)) / sigma

    return velocity
