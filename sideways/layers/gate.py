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
from sideways.layers.base import Layer, ParameterGradients, Sequential, check_image

EPSILON = 1e-3  # ε, for frames whose standard deviation is about 1


class GatedChange(Sequential):
    """The newest frame plus a change, which the layers H compute and a gate without parameters scales.

    The last 3 C channels of x are three moments of a video, the oldest first: x₂ = x[t-2], x₁ = x[t-1], x₀ = x[t], of C
    channels each; F other features f stand before them. ⟨·⟩ is the mean over the channels and over a window of
    `window` × `window` pixels around each pixel; windows at a border are shifted into the image, and an image that is
    smaller than a window is one window.

    d₁ = x₀ - x₁      d₂ = x₁ - x₂      ρᵢ = √(⟨dᵢ²⟩ + ε²)

    forward     m  = max(⟨d₁ d₂⟩, 0)
                s  = m² / (ρ₁ ρ₂²)                            (N, H, W, 1): ρ₁ times the correlation, squared
                h  = H(f, d₂ / ρ₁, d₁ / ρ₁, x₀)               x (N, H, W, F + 3 C) → h (N, H, W, C)
                y  = x₀ + s h                                 (N, H, W, C)
    backward    dz = J_Hᵀ (s dy)                              for f, d₂ / ρ₁, d₁ / ρ₁, x₀: dz_f, dz₂, dz₁, dz₀
                a  = Σ_c dy h / ρ₂²
                b  = Σ_c (d₁ dz₁ + d₂ dz₂) / ρ₁³ + a m² / ρ₁³
                dd₁ = dz₁ / ρ₁ - d₁ ⟨b⟩ᵀ + d₂ ⟨2 a m / ρ₁⟩ᵀ
                dd₂ = dz₂ / ρ₁ - d₂ ⟨2 a s⟩ᵀ + d₁ ⟨2 a m / ρ₁⟩ᵀ
                dx = dz_f, -dd₂, dd₂ - dd₁, dy + dz₀ + dd₁    for f, x₂, x₁, x₀

    ⟨·⟩ᵀ, the transpose of the mean, distributes a number evenly over the window that it belongs to. Where successive
    differences are uncorrelated, as in noise, s is near 0, and the newest frame is repeated. Where the picture changes
    steadily, s is the size of the change, so that H learns its form alone.

    layers: H. channels: C. window: in pixels. Parameters are called `"i.<name>"`, of layer i. Raises `InputError` for
    numbers below 1, for an x without three moments, and for an h that is not of x₀'s shape.
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
        if features < 3 * self.channels:
            raise InputError(
                f"needs three moments of {self.channels} channels each, its input {shape} has {features} channels"
            )
        change = super().output_shape(shape)
        if change != (h, w, self.channels):
            raise InputError(f"its layers give {change}, not a change of each pixel, {(h, w, self.channels)}")
        return change

    def forward(self, x: Array, train: bool = True) -> tuple[Array, Any]:
        older, old, new = self._moments(x)
        d1, d2 = subtract(new, old), subtract(old, older)
        rho1, rho2 = self._size(d1), self._size(d2)
        m = maximum(local_mean(multiply(d1, d2), self.window), 0)
        s = divide(multiply(m, m), multiply(rho1, multiply(rho2, rho2)))
        z = copied(x)
        z2, z1, _ = self._moments(z)
        z2[...], z1[...] = divide(d2, rho1), divide(d1, rho1)
        h, saved = super().forward(z, train)
        y = multiply(h, s)
        y += new
        return y, (d1, d2, rho1, rho2, m, s, h, saved)

    def backward(self, dy: Array, saved: Any) -> tuple[Array, ParameterGradients]:
        d1, d2, rho1, rho2, m, s, h, saved_by_layers = saved
        dz, gradients = super().backward(multiply(dy, s), saved_by_layers)
        if not self.input_gradient:
            return None, gradients
        dz2, dz1, _ = self._moments(dz)
        a = divide(channel_sum(multiply(dy, h)), multiply(rho2, rho2))
        products = multiply(d1, dz1)
        products += multiply(d2, dz2)
        b = channel_sum(products)
        b += multiply(a, multiply(m, m))
        b = divide(b, multiply(multiply(rho1, rho1), rho1))
        together = transposed_mean(divide(multiply(multiply(a, m), 2), rho1), self.window, self.channels)
        dd1, dd2 = divide(dz1, rho1), divide(dz2, rho1)
        dd1 -= multiply(d1, transposed_mean(b, self.window, self.channels))
        dd1 += multiply(d2, together)
        dd2 -= multiply(d2, transposed_mean(multiply(multiply(a, s), 2), self.window, self.channels))
        dd2 += multiply(d1, together)
        dx = copied(dz)
        dx2, dx1, dx0 = self._moments(dx)
        dx2[...], dx1[...] = multiply(dd2, -1), subtract(dd2, dd1)
        dx0 += dd1
        dx0 += dy
        return dx, gradients

    def update_statistics(self, saved: Any) -> None:
        super().update_statistics(saved[-1])

    def _moments(self, x: Array) -> tuple[Array, Array, Array]:
        """The last channels of x, as views: those of x₂, of x₁ and of x₀."""
        c = self.channels
        return x[..., -3 * c : -2 * c], x[..., -2 * c : -c], x[..., -c:]

    def _size(self, d: Array) -> Array:
        """ρ = √(⟨d²⟩ + ε²)."""
        square = local_mean(multiply(d, d), self.window)
        square += EPSILON**2
        return sqrt(square)

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
