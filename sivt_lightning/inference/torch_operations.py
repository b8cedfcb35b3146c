"""The operations that a .pt2 file may name: of torch's aten set, none writes to what it is given or to a disk."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

PREFIX = "torch.ops.aten."
CHECKS = {f"{PREFIX}_assert_tensor_metadata.default"}  # of what torch saw while it traced: they compute nothing
KNOWN = """
    _to_copy.default _upsample_bicubic2d_aa.vec abs.default adaptive_avg_pool2d.default add.Scalar add.Tensor
    addcmul.default addmm.default alias.default amax.default amin.default arange.default arange.start argmin.default
    avg_pool2d.default bmm.default cat.default clamp.default clamp_min.default clone.default constant_pad_nd.default
    conv1d.default conv2d.default cos.default cosine_similarity.default cumsum.default diag.default div.Scalar
    div.Tensor einsum.default elu.default eq.Scalar eq.Tensor erf.default exp.default expand.default
    full_like.default gather.default ge.Scalar gelu.default group_norm.default gt.Scalar hardsigmoid.default
    hardswish.default hardtanh.default index.Tensor index_select.default layer_norm.default leaky_relu.default
    linalg_vector_norm.default linear.default log.default logical_not.default lt.Scalar masked_fill.Scalar
    matmul.default max.dim max_pool2d.default maximum.default mean.dim meshgrid.indexing min.dim minimum.default
    mish.default mul.Scalar mul.Tensor ne.Scalar neg.default new_full.default new_ones.default new_zeros.default
    ones_like.default pad.default permute.default pixel_shuffle.default pixel_unshuffle.default pow.Tensor_Scalar
    pow.Tensor_Tensor prelu.default reciprocal.default reflection_pad2d.default relu.default repeat.default
    replication_pad2d.default rms_norm.default roll.default rsqrt.default rsub.Scalar
    scaled_dot_product_attention.default scatter.src select.int sigmoid.default silu.default sin.default
    slice.Tensor softmax.int softplus.default split.Tensor split_with_sizes.default sqrt.default square.default
    squeeze.dim squeeze.dims stack.default std.correction sub.Scalar sub.Tensor sum.default sum.dim_IntList
    sym_size.int tanh.default topk.default transpose.int type_as.default unbind.int unsqueeze.default
    upsample_bicubic2d.vec upsample_bilinear2d.vec upsample_linear1d.vec upsample_nearest2d.vec var.correction
    var_mean.correction where.self zeros_like.default
"""
ATEN = frozenset(KNOWN.split())


def _batch_norm(
    input: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, None, None]:
    """As the graph's operation, which for too few weights would read beyond them (seen in torch 2.14)."""
    return torch.batch_norm(input, weight, bias, running_mean, running_var, False, momentum, eps, True), None, None


def _view(self: Tensor, size: list[int]) -> Tensor:
    """Attention lies otherwise in the memory of another device than where the graph was traced, and is copied there."""
    return self.reshape(size)


OWN: dict[str, Callable[..., Any]] = {
    f"{PREFIX}_native_batch_norm_legit_no_training.default": _batch_norm,
    f"{PREFIX}view.default": _view,
    f"{PREFIX}_unsafe_view.default": _view,
    "_operator.mul": lambda a, b: a * b,
}


def operation(target: str) -> Callable[..., Any]:
    """What a file calls so. Raises ValueError for what is not on the list."""
    if target in OWN:
        return OWN[target]
    known = target.startswith(PREFIX) and target.removeprefix(PREFIX) in ATEN
    if not known:
        raise ValueError(f"it names {target[:60]}, which is none of a model's operations")
    name, overload = target.removeprefix(PREFIX).split(".")
    return getattr(getattr(torch.ops.aten, name), overload)
