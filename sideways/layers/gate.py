"""A learnt change of the newest frame, gated by the steadiness of the motion so far; for predictors of frames."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from sideways.backend import (
    Array,
    Shape,
    constant,
    contiguous,
    copied,
    device_of,
    divide,
    empty,
    matmul,
    maximum,
    multiply,
    namespace,
    sqrt,
    subtract,
)
from sideways.errors import InputError
from sideways.layers.activation import relu_gradient
from sideways.layers.base import Layer, ParameterGradients, Sequential, check_image

MOMENTS = 4
EPSILON = 1e-3  # ε, for frames whose standard deviation is about 1


class GatedChange(Sequential):
    """The newest frame plus a change, which the layers H compute and a gate without parameters scales.

    The last 4 C channels of x are four moments of a video, the oldest first: x₃ = x[t-3], …, x₀ = x[t], of C channels
    each; F other features f stand before them. ⟨·⟩ is the mean over the channels and over a window of `window` ×
    `window` pixels around each pixel; windows at a border are shifted into the image, and an image that is smaller than
    a window is one window.

    dᵢ = xᵢ₋₁ - xᵢ      ρᵢ = √(⟨dᵢ²⟩ + ε²)      i = 1, 2, 3

    forward     m  = max(⟨d₁ d₂⟩, 0)      m' = max(⟨d₂ d₃⟩, 0)
                s  = m m' / (ρ₂² ρ₃)                          (N, H, W, 1): ρ₁ times two correlations
                h  = H(f, d₃ / ρ₁, d₂ / ρ₁, d₁ / ρ₁, x₀)      x (N, H, W, F + 4 C) → h (N, H, W, C)
                y  = x₀ + s h                                 (N, H, W, C)
    backward    dz = J_Hᵀ (s dy)                              for the inputs of H: dz_f, dz₃, dz₂, dz₁, dz₀
                a  = Σ_c dy h / (ρ₂² ρ₃)
                b  = Σ_c (d₁ dz₁ + d₂ dz₂ + d₃ dz₃) / ρ₁³
                p  = ⟨a m' [m > 0]⟩ᵀ,   q = ⟨a m [m' > 0]⟩ᵀ
                dd₁ = dz₁ / ρ₁ - d₁ ⟨b⟩ᵀ + d₂ p
                dd₂ = dz₂ / ρ₁ - d₂ ⟨2 a m m' / ρ₂²⟩ᵀ + d₁ p + d₃ q
                dd₃ = dz₃ / ρ₁ - d₃ ⟨a m m' / ρ₃²⟩ᵀ + d₂ q
                dx = dz_f, -dd₃, dd₃ - dd₂, dd₂ - dd₁, dy + dz₀ + dd₁

    ⟨·⟩ᵀ, the transpose of the mean, distributes a number evenly over the window that it belongs to. Where the picture
    changed steadily over three ticks, s is the size of the change, so that H learns its form alone. Where successive
    changes are uncorrelated, as in noise, or where a motion has just begun or ended, s is near 0, and the newest frame
    is repeated.

    layers: H. channels: C. window: in pixels. Parameters are called `"i.<name>"`, of layer i. Raises `InputError` for
    numbers below 1, for an x without four moments, and for an h that is not of x₀'s shape.
    """

    def __init__(self, layers: Iterable[Layer], channels: int, window: int = 16):
        super().__init__(layers)
        if channels < 1 or window < 1:
            raise InputError(
                f"GatedChange needs at least one channel and a window of one pixel, not {channels} and {window}"
            )
        self.channels, self.window = channels, window

    def output_shape(self, shape: Shape) -> Shape:
        h, w, features = check_image(shape)
        if features < MOMENTS * self.channels:
            raise InputError(
                f"needs four moments of {self.channels} channels each, its input {shape} has {features} channels"
            )
        change = super().output_shape(shape)
        if change != (h, w, self.channels):
            raise InputError(f"its layers give {change}, not a change of each pixel, {(h, w, self.channels)}")
        return change

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        x3, x2, x1, x0 = self._moments(x)
        d1, d2, d3 = subtract(x0, x1), subtract(x1, x2), subtract(x2, x3)
        rho1, rho2, rho3 = self._size(d1), self._size(d2), self._size(d3)
        m12, m23 = self._agreement(d1, d2), self._agreement(d2, d3)
        s = divide(multiply(m12, m23), multiply(multiply(rho2, rho2), rho3))
        z = copied(x)
        z3, z2, z1, _ = self._moments(z)
        z3[...], z2[...], z1[...] = divide(d3, rho1), divide(d2, rho1), divide(d1, rho1)
        h, saved = super().forward(z, train)
        y = multiply(h, s)
        y += x0
        return y, ((d1, d2, d3), (rho1, rho2, rho3), (m12, m23), s, h, saved)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        (d1, d2, d3), (rho1, rho2, rho3), (m12, m23), s, h, saved_by_layers = saved
        dz, gradients = super().backward(multiply(dy, s), saved_by_layers)
        if not self.input_gradient:
            return None, gradients
        dz3, dz2, dz1, _ = self._moments(dz)
        square2 = multiply(rho2, rho2)
        a = divide(channel_sum(multiply(dy, h)), multiply(square2, rho3))
        products = multiply(d1, dz1)
        products += multiply(d2, dz2)
        products += multiply(d3, dz3)
        b = divide(channel_sum(products), multiply(multiply(rho1, rho1), rho1))
        p = self._spread(relu_gradient(multiply(a, m23), m12))
        q = self._spread(relu_gradient(multiply(a, m12), m23))
        both = multiply(a, multiply(m12, m23))
        dd1, dd2, dd3 = divide(dz1, rho1), divide(dz2, rho1), divide(dz3, rho1)
        dd1 -= multiply(d1, self._spread(b))
        dd1 += multiply(d2, p)
        dd2 -= multiply(d2, self._spread(divide(multiply(both, 2), square2)))
        dd2 += multiply(d1, p)
        dd2 += multiply(d3, q)
        dd3 -= multiply(d3, self._spread(divide(both, multiply(rho3, rho3))))
        dd3 += multiply(d2, q)
        dx = copied(dz)
        dx3, dx2, dx1, dx0 = self._moments(dx)
        dx3[...], dx2[...], dx1[...] = multiply(dd3, -1), subtract(dd3, dd2), subtract(dd2, dd1)
        dx0 += dd1
        dx0 += dy
        return dx, gradients

    def update_statistics(self, saved: Any) -> None:
        super().update_statistics(saved[-1])

    def _moments(self, x: Array) -> list[Array]:
        """The last channels of x, as views: those of x₃, x₂, x₁ and x₀."""
        c = self.channels
        first = x.shape[-1] - MOMENTS * c
        return [x[..., first + k * c : first + (k + 1) * c] for k in range(MOMENTS)]

    def _size(self, d: Array) -> Array:
        """ρ = √(⟨d²⟩ + ε²)."""
        square = local_mean(multiply(d, d), self.window)
        square += EPSILON**2
        return sqrt(square)

    def _agreement(self, d: Array, older: Array) -> Array:
        """The mean of the product of two changes where they agree, and 0 elsewhere."""
        return maximum(local_mean(multiply(d, older), self.window), 0)

    def _spread(self, m: Array) -> Array:
        return transposed_mean(m, self.window, self.channels)

    def __repr__(self) -> str:
        return f"GatedChange({self.layers!r}, {self.channels}, window={self.window})"


def local_mean(x: Array, window: int) -> Array:
    """The mean ⟨x⟩ over the channels and over a window around each pixel: x (N, H, W, C) → (N, H, W, 1).

    Two matrix products, M = Aᵀ X B: the columns of B (W C, W) average along the rows of an image, those of A (H, H)
    along its columns. Their cost does not depend on the window.
    """
    n, h, w, c = x.shape
    along_rows = matmul(x.reshape(n * h, w * c), _averages_for(x, w, c, window))
    turned = contiguous(along_rows.reshape(n, h, w).transpose(0, 2, 1)).reshape(n * w, h)
    mean = matmul(turned, _averages_for(x, h, 1, window))
    return contiguous(mean.reshape(n, w, h).transpose(0, 2, 1)).reshape(n, h, w, 1)


def transposed_mean(m: Array, window: int, channels: int) -> Array:
    """The transpose ⟨m⟩ᵀ of `local_mean`, X = A M Bᵀ: m (N, H, W, 1) → (N, H, W, channels)."""
    n, h, w, _ = m.shape
    turned = contiguous(m.reshape(n, h, w).transpose(0, 2, 1)).reshape(n * w, h)
    along_columns = matmul(turned, _averages_for(m, h, 1, window).T)
    upright = contiguous(along_columns.reshape(n, w, h).transpose(0, 2, 1)).reshape(n * h, w)
    return matmul(upright, _averages_for(m, w, channels, window).T).reshape(n, h, w, channels)


def channel_sum(x: Array) -> Array:
    """Σ over the channels: x (N, H, W, C) → (N, H, W, 1)."""
    return namespace(x).sum(x, axis=-1, keepdims=True, out=empty(x, (*x.shape[:-1], 1)))


def _averages_for(like: Array, extent: int, channels: int, window: int) -> Array:
    return _averages(namespace(like), extent, channels, window, like.dtype, device_of(like))


@constant
def _averages(xp: ModuleType, extent: int, channels: int, window: int, dtype: Any, device: int | None) -> Array:
    """The matrix (extent · channels, extent) whose column j averages the window around pixel j, over all channels.

    device: see `device_of`.
    """
    size = min(window, extent)
    first = xp.minimum(xp.maximum(xp.arange(extent) - size // 2, 0), extent - size)
    pixel = xp.arange(extent * channels)[:, None] // channels
    return ((first <= pixel) & (pixel < first + size)).astype(dtype) / (size * channels)
