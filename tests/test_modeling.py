"""The model: what comes out, what must not matter, what is learnt, and what survives saving."""

import copy
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, linear, pad
from transformers import BitConfig, MaskFormerSwinConfig, PreTrainedModel, set_seed

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation
from fashion_detr.configuration_fashion_detr import STAGES
from fashion_detr.modeling_fashion_detr import (
    FashionDetrFusion,
    FashionDetrMemory,
    FashionDetrModel,
    PaddedConv2d,
    box_edges,
    fix_padding,
    pool_under,
    render,
)

LOGITS = ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits")
ABLATIONS = ("internal_attention", "external_attention", "multi_layer_rendering")


def build(config, seed: int = 0) -> FashionDetrForInstanceSegmentation:
    torch.manual_seed(seed)
    return FashionDetrForInstanceSegmentation(config).eval()


def photos(batch: int = 2, height: int = 64, width: int = 96, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def largest_difference(one, other, rows: slice = slice(None)) -> float:
    """Over the three predictions; `rows` are the images of `one` that `other` holds."""
    return max(float((one[name][rows] - other[name]).detach().abs().max()) for name in LOGITS)


def without_gradient(model: nn.Module) -> list[str]:
    return [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]


def batch_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """The models are too small to share: a second thread only waits, long if the other core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class EightBitLinear(nn.Module):
    """As libraries that quantise leave a layer: its weight consists of whole numbers."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.step = layer.weight.detach().abs().max() / 127
        self.register_buffer("weight", (layer.weight.detach() / self.step).round().to(torch.int8))
        self.bias = layer.bias

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return linear(features, self.step * self.weight, self.bias)


class PatchBackbone(nn.Module):
    """Every cell sees nothing but its own pixels, so that only neck and decoder can leak."""

    channels = [3, 3, 3, 3]

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        height, width = pixel_values.shape[-2:]
        whole = pad(pixel_values, (0, -width % 32, 0, -height % 32))
        maps = [
            avg_pool2d(whole, stride)[..., : -(-height // stride), : -(-width // stride)] for stride in (4, 8, 16, 32)
        ]
        return SimpleNamespace(feature_maps=maps)


def patch_model(config) -> FashionDetrForInstanceSegmentation:
    with mock.patch("fashion_detr.modeling_fashion_detr.load_backbone", lambda config: PatchBackbone()):
        return build(config)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_edges_of_a_mask():
    """Shares of the image, whatever the canvas; an edge moves with its pixels' probability, without a jump at 1/2."""
    masks = torch.zeros(1, 3, 8, 6)
    masks[0, 0, 2:5, 1:3] = 1
    masks[0, 0, 5, 2] = 0.5
    masks[0, 1] = 0.25
    masks[0, 2, 7, 3] = 0.75
    valid = torch.zeros(1, 1, 8, 6)
    valid[..., :4] = 1
    own = [[2 / 8, 5.5 / 8, 1 / 4, 3 / 4], [1, 0, 1, 0], [7 / 8, 1, 3 / 4, 1]]
    expected = [[*box, 2 / 8, 1, 1 / 4, 1] for box in own]
    torch.testing.assert_close(box_edges(masks * valid, valid)[0], torch.tensor(expected))
    larger = (pad(maps, (0, 3, 0, 5)) for maps in (masks * valid, valid))
    torch.testing.assert_close(box_edges(*larger), box_edges(masks * valid, valid))


@pytest.mark.parametrize("backbone", ["resnet", "swin", "test_resnet"])
@pytest.mark.parametrize("size", [(64, 64), (100, 70), (33, 17), (1, 1)])
def test_shapes_on_any_canvas(tiny_config, backbone, size):
    model = build(tiny_config(backbone))
    outputs = model(photos(2, *size))
    height, width = (-(-side // 4) for side in size)
    assert outputs.class_queries_logits.shape == (2, 10, 46)
    assert outputs.masks_queries_logits.shape == (2, 10, height, width)
    assert outputs.attribute_queries_logits.shape == (2, 10, 294)
    assert outputs.query_hidden_states.shape == (2, 10, 32)
    assert outputs.valid_sizes.tolist() == [list(size)] * 2
    assert all(outputs[name].isfinite().all() for name in LOGITS)
    assert outputs.loss is None and outputs.auxiliary_logits is None and outputs.hidden_states is None


def test_backbone_that_drops_the_border_takes_any_canvas(tiny_config):
    """ConvNeXt's strided convolutions ignore the pixels that do not fill a stride."""
    model = build(tiny_config("test_convnext"))
    assert model(photos(1, 64, 96)).masks_queries_logits.shape == (1, 10, 16, 24)
    assert model(photos(1, 102, 70)).masks_queries_logits.shape == (1, 10, 26, 18)


def test_optional_outputs(tiny_model):
    pixel_values = photos()
    plain = tiny_model(pixel_values)
    outputs = tiny_model(pixel_values, output_hidden_states=True, output_auxiliary_logits=True)
    assert largest_difference(plain, outputs) == 0
    assert len(outputs.hidden_states) == 3
    assert torch.equal(outputs.hidden_states[-1], outputs.query_hidden_states)
    initial, first = outputs.auxiliary_logits
    assert set(initial) == {"class_queries_logits", "masks_queries_logits"}
    assert set(first) == set(LOGITS)
    assert {name: logits.shape for name, logits in first.items()} == {name: outputs[name].shape for name in LOGITS}

    as_tuple = tiny_model(pixel_values, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert all(torch.equal(value, other) for value, other in zip(as_tuple, plain.to_tuple(), strict=True))
    tiny_model.config.output_hidden_states = True
    assert len(tiny_model(pixel_values).hidden_states) == 3


def test_labels_give_named_terms(tiny_model, random_labels):
    labels = random_labels(tiny_model.config, [2, 1], (64, 96))
    outputs = tiny_model(photos(), **labels)
    predictions = ("initial", "internal1", "stage1", "internal2", "stage2")
    masks = {f"{term}_{prediction}" for term in ("mask", "dice") for prediction in predictions}
    heads = {f"{term}_{prediction}" for term in ("class", "attribute") for prediction in ("stage1", "stage2")}
    assert set(outputs.loss_dict) == masks | heads
    # All weights are 1 by default.
    assert torch.allclose(outputs.loss, sum(outputs.loss_dict.values()))
    assert len(outputs.auxiliary_logits) == 2
    with pytest.raises(ValueError, match="attribute_labels"):
        tiny_model(photos(), mask_labels=labels["mask_labels"], class_labels=labels["class_labels"])


def test_wrong_inputs_are_named(tiny_model):
    with pytest.raises(ValueError, match="pixel_values"):
        tiny_model(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match="pixel_mask"):
        tiny_model(torch.zeros(1, 3, 64, 64), torch.ones(1, 16, 16))


def test_what_could_not_be_saved_is_not_built(tiny_config):
    config = tiny_config()
    config.num_labels += 1
    for ids, found in ((config.category_ids, f"found {config.num_labels - 1}"), (None, "found none")):
        config.category_ids = ids
        expected = f"`category_ids` needs {config.num_labels} different ids; {found}.*give `id2label`"
        with pytest.raises(StrictDataclassError, match=expected):
            FashionDetrForInstanceSegmentation(config)


@pytest.mark.filterwarnings("error")
def test_without_attributes_there_is_nothing_to_warn_of(tiny_config):
    model = FashionDetrForInstanceSegmentation(tiny_config(id2attribute={}, attribute_ids=[]))
    assert model(photos()).attribute_queries_logits.shape[-1] == 0


def test_what_is_no_backbone_is_named():
    for backbone, message in [
        ({"model_type": "resnett"}, r"such as 'resnet', .* found 'resnett'"),
        ({"depths": [1, 1, 1, 1]}, "found None"),
        ({"model_type": "bert"}, "no backbone of type 'bert'"),
    ]:
        with pytest.raises(ValueError, match=message):
            FashionDetrForInstanceSegmentation(FashionDetrConfig(backbone_config=backbone))
    with pytest.raises(ValueError, match="no backbone of type 'bert'"):
        config = FashionDetrConfig(backbone_config={"model_type": "bert"})
        FashionDetrForInstanceSegmentation._from_config(config, attn_implementation="eager")


def test_backbone_without_the_four_levels_is_named(tiny_config):
    config = tiny_config()
    config.backbone_config.out_features = ["stage3", "stage4"]
    with pytest.raises(ValueError, match="4 feature maps"):
        FashionDetrForInstanceSegmentation(config)
    config.backbone_config.out_features = ["stem", "stage1", "stage2", "stage3"]
    with pytest.raises(ValueError, match="strides"):
        build(config)(photos())


def test_fused_feature_is_the_convolution_of_the_concatenated_levels(tiny_config):
    """The design's claim: one 1x1 convolution a level before the upsampling equals one of their concatenation after."""
    torch.manual_seed(0)
    fusion = FashionDetrFusion(tiny_config())
    for parameter in (fusion.projections[0].bias, *fusion.norm.parameters(), *fusion.convolution_norms.parameters()):
        nn.init.normal_(parameter)
    levels = [torch.randn(2, 32, 256 // stride, 384 // stride) for stride in (4, 8, 16, 32)]

    def raised(maps: torch.Tensor, doublings: int) -> torch.Tensor:
        for _ in range(doublings):
            maps = interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
        return maps

    def over_channels(norm: nn.LayerNorm, maps: torch.Tensor) -> torch.Tensor:
        return norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    coarser = zip(fusion.convolutions, fusion.convolution_norms, levels[1:])
    convolved = [levels[0], *(over_channels(norm, conv(maps)).relu() for conv, norm, maps in coarser)]
    blocks = torch.cat([projection.weight for projection in fusion.projections], dim=1)
    concatenated = torch.cat([raised(maps, level) for level, maps in enumerate(convolved)], dim=1)
    expected = over_channels(fusion.norm, conv2d(concatenated, blocks[..., None, None], fusion.projections[0].bias))
    # The border pixels depend on how the upsampling treats what lies beyond the canvas, the others do not.
    inner = (..., slice(8, -8), slice(8, -8))
    fused = fusion(levels, [torch.ones(1, 1, *maps.shape[-2:]) for maps in levels])
    assert fused[inner].shape == (2, 32, 48, 80)
    assert torch.allclose(fused[inner], expected.relu()[inner], atol=1e-5)


def test_first_masks_are_the_kernels_over_the_fused_feature(tiny_model):
    """P^0 = Q^0 . F_f: the same weights are queries and kernels."""
    seen = {}
    tiny_model.model.fusion.register_forward_hook(lambda module, inputs, output: seen.update(fused=output))
    outputs = tiny_model(photos(), output_auxiliary_logits=True)
    expected = torch.einsum("nd,bdhw->bnhw", tiny_model.model.kernels, seen["fused"])
    assert torch.allclose(outputs.auxiliary_logits[0]["masks_queries_logits"], expected, atol=1e-5)


# --- what must not matter ---------------------------------------------------------------------------------------------


def mask_of(sizes: list[tuple[int, int]], height: int, width: int) -> torch.Tensor:
    """`pixel_mask` of images of these sizes at the top left."""
    pixel_mask = torch.zeros(len(sizes), height, width, dtype=torch.long)
    for mask, (rows, columns) in zip(pixel_mask, sizes):
        mask[:rows, :columns] = 1
    return pixel_mask


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_single_equals_batch(tiny_config, backbone):
    model, pixel_values = build(tiny_config(backbone)), photos(3)
    pixel_mask = mask_of([(64, 96), (41, 96), (64, 50)], 64, 96)
    together = model(pixel_values, pixel_mask)
    assert together.valid_sizes.tolist() == [[64, 96], [41, 96], [64, 50]]
    for row in range(3):
        alone = model(pixel_values[row : row + 1], pixel_mask[row : row + 1])
        assert largest_difference(together, alone, slice(row, row + 1)) < 1e-4
    again = model(pixel_values, pixel_mask)
    assert largest_difference(together, again) == 0


@pytest.mark.parametrize("filling", [1e4, float("inf"), float("nan")])
def test_padded_pixels_change_nothing(tiny_model, filling):
    pixel_values, pixel_mask = photos(), mask_of([(41, 96), (64, 50)], 64, 96)
    other = pixel_values.masked_fill(pixel_mask[:, None] == 0, filling)
    assert largest_difference(tiny_model(pixel_values, pixel_mask), tiny_model(other, pixel_mask)) == 0


def test_mask_of_ones_is_no_mask(tiny_model):
    whole = torch.ones(2, 64, 96)
    for dtype in (torch.bool, torch.long, torch.float32):
        assert largest_difference(tiny_model(photos()), tiny_model(photos(), whole.to(dtype))) == 0


@pytest.mark.parametrize("size", [(64, 96), (100, 70)])
def test_neck_and_decoder_do_not_see_the_canvas(tiny_config, size):
    model = patch_model(tiny_config())
    height, width = size
    pixel_values, canvas = photos(1, *size), torch.zeros(1, 3, 160, 192)
    canvas[..., :height, :width] = pixel_values
    small, large = model(pixel_values), model(canvas, mask_of([size], 160, 192))
    rows, columns = small.masks_queries_logits.shape[-2:]
    large.masks_queries_logits = large.masks_queries_logits[..., :rows, :columns]
    assert large.valid_sizes.tolist() == [list(size)]
    assert largest_difference(small, large) < 1e-4


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_larger_canvas_is_close(tiny_config, backbone):
    """The backbone itself sees where its canvas ends; with the image inside it, most of the mask stays."""
    pixel_values, canvas = photos(1, 256, 192), torch.zeros(1, 3, 288, 320)
    canvas[..., :256, :192] = pixel_values
    shares = []
    for seed in range(4):
        torch.manual_seed(seed)
        model = FashionDetrForInstanceSegmentation(tiny_config(backbone)).eval()
        small = model(pixel_values).masks_queries_logits > 0
        large = model(canvas, mask_of([(256, 192)], 288, 320)).masks_queries_logits[..., :64, :48] > 0
        shares.append((small == large).float().mean())
    assert sum(shares) / len(shares) > 0.93


def test_valid_sizes_are_exact_in_half_precision(tiny_model):
    """bfloat16 cannot count to 1,021."""
    outputs = tiny_model.to(torch.bfloat16)(photos(1, 32, 1024).bfloat16(), mask_of([(31, 1021)], 32, 1024))
    assert outputs.valid_sizes.tolist() == [[31, 1021]]


# --- attention back ends, precisions, compilers -----------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["resnet", "swin", "test_convnext"])
def test_attention_back_ends_agree(tiny_config, backbone):
    outputs = {}
    for implementation in ("sdpa", "eager"):
        torch.manual_seed(0)
        model = FashionDetrForInstanceSegmentation._from_config(
            tiny_config(backbone), attn_implementation=implementation
        ).eval()
        assert model.config._attn_implementation == implementation
        outputs[implementation] = model(photos(), mask_of([(41, 96), (64, 50)], 64, 96))
    assert largest_difference(outputs["sdpa"], outputs["eager"]) < 1e-4


def test_attentions_tell_what_was_read(tiny_config, tmp_path):
    model = build(tiny_config())
    model.set_attn_implementation("eager")
    read = []
    attention = model.model.stages[0].internal_attention
    attention.register_forward_hook(lambda module, args, output: read.append((args[2], output[0])))
    mask = mask_of([(41, 96), (64, 50)], 64, 96)
    plain = model(photos(), mask)
    assert plain.attentions is None and plain.cross_attentions is None
    outputs = model(photos(), mask, output_attentions=True)
    assert largest_difference(plain, outputs) == 0
    assert [weights.shape for weights in outputs.attentions] == [(2, 4, 10, 10)] * 2
    pixels = (8 * 12, 4 * 6, 2 * 3)
    assert [weights.shape for weights in outputs.cross_attentions] == [(2, 4, 10, sum(pixels))] * 2
    for weights in (*outputs.attentions, *outputs.cross_attentions):
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 10))
    for level, stride in zip(outputs.cross_attentions[0].split(pixels, dim=-1), (8, 16, 32)):
        padding = mask[:, ::stride, ::stride].flatten(1) == 0
        assert padding.any() and (level.amax(dim=(1, 2))[padding] == 0).all()
    values, answer = read[-1]
    rebuilt = outputs.cross_attentions[0] @ torch.cat(values, dim=2)
    torch.testing.assert_close(attention.o_proj(rebuilt.transpose(1, 2).flatten(-2)), answer)

    model.config.output_attentions = True
    model.save_pretrained(tmp_path)
    loaded = FashionDetrForInstanceSegmentation.from_pretrained(tmp_path)
    assert torch.equal(loaded(photos(), mask).attentions[1], outputs.attentions[1])
    loaded.set_attn_implementation("sdpa")
    assert loaded(photos(), mask).attentions is None
    loaded.save_pretrained(tmp_path)
    assert not FashionDetrConfig.from_pretrained(tmp_path).output_attentions
    partial = build(tiny_config(external_attention=False))
    partial.set_attn_implementation("eager")
    alone = partial(photos(), output_attentions=True)
    assert alone.attentions is None and len(alone.cross_attentions) == 2


def test_what_lies_under_a_mask_is_its_mean_by_area():
    features = torch.tensor([[[[2.0, 4.0], [8.0, 16.0]]]])
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.5, 0.0], [1.0, 1.0]], [[0.0, 0.25], [0.0, 0.0]]]])
    # Less than a pixel of mask counts as one, so that next to nothing is read under it.
    expected = torch.tensor([[[3.0], [(1 + 8 + 16) / 2.5], [1.0]]])
    torch.testing.assert_close(pool_under(masks, features), expected)


def test_external_attention_tells_queries_with_one_mask_apart(tiny_config):
    """Each is represented by itself and its region: regions alone would be the same."""
    model = build(tiny_config())
    seen = {}
    stage = model.model.stages[0]
    stage.register_forward_hook(lambda module, args, output: seen.update(memory=args[3], masks=output.internal_masks))
    stage.external_attention.register_forward_hook(lambda module, args, output: seen.update(tokens=args))
    model(photos())
    queries, instances = seen["tokens"]
    regions = pool_under(seen["masks"].sigmoid(), seen["memory"].coarse)
    assert regions.abs().max() > 0.1
    torch.testing.assert_close(instances, queries + regions)


def test_attentions_that_the_back_end_does_not_tell_are_named(tiny_model, caplog):
    outputs = tiny_model(photos(), output_attentions=True)
    assert tiny_model.config._attn_implementation == "sdpa" and outputs.attentions is None
    assert 'set_attn_implementation("eager")' in caplog.text


def test_attention_back_end_can_be_changed(tiny_model):
    for implementation, backbone in (("eager", "eager"), ("sdpa", "eager"), ({"": "eager"}, "eager")):
        tiny_model.set_attn_implementation(implementation)
        used = implementation if isinstance(implementation, str) else implementation[""]
        assert tiny_model.config._attn_implementation == used
        assert tiny_model.model.stages[0].internal_attention.config._attn_implementation == used
        assert tiny_model.config.backbone_config._attn_implementation == backbone


@pytest.mark.parametrize(
    "backbone",
    [
        BitConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_groups=2, out_features=[*STAGES]),
        MaskFormerSwinConfig(
            image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, out_features=[*STAGES]
        ),
    ],
    ids=lambda backbone: backbone.model_type,
)
def test_every_weight_of_other_backbones_learns(tiny_config, random_labels, backbone):
    """A weight without a gradient ends training on several processes."""
    model = build(tiny_config(backbone_config=backbone)).train()
    model(photos(), **random_labels(model.config, [2, 1], (64, 96))).loss.backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_bfloat16_autocast_trains(tiny_config, random_labels, backbone):
    model = build(tiny_config(backbone)).train()
    labels = random_labels(model.config, [2, 1], (64, 96))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(photos(), mask_of([(41, 96), (64, 50)], 64, 96), **labels)
    outputs.loss.backward()
    assert outputs.loss.dtype == torch.float32 and outputs.loss.isfinite()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    assert without_gradient(model) == []


def test_model_in_bfloat16(tiny_config, random_labels):
    model = build(tiny_config())
    labels = random_labels(model.config, [2, 1], (64, 96))
    expected = model(photos())
    for implementation in ("sdpa", "eager"):
        halved = copy.deepcopy(model).to(torch.bfloat16)
        halved.set_attn_implementation(implementation)
        outputs = halved(photos().bfloat16(), **labels)
        assert outputs.loss.dtype == torch.float32 and outputs.loss.isfinite()
        errors = {}
        for name in LOGITS:
            assert outputs[name].dtype == torch.bfloat16
            errors[name] = (outputs[name].float().sigmoid() - expected[name].sigmoid()).abs()
        assert errors["class_queries_logits"].max() < 5e-3 and errors["attribute_queries_logits"].max() < 2e-3
        assert errors["masks_queries_logits"].mean() < 3e-3  # single pixels move by more than 1e-2


def test_inference_compiles_as_one_graph(tiny_model):
    inputs = (photos(), mask_of([(41, 96), (64, 50)], 64, 96))
    compiled = torch.compile(tiny_model, backend="eager", fullgraph=True)
    assert largest_difference(tiny_model(*inputs), compiled(*inputs)) < 1e-5


def test_inference_exports_with_batch_and_canvas_left_open(tiny_model):
    batch, rows, columns = (torch.export.Dim(name, min=2, max=40) for name in ("batch", "rows", "columns"))
    shapes = {0: batch, 2: 32 * rows, 3: 32 * columns}, {0: batch, 1: 32 * rows, 2: 32 * columns}
    inputs = (photos(), mask_of([(41, 96), (64, 50)], 64, 96))
    exported = torch.export.export(tiny_model, inputs, dynamic_shapes=shapes).module()
    for count, height, width, sizes in ((2, 64, 96, [(41, 96), (64, 50)]), (3, 128, 64, [(128, 64), (9, 9), (70, 30)])):
        inputs = (photos(count, height, width), mask_of(sizes, height, width))
        assert largest_difference(tiny_model(*inputs), exported(*inputs)) < 1e-5


def test_a_photo_goes_through_the_processor_first(tiny_model):
    with pytest.raises(ValueError, match=r"found Image\. The image processor makes it"):
        tiny_model(Image.new("RGB", (96, 64)))


def test_weights_that_wait_on_disk(tiny_model, tmp_path):
    """`device_map` may split the model anywhere but inside `model.model`, whose stages share modules."""
    expected = tiny_model(photos())
    tiny_model.save_pretrained(tmp_path / "saved")
    split = FashionDetrForInstanceSegmentation.from_pretrained(
        tmp_path / "saved",
        device_map={"model": "disk", "class_head": "cpu", "attribute_head": "disk"},
        offload_folder=tmp_path / "weights",
    )
    assert largest_difference(expected, split(photos())) < 1e-5
    assert "FashionDetrModel" in tiny_model._no_split_modules


def test_attributes_of_quantised_weights(tiny_model):
    """Nothing may take its type from a weight."""
    expected = tiny_model(photos()).attribute_queries_logits
    quantised = copy.deepcopy(tiny_model)
    for module in list(quantised.modules()):
        for name, part in module.named_children():
            if isinstance(part, nn.Linear):
                setattr(module, name, EightBitLinear(part))
    assert (quantised(photos()).attribute_queries_logits - expected).abs().max() < 0.2 * expected.std()


def test_padding_that_follows_the_input_is_fixed():
    """timm's convolutions with TensorFlow's padding, of which `torch.export` cannot make one expression."""
    layers = pytest.importorskip("timm.layers")
    convolutions = nn.Sequential(
        layers.Conv2dSame(3, 8, 3, stride=2), nn.Sequential(layers.Conv2dSame(8, 8, 5, stride=2, groups=8, bias=False))
    )
    maps = torch.rand(2, 3, 32, 64)
    expected, weights = convolutions(maps), convolutions.state_dict()
    fix_padding(convolutions)
    assert [type(part) for part in convolutions.modules() if isinstance(part, nn.Conv2d)] == [PaddedConv2d] * 2
    assert torch.equal(convolutions(maps), expected)
    assert all(torch.equal(value, weights[name]) for name, value in convolutions.state_dict().items())


# --- what is learnt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [None, *ABLATIONS])
@pytest.mark.parametrize("counts", [(2, 1), (0, 2), (0, 0), (13, 1)], ids=str)
def test_every_parameter_has_a_gradient(tiny_config, random_labels, off, counts):
    """Also with images without an instance, and with more instances (13) than queries (10): DDP waits for each one."""
    model = build(tiny_config(**({off: False} if off else {}))).train()
    loss = model(photos(), **random_labels(model.config, counts, (64, 96))).loss
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert without_gradient(model) == []
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("off", ABLATIONS)
def test_ablations_change_the_result(tiny_config, off):
    whole, without = build(tiny_config()), build(tiny_config(**{off: False}))
    shared = {
        name: weight
        for name, weight in whole.state_dict().items()
        if name in without.state_dict() and weight.shape == without.state_dict()[name].shape
    }
    without.load_state_dict(shared, strict=False)
    assert sum(p.numel() for p in without.parameters()) < sum(p.numel() for p in whole.parameters())
    assert largest_difference(whole(photos()), without(photos())) > 1e-3


def test_withheld_evidence_has_no_say_and_training_alone_withholds(tiny_config):
    model = build(tiny_config(evidence_dropout=0.5, dropout=0, num_queries=50)).model

    def encode(seed: int) -> FashionDetrMemory:
        mask = torch.ones(8, 64, 96, dtype=torch.bool)
        return model._encode(photos(8, seed=seed), mask[:, None], torch.tensor([[64, 96]] * 8))

    def attributes(memory: FashionDetrMemory) -> torch.Tensor:
        rendered, edges, _ = render(torch.zeros(8, 50, 16, 24), memory.levels, memory.level_shares)
        return model.attribute_stream(model.attribute_queries.expand(8, -1, -1), rendered, edges, memory.evidence_kept)

    one, other = encode(1), encode(2)
    assert one.evidence_kept is None
    assert not torch.equal(attributes(one), attributes(other))
    one.evidence_kept = other.evidence_kept = torch.zeros(8, 50, 1)
    assert torch.equal(attributes(one), attributes(other))
    model.train()
    assert 120 < encode(1).evidence_kept.sum() < 280  # of 400; 8 standard deviations either way


def test_gradient_checkpointing_gives_the_same_gradients(tiny_config, random_labels):
    model = build(tiny_config()).train()
    labels = random_labels(model.config, [2, 1], (64, 96))

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)  # what dropout drops must be the same when it is computed again
        model(photos(), **labels).loss.backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    expected = gradients()
    for arguments in (None, {"use_reentrant": True}, {"determinism_check": "none"}):
        model.activation_checkpointing_enable(arguments)
        recomputed = gradients()
        assert expected.keys() == recomputed.keys()
        assert all(torch.allclose(expected[name], recomputed[name], atol=1e-6) for name in expected)


def test_frozen_batch_norms_stay_as_they_are(tiny_config, random_labels, tmp_path):
    fresh = FashionDetrForInstanceSegmentation(tiny_config())
    fresh.save_pretrained(tmp_path)
    loaded = FashionDetrForInstanceSegmentation.from_pretrained(tmp_path)
    labels = random_labels(fresh.config, [2, 1], (64, 96))
    for model in (fresh, loaded, copy.deepcopy(fresh).train(), copy.deepcopy(loaded).train()):
        norms = batch_norms(model)
        before = copy.deepcopy([norm.state_dict() for norm in norms])
        optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
        model(photos(), **labels).loss.backward()
        optimizer.step()
        assert norms and not any(norm.training for norm in norms)
        assert not any(weight.requires_grad for norm in norms for weight in norm.parameters())
        for norm, state in zip(norms, before):
            assert all(torch.equal(norm.state_dict()[name], value) for name, value in state.items())


def test_batch_norms_can_be_trained(tiny_config, random_labels):
    model = build(tiny_config(freeze_backbone_batch_norm=False)).train()
    model(photos(), **random_labels(model.config, [2, 1], (64, 96))).loss.backward()
    assert without_gradient(model) == []
    assert all(norm.training and norm.num_batches_tracked == 1 for norm in batch_norms(model))


# --- what survives saving ---------------------------------------------------------------------------------------------


def reseeded():
    """Every module is initialised from the same seed, whatever was initialised before it."""
    initialize = PreTrainedModel._initialize_weights

    def seeded(self, module, *args, **kwargs):
        set_seed(0)
        return initialize(self, module, *args, **kwargs)

    return mock.patch.object(PreTrainedModel, "_initialize_weights", seeded)


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_all_missing_weights_are_initialised(tiny_config, backbone):
    """`from_pretrained` builds on the meta device: what no branch of `_init_weights` fills stays garbage."""
    with reseeded():
        built = FashionDetrForInstanceSegmentation(tiny_config(backbone))
        loaded = FashionDetrForInstanceSegmentation.from_pretrained(None, config=tiny_config(backbone), state_dict={})
        with torch.device("meta"):
            emptied = FashionDetrForInstanceSegmentation(tiny_config(backbone))
        emptied.to_empty(device="cpu")
        for tensor in emptied.state_dict().values():
            tensor.fill_(77)
        emptied.init_weights()
    expected = built.state_dict()
    for model in (loaded, emptied):
        found = model.state_dict()
        assert found.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_heads_start_at_the_prior(tiny_config):
    built = FashionDetrForInstanceSegmentation(tiny_config())
    loaded = FashionDetrForInstanceSegmentation.from_pretrained(None, config=tiny_config(), state_dict={})
    for model in (built, loaded):
        for head in (model.class_head, model.attribute_head):
            assert torch.allclose(head.bias.sigmoid(), torch.tensor(0.01), atol=1e-6)
            assert head.weight.std() > 0


@pytest.mark.parametrize("backbone", ["resnet", "swin", "test_convnext"])
def test_saved_twice_it_is_the_same(tiny_config, tmp_path, backbone):
    model = build(tiny_config(backbone))
    expected = model(photos())
    for generation in ("first", "second"):
        model.save_pretrained(tmp_path / generation)
        model, report = FashionDetrForInstanceSegmentation.from_pretrained(
            tmp_path / generation, output_loading_info=True
        )
        assert not model.training
        assert not report["missing_keys"] and not report["unexpected_keys"]
        assert largest_difference(expected, model(photos())) == 0


def test_bare_model_loads_into_the_whole_one(tiny_model, tmp_path):
    tiny_model.model.save_pretrained(tmp_path)
    bare = FashionDetrModel.from_pretrained(tmp_path)
    whole, report = FashionDetrForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"class_head", "attribute_head"}
    expected = tiny_model(photos()).masks_queries_logits
    assert torch.equal(bare(photos()).masks_queries_logits, expected)
    assert torch.equal(whole(photos()).masks_queries_logits, expected)


def test_saved_in_bfloat16_it_loads_in_bfloat16(tiny_model, tmp_path):
    tiny_model.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = FashionDetrForInstanceSegmentation.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    expected = tiny_model(photos().bfloat16())
    for pixel_values in (photos(), photos().bfloat16()):  # processors make float32
        assert largest_difference(expected, loaded(pixel_values)) == 0


def test_new_classes_replace_the_class_head_alone(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    model = FashionDetrForInstanceSegmentation.from_pretrained(
        tmp_path,
        id2label={0: "a", 1: "b"},
        category_ids=[0, 1],
        category_supercategories=None,
        ignore_mismatched_sizes=True,
    )
    outputs = model(photos())
    assert outputs.class_queries_logits.shape == (2, 10, 2)
    assert torch.allclose(model.class_head.bias.sigmoid(), torch.tensor(0.01), atol=1e-6)
    assert torch.equal(outputs.masks_queries_logits, tiny_model(photos()).masks_queries_logits)
