"""Several LoRAs on one layer: one pair of matmuls of their joined ranks, made once and given back."""

import pytest
import torch
from comfy.quant_ops import QuantizedTensor
from comfy.weight_adapter.lora import LoRAAdapter

from wan_gguf.host import side_path as module
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.patches import PackedPatch
from wan_gguf.host.side_path import SidePath, side_path

TOLERANCE = 1e-4  # as in test_lora.py
N, K = 48, 32
CPU = torch.device("cpu")
SAME = ("blocks.0.self_attn.q", "blocks.1.ffn.2")


def patch(seed, rank, strength, alpha=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(N, rank, generator=generator), torch.randn(rank, K, generator=generator)
    weights = (up.to(dtype), down.to(dtype), alpha, None, None, None)
    return PackedPatch("w", (strength, LoRAAdapter(set(), weights), 1.0, None, None), (N, K))


@pytest.fixture
def three():
    return [patch(0, 4, 1.0, alpha=2), patch(1, 8, -0.7), patch(2, 1, 0.3, alpha=5)]


def dense(patches):
    weight = torch.zeros(N, K)
    for function in patches:
        weight = function(weight)
    return weight


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", [(5, K), (2, 3, K), (K,)])
def test_it_equals_the_dense_sum(three, count, shape):
    path = side_path(three[:count], CPU)
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(shape, generator=generator), torch.randn(*shape[:-1], N, generator=generator)
    expected = y.double() + x.double() @ dense(three[:count]).double().T
    # sums of 32 products and then of 13, of values up to about 30: 45 * 2^-24 * 30 is 8e-5
    assert (path.add_to(y.clone(), x) - expected).abs().max() < 1e-4


def test_rows_of_a_table(three):
    rows, generator = torch.tensor([[3, 0], [47, 3]]), torch.Generator().manual_seed(5)
    values = torch.randn(2, 2, K, generator=generator)
    expected = values + dense(three)[rows]
    assert (side_path(three, CPU).add_to_rows(values.clone(), rows) - expected).abs().max() < 1e-4


def test_without_onednn_it_is_the_same(three, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(7, K, generator=generator), torch.randn(7, N, generator=generator)
    path = side_path(three, CPU)
    fast = path.add_to(y.clone(), x)
    monkeypatch.setattr(module, "_has_onednn", lambda x: False)
    assert (path.add_to(y.clone(), x) - fast).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_are_not_rounded_to_a_narrow_dtype(dtype):
    """up and down are 1, so the result is x * scale, rounded once; 0.0875 rounded to bf16 is off by 1.1e-3 itself."""
    weights = (torch.ones(N, 1, dtype=dtype), torch.ones(1, K, dtype=dtype), None, None, None, None)
    only = PackedPatch("w", (0.0875, LoRAAdapter(set(), weights), 1.0, None, None), (N, K))
    x = torch.zeros(64, K, dtype=dtype)
    x[:, 0] = torch.arange(64)
    found = side_path([only], CPU).add_to(torch.zeros(64, N, dtype=dtype), x)
    assert torch.equal(found, (x[:, :1].float() * 0.0875).to(dtype).expand(64, N))
    assert not torch.equal(found[:, :1], x[:, :1] * torch.tensor(0.0875, dtype=dtype))


def test_one_lora_is_not_copied(three):
    path = side_path(three[:1], CPU)
    assert path.up.data_ptr() == three[0].low_rank.up.data_ptr()
    assert path.down.data_ptr() == three[0].low_rank.down.data_ptr()


def test_dtypes_are_kept_where_they_agree():
    halves = [patch(0, 4, 1.0, dtype=torch.bfloat16), patch(1, 4, 1.0, dtype=torch.bfloat16)]
    assert side_path(halves, CPU).up.dtype == torch.bfloat16
    assert side_path([*halves, patch(2, 4, 1.0, dtype=torch.float16)], CPU).down.dtype == torch.float32


def test_it_belongs_to_its_patches_in_their_order(three):
    path = side_path(three, CPU)
    assert path.is_of(three, CPU)
    assert not path.is_of(three[:2], CPU)
    assert not path.is_of([three[1], three[0], three[2]], CPU)
    assert not path.is_of([*three, patch(0, 4, 1.0)], CPU)


def test_it_follows_the_patches_to_another_device(three):
    meta = torch.device("meta")
    here = side_path(three, CPU)
    for function in three:
        assert function.move_to(meta) == function.low_rank.up.nbytes + function.low_rank.down.nbytes
    assert not here.is_of(three, meta)
    there = side_path(three, meta)
    assert there.up.device == meta and there.is_of(three, meta)
    assert three[0].low_rank.up.device == CPU  # nothing lies there twice
    for function in three:
        function.move_to(CPU)
    assert not there.is_of(three, meta)  # an offloaded layer: the LoRAs stay with its weight and come at each call
    assert side_path(three, meta).up.device == CPU


@pytest.fixture
def model(wan_file):
    return load_diffusion_model(wan_file[0])


def layer(patcher):
    return patcher.model.diffusion_model.blocks[0].self_attn.q


def stack(model, make_lora, add_lora, seeds):
    for seed in seeds:
        model = add_lora(model, make_lora(seed=seed, layers=SAME, rank=4 * seed), 1.0 / seed)
    return model


def test_three_stacked_match_the_stock_model(model, stock_wan, ksample, make_lora, add_lora):
    before = ksample(model)
    ours = stack(model, make_lora, add_lora, (1, 2, 3))
    theirs = ksample(stack(stock_wan, make_lora, add_lora, (1, 2, 3)))
    assert (theirs - before).abs().max() > 0.05
    assert (ksample(ours) - theirs).abs().max() < TOLERANCE
    kept = layer(ours).kept_side_path
    assert type(layer(ours).weight) is QuantizedTensor
    assert kept.up.shape == (256, 4 + 8 + 12) and kept.down.shape == (4 + 8 + 12, 256)
    assert torch.equal(ksample(model), before)


def test_one_pair_of_matmuls_and_one_joining(model, ksample, make_lora, add_lora, monkeypatch):
    calls = {"side_path": 0, "add_to": 0}

    def counted(name, function):
        def call(*args):
            calls[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr("wan_gguf.host.operations.side_path", counted("side_path", side_path))
    monkeypatch.setattr(SidePath, "add_to", counted("add_to", SidePath.add_to))
    patched = stack(model, make_lora, add_lora, (1, 2, 3))
    ksample(patched, steps=3, cfg=1.0)
    assert calls == {"side_path": len(SAME), "add_to": 3 * len(SAME)}
    ksample(patched, steps=1, cfg=1.0)
    assert calls == {"side_path": len(SAME), "add_to": 4 * len(SAME)}


def test_clones_with_other_loras_take_turns(model, ksample, make_lora, add_lora):
    base = ksample(model)
    two = stack(model, make_lora, add_lora, (1, 2))
    three = stack(two, make_lora, add_lora, (3,))
    other = stack(model, make_lora, add_lora, (3, 2))
    first = [ksample(patcher) for patcher in (two, three, other)]
    assert not any(torch.equal(a, b) for a, b in ((first[0], first[1]), (first[1], first[2]), (first[0], base)))
    for patcher, expected in zip((other, model, two, three), (first[2], base, *first[:2]), strict=True):
        assert torch.equal(ksample(patcher), expected)


def test_unloading_gives_the_memory_back(model, ksample, make_lora, add_lora):
    patched = stack(model, make_lora, add_lora, (1, 2))
    ksample(patched)
    assert layer(patched).kept_side_path is not None
    patched.detach()
    assert layer(patched).kept_side_path is None


def test_without_loras_nothing_is_kept(model, ksample, make_lora, add_lora):
    ksample(stack(model, make_lora, add_lora, (1, 2)))
    ksample(model)
    assert layer(model).kept_side_path is None


def test_torch_compile_with_loras_gives_the_same_latent(model, ksample, make_lora, add_lora):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    patched = stack(model, make_lora, add_lora, (1, 2))
    expected = ksample(patched, steps=1)
    compiled = patched.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    assert torch.equal(ksample(compiled, steps=1), expected)
