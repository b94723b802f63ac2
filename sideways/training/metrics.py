"""Metrics: class probabilities and accuracies, their spread over seeds; PSNR and SSIM of frames. Host arrays only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from sideways.backend import Array, to_host
from sideways.training.skvideo_compat import measures


def softmax(logits: numpy.ndarray) -> numpy.ndarray:
    """Probabilities (…, K) of logits (…, K)."""
    exponentials = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def clip_probabilities(outputs: Sequence[Array]) -> numpy.ndarray:
    """The mean over ticks of the softmax of each tick's logits (N, K): (N, K)."""
    return numpy.mean([softmax(to_host(output)) for output in outputs], axis=0)


def accuracy(probabilities: numpy.ndarray, labels: numpy.ndarray) -> float:
    """The fraction of samples whose most probable class is the right one. probabilities (N, K), labels (N,)."""
    return float((probabilities.argmax(axis=-1) == labels).mean())


def top(k: int, probabilities: numpy.ndarray, labels: numpy.ndarray) -> float:
    """The fraction of samples whose right class is among the k most probable."""
    best = numpy.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=-1).mean())


def confusion(probabilities: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    """The counts (K, K): rows are the right classes, columns the most probable ones."""
    classes = probabilities.shape[-1]
    pairs = labels * classes + probabilities.argmax(axis=-1)
    return numpy.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def standard_error(accuracy: float, samples: int) -> float:
    """The standard error of an accuracy p that was measured on n independent samples: √(p (1-p) / n)."""
    return (accuracy * (1 - accuracy) / samples) ** 0.5


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the standard deviation over seeds (0 for a single seed)."""
    return float(numpy.mean(values)), float(numpy.std(values, ddof=1)) if len(values) > 1 else 0.0


Span = tuple[float, float]  # the numbers that stand for black and white


LUMINANCE = numpy.array([0.299, 0.587, 0.114])  # Rec. 601


SMALLEST = 11  # pixels: the window of SSIM


def psnr(truth: numpy.ndarray, guess: numpy.ndarray, span: Span) -> numpy.ndarray:
    """The peak signal-to-noise ratio of each frame in dB, by scikit-video, on luminance: (T, H, W, C) → (T,)."""
    return measures().psnr(_grey(truth, span), _grey(guess, span))


def ssim(truth: numpy.ndarray, guess: numpy.ndarray, span: Span) -> numpy.ndarray:
    """The structural similarity of each frame (Wang et al., 2004), 1 for equal frames, by scikit-video, on luminance.

    NaN for frames smaller than SSIM's window of 11 × 11 pixels.
    """
    if min(truth.shape[1:3]) < SMALLEST:
        return numpy.full(len(truth), numpy.nan)
    return measures().ssim(_grey(truth, span), _grey(guess, span))


def _grey(frames: numpy.ndarray, span: Span) -> numpy.ndarray:
    """Luminance (T, H, W, 1) from 0 to 255, not rounded: the scale on which scikit-video's measures work."""
    grey = frames @ LUMINANCE if frames.shape[-1] == 3 else frames[..., 0]
    return numpy.clip((grey.astype(float) - span[0]) * (255 / (span[1] - span[0])), 0, 255)[..., None]
