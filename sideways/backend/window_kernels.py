"""The kernels of convolutions and max-pools, which work on windows and tiles of images: see `kernels.py`."""

from __future__ import annotations

from typing import Any

from sideways.backend.arrays import Array, Shape, empty
from sideways.backend.fused import Kernel

Pair = tuple[int, int]  # rows, columns

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
    windows = empty(x, (n * p * q, kernel[0] * kernel[1] * c))
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


_joined_weight = Kernel(
    "joined_weight",
    "raw T weight, int32 kw, int32 C, int32 O, int32 together, int32 stride",
    "T joined",
    """
    unsigned int j = (unsigned int)i;
    int o = j % O; j /= O;
    int a = j % together; j /= together;
    int c = j % C; j /= C;
    int columns = kw + stride * (together - 1), v = (int)(j % columns) - stride * a;
    int u = j / columns;
    joined = v >= 0 && v < kw ? weight[((u * kw + v) * C + c) * O + o] : T(0);
    """,
)


def joined_weight(weight: Array, together: int, stride: int) -> Array:
    """See `layers/conv.py`."""
    kh, kw, inputs, outputs = weight.shape
    joined = empty(weight, (kh, kw + stride * (together - 1), inputs, together, outputs))
    return _joined_weight(weight, kw, inputs, outputs, together, stride, joined)


_parted_gradient = Kernel(
    "parted_gradient",
    "raw T joined, int32 kw, int32 C, int32 O, int32 together, int32 stride",
    "T dw",
    """
    unsigned int j = (unsigned int)i;
    int o = j % O; j /= O;
    int c = j % C; j /= C;
    int v = j % kw;
    int u = j / kw, columns = kw + stride * (together - 1);
    T sum = T(0);
    for (int a = 0; a < together; a++) {
        sum += joined[(((u * columns + stride * a + v) * C + c) * together + a) * O + o];
    }
    dw = sum;
    """,
)


def parted_gradient(gradient: Array, shape: Shape, together: int, stride: int) -> Array:
    """See `layers/conv.py`."""
    _, kw, inputs, outputs = shape
    return _parted_gradient(gradient, kw, inputs, outputs, together, stride, empty(gradient, shape))


_max_pool = Kernel(
    "max_pool",
    f"raw T x, {WINDOWS}",
    "T y",
    """
    unsigned int j = (unsigned int)i;
    int c = j % C; j /= C;
    int q = j % Q; j /= Q;
    int p = j % P; j /= P;
    y = T(-1) / T(0);  // of a window in which there is no pixel; no header that defines INFINITY is at hand
    for (int h = max(p * sh - top, 0); h < min(p * sh - top + kh, H); h++) {
        for (int w = max(q * sw - left, 0); w < min(q * sw - left + kw, W); w++) {
            T pixel = x[(((ptrdiff_t)j * H + h) * W + w) * C + c];
            if (!(pixel <= y)) y = pixel;  // a NaN is the largest, as for NumPy
        }
    }
    """,
)


def max_pool(x: Array, windows: Any) -> Array:
    """See `layers/pool.py`."""
    image, (p, q) = x.shape[1:], windows.output(x.shape[1:])
    y, (top, _, left, _) = empty(x, (len(x), p, q, x.shape[3])), windows.margins(image)
    return _max_pool(x, *image, p, q, *windows.kernel, *windows.stride, top, left, y)


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
    for (int q = w / 4, v = w % 4; q >= 0 && v < 6; q--, v += 4) {
        T column = T(0);
        if (q >= Q) continue;
        for (int p = h / 4, u = h % 4; p >= 0 && u < 6; p--, u += 4) {
            if (p >= P) continue;
            column += pixels[((((ptrdiff_t)(u * 6 + v) * N + j) * P + p) * Q + q) * C + c];
        }
        sum += column;
    }
    dx = sum;
    """,
)


def add_tiles(pixels: Array, dx: Array, top: int, left: int) -> None:
    """See `layers/winograd.py`."""
    _add_tiles(pixels, *dx.shape, *pixels.shape[2:4], top, left, dx)
