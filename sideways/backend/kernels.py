"""The kernels, each in the place of a computation in NumPy's steps that its docstring names (see `fused.py`).

A reader of the layers need not open this file. A kernel adds in the order of the steps, so that both differ by single
roundings at most; tests hold each kernel to its steps, and the layers that use it to their own properties.

A kernel is the body of a loop over the elements of its outputs, in CUDA C++: `i` is the number of the element in C
order, a `raw` array is indexed by such numbers, and `T` is the dtype of the arrays. CuPy compiles it when it runs for
the first time.
"""

from __future__ import annotations

from typing import Any

from sideways.backend.arrays import Array, Shape, empty, to_device
from sideways.backend.fused import Kernel

Pair = tuple[int, int]  # rows, columns

# Activations ----------------------------------------------------------------------------------------------------------

_relu_gradient = Kernel("relu_gradient", "T dy, T y", "T dx", "dx = dy * T(y > T(0));")


def relu_gradient(dy: Array, y: Array) -> Array:
    """See `layers/activation.py`."""
    return _relu_gradient(dy, y, empty(dy))


# Windows --------------------------------------------------------------------------------------------------------------

# Image, windows, one window, from one window to the next, padding. j becomes the number of the sample.
WINDOWS = "int32 H, int32 W, int32 C, int32 P, int32 Q, int32 kh, int32 kw, int32 sh, int32 sw, int32 top, int32 left"

_copied_windows = Kernel(
    "copied_windows",
    f"raw T x, {WINDOWS}",
    "T pixel",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int v = j % kw; j /= kw;
    int u = j % kh; j /= kh;
    int q = j % Q; j /= Q;
    int p = j % P; j /= P;
    int h = p * sh + u - top, w = q * sw + v - left;
    bool inside = h >= 0 && h < H && w >= 0 && w < W;
    pixel = inside ? x[(((ptrdiff_t)j * H + h) * W + w) * C + c] : T(0);
    """,
)


def copied_windows(x: Array, kernel: Pair, stride: Pair, margins: tuple[int, int, int, int]) -> Array:
    """See `layers/conv.py`."""
    (n, h, w, c), (top, bottom, left, right) = x.shape, margins
    p = (top + h + bottom - kernel[0]) // stride[0] + 1
    q = (left + w + right - kernel[1]) // stride[1] + 1
    windows = empty(x, (n, p, q, *kernel, c))
    return _copied_windows(x, h, w, c, p, q, *kernel, *stride, top, left, windows)


_add_windows = Kernel(
    "add_windows",
    f"raw T of_windows, {WINDOWS}",
    "T dx",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int w = j % W + left; j /= W;
    int h = j % H + top; j /= H;
    T sum = T(0);
    for (int u = 0; u < kh && u <= h; u++) {
        if ((h - u) % sh || (h - u) / sh >= P) continue;
        ptrdiff_t p = (ptrdiff_t)j * P + (h - u) / sh;
        for (int v = 0; v < kw && v <= w; v++) {
            if ((w - v) % sw || (w - v) / sw >= Q) continue;
            sum += of_windows[((p * Q + (w - v) / sw) * kh * kw + u * kw + v) * C + c];
        }
    }
    dx = sum;
    """,
)


def add_windows(of_windows: Array, windows: Any, image: Shape) -> Array:
    """See `layers/conv.py`."""
    (n, p, q), (top, _, left, _) = of_windows.shape[:3], windows.margins(image)
    dx = empty(of_windows, (n, *image))
    return _add_windows(of_windows, *image, p, q, *windows.kernel, *windows.stride, top, left, dx)


_max_pool_gradient = Kernel(
    "max_pool_gradient",
    f"raw T dy, raw T x, raw T y, {WINDOWS}",
    "T dx",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int w = j % W; j /= W;
    int h = j % H; j /= H;
    T sum = T(0);
    for (int p = min((h + top) / sh, P - 1); p >= 0 && p * sh + kh > h + top; p--) {
        for (int q = min((w + left) / sw, Q - 1); q >= 0 && q * sw + kw > w + left; q--) {
            ptrdiff_t window = (((ptrdiff_t)j * P + p) * Q + q) * C + c;
            T best = y[window];
            if (x[i] != best) continue;
            bool first = true;  // of the pixels of this window, row by row, that hold the largest number
            for (int a = p * sh - top; a <= h && first; a++) {
                for (int b = q * sw - left; b < (a == h ? w : q * sw - left + kw) && first; b++) {
                    if (a < 0 || b < 0 || b >= W) continue;
                    first = x[(((ptrdiff_t)j * H + a) * W + b) * C + c] != best;
                }
            }
            if (first) sum += dy[window];
        }
    }
    dx = sum;
    """,
)


def max_pool_gradient(dy: Array, x: Array, y: Array, windows: Any) -> Array:
    """See `layers/pool.py`."""
    image, (p, q) = x.shape[1:], y.shape[1:3]
    top, _, left, _ = windows.margins(image)
    return _max_pool_gradient(dy, x, y, *image, p, q, *windows.kernel, *windows.stride, top, left, empty(x))


# Winograd's tiles, 4 pixels apart -------------------------------------------------------------------------------------

_tiles = Kernel(
    "tiles",
    "raw T x, int32 N, int32 H, int32 W, int32 C, int32 P, int32 Q, int32 size, int32 top, int32 left",
    "T tile",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int q = j % Q; j /= Q;
    int p = j % P; j /= P;
    int n = j % N; j /= N;  // j is the pixel of a tile
    int h = p * 4 + (int)j / size - top, w = q * 4 + (int)j % size - left;
    bool inside = h >= 0 && h < H && w >= 0 && w < W;
    tile = inside ? x[(((ptrdiff_t)n * H + h) * W + w) * C + c] : T(0);
    """,
)


def tiles(x: Array, size: int, count: Pair, top: int, left: int) -> Array:
    """See `layers/winograd.py`."""
    n, h, w, c = x.shape
    return _tiles(x, n, h, w, c, *count, size, top, left, empty(x, (size * size, n, *count, c)))


_lay_tiles = Kernel(
    "lay_tiles",
    "raw T pixels, int32 N, int32 H, int32 W, int32 C, int32 P, int32 Q",
    "T y",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int w = j % W; j /= W;
    int h = j % H; j /= H;
    ptrdiff_t pixel = h % 4 * 4 + w % 4;
    y = pixels[(((pixel * N + j) * P + h / 4) * Q + w / 4) * C + c];
    """,
)


def lay_tiles(pixels: Array, y: Array) -> None:
    """See `layers/winograd.py`."""
    _lay_tiles(pixels, *y.shape, *pixels.shape[2:4], y)


_add_tiles = Kernel(
    "add_tiles",
    "raw T pixels, int32 N, int32 H, int32 W, int32 C, int32 P, int32 Q, int32 top, int32 left",
    "T dx",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int w = j % W + left; j /= W;
    int h = j % H + top; j /= H;
    T sum = T(0);
    for (int p = h / 4, u = h % 4; p >= 0 && u < 6; p--, u += 4) {
        if (p >= P) continue;
        for (int q = w / 4, v = w % 4; q >= 0 && v < 6; q--, v += 4) {
            if (q >= Q) continue;
            sum += pixels[((((ptrdiff_t)(u * 6 + v) * N + j) * P + p) * Q + q) * C + c];
        }
    }
    dx = sum;
    """,
)


def add_tiles(pixels: Array, dx: Array, top: int, left: int) -> None:
    """See `layers/winograd.py`."""
    _add_tiles(pixels, *dx.shape, *pixels.shape[2:4], top, left, dx)


# Batch normalisation --------------------------------------------------------------------------------------------------

_scaled = Kernel(
    "scaled",
    "T centred, T deviation, T scale, T shift",
    "T normal, T y",
    "normal = centred / deviation; y = normal * scale + shift;",
)


def scaled(centred: Array, deviation: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """See `layers/norm.py`."""
    normal, y = empty(centred), empty(centred)
    _scaled(centred, deviation, scale, shift, normal, y)
    return normal, y


_norm_gradient = Kernel(
    "norm_gradient",
    "T dy, T normal, T dscale, T dshift, T scale, T deviation, T m",
    "T dx",
    "dx = (normal * (dscale / -m) + dy - dshift / m) * (scale / deviation);",
)


def norm_gradient(
    dy: Array, normal: Array, dscale: Array, dshift: Array, scale: Array, deviation: Array, m: int
) -> Array:
    """See `layers/norm.py`."""
    return _norm_gradient(dy, normal, dscale, dshift, scale, deviation, m, empty(dy))


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
