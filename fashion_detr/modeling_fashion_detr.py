"""Fashion DETR: layered clothing segmentation and fine-grained attributes (Tian, Cao and Mok, CVPRW 2023).

Data flow, with B images, N queries, d channels, levels i = 1..4 at strides 4, 8, 16, 32 and stages j = 1..3:

    photo -> backbone -> feature pyramid F_i -> fused feature F_f                 (section 3.2)
    kernel Q^0 . F_f                         -> initial masks P^0
    stage j: internal attention (F_i in P^(j-1)) -> external queries E^j, masks P' (at stride 8)
             external attention (F_f under P')   -> queries Q^j, masks P^j        (section 3.3, eq. 1)
             rendering (F_i under P^j)           -> attribute queries A^j         (section 3.3, eq. 2)
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING
from transformers.utils import ModelOutput, can_return_tuple, logging

from .configuration_fashion_detr import REDUCTIONS, FashionDetrConfig, make_findable
from .loss_fashion_detr import FashionDetrLoss, halve

logger = logging.get_logger(__name__)

# Sigmoid outputs start at this probability, so that the many negatives do not drown the first steps
# (Lin et al., "Focal Loss for Dense Object Detection", section 4.1).
PRIOR_PROBABILITY = 0.01

# Internal attention looks at the levels from this one on, stride 8. Stride 4 has three times as many pixels as the
# others together: attending to it as well took a quarter of a training step (384x256, 50 queries). Its details reach
# the queries through the fused feature that external attention pools. (Synthetic ensembles, 400 steps, one seed: AP_IoU
# 9.8 % without it, 10.4 % with it.) Masks that are only on the way are made at this level's resolution too, at a
# quarter of the cost.
COARSE_LEVEL = 1

# A cell at the border of the image may hold little of it: of the coarsest one, at least one cell of stride 4.
LEAST_SHARE = (REDUCTIONS[0] / REDUCTIONS[-1]) ** 2

# Waves that code the edges of a mask's box, from twice the image's side on, each half as long as the one before: the
# shortest, an eighth of the side, tells hems apart that differ by a few hundredths of it.
OCTAVES = 5

# By the type of backbone, the norm after its last stage. Only the pooled output uses it, so it would get no gradient.
UNUSED_NORMS = {"bit": "bit.norm", "maskformer-swin": "model.layernorm", "swin": "swin.layernorm"}


@dataclass
class FashionDetrModelOutput(ModelOutput):
    """
    Output of [`FashionDetrModel`].

    Args:
        query_hidden_states (`torch.FloatTensor` of shape `(B, N, d)`):
            One embedding an instance, Q of the last stage.
        attribute_hidden_states (`torch.FloatTensor` of shape `(B, N, d)`):
            One attribute embedding an instance, A of the last stage.
        masks_queries_logits (`torch.FloatTensor` of shape `(B, N, H/4, W/4)`):
            Mask logits of the last stage.
        valid_sizes (`torch.LongTensor` of shape `(B, 2)`):
            Height and width in pixels of the image part of the canvas.
        initial_queries (`torch.FloatTensor` of shape `(B, N, d)`):
            Q^0, the kernels as queries.
        initial_masks_queries_logits (`torch.FloatTensor` of shape `(B, N, H/4, W/4)`, *optional*):
            P^0, the masks that the kernels make; with `output_initial_masks=True`.
        stage_states (`tuple` of `DecoderStageOutput`):
            What every stage made, first to last.
        hidden_states (`tuple` of `torch.FloatTensor` of shape `(B, N, d)`, *optional*):
            Queries before the first and after every stage; with `output_hidden_states=True`.
        attentions (`tuple` of `torch.FloatTensor` of shape `(B, heads, N, N)`, *optional*):
            How much every query looks at every instance, a stage's external attention each; with
            `output_attentions=True`.
        cross_attentions (`tuple` of `torch.FloatTensor` of shape `(B, heads, N, S)`, *optional*):
            How much every query looks at every pixel, a stage's internal attention each; with
            `output_attentions=True`. S counts the pixels of strides 8, 16 and 32, one after the other and each row by
            row; the weights of a query sum to 1 over all of them.
    """

    query_hidden_states: torch.FloatTensor | None = None
    attribute_hidden_states: torch.FloatTensor | None = None
    masks_queries_logits: torch.FloatTensor | None = None
    valid_sizes: torch.LongTensor | None = None
    initial_queries: torch.FloatTensor | None = None
    initial_masks_queries_logits: torch.FloatTensor | None = None
    stage_states: tuple | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class FashionDetrForInstanceSegmentationOutput(ModelOutput):
    """
    Output of [`FashionDetrForInstanceSegmentation`]; pass it to the post-processing of [`FashionDetrImageProcessor`].

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*, with labels):
            Weighted sum of `loss_dict`.
        loss_dict (`dict[str, torch.FloatTensor]`, *optional*, with labels):
            Every term of the loss, unweighted, named `<term>_<prediction>`: terms `class`, `mask`, `dice`,
            `attribute`; predictions `initial`, `internal1`.., `stage1`...
        class_queries_logits (`torch.FloatTensor` of shape `(B, N, K)`):
            One sigmoid logit a class; there is no background column.
        masks_queries_logits (`torch.FloatTensor` of shape `(B, N, H/4, W/4)`):
            Sigmoid logits; masks may overlap.
        attribute_queries_logits (`torch.FloatTensor` of shape `(B, N, A)`):
            One sigmoid logit an attribute.
        auxiliary_logits (`tuple` of `dict`, *optional*, with labels or `output_auxiliary_logits=True`):
            The same three entries for the initial prediction (without attributes) and every stage but the last.
        valid_sizes (`torch.LongTensor` of shape `(B, 2)`):
            Height and width in pixels of the image part of the canvas.
        query_hidden_states (`torch.FloatTensor` of shape `(B, N, d)`):
            One embedding an instance, for retrieval.
        hidden_states (`tuple` of `torch.FloatTensor` of shape `(B, N, d)`, *optional*):
            Queries before the first and after every stage; with `output_hidden_states=True`.
        attentions, cross_attentions (`tuple` of `torch.FloatTensor`, *optional*):
            As in [`FashionDetrModelOutput`]; with `output_attentions=True`.
    """

    loss: torch.FloatTensor | None = None
    loss_dict: dict[str, torch.FloatTensor] | None = None
    class_queries_logits: torch.FloatTensor | None = None
    masks_queries_logits: torch.FloatTensor | None = None
    attribute_queries_logits: torch.FloatTensor | None = None
    auxiliary_logits: tuple[dict[str, torch.FloatTensor], ...] | None = None
    valid_sizes: torch.LongTensor | None = None
    query_hidden_states: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class DecoderStageOutput(ModelOutput):
    """
    What one stage makes: queries Q^j and A^j `(B, N, d)`, mask logits P' (`internal_masks`, `(B, N, H/8, W/8)`) and P^j
    (`masks`, `(B, N, H/4, W/4)`), and `regions`, where the next stage looks: the probabilities of P^j from stride 8 on.
    `attentions` and `cross_attentions` are this stage's of [`FashionDetrModelOutput`], where they are asked for.
    """

    queries: torch.FloatTensor | None = None
    attribute_queries: torch.FloatTensor | None = None
    internal_masks: torch.FloatTensor | None = None
    masks: torch.FloatTensor | None = None
    regions: list[torch.FloatTensor] | None = None
    attentions: torch.FloatTensor | None = None
    cross_attentions: torch.FloatTensor | None = None


class PriorLinear(nn.Linear):
    """Linear layer whose sigmoid outputs start at `PRIOR_PROBABILITY`: a leaf, so that `_init_weights` sees it."""

    def reset_parameters(self):
        if self.out_features:  # torch warns of weights without an element, as of a model without attributes
            super().reset_parameters()


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    """`(B, d, h, w)` -> `(B, h, w, d)`, a view."""
    return maps.permute(0, 2, 3, 1)


def channels_first(maps: torch.Tensor) -> torch.Tensor:
    """`(B, h, w, d)` -> `(B, d, h, w)`, a view."""
    return maps.permute(0, 3, 1, 2)


def upsample_to(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """
    Doubles `maps` `(B, h, w, d)` and crops what an odd canvas has too much, so that pixels of both maps stay aligned.

    Beyond the border lie zeros, as on the padding of a larger canvas: the border looks the same on both.
    """
    padded = channels_first(nn.functional.pad(maps, (0, 0, 0, 1, 0, 1)))
    doubled = nn.functional.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)
    return channels_last(doubled)[:, : like.shape[1], : like.shape[2]]


class FashionDetrFeaturePyramid(nn.Module):
    """
    Layered features F_i: 1x1 laterals, top-down sums, then at every level a 3x3 convolution and a layer norm.

    At stride 4 the 3x3 convolution is depthwise: a full one would cost a third of the whole neck and decoder, and the
    fusion mixes the channels anyway. The sine code of the coarsest level travels down to all, so that the fused
    feature can tell a left shoe from a right one.

    The norms are layer norms over the channels of every pixel: without statistics over the canvas, padding changes
    nothing. Channels stay last in memory and sums are made in place: at 1024 x 1024 a map of stride 4 has 67 MB, and to
    rearrange some and to get memory for others took a third of the time that the neck takes on a CPU.
    """

    def __init__(self, config: FashionDetrConfig, in_channels: list[int]):
        super().__init__()
        d = config.d_model
        self.laterals = nn.ModuleList(nn.Linear(channels, d) for channels in in_channels)
        depthwise = nn.Conv2d(d, d, 3, padding=1, groups=d)
        self.smooth = nn.ModuleList([depthwise, *(nn.Conv2d(d, d, 3, padding=1) for _ in in_channels[1:])])
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in in_channels)

    def forward(
        self, feature_maps: list[torch.Tensor], level_masks: list[torch.Tensor], coarsest_position: torch.Tensor
    ) -> list[torch.Tensor]:
        levels = [lateral(channels_last(maps)) for lateral, maps in zip(self.laterals, feature_maps)]
        masks = [channels_last(mask).to(levels[-1].dtype) for mask in level_masks]
        coarser = levels[-1].add_(channels_last(coarsest_position)).mul_(masks[-1])
        for finer, mask in zip(levels[-2::-1], masks[-2::-1]):
            coarser = finer.add_(upsample_to(coarser, finer)).mul_(mask)
        smoothed = [channels_last(conv(channels_first(maps))) for conv, maps in zip(self.smooth, levels)]
        return [channels_first(norm(maps).mul_(mask)) for norm, maps, mask in zip(self.norms, smoothed, masks)]


class FashionDetrFusion(nn.Module):
    """
    Fused feature F_f = relu(norm(W concat_i(up(G_i)))) at stride 4, zero on the padding (section 3.2).

    The paper concatenates the F_i. Here G_1 is F_1, but from stride 8 on G_i = relu(norm(conv3x3(F_i))): with
    sums and projections alone the way from the backbone to the masks was nearly linear, and masks were less exact
    (benchmarks, "What masks lack").

    The 1x1 convolution W is linear and so is the upsampling, so its four blocks are applied before the upsampling,
    at a third of the multiplications; the bias belongs to the first.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        d = config.d_model
        coarser = REDUCTIONS[1:]
        self.convolutions = nn.ModuleList(nn.Conv2d(d, d, 3, padding=1) for _ in coarser)
        self.convolution_norms = nn.ModuleList(nn.LayerNorm(d) for _ in coarser)
        self.projections = nn.ModuleList(nn.Linear(d, d, bias=level == 0) for level in range(len(REDUCTIONS)))
        self.norm = nn.LayerNorm(d)

    def forward(self, levels: list[torch.Tensor], level_masks: list[torch.Tensor]) -> torch.Tensor:
        masks = [channels_last(mask).to(levels[-1].dtype) for mask in level_masks]
        convolved = [levels[0], *(conv(maps) for conv, maps in zip(self.convolutions, levels[1:]))]
        convolved = [channels_last(maps) for maps in convolved]
        for level, norm in enumerate(self.convolution_norms, start=1):
            convolved[level] = nn.functional.relu_(norm(convolved[level]).mul_(masks[level]))
        projected = [projection(maps) for projection, maps in zip(self.projections, convolved)]
        fused = projected[-1]
        for finer, mask in zip(projected[-2::-1], masks[-2::-1]):
            fused = finer.add_(upsample_to(fused, finer)).mul_(mask)
        return channels_first(nn.functional.relu_(self.norm(fused).mul_(masks[0])))


def sine_positions(valid_sizes: torch.Tensor, size: tuple[int, int], stride: int, channels: int) -> torch.Tensor:
    """
    Sine code of the pixel centres, relative to the image part of the canvas: it does not change with the padding.

    Returns `(B, channels, h, w)` float32: the first half of the channels codes the row, the second the column
    (Carion et al., "End-to-End Object Detection with Transformers", supplement).
    """
    quarter = channels // 4
    exponents = torch.arange(quarter, device=valid_sizes.device, dtype=torch.float32) / quarter
    frequencies = 2 * torch.pi / 10000**exponents

    def axis_code(length: int, valid_length: torch.Tensor) -> torch.Tensor:
        centres = (torch.arange(length, device=valid_sizes.device, dtype=torch.float32) + 0.5) * stride
        phase = (centres[None] / valid_length[:, None])[..., None] * frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    height, width = size
    rows = axis_code(height, valid_sizes[:, 0].clamp(min=1))[:, :, None].expand(-1, -1, width, -1)
    columns = axis_code(width, valid_sizes[:, 1].clamp(min=1))[:, None].expand(-1, height, -1, -1)
    return torch.cat([rows, columns], dim=-1).permute(0, 3, 1, 2)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(Q K^T / sqrt(C)) V of eq. 1; `attention_mask` is added to the scores."""
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class FashionDetrAttention(nn.Module):
    """Multi-head attention from queries to keys and values that are already projected and split into heads."""

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        self.config = config
        self.num_heads = config.decoder_attention_heads
        self.scaling = (config.d_model // self.num_heads) ** -0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.o_proj = nn.Linear(config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Attention without input and output projection: query, key, value `(B, heads, L, C)` -> `(B, L, d)`, and the
        weights `(B, heads, L, keys)`, which the implementation "eager" alone tells.

        `bias` `(B, 1, L, keys)` float32 is added to the scores.
        """
        if bias is not None:
            bias = bias.to(query.dtype).clamp(min=torch.finfo(query.dtype).min)
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attention(self, query, key, value, bias, scaling=self.scaling)
        return output.flatten(-2), weights


def split_heads(tokens: torch.Tensor, num_heads: int) -> torch.Tensor:
    """`(B, L, d)` -> `(B, heads, L, d / heads)`."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


class FashionDetrInternalAttention(FashionDetrAttention):
    """
    Every query looks at the pixels inside its previous mask, at the strides 8, 16 and 32 each on its own (section 3.3).

    A learnt gate per query and scale merges the answers: it decides which scale speaks for an instance, and brings
    the small and the scattered pieces of one garment together. A query whose mask is empty looks everywhere.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__(config)
        self.gate = nn.Linear(config.d_model, len(REDUCTIONS[COARSE_LEVEL:]))

    def forward(
        self,
        queries: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        biases: list[torch.Tensor],
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns what is read, `(B, N, d)`, and, where asked for, the weights of all pixels `(B, heads, N, S)`."""
        query = split_heads(self.q_proj(queries), self.num_heads)
        answers, weights = zip(*[self.attend(query, *level) for level in zip(keys, values, biases)])
        shares = self.gate(queries).softmax(dim=-1).unbind(dim=-1)
        merged = sum(share[..., None] * answer for share, answer in zip(shares, answers))
        if output_attentions:
            weights = torch.cat([share[:, None, :, None] * level for share, level in zip(shares, weights)], dim=-1)
        return self.dropout(self.o_proj(merged)), weights if output_attentions else None


class FashionDetrInstanceAttention(FashionDetrAttention):
    """
    Every query looks at all instances, each represented by one token.

    As the external attention (section 3.3) the tokens are the fused feature pooled under every instance's own
    prediction: instances see one another's regions, which is where layers are told apart. In the attribute stream the
    tokens are the attribute queries.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__(config)
        self.k_proj = nn.Linear(config.d_model, config.d_model)
        self.v_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, queries: torch.Tensor, instances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = (
            split_heads(projected, self.num_heads)
            for projected in (self.q_proj(queries), self.k_proj(instances), self.v_proj(instances))
        )
        answer, weights = self.attend(query, key, value)
        return self.dropout(self.o_proj(answer)), weights


class FashionDetrFeedForward(nn.Sequential):
    def __init__(self, config: FashionDetrConfig):
        super().__init__(
            nn.Linear(config.d_model, config.decoder_ffn_dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.decoder_ffn_dim, config.d_model),
            nn.Dropout(config.dropout),
        )


class FashionDetrMaskHead(nn.Sequential):
    """Three-layer perceptron from a query to the weights of its mask over the fused feature."""

    def __init__(self, config: FashionDetrConfig):
        d = config.d_model
        super().__init__(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))


def mask_logits(weights: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """P = weights . F_f: `(B, N, d)` and `(B, d, h, w)` -> `(B, N, h, w)`."""
    return torch.matmul(weights, fused.flatten(2)).unflatten(-1, fused.shape[-2:])


def mask_pyramid(masks: torch.Tensor, level_shares: list[torch.Tensor]) -> list[torch.Tensor]:
    """
    Mask probabilities at every level, in float32, zero on the padding.

    `masks` are logits `(B, N, h, w)` at the first of the levels whose shares are given; every other level holds the
    mean probability over the 2x2 pixels below it, where padding and what lies beyond the canvas count as zero.
    """
    levels = [masks.float().sigmoid() * level_shares[0]]
    for _ in level_shares[1:]:
        levels.append(halve(levels[-1]))
    return levels


def pool_under(probabilities: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """
    Mean of the features under every mask, weighted by its probability and divided by its area (at least one pixel).

    `(B, N, h, w)` float32 and `(B, d, h, w)` -> `(B, N, d)`. The gradient reaches the mask.
    """
    weights = probabilities.flatten(2)
    # Half of the division comes before the product and half after it: in half precision the weights of a large mask
    # would vanish if all came before, and the sum under it would overflow if all came after.
    root = weights.sum(dim=-1, keepdim=True).clamp(min=1).sqrt()
    # In this order of the factors the gradient of the features comes in the layout of the features.
    pooled = torch.matmul((weights / root).to(features.dtype), features.flatten(2).transpose(1, 2))
    return pooled / root.to(pooled.dtype)


@torch.no_grad()
def box_edges(probabilities: torch.Tensor, level_share: torch.Tensor) -> torch.Tensor:
    """
    Edges of the box around every mask, and of the one around all masks of its image together, which is about the
    wearer's: `(B, N, 8)`, twice top, bottom, left and right, as shares of the image's sides.

    Rows and columns count as far as their most probable pixel does, from 0 at a probability of 1/4 to 1 at 3/4: so the
    edges follow the mask without a jump where a pixel crosses one half. The box of an empty mask is inside out, its top
    at 1 and its bottom at 0.

    Args:
        probabilities: `(B, N, h, w)` float32, zero on the padding.
        level_share: `(B, 1, h, w)` float32, 1 = image, 0 = padding.
    """
    boxes, common = [], []
    for across in (-1, -2):  # rows, then columns
        valid = level_share.amax(dim=across)
        side = valid.sum(dim=-1).clamp(min=1)
        profiles = (2 * probabilities.amax(dim=across) - 0.5).clamp(0, 1)
        begun = running_max(profiles)  # there is mask here or before
        unfinished = running_max(profiles.flip(-1))  # there is mask here or behind; from the end on
        boxes += [((1 - begun) * valid).sum(dim=-1) / side, unfinished.sum(dim=-1) / side]
        begun, unfinished = (reached.amax(dim=1, keepdim=True) for reached in (begun, unfinished))
        common += [((1 - begun) * valid).sum(dim=-1) / side, unfinished.sum(dim=-1) / side]
    boxes = torch.stack(boxes, dim=-1)
    return torch.cat([boxes, torch.stack(common, dim=-1).expand_as(boxes)], dim=-1)


def running_max(values: torch.Tensor) -> torch.Tensor:
    """The largest of `values` `(..., n)`, none below 0, up to every position."""
    if not torch.onnx.is_in_onnx_export():
        return values.cummax(dim=-1).values
    # ONNX has no such operator. Each step doubles how far back a position looks.
    reach = 1
    while reach < values.shape[-1]:
        values = torch.maximum(values, nn.functional.pad(values, (reach, 0))[..., :-reach])
        reach *= 2
    return values


class FashionDetrBoxCode(nn.Sequential):
    """Two-layer perceptron from the edges `(B, N, 8)` of [`box_edges`], coded as sines, to `(B, N, d)`."""

    def __init__(self, config: FashionDetrConfig):
        d = config.d_model
        super().__init__(nn.Linear(8 * 2 * OCTAVES, d), nn.ReLU(), nn.Linear(d, d))

    def forward(self, edges: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        phase = edges[..., None] * (torch.pi * 2 ** torch.arange(OCTAVES, device=edges.device))
        code = torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-2)
        return super().forward(code.to(dtype))  # not the weights' own, which are integers where they are quantised


def render(
    masks: torch.Tensor, features: list[torch.Tensor], level_shares: list[torch.Tensor]
) -> tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor]]:
    """
    What lies under every mask and where it lies: features `(B, N, d)` a level, [`box_edges`], and the mask
    probabilities at every level.

    Args:
        masks: Mask logits `(B, N, h, w)` at stride 4.
        features: `(B, d, h_i, w_i)`, from stride 4 on.
        level_shares: As in [`FashionDetrMemory`].
    """
    regions = mask_pyramid(masks, level_shares)
    return [pool_under(*level) for level in zip(regions, features)], box_edges(regions[0], level_shares[0]), regions


@dataclass
class FashionDetrMemory:
    """What the decoder reads of one batch, the same in every stage; lists run over the levels."""

    fused: torch.Tensor  # F_f (B, d, H/4, W/4)
    coarse: torch.Tensor  # F_f at half the resolution, (B, d, H/8, W/8)
    levels: list[torch.Tensor]  # F_i (B, d, h_i, w_i)
    keys: list[torch.Tensor]  # W_k (F_i + position_i) of the attended levels, (B, heads, h_i w_i, C)
    values: list[torch.Tensor]  # W_v F_i of the attended levels, (B, heads, h_i w_i, C)
    level_masks: list[torch.Tensor]  # 1 = image, 0 = padding, (B, 1, h_i, w_i)
    level_shares: list[torch.Tensor]  # share of a level's pixel that is image, (B, 1, h_i, w_i) float32
    evidence_kept: torch.Tensor | None  # 1 = what lies under the mask is read, 0 = withheld, (B, N, 1); None = all


class FashionDetrAttributeStream(nn.Module):
    """
    Multi-Layer Rendering, eq. 2: the features of every level under the mask, modulated by the attribute query.

    The paper prints the mask of the stage before, P^(j-1); here it is P^j, the newest and best one. The mask's
    position is read too: a length depends on where a hem ends on its wearer, which pooled means cannot tell. All stages
    share the weights, which leaves room in the budget for the convolutions before F_f.

    Training withholds the features from some instances, in all stages: on memorised photos the features alone give
    every attribute away, so the model would never learn to read the position.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        d = config.d_model
        self.config = config
        rendered = len(REDUCTIONS) if config.multi_layer_rendering else 1
        self.modulation = nn.Linear(d, d)
        self.render_proj = nn.Linear(rendered * d, d)
        self.box_code = FashionDetrBoxCode(config)
        self.render_norm = nn.LayerNorm(d)
        self.attribute_attention = FashionDetrInstanceAttention(config)
        self.attribute_norm = nn.LayerNorm(d)
        self.attribute_feed_forward = FashionDetrFeedForward(config)
        self.attribute_feed_forward_norm = nn.LayerNorm(d)

    def forward(
        self,
        attribute_queries: torch.Tensor,
        rendered: list[torch.Tensor],
        edges: torch.Tensor,
        evidence_kept: torch.Tensor | None,
    ) -> torch.Tensor:
        dtype = attribute_queries.dtype
        modulation = self.modulation(attribute_queries)
        evidence = torch.cat([level.to(modulation.dtype) * modulation for level in rendered], dim=-1)
        if evidence_kept is not None:
            evidence = evidence * evidence_kept
        hidden = self.render_norm(attribute_queries + self.render_proj(evidence) + self.box_code(edges, dtype))
        hidden = self.attribute_norm(hidden + self.attribute_attention(hidden, hidden)[0])
        return self.attribute_feed_forward_norm(hidden + self.attribute_feed_forward(hidden))


class FashionDetrDecoderStage(GradientCheckpointingLayer):
    """One stage j of the decoder: multi-layered attention, then multi-layer rendering (section 3.3)."""

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        d = config.d_model
        self.config = config
        if config.internal_attention:
            self.internal_attention = FashionDetrInternalAttention(config)
            self.internal_norm = nn.LayerNorm(d)
        if config.external_attention:
            self.external_attention = FashionDetrInstanceAttention(config)
            self.external_norm = nn.LayerNorm(d)
        self.feed_forward = FashionDetrFeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(d)

    def forward(
        self,
        queries: torch.Tensor,
        attribute_queries: torch.Tensor,
        regions: list[torch.Tensor],
        memory: FashionDetrMemory,
        mask_head: Callable[..., torch.Tensor],
        attribute_stream: Callable[..., torch.Tensor],
        output_attentions: bool = False,
    ) -> DecoderStageOutput:
        attentions, cross_attentions = None, None
        if self.config.internal_attention:
            biases = region_biases(regions, memory)
            attended, cross_attentions = self.internal_attention(
                queries, memory.keys, memory.values, biases, output_attentions
            )
            queries = self.internal_norm(queries + attended)
        internal_masks = mask_logits(mask_head(queries), memory.coarse)

        if self.config.external_attention:
            inside = internal_masks.float().sigmoid() * memory.level_shares[COARSE_LEVEL]
            instances = pool_under(inside, memory.coarse)
            # Regions alone are the same for two queries with one mask, and neither could give way to the other.
            instances = queries + instances.to(queries.dtype)
            attended, attentions = self.external_attention(queries, instances)
            queries = self.external_norm(queries + attended)
        queries = self.feed_forward_norm(queries + self.feed_forward(queries))
        masks = mask_logits(mask_head(queries), memory.fused)

        features = memory.levels if self.config.multi_layer_rendering else [memory.fused]
        if self.training and torch.is_grad_enabled():
            # Mask probabilities at stride 4 in float32, several times over: computed again for the gradient.
            rendered, edges, regions = checkpoint(
                render, masks, features, memory.level_shares, use_reentrant=False, preserve_rng_state=False
            )
        else:
            rendered, edges, regions = render(masks, features, memory.level_shares)
        return DecoderStageOutput(
            queries=queries,
            attribute_queries=attribute_stream(attribute_queries, rendered, edges, memory.evidence_kept),
            internal_masks=internal_masks,
            masks=masks,
            regions=regions[COARSE_LEVEL:],
            attentions=attentions if output_attentions else None,
            cross_attentions=cross_attentions,
        )


@torch.no_grad()
def region_biases(regions: list[torch.Tensor], memory: FashionDetrMemory) -> list[torch.Tensor]:
    """
    Where internal attention looks: logarithms of the pixels' weights, 0 where it looks and the least float where it
    does not, `(B, 1, N, h_i w_i)` float32 an attended level.

    A pixel counts if half of its image part belongs to the mask: not at all below a share of 0.4, wholly from 0.6 on.
    A step at one half would leave whole pixels to the rounding of whatever computes the share, so that two devices, or
    a photo alone and in a batch, would not agree. An empty mask looks at the whole image.
    """
    biases = []
    attended = slice(COARSE_LEVEL, None)
    for region, share, valid in zip(regions, memory.level_shares[attended], memory.level_masks[attended]):
        image = valid.float().flatten(2)
        inside = (5 * (region / share.clamp(min=LEAST_SHARE)).flatten(2) - 2).clamp(0, 1) * image
        everywhere = (1 - 10 * inside.amax(dim=-1, keepdim=True)).clamp(min=0) * image
        weights = torch.maximum(inside, everywhere)
        biases.append(weights.log().clamp(min=torch.finfo(weights.dtype).min)[:, None])
    return biases


class FashionDetrPreTrainedModel(PreTrainedModel):
    """Weight initialisation, attention back ends and saving with the code, for every Fashion DETR model."""

    config: FashionDetrConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # `num_items_in_batch`
    _no_split_modules = ["FashionDetrModel"]  # its stages share modules, and all that they read of a photo
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: FashionDetrConfig, *inputs, **kwargs):
        config.validate()  # as saving will, which may be hours later
        implementation = config._attn_implementation_internal
        if implementation is None and config.output_attentions:
            implementation = "eager"  # no other tells them
        config._attn_implementation = _attention_by_part(config, implementation)
        super().__init__(config, *inputs, **kwargs)

    def set_attn_implementation(self, attn_implementation: str | dict, **kwargs):
        super().set_attn_implementation(_attention_by_part(self.config, attn_implementation), **kwargs)
        if self.config.output_attentions and self.config._attn_implementation != "eager":
            logger.warning(_untold(self.config))
            self.config.output_attentions = False  # or the model could not be saved

    def get_input_embeddings(self) -> None:
        """None, since a photo has no tokens; what quantises weights as they are loaded asks for them."""
        return None

    def _set_gradient_checkpointing(self, enable: bool = True, gradient_checkpointing_func=checkpoint, **kwargs):
        # The reentrant kind follows tensors alone, and a stage takes and returns structures of them. It is what torch
        # takes where arguments are given without a word about that.
        if enable and getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant"):
            logger.warning_once(
                "No gradient would pass the decoder's stages by reentrant checkpointing, so they are checkpointed with "
                "`use_reentrant=False`."
            )
        super()._set_gradient_checkpointing(enable, partial(gradient_checkpointing_func, use_reentrant=False), **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        if isinstance(module, PriorLinear):
            init.constant_(module.bias, -math.log(1 / PRIOR_PROBABILITY - 1))
        if isinstance(module, FashionDetrModel):
            # Small kernels make initial masks of probability one half, from which every direction is open.
            init.normal_(module.kernels, std=self.config.d_model**-0.5)
            init.normal_(module.attribute_queries)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Saves weights, configuration and the code, so that every auto class and `pipeline` find this model again."""
        # The library copies what this file imports, also from here: that is how the pipeline comes along.
        from .pipeline_fashion_detr import CUSTOM_PIPELINES

        model = "modeling_fashion_detr.FashionDetrForInstanceSegmentation"
        for owner in type(self).__mro__:
            # A derived class is loaded from its own file, if it has one; torch derives another to shard a model.
            nameless = owner.__module__ == "__main__" or owner.__module__.startswith("torch.")
            if issubclass(owner, FashionDetrForInstanceSegmentation) and not nameless:
                model = f"{owner.__module__.rpartition('.')[2]}.{owner.__name__}"
                break
        self.config.auto_map = {
            "AutoConfig": "configuration_fashion_detr.FashionDetrConfig",
            "AutoModel": model,
            "AutoModelForInstanceSegmentation": model,
            "AutoModelForImageSegmentation": model,
        }
        self.config.custom_pipelines = deepcopy(CUSTOM_PIPELINES)
        super().save_pretrained(save_directory, *args, **kwargs)
        if type(self).__module__ != __name__:  # the library has saved the file of the derived class alone
            custom_object_save(FashionDetrForInstanceSegmentation, save_directory)


def _attention_by_part(config: FashionDetrConfig, implementation: str | dict | None) -> str | dict | None:
    """An implementation that the backbone does not have is asked of the decoder alone."""
    if type(config.backbone_config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise ValueError(
            f"transformers has no backbone of type {config.backbone_config.model_type!r}. `backbone_config` can be a "
            "ResNetConfig, a SwinConfig or a TimmBackboneConfig; `FashionDetrConfig.from_backbone` makes one."
        )
    if not isinstance(implementation, str) or implementation == "eager":
        return implementation
    backbone_class = MODEL_FOR_BACKBONE_MAPPING[type(config.backbone_config)]
    supported = implementation == "sdpa" and backbone_class._supports_sdpa
    return {"": implementation, "backbone_config": implementation if supported else "eager"}


class FashionDetrModel(FashionDetrPreTrainedModel):
    """Backbone, feature pyramid and decoder: from a photo to one embedding, attribute embedding and mask a query."""

    _auto_class = "AutoModel"

    def __init__(self, config: FashionDetrConfig):
        super().__init__(config)
        d = config.d_model
        selected = config.backbone_config.out_indices
        if len(selected) != len(REDUCTIONS):
            raise ValueError(
                f"The backbone has to offer {len(REDUCTIONS)} feature maps (reductions {list(REDUCTIONS)}), "
                f"but its configuration selects {len(selected)}: set `out_features` or `out_indices`."
            )
        self.backbone = load_backbone(config)
        fix_padding(self.backbone)
        self.pyramid = FashionDetrFeaturePyramid(config, self.backbone.channels)
        self.fusion = FashionDetrFusion(config)

        # The kernel of a 1x1 convolution over F_f: at once the weights of the first masks and the first queries.
        self.kernels = nn.Parameter(torch.empty(config.num_queries, d))
        self.attribute_queries = nn.Parameter(torch.empty(config.num_queries, d))
        self.query_norm = nn.LayerNorm(d)
        if config.internal_attention:
            # One projection of the pixels to keys and values serves all levels and stages.
            self.key_proj = nn.Linear(d, d)
            self.value_proj = nn.Linear(d, d)
        self.mask_head = FashionDetrMaskHead(config)
        self.attribute_stream = FashionDetrAttributeStream(config)
        self.stages = nn.ModuleList(FashionDetrDecoderStage(config) for _ in range(config.decoder_layers))
        self.post_init()
        self.train()

    def train(self, mode: bool = True):
        """Also freezes again what must not learn: loading a checkpoint makes every parameter trainable."""
        super().train(mode)
        if self.config.freeze_backbone_batch_norm:
            freeze_batch_norm(self.backbone)
        if (unused := UNUSED_NORMS.get(self.config.backbone_config.model_type)) is not None:
            self.backbone.get_submodule(unused).requires_grad_(False)
        return self

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        pixel_mask: torch.LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_initial_masks: bool | None = None,
    ) -> FashionDetrModelOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, H, W)`):
                Normalised photos at the top left of the canvas.
            pixel_mask (`torch.LongTensor` of shape `(B, H, W)`, *optional*):
                1 = image, 0 = padding; without it the whole canvas is image.
            output_attentions (`bool`, *optional*):
                Whether to return what every query looks at; the attention implementation "eager" alone tells.
            output_hidden_states (`bool`, *optional*):
                Whether to return the queries of every stage.
            output_initial_masks (`bool`, *optional*):
                Whether to return P^0, which is learnt from and not needed otherwise.

        Raises:
            ValueError: wrong shape, or a backbone whose maps do not have the strides 4, 8, 16, 32.
        """
        _check_input(pixel_values, pixel_mask)
        pixel_values = pixel_values.to(self.kernels.dtype)  # processors make float32, whatever the weights are
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.bool)
        pixel_mask = pixel_mask.bool()
        valid_sizes = image_sizes(pixel_mask)

        memory = self._encode(pixel_values.masked_fill(~pixel_mask[:, None], 0), pixel_mask[:, None], valid_sizes)
        kernels = self.kernels.repeat(pixel_values.shape[0], 1, 1)
        queries = self.query_norm(kernels)
        attribute_queries = self.attribute_queries.repeat(pixel_values.shape[0], 1, 1)
        initial_queries, initial_masks = queries, None
        if output_initial_masks:
            initial_masks = mask_logits(kernels, memory.fused)

        output_attentions = self._tells_attentions(output_attentions)
        stage_states = []
        # As functions: modules among its arguments would be moved by what loads a stage's weights only when it runs.
        shared = (self.mask_head.__call__, self.attribute_stream.__call__)
        regions = mask_pyramid(mask_logits(kernels, memory.coarse), memory.level_shares[COARSE_LEVEL:])
        for stage in self.stages:
            state = stage(queries, attribute_queries, regions, memory, *shared, output_attentions)
            queries, attribute_queries, regions = state.queries, state.attribute_queries, state.regions
            stage_states.append(state)

        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden_states = (initial_queries, *(state.queries for state in stage_states)) if output_hidden_states else None
        return FashionDetrModelOutput(
            query_hidden_states=queries,
            attribute_hidden_states=attribute_queries,
            masks_queries_logits=stage_states[-1].masks,
            valid_sizes=valid_sizes,
            initial_queries=initial_queries,
            initial_masks_queries_logits=initial_masks,
            stage_states=tuple(stage_states),
            hidden_states=hidden_states,
            attentions=_of_stages("attentions", stage_states),
            cross_attentions=_of_stages("cross_attentions", stage_states),
        )

    def _tells_attentions(self, output_attentions: bool | None) -> bool:
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_attentions and self.config._attn_implementation != "eager":
            if not torch.compiler.is_compiling():
                logger.warning_once(_untold(self.config))
            return False
        return bool(output_attentions)

    def _feature_maps(self, pixel_values: torch.Tensor, level_masks: list[torch.Tensor]) -> list[torch.Tensor]:
        """The backbone's maps of any canvas: some backbones round its sides down, so it is completed to full cells."""
        bottom, right = (-side % REDUCTIONS[-1] for side in pixel_values.shape[-2:])
        canvas = nn.functional.pad(pixel_values, (0, right, 0, bottom))
        feature_maps = self.backbone(canvas).feature_maps
        _check_feature_maps(feature_maps, canvas.shape[-2:], self.backbone.channels)
        return [maps[..., : mask.shape[-2], : mask.shape[-1]] for maps, mask in zip(feature_maps, level_masks)]

    def _encode(
        self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, valid_sizes: torch.Tensor
    ) -> FashionDetrMemory:
        """Everything that the stages share: pyramid, fused feature, keys and values (section 3.2)."""
        # The image lies at the top left, so a cell holds image exactly where its first pixel does.
        level_masks = [pixel_mask[..., ::stride, ::stride].to(pixel_values.dtype) for stride in REDUCTIONS]
        feature_maps = self._feature_maps(pixel_values, level_masks)
        level_shares = [level_masks[0].float()]
        for _ in REDUCTIONS[1:]:
            level_shares.append(halve(level_shares[-1]))

        attended = slice(COARSE_LEVEL, None)
        positions = [
            sine_positions(valid_sizes, mask.shape[-2:], stride, self.config.d_model).to(pixel_values.dtype)
            for mask, stride in zip(level_masks[attended], REDUCTIONS[attended])
        ]
        levels = self.pyramid(feature_maps, level_masks, positions[-1])
        heads = self.config.decoder_attention_heads

        def tokens(maps: torch.Tensor) -> torch.Tensor:
            return maps.flatten(2).transpose(1, 2)

        keys, values = [], []
        if self.config.internal_attention:
            keys = [
                split_heads(self.key_proj(tokens(maps + position)), heads)
                for maps, position in zip(levels[attended], positions)
            ]
            values = [split_heads(self.value_proj(tokens(maps)), heads) for maps in levels[attended]]
        fused = self.fusion(levels, level_masks)
        evidence_kept = None
        if self.training and self.config.evidence_dropout:
            # Not scaled up as by ordinary dropout: evidence that is read has the size that it has without withholding.
            chances = fused.new_full((len(fused), self.config.num_queries, 1), 1 - self.config.evidence_dropout)
            evidence_kept = chances.bernoulli()
        return FashionDetrMemory(
            fused=fused,
            coarse=halve(fused),
            levels=levels,
            keys=keys,
            values=values,
            level_masks=level_masks,
            level_shares=level_shares,
            evidence_kept=evidence_kept,
        )


def _untold(config: FashionDetrConfig) -> str:
    return (
        f"The attention implementation {config._attn_implementation!r} does not tell what it looks at, so nothing is "
        'returned of it: call `model.set_attn_implementation("eager")` first.'
    )


def _of_stages(name: str, stage_states: list[DecoderStageOutput]) -> tuple[torch.Tensor, ...] | None:
    """What every stage tells under that name; None if they do not."""
    told = tuple(state[name] for state in stage_states if state.get(name) is not None)
    return told or None


class FashionDetrForInstanceSegmentation(FashionDetrPreTrainedModel):
    """Photo in; every garment, part and accessory out: class, mask and attributes a query."""

    _auto_class = "AutoModelForInstanceSegmentation"

    def __init__(self, config: FashionDetrConfig):
        super().__init__(config)
        self.model = FashionDetrModel(config)
        self.class_head = PriorLinear(config.d_model, config.num_labels)
        self.attribute_head = PriorLinear(config.d_model, config.num_attributes)
        self.criterion = FashionDetrLoss(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        pixel_mask: torch.LongTensor | None = None,
        mask_labels: list[torch.Tensor] | None = None,
        class_labels: list[torch.LongTensor] | None = None,
        attribute_labels: list[torch.Tensor] | None = None,
        output_auxiliary_logits: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> FashionDetrForInstanceSegmentationOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, H, W)`):
                Normalised photos at the top left of the canvas.
            pixel_mask (`torch.LongTensor` of shape `(B, H, W)`, *optional*):
                1 = image, 0 = padding; without it the whole canvas is image.
            mask_labels (list of B tensors `(n_b, H, W)`, *optional*):
                Masks of the instances in {0, 1}, or in [0, 1] where a pixel is partly covered; they may overlap.
            class_labels (list of B `torch.LongTensor` of shape `(n_b,)`, *optional*):
                Class indices.
            attribute_labels (list of B tensors `(n_b, A)`, *optional*):
                Attributes in {0, 1}.
            output_auxiliary_logits (`bool`, *optional*):
                Whether to return the earlier predictions too; with labels they always are.
            output_attentions (`bool`, *optional*):
                Whether to return what every query looks at; the attention implementation "eager" alone tells.
            output_hidden_states (`bool`, *optional*):
                Whether to return the queries of every stage.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                The number of instances that divides the loss, where this batch is a part of a larger one (gradient
                accumulation, several processes); by default those of this batch, the mean over processes.

        Returns:
            [`FashionDetrForInstanceSegmentationOutput`]; the loss needs all three kinds of labels.

        Raises:
            ValueError: wrong shapes, or only some of the labels.
        """
        labels = {"mask_labels": mask_labels, "class_labels": class_labels, "attribute_labels": attribute_labels}
        missing = [name for name, label in labels.items() if label is None]
        if 0 < len(missing) < len(labels):
            raise ValueError(
                "The loss needs `mask_labels`, `class_labels` and `attribute_labels` together; missing: "
                + ", ".join(missing)
            )
        has_labels = not missing
        all_predictions = has_labels or bool(output_auxiliary_logits)
        states = self.model(
            pixel_values,
            pixel_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            output_initial_masks=all_predictions,
            return_dict=True,
        )

        predictions = [
            {
                "class_queries_logits": self.class_head(stage.queries),
                "masks_queries_logits": stage.masks,
                "attribute_queries_logits": self.attribute_head(stage.attribute_queries),
            }
            for stage in (states.stage_states if all_predictions else states.stage_states[-1:])
        ]
        if all_predictions:
            initial = {
                "class_queries_logits": self.class_head(states.initial_queries),
                "masks_queries_logits": states.initial_masks_queries_logits,
            }
            predictions = [initial, *predictions]
        loss, loss_dict = None, None
        if has_labels:
            loss, loss_dict = self.criterion(
                predictions,
                [stage.internal_masks for stage in states.stage_states],
                mask_labels,
                class_labels,
                attribute_labels,
                pixel_mask,
                num_items_in_batch,
            )
        return FashionDetrForInstanceSegmentationOutput(
            loss=loss,
            loss_dict=loss_dict,
            **predictions[-1],
            auxiliary_logits=tuple(predictions[:-1]) if all_predictions else None,
            valid_sizes=states.valid_sizes,
            query_hidden_states=states.query_hidden_states,
            hidden_states=states.hidden_states,
            attentions=states.attentions,
            cross_attentions=states.cross_attentions,
        )


class PaddedConv2d(nn.Conv2d):
    """
    Convolution of maps whose sides are multiples of its stride, with TensorFlow's padding: an odd pixel comes last.

    timm's own, `Conv2dSame`, works the padding out from the size of every input. Here all canvases consist of whole
    cells, so the padding is constant, and only then can a model be exported with an open canvas: to multiples of the
    largest stride, if the example's sides are such.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        sides = []
        for kernel, stride, dilation in zip(self.kernel_size[::-1], self.stride[::-1], self.dilation[::-1]):
            total = max(0, (kernel - 1) * dilation + 1 - stride)
            sides += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(maps, sides))


def fix_padding(module: nn.Module) -> None:
    """Puts a [`PaddedConv2d`] with the same weights in the place of every `Conv2dSame`."""
    for name, part in module.named_children():
        if type(part).__name__ == "Conv2dSame":
            padded = PaddedConv2d(
                part.in_channels, part.out_channels, part.kernel_size, part.stride, 0, part.dilation, part.groups
            )
            padded.weight, padded.bias = part.weight, part.bias
            setattr(module, name, padded)
        else:
            fix_padding(part)


def freeze_batch_norm(module: nn.Module) -> None:
    """Has the batch norms keep their statistics, scale and shift."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval().requires_grad_(False)


def image_sizes(pixel_mask: torch.Tensor) -> torch.Tensor:
    """Height and width `(B, 2)` of the image part of the canvases, from a boolean `(B, H, W)`."""
    return torch.stack([pixel_mask.any(dim=2).sum(dim=1), pixel_mask.any(dim=1).sum(dim=1)], dim=1)


def _check_input(pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None) -> None:
    if not isinstance(pixel_values, torch.Tensor):
        raise ValueError(
            f"`pixel_values` has to be a tensor (B, 3, H, W), found {type(pixel_values).__name__}. The image processor "
            'makes it of a photo: `model(**processor(photo, return_tensors="pt"))`.'
        )
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
        raise ValueError(f"`pixel_values` has to be of shape (B, 3, H, W), found {tuple(pixel_values.shape)}.")
    expected = (pixel_values.shape[0], *pixel_values.shape[-2:])
    if pixel_mask is not None and tuple(pixel_mask.shape) != expected:
        raise ValueError(f"`pixel_mask` has to be of shape (B, H, W) = {expected}, found {tuple(pixel_mask.shape)}.")


def _check_feature_maps(feature_maps: tuple[torch.Tensor, ...], canvas_size: torch.Size, channels: list[int]) -> None:
    found = [tuple(maps.shape[1:]) for maps in feature_maps]
    expected = [(width, *(side // stride for side in canvas_size)) for width, stride in zip(channels, REDUCTIONS)]
    if found != expected:
        raise ValueError(
            f"The backbone has to yield maps (B, C, h, w) at strides {list(REDUCTIONS)} with the channels that it says "
            f"of itself to have, here (C, h, w) = {expected}; found {found}. Select them with `out_features` or "
            "`out_indices` of `backbone_config`."
        )


make_findable(__name__)

__all__ = ["FashionDetrForInstanceSegmentation", "FashionDetrModel", "FashionDetrPreTrainedModel"]
