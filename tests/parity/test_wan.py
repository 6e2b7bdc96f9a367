"""The host's WanModel with our layers against diffusers' WanTransformer3DModel: same weights, x, times and prompt.

Both compute in float32, weights decoded exactly, so what remains is the order of sums. Measured: 2e-6 to 6e-6.
"""

import comfy.model_management
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.tests.loaders.models import wan_tensors
from wan_gguf.tests.parity.quantised import relative_error
from wan_gguf.tests.parity.wan_twins import PUBLISHED_TYPES, TEXT_DIM, make_twins, official_name

TOLERANCE = 1e-4
FRAMES, HEIGHT, WIDTH = 3, 6, 4  # of the latent; patches are 1 x 2 x 2


def inputs(channels: int, batch: int = 2, tokens: int = 20, frames: int = FRAMES):
    """x and the encoded prompt, different for each of the batch."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(batch, channels, frames, HEIGHT, WIDTH, generator=generator)
    return x, torch.randn(batch, tokens, TEXT_DIM, generator=generator)


def ours(path, x, t, context):
    """What the host's model says, with t per sample or per latent frame."""
    patcher = load_diffusion_model(path, "fp32")
    comfy.model_management.load_models_gpu([patcher])
    return patcher.model.diffusion_model(x, t, context, transformer_options={})


def theirs(twin, x, t, context):
    """What diffusers says, with t per sample or per token."""
    return twin(x, t, context, return_dict=False)[0]


def per_token(frame_times: torch.Tensor) -> torch.Tensor:
    """(batch, frames) -> (batch, tokens), as diffusers' pipelines with expand_timesteps give them."""
    return frame_times.repeat_interleave(HEIGHT // 2 * (WIDTH // 2), dim=1)


def test_the_names_are_those_of_diffusers_own_converter():
    official = list(wan_tensors())
    renamed = convert_wan_transformer_to_diffusers({name: torch.tensor(i) for i, name in enumerate(official)})
    assert {official_name(name) for name in renamed} == set(official)
    assert all(official_name(name) == official[number] for name, number in renamed.items())


@pytest.mark.parametrize(
    ("channels", "types", "plain"),
    [(16, "F32", "F32"), (16, PUBLISHED_TYPES, "F16"), (36, "Q4_K", "F32")],
    ids=["T2V-A14B", "T2V-A14B in all types", "I2V-A14B"],
)
def test_one_time_per_sample(tmp_path, channels, types, plain):
    twin = make_twins(tmp_path / "wan.gguf", channels, 16, types, plain)
    (x, context), t = inputs(channels), torch.tensor([999.0, 412.0])
    expected = theirs(twin, x, t, context)
    found = ours(tmp_path / "wan.gguf", x, t, context)
    assert found.shape == expected.shape == (2, 16, FRAMES, HEIGHT, WIDTH)
    assert relative_error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("quantised", ["F32", "Q4_K"])
def test_one_time_per_latent_frame(tmp_path, quantised):
    """TI2V-5B: the frame of the start image is told time 0."""
    twin = make_twins(tmp_path / "wan.gguf", 48, 48, quantised)
    (x, context), times = inputs(48), torch.tensor([[0.0, 637.0, 637.0], [0.0, 20.0, 20.0]])
    expected = theirs(twin, x, per_token(times), context)
    found = ours(tmp_path / "wan.gguf", x, times, context)
    assert relative_error(found, expected) <= TOLERANCE
    same_times = ours(tmp_path / "wan.gguf", x, times[:, 1], context)
    assert relative_error(same_times, expected) > 100 * TOLERANCE


def test_a_prompt_of_full_length(tmp_path):
    twin = make_twins(tmp_path / "wan.gguf", types="Q8_0")
    (x, context), t = inputs(16, batch=1, tokens=512), torch.tensor([850.0])
    found = ours(tmp_path / "wan.gguf", x, t, context)
    assert relative_error(found, theirs(twin, x, t, context)) <= TOLERANCE


def test_a_change_of_any_tensor_is_seen(tmp_path):
    """Or a tensor that both sides ignore would pass: the numbers of each are moved by one place in turn.

    Of the two blocks, which are alike, those of the last.
    """
    twin = make_twins(tmp_path / "wan.gguf")
    (x, context), t = inputs(16, batch=1, tokens=5, frames=1), torch.tensor([731.0])
    found = ours(tmp_path / "wan.gguf", x, t, context)
    unseen = []
    for name, value in twin.state_dict().items():
        if name.startswith("blocks.0."):
            continue
        kept = value.clone()
        value.copy_(kept.roll(1))
        if relative_error(found, theirs(twin, x, t, context)) <= TOLERANCE:
            unseen.append(name)
        value.copy_(kept)
    assert relative_error(found, theirs(twin, x, t, context)) <= TOLERANCE
    assert unseen == []
