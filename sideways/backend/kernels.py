"""The kernels, each in the place of a computation in NumPy's steps that its docstring names (see `fused.py`).

`window_kernels.py` has those of convolutions and pools. A reader of the layers need not open either file. A kernel adds
in the order of the steps, so that both differ by single roundings at most; tests hold each kernel to its steps, and the
layers that use it to their own properties.

A kernel is the body of a loop over the elements of its outputs, in CUDA C++: `i` is the number of the element in C
order, a `raw` array is indexed by such numbers, and `T` is the dtype of the arrays. CuPy compiles it when it runs for
the first time.
"""

from __future__ import annotations

from sideways.backend.arrays import Array, empty, to_device
from sideways.backend.fused import Kernel

# Activations ----------------------------------------------------------------------------------------------------------

_relu_gradient = Kernel("relu_gradient", "T dy, T y", "T dx", "dx = dy * T(y > T(0));")


def relu_gradient(dy: Array, y: Array) -> Array:
    """See `layers/activation.py`."""
    return _relu_gradient(dy, y, empty(dy))


# Batch normalisation --------------------------------------------------------------------------------------------------

_spread = Kernel(
    "spread",
    "T squares, T m, T epsilon",
    "T variance, T deviation",
    "variance = squares / m; deviation = sqrt(variance + epsilon);",
)


def spread(squares: Array, m: int, epsilon: float) -> tuple[Array, Array]:
    """See `layers/norm.py`."""
    variance, deviation = empty(squares), empty(squares)
    _spread(squares, m, epsilon, variance, deviation)
    return variance, deviation


_scaled = Kernel(
    "scaled", "T centred, T deviation, T scale, T shift", "T y", "y = centred * (scale / deviation) + shift;"
)


def scaled(centred: Array, deviation: Array, scale: Array, shift: Array) -> Array:
    """See `layers/norm.py`."""
    return _scaled(centred, deviation, scale, shift, empty(centred))


_norm_gradient = Kernel(
    "norm_gradient",
    "T dy, T centred, T dscale, T dshift, T scale, T deviation, T m",
    "T dx",
    "dx = (centred * (dscale / deviation / -m) + dy + dshift / -m) * (scale / deviation);",
)


def norm_gradient(
    dy: Array, centred: Array, dscale: Array, dshift: Array, scale: Array, deviation: Array, m: int
) -> Array:
    """See `layers/norm.py`."""
    return _norm_gradient(dy, centred, dscale, dshift, scale, deviation, m, empty(dy))


_update_running = Kernel(
    "update_running",
    "T batch_mean, T batch_variance, T ticks, T momentum, T unbiased",
    "T mean, T variance",
    """
    T part = T(1) / ticks;
    if (part < momentum) part = momentum;
    mean += part * (batch_mean - mean);
    variance += part * (batch_variance * unbiased - variance);
    """,
)


def update_running(
    batch_mean: Array, batch_variance: Array, mean: Array, variance: Array, ticks: Array, momentum: float, m: int
) -> None:
    """See `layers/norm.py`."""
    _update_running(batch_mean, batch_variance, ticks, momentum, m / max(m - 1, 1), mean, variance)


# Dropout --------------------------------------------------------------------------------------------------------------

_dropout_mask = Kernel(
    "dropout_mask",
    "raw uint64 keys, int32 size, T rate, T scale",
    "T mask",
    """
    unsigned int sample = (unsigned int)i / size;
    unsigned long long bits = ((unsigned int)i % size + 1ULL) * 0x9E3779B97F4A7C15ULL + keys[sample];
    bits ^= bits >> 30; bits *= 0xBF58476D1CE4E5B9ULL;
    bits ^= bits >> 27; bits *= 0x94D049BB133111EBULL;
    bits ^= bits >> 31;
    mask = T(T(bits >> 40) * T(5.9604644775390625e-8) >= rate) * scale;  // 2^-24
    """,
)


def dropout_mask(x: Array, keys: Array, rate: float) -> Array:
    """See `layers/dropout.py`."""
    return _dropout_mask(to_device(keys), x.size // len(x), rate, 1 / (1 - rate), empty(x))


# Loss -----------------------------------------------------------------------------------------------------------------

_softmax_gradient = Kernel(
    "softmax_gradient",
    "T exponential, T total, int64 target, int32 K, T smoothing, T part, T n",
    "T gradient",
    """
    T difference = exponential / total - smoothing / T(K);
    gradient = (i % K == target ? difference - part : difference) / n;
    """,
)


def softmax_gradient(exponentials: Array, total: Array, target: Array, smoothing: float) -> Array:
    """See `losses.py`."""
    n, k = exponentials.shape
    target = target.reshape(n, 1)
    return _softmax_gradient(exponentials, total, target, k, smoothing, 1 - smoothing, n, empty(exponentials))


# Optimizers -----------------------------------------------------------------------------------------------------------

_sgd = Kernel("sgd", "T gradient, T rate", "T parameter", "parameter -= gradient * rate;")
_sgd_momentum = Kernel(
    "sgd_momentum",
    "T gradient, T momentum, bool nesterov, T rate",
    "T velocity, T parameter",
    """
    velocity = velocity * momentum + gradient;
    parameter -= (nesterov ? velocity * momentum + gradient : velocity) * rate;
    """,
)


def sgd_step(
    parameter: Array, gradient: Array, rate: float, velocity: Array | None, momentum: float, nesterov: bool
) -> None:
    """See `optimizers.py`."""
    if velocity is None:
        _sgd(gradient, rate, parameter)
    else:
        _sgd_momentum(gradient, momentum, nesterov, rate, velocity, parameter)


_adam = Kernel(
    "adam",
    "T gradient, T beta1, T rest1, T beta2, T rest2, T epsilon, T rate, T correction, T of_first, T of_gradient",
    "T first, T second, T parameter",
    """
    first = first * beta1 + gradient * rest1;
    second = second * beta2 + gradient * gradient * rest2;
    T mean = first * of_first;
    if (of_gradient != T(0)) mean += gradient * of_gradient;
    parameter -= mean / (sqrt(second * correction) + epsilon) * rate;
    """,
)


def adam_step(
    parameter: Array,
    gradient: Array,
    first: Array,
    second: Array,
    fixed: tuple[float, float, float],
    rate: float,
    correction: float,
    of_first: float,
    of_gradient: float,
) -> None:
    """See `optimizers.py`."""
    beta1, beta2, epsilon = fixed
    constants = beta1, 1 - beta1, beta2, 1 - beta2, epsilon
    _adam(gradient, *constants, rate, correction, of_first, of_gradient, first, second, parameter)
