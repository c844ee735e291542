"""Bipartite matching and the named loss terms of Fashion DETR (section 3.4, eq. 3).

Three things that the paper prints are read as follows. "The generator and the discriminator are alternately updated"
describes another kind of model and has no counterpart here. Eq. 3 sums over the stages j = 1..3; the initial masks and
the masks of the internal attention are supervised as well, or nothing would teach them. The mask loss is focal plus
dice (section 3.4 names both), each under a weight of its own.

Everything is computed in float32, whatever the autocast. Mask logits become float32 where they are used and not before:
at the end of the loss, a training step needs more memory than at any other point.
"""

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, one_hot, pad, softplus
from torch.utils.checkpoint import checkpoint
from transformers.utils import is_scipy_available, logging
from transformers.utils.generic import maybe_autocast

from .configuration_fashion_detr import MASK_STRIDE, FashionDetrConfig

if is_scipy_available():
    from scipy.optimize import linear_sum_assignment

logger = logging.get_logger(__name__)

DICE_EPSILON = 1e-3

# The paper's focal loss of the masks leaves open how the two sides are weighted. Weighted alike, a pixel that is half
# covered is predicted at one half, so that the threshold lies on the border. At 0.25, which suits the rare positives
# among the classes, it would be predicted at about one third: masks shrink by a rim, and small ones lose most of
# themselves (a perfect model's mean IoU on 8-pixel shoes: 0.54 against 0.74).
MASK_FOCAL_ALPHA = 0.5

# Rows: image, query, ground truth (counted through the batch); one column a matched pair.
Matches = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Targets:
    """
    Ground truth of one batch, instances of all images in one row.

    `masks` `(T, h w)` float32 at stride 4, the covered share of every cell's image part, so that a button of three
    pixels still counts, and `coarse_masks` at stride 8; `classes` `(T,)` and `attributes` `(T, A)`; `counts` instances
    an image; `valid` `(B, h w)`, 1 where a cell has image, and `coarse_valid`, the share of its finer cells that have.
    """

    def __init__(
        self,
        mask_labels: list[torch.Tensor],
        class_labels: list[torch.Tensor],
        attribute_labels: list[torch.Tensor],
        pixel_mask: torch.Tensor | None,
        logits: torch.Tensor,
    ):
        device, (height, width) = logits.device, logits.shape[-2:]
        self.counts = [len(classes) for classes in class_labels]
        if pixel_mask is None:
            images = [masks.new_ones(masks.shape[-2:], device=device) for masks in mask_labels]
            valid = logits.new_ones(len(self.counts), height, width, dtype=torch.float32)
        else:
            images = pixel_mask.to(device)
            valid = images.float()[:, ::MASK_STRIDE, ::MASK_STRIDE]
        self.masks = torch.cat(
            [_to_mask_stride(masks.to(device), image, height, width) for masks, image in zip(mask_labels, images)]
        )
        self.classes = torch.cat([classes.to(device).long() for classes in class_labels])
        self.attributes = torch.cat([attributes.to(device).float() for attributes in attribute_labels])
        self.valid, self.coarse_valid = valid.flatten(1), halve(valid[:, None]).flatten(1)
        # Where a cell is only in part image, its masks are shares of that part.
        share = self.coarse_valid.repeat_interleave(torch.tensor(self.counts, device=device), dim=0)
        self.coarse_masks = halve(self.masks.unflatten(1, (1, height, width))).flatten(1) / share.clamp(min=0.25)


def _to_mask_stride(masks: torch.Tensor, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """`(n, H, W)` -> `(n, h w)`: the covered share of the image among every 4x4 pixels; `image` `(H, W)`, 1 = image."""

    def mean_of_cells(maps: torch.Tensor) -> torch.Tensor:
        bottom, right = height * MASK_STRIDE - maps.shape[-2], width * MASK_STRIDE - maps.shape[-1]
        return avg_pool2d(pad(maps.float(), (0, right, 0, bottom))[:, None], MASK_STRIDE).flatten(1)

    image = mean_of_cells(image[None])
    return (mean_of_cells(masks) / image.clamp(min=MASK_STRIDE**-2)).clamp(max=1)


def halve(maps: torch.Tensor) -> torch.Tensor:
    """`(n, channels, h, w)`: mean over 2x2 pixels; an odd border is completed with zeros."""
    return avg_pool2d(maps, 2, ceil_mode=True, divisor_override=4)


def focal_halves(logits: torch.Tensor, alpha: float, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Focal loss of every element were its target 1, and were it 0 (Lin et al., 2017).

    For a soft target t the loss is `t * positive + (1 - t) * negative`.
    """
    probability = logits.sigmoid()
    absent = softplus(logits)  # the cross-entropy against 0; against 1 it is less by the logit
    positive = alpha * (1 - probability) ** gamma * (absent - logits)
    negative = (1 - alpha) * probability**gamma * absent
    return positive, negative


def focal_and_dice(
    logits: torch.Tensor, truth: torch.Tensor, share: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask losses summed over the instances: logits, truth and the share of a cell that is image, all `(T, h w)`."""
    logits = logits.float()
    positive, negative = focal_halves(logits, MASK_FOCAL_ALPHA, gamma)
    focal = ((truth * positive + (1 - truth) * negative) * share).sum(1) / share.sum(1).clamp(min=1)
    probability, truth = logits.sigmoid() * share, truth * share
    overlap = 2 * (probability * truth).sum(1)
    areas = probability.square().sum(1) + truth.square().sum(1)
    dice = 1 - (overlap + DICE_EPSILON) / (areas + DICE_EPSILON)
    return focal.sum(), dice.sum()


class FashionDetrLoss(nn.Module):
    """
    Matches the queries with the ground truth, then sums the named terms over the predictions.

    | term | reduction |
    |---|---|
    | `class` | focal, summed over queries and classes, divided by the number of instances |
    | `mask` | focal, mean over the image's pixels, summed over matched instances, divided by the number of instances |
    | `dice` | 1 - dice with squared areas (V-Net), summed and divided likewise |
    | `attribute` | binary cross-entropy, summed and divided likewise, and divided by the root of A |

    The number of instances counts unmatched ones too (where there are fewer queries), and is the mean over processes.

    The paper does not say how the A attributes of an instance are reduced. Their sum, even divided by the positive
    labels, was two thirds of the whole loss in training on synthetic ensembles; their mean would dilute the two or
    three that an instance carries; the root of A lies between.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        self.config = config

    def forward(
        self,
        predictions: list[dict[str, torch.Tensor]],
        internal_masks: list[torch.Tensor],
        mask_labels: list[torch.Tensor],
        class_labels: list[torch.Tensor],
        attribute_labels: list[torch.Tensor],
        pixel_mask: torch.Tensor | None,
        num_instances: torch.Tensor | int | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Args:
            predictions (list of 1 + J `dict`):
                Logits of the initial prediction and of every stage; the initial one has no attributes.
            internal_masks (list of J tensors `(B, N, h, w)`):
                Mask logits P' of every stage, at stride 8.
            mask_labels, class_labels, attribute_labels, pixel_mask:
                As in [`FashionDetrForInstanceSegmentation`].
            num_instances (`torch.Tensor` or `int`, *optional*):
                What the sums are divided by, at least 1; by default the mean number of instances over all processes.

        Returns:
            The weighted sum and the unweighted terms.

        Raises:
            ValueError: labels that do not fit the images or one another.
            ImportError: scipy is missing.
        """
        if not is_scipy_available():
            raise ImportError("Training needs scipy for the bipartite matching: `pip install scipy`.")
        masks = predictions[0]["masks_queries_logits"]
        _check_labels(mask_labels, class_labels, attribute_labels, masks.shape, self.config)
        if max(map(len, class_labels), default=0) > self.config.num_queries:
            logger.warning_once(
                f"A photo has more instances than the model has queries (`num_queries`: {self.config.num_queries}). "
                "Those that fit least are not learnt, and would not be found."
            )
        with maybe_autocast(device_type=masks.device.type, enabled=False):
            targets = Targets(mask_labels, class_labels, attribute_labels, pixel_mask, masks)
            if num_instances is None:
                num_instances = _mean_over_processes(torch.tensor(float(len(targets.classes)), device=masks.device))
            num_instances = torch.as_tensor(num_instances, device=masks.device).clamp(min=1)
            matches = self.match(predictions, targets)
            images, _, instances = matches
            fine = targets.masks[instances], targets.valid[images]
            coarse = targets.coarse_masks[instances], targets.coarse_valid[images]
            terms = self._mask_terms("initial", predictions[0]["masks_queries_logits"], matches, *fine)
            for stage, (prediction, internal) in enumerate(zip(predictions[1:], internal_masks), start=1):
                terms |= self._mask_terms(f"internal{stage}", internal, matches, *coarse)
                terms |= self._mask_terms(f"stage{stage}", prediction["masks_queries_logits"], matches, *fine)
                terms[f"class_stage{stage}"] = self._class_term(prediction["class_queries_logits"], targets, matches)
                terms[f"attribute_stage{stage}"] = self._attribute_term(
                    prediction["attribute_queries_logits"], targets, matches
                )
        terms = {name: term / num_instances for name, term in terms.items()}
        loss = sum(getattr(self.config, f"{name.split('_')[0]}_loss_weight") * term for name, term in terms.items())
        return loss, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def match(self, predictions: list[dict[str, torch.Tensor]], targets: Targets) -> Matches:
        """
        One-to-one assignment of queries to instances with the least total cost, image by image.

        One assignment serves all predictions, the one whose cost summed over them is least: a query keeps its instance
        from the initial mask to the last stage, and every stage refines the mask that the one before handed on. Matched
        on its own, every prediction was measured to settle on another permutation of the queries. With more instances
        than queries, the instances that cost most stay unmatched.
        """
        costs = [self._costs(prediction, targets) for prediction in predictions]
        columns: list[list[torch.Tensor]] = [[], [], []]
        first = 0
        for image, count in enumerate(targets.counts):
            if count:
                # A diverging model must reach the check of its loss, not fail in the assignment.
                cost = torch.nan_to_num(sum(cost[image] for cost in costs), nan=1e6, posinf=1e6, neginf=-1e6)
                queries, instances = linear_sum_assignment(cost.cpu().numpy())
                columns[0].append(torch.full((len(queries),), image))
                columns[1].append(torch.as_tensor(queries))
                columns[2].append(torch.as_tensor(instances) + first)
            first += count
        device = targets.masks.device
        empty = torch.zeros(0, dtype=torch.long)
        return tuple(torch.cat([empty, *column]).to(device) for column in columns)

    def _costs(self, prediction: dict[str, torch.Tensor], targets: Targets) -> list[torch.Tensor]:
        """
        Matching costs `(N, n_b)` of one prediction, image by image.

        The initial prediction is known by having no attributes; its classes, which do not depend on the image, have
        no say either.
        """
        config, counts = self.config, targets.counts
        costs = []
        for logits, masks, valid in zip(
            prediction["masks_queries_logits"].flatten(2), targets.masks.split(counts), targets.valid
        ):
            logits, masks = logits.float(), masks * valid
            positive, negative = focal_halves(logits, MASK_FOCAL_ALPHA, config.focal_gamma)
            probability = logits.sigmoid() * valid
            focal = (positive - negative) @ masks.T + (negative * valid).sum(dim=1, keepdim=True)
            areas = probability.square().sum(dim=1, keepdim=True) + masks.square().sum(dim=1)
            dice = 2 * probability @ masks.T / (areas + DICE_EPSILON)
            costs.append(config.mask_cost * focal / valid.sum().clamp(min=1) - config.dice_cost * dice)
        if "attribute_queries_logits" in prediction:
            positive, negative = focal_halves(
                prediction["class_queries_logits"].float(), config.focal_alpha, config.focal_gamma
            )
            gain, carrying = positive - negative, prediction["attribute_queries_logits"].float().sigmoid()
            for image, (classes, attributes) in enumerate(
                zip(targets.classes.split(counts), targets.attributes.split(counts))
            ):
                costs[image] += config.class_cost * gain[image][:, classes]
                # The mean probability of the attributes that the instance carries; without any it has no say.
                agreement = carrying[image] @ attributes.T / attributes.sum(dim=1).clamp(min=1)
                costs[image] -= config.attribute_cost * agreement
        return costs

    def _class_term(self, logits: torch.Tensor, targets: Targets, matches: Matches) -> torch.Tensor:
        images, queries, instances = matches
        logits = logits.float()
        positive, negative = focal_halves(logits, self.config.focal_alpha, self.config.focal_gamma)
        truth = torch.zeros_like(logits)
        truth[images, queries] = one_hot(targets.classes[instances], logits.shape[-1]).to(truth)
        return (truth * positive + (1 - truth) * negative).sum()

    def _mask_terms(
        self, name: str, logits: torch.Tensor, matches: Matches, truth: torch.Tensor, share: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        images, queries, _ = matches
        matched = logits[images, queries].flatten(1)
        # A dozen maps an instance and prediction: computed again for the gradient instead of kept until then.
        focal, dice = checkpoint(
            focal_and_dice,
            *(matched, truth, share, self.config.focal_gamma),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        return {f"mask_{name}": focal, f"dice_{name}": dice}

    def _attribute_term(self, logits: torch.Tensor, targets: Targets, matches: Matches) -> torch.Tensor:
        images, queries, instances = matches
        total = binary_cross_entropy_with_logits(
            logits[images, queries].float(), targets.attributes[instances], reduction="sum"
        )
        return total / max(1, logits.shape[-1]) ** 0.5  # without attributes the total is 0


def _mean_over_processes(count: torch.Tensor) -> torch.Tensor:
    """Gradients are averaged over the processes, so what divides the loss has to be as well."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count


def _check_labels(
    mask_labels: list[torch.Tensor],
    class_labels: list[torch.Tensor],
    attribute_labels: list[torch.Tensor],
    logits_shape: torch.Size,
    config: FashionDetrConfig,
) -> None:
    batch, _, height, width = logits_shape
    lengths = {"mask_labels": len(mask_labels), "class_labels": len(class_labels)}
    lengths["attribute_labels"] = len(attribute_labels)
    if set(lengths.values()) != {batch}:
        raise ValueError(f"Every label list needs one tensor for each of the {batch} images, found {lengths}.")
    for image, (masks, classes, attributes) in enumerate(zip(mask_labels, class_labels, attribute_labels)):
        for name, labels in (("masks", masks), ("class labels", classes), ("attributes", attributes)):
            if not isinstance(labels, torch.Tensor):
                raise ValueError(f"The {name} of image {image} have to be a tensor, found {type(labels).__name__}.")
        if classes.ndim != 1 or classes.is_floating_point():
            raise ValueError(
                f"The class labels of image {image} have to be indices, whole numbers of shape (n,), found "
                f"{classes.dtype} of shape {tuple(classes.shape)}."
            )
        count = len(classes)
        if masks.ndim != 3 or len(masks) != count or tuple(attributes.shape) != (count, config.num_attributes):
            raise ValueError(
                f"Image {image} of the batch has {count} class labels, so it needs masks ({count}, H, W) and "
                f"attributes ({count}, {config.num_attributes}); "
                f"found {tuple(masks.shape)} and {tuple(attributes.shape)}."
            )
        found = tuple(-(-side // MASK_STRIDE) for side in masks.shape[-2:])
        if count and found != (height, width):
            raise ValueError(
                f"The masks of image {image} are {tuple(masks.shape[-2:])}, but the canvas is about "
                f"({height * MASK_STRIDE}, {width * MASK_STRIDE}): masks need the size of `pixel_values`."
            )
        if count and not 0 <= int(classes.min()) <= int(classes.max()) < config.num_labels:
            raise ValueError(
                f"Class labels of image {image} run from {int(classes.min())} to {int(classes.max())}, "
                f"but the model knows 0 to {config.num_labels - 1}."
            )
        for name, labels in (("Masks", masks), ("Attributes", attributes)):
            low, high = labels.aminmax() if labels.numel() else (0, 1)
            if not 0 <= low <= high <= 1:
                raise ValueError(
                    f"{name} of image {image} run from {low:g} to {high:g}, but labels lie in 0..1. Of masks with 0 "
                    "and 255, take `mask > 0`."
                )
