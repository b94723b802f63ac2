"""Losses: a number to make small, and its gradient with respect to the network's output."""

from __future__ import annotations

from typing import Any

import numpy

from sideways.backend import (
    Array,
    Shape,
    column_sums_of_each,
    dot,
    finite,
    fused,
    is_on_device,
    kernels,
    multiply,
    namespace,
    subtract,
)
from sideways.errors import InputError


class Loss:
    """`loss(output, target)` returns (value, gradient): a number without axes, and an array of the output's shape."""

    def check(self, target: Any, output_shape: Shape) -> Array:
        """The target as an array of the right type. Raises `InputError` if it does not fit the output.

        The values of a device array are not checked: reading them would stall the device.
        """
        raise NotImplementedError

    def __call__(self, output: Array, target: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class SoftmaxCrossEntropy(Loss):
    """The mean surprise at the right class, from logits. Targets are class indices (N,).

    value       L  = (1/N) Σₙ (log Σⱼ e^{zₙⱼ} - Σⱼ qₙⱼ zₙⱼ)       z (N, K);  q = (1 - s) onehot(target) + s / K
    gradient    dz = (softmax(z) - q) / N

    The largest logit is subtracted first, so that no exponential overflows.

    label_smoothing: s, in [0, 1). Raises `InputError` for other values.
    """

    def __init__(self, label_smoothing: float = 0.0):
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing lies in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing

    def check(self, target: Any, output_shape: Shape) -> Array:
        labels = target if is_on_device(target) else numpy.asarray(target)
        if len(output_shape) != 2:
            raise InputError(f"SoftmaxCrossEntropy needs logits (N, classes), the network's output is {output_shape}")
        batch, classes = output_shape
        if labels.shape != (batch,) or labels.dtype.kind not in "iu":
            raise InputError(
                f"targets must be {batch} class indices, one integer per sample; got {labels.dtype} {labels.shape}"
            )
        if isinstance(labels, numpy.ndarray) and labels.size and not (labels.min() >= 0 and labels.max() < classes):
            outside = labels[(labels < 0) | (labels >= classes)][0]
            raise InputError(f"label {outside} is outside the classes 0 … {classes - 1} of the network's output")
        return labels.astype(numpy.int64, copy=False)

    def __call__(self, output: Array, target: Array) -> tuple[Array, Array]:
        xp, n, s = namespace(output), len(output), self.label_smoothing
        z = output - output.max(axis=1, keepdims=True)
        exponentials = xp.exp(z)
        total = exponentials.sum(axis=1, keepdims=True)
        surprise = xp.log(total[:, 0]) - (1 - s) * z[xp.arange(n), target] - s * z.mean(axis=1)
        return surprise.mean(), softmax_gradient(exponentials, total, target, s)


@fused(kernels.softmax_gradient)
def softmax_gradient(exponentials: Array, total: Array, target: Array, smoothing: float) -> Array:
    """Return dz = (softmax(z) - q) / N. exponentials: e^z (N, K); total: its sum over the classes (N, 1)."""
    n, k = exponentials.shape
    gradient = exponentials / total
    gradient -= smoothing / k
    gradient[namespace(gradient).arange(n), target] -= 1 - smoothing
    gradient /= n
    return gradient


class MeanSquaredError(Loss):
    """The mean squared difference between output and target. Targets have the output's shape.

    value       L  = (1/M) Σ (y - target)²          M numbers in y (N, …)
    gradient    dy = 2 (y - target) / M
    """

    def check(self, target: Any, output_shape: Shape) -> Array:
        values = target if is_on_device(target) else numpy.asarray(target)
        if values.shape != output_shape:
            raise InputError(f"targets must have the output's shape {output_shape}, not {values.shape}")
        if not finite(values):
            raise InputError("the target holds numbers that are not finite")
        return values

    def __call__(self, output: Array, target: Array) -> tuple[Array, Array]:
        gradient = subtract(output, target)
        value = dot(gradient, gradient) / gradient.size
        gradient *= 2 / gradient.size
        return value, gradient


class LogMeanSquaredError(Loss):
    """Half the logarithm of the mean squared error of each sample, averaged. Targets have the output's shape.

    value       L  = (1/2N) Σₙ log(eₙ + ε)       eₙ = (1/P) Σ (yₙ - targetₙ)²       P numbers in a sample of y (N, …)
    gradient    dyₙ = (yₙ - targetₙ) / (N P (eₙ + ε))

    The PSNR of a frame is its -10 log₁₀ eₙ plus a constant, so that this loss raises the mean PSNR. The mean squared
    error itself is ruled by the samples with large errors, and hardly sees what ruins a sample that is nearly right.

    epsilon: ε > 0, the squared error below which a sample counts as right. Raises `InputError` for other values.
    """

    def __init__(self, epsilon: float = 3e-5):
        if not 0 < epsilon < float("inf"):
            raise InputError(f"epsilon must be positive, a squared error, not {epsilon}")
        self.epsilon = epsilon

    def check(self, target: Any, output_shape: Shape) -> Array:
        return MeanSquaredError().check(target, output_shape)

    def __call__(self, output: Array, target: Array) -> tuple[Array, Array]:
        n, p = len(output), output[0].size
        gradient = subtract(output, target)
        errors = column_sums_of_each(multiply(gradient, gradient).reshape(n, p, 1)).reshape(n) / p
        errors += self.epsilon
        gradient /= (n * p * errors).reshape(n, *[1] * (gradient.ndim - 1))
        return namespace(errors).log(errors).sum() / (2 * n), gradient
