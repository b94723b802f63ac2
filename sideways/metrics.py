"""What a run is judged by: class probabilities of clips, accuracies, their spread over seeds. Host arrays only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from sideways.backend import Array, to_host


def softmax(logits: numpy.ndarray) -> numpy.ndarray:
    """Probabilities (…, K) of logits (…, K)."""
    exponentials = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def clip_probabilities(outputs: Sequence[Array]) -> numpy.ndarray:
    """(N, K): the mean over ticks of the softmax of each tick's logits (N, K)."""
    return numpy.mean([softmax(to_host(output)) for output in outputs], axis=0)


def accuracy(probabilities: numpy.ndarray, labels: numpy.ndarray) -> float:
    """The part of the samples whose most probable class is the right one; probabilities (N, K), labels (N,)."""
    return float((probabilities.argmax(axis=-1) == labels).mean())


def top(k: int, probabilities: numpy.ndarray, labels: numpy.ndarray) -> float:
    """The part of the samples whose right class is among the k most probable."""
    best = numpy.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=-1).mean())


def confusion(probabilities: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    """(K, K) counts: rows are the right classes, columns the most probable ones."""
    classes = probabilities.shape[-1]
    pairs = labels * classes + probabilities.argmax(axis=-1)
    return numpy.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def standard_error(accuracy: float, samples: int) -> float:
    """Of an accuracy measured on this many independent samples: √(p (1-p) / n)."""
    return (accuracy * (1 - accuracy) / samples) ** 0.5


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the standard deviation over seeds (0 for a single one)."""
    return float(numpy.mean(values)), float(numpy.std(values, ddof=1)) if len(values) > 1 else 0.0
