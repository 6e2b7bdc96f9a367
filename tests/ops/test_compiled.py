"""The operations under torch.compile: one graph, the same bytes, and no second registration."""

import dataclasses

import pytest
import torch

from wan_gguf.ops import compiled
from wan_gguf.ops.dequantize import dequantize_rows
from wan_gguf.ops.linear import linear
from wan_gguf.ops.row_scales import row_scales
from wan_gguf.tests.loaders.build import packed_weight


class Layers(torch.nn.Module):
    """An embedding and two linear layers on packed weights, with ordinary operations between them."""

    def __init__(self, mode: str, dtype: torch.dtype):
        super().__init__()
        self.mode, self.dtype = mode, dtype
        self.table = packed_weight("Q8_0", (50, 256), 1)
        self.up, self.down = packed_weight("Q8_0", (512, 256), 2), packed_weight("Q4_K", (24, 512), 3)
        self.up = dataclasses.replace(self.up, row_scale=row_scales(self.up))
        self.bias = torch.nn.Parameter(torch.linspace(-1, 1, 512), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = dequantize_rows(self.table, rows, self.dtype) * 2
        x = torch.nn.functional.gelu(linear(x, self.up, self.bias, self.mode))
        return linear(x, self.down, None, self.mode) + 1


def rows_of(*shape: int) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(0))


class Graphs:
    """A backend of torch.compile that counts the graphs and notes our operations in them."""

    def __init__(self):
        self.found: list[list[str]] = []

    def __call__(self, graph, inputs):
        names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        self.found.append([name for name in names if name.startswith("wan_gguf.")])
        return graph.forward


LAYER_OPS = ["wan_gguf.dequantize_rows", "wan_gguf.linear", "wan_gguf.linear"]


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("mode", ["exact", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bytes_as_without(mode, dtype):
    layers, rows = Layers(mode, dtype), rows_of(2, 20)
    found = torch.compile(layers, backend="aot_eager", fullgraph=True)(rows)
    assert torch.equal(found, layers(rows))


def test_one_graph_with_our_operations_in_it():
    graphs = Graphs()
    layers = Layers("exact", torch.float32)
    torch.compile(layers, backend=graphs)(rows_of(2, 3))
    assert graphs.found == [LAYER_OPS]


def test_another_number_of_tokens_is_the_same_graph():
    graphs, layers = Graphs(), Layers("exact", torch.float32)
    compiled_layers = torch.compile(layers, backend=graphs, dynamic=True)
    for shape in ((2, 3), (3, 40), (4, 5)):
        assert torch.equal(compiled_layers(rows_of(*shape)), layers(rows_of(*shape)))
    assert graphs.found == [LAYER_OPS]


def test_under_inference_mode():
    layers, rows = Layers("exact", torch.float32), rows_of(7)
    with torch.inference_mode():
        found = torch.compile(layers, backend="aot_eager", fullgraph=True)(rows)
    assert torch.equal(found, layers(rows))


def test_wrong_arguments_raise_under_compile_too():
    packed = packed_weight("Q8_0", (5, 256))
    with pytest.raises(Exception, match=r"linear bias: got shape|Observed exception"):
        torch.compile(linear, backend="eager", fullgraph=True)(torch.zeros(2, 256), packed, torch.zeros(4))


@pytest.mark.parametrize("with_scale", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("mode", ["exact", "int8"])
def test_linear_keeps_torchs_rules_for_operations(with_scale, with_bias, mode):
    """Schema, shapes computed in its place and dispatch, by torch's own checks."""
    packed = packed_weight("Q4_K", (8, 256))
    scale, bias = row_scales(packed) if with_scale else None, torch.zeros(8) if with_bias else None
    arguments = (torch.ones(3, 15, 256), packed.data, scale, bias, "Q4_K", 8, 256, mode)
    torch.library.opcheck(torch.ops.wan_gguf.linear.default, arguments)


@pytest.mark.parametrize("shape", [(), (4,), (2, 0), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dequantize_rows_keeps_torchs_rules_for_operations(shape, dtype):
    data = packed_weight("Q6_K", (9, 512)).data
    rows = torch.zeros(shape, dtype=torch.int64)
    torch.library.opcheck(torch.ops.wan_gguf.dequantize_rows.default, (data, rows, "Q6_K", 9, 512, dtype))


def test_an_input_that_is_not_contiguous_gives_the_promised_strides():
    packed = packed_weight("Q8_0", (8, 256))
    x = torch.randn(256, 3, generator=torch.Generator().manual_seed(0)).t()
    found = compiled.linear(x, packed, None, "exact")
    assert found.is_contiguous()
    assert torch.equal(found, linear(x, packed))


def test_a_second_registration_is_an_error():
    with pytest.raises(RuntimeError, match="wan_gguf::linear: it is registered already"):
        compiled.register("linear", compiled._linear, compiled._linear_shape)
