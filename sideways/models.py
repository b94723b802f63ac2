"""Networks by name: `build_model("vgg8-skip", input_shape, classes)`.

A model is a list of stages, one after the other; each stage becomes a unit. `…-skip` adds edges that jump over units,
so that frames of different ticks meet. `…-shortcut` is the control: it has an identity path inside each unit, where no
tick passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from sideways.backend import Shape
from sideways.errors import InputError
from sideways.layers import (
    AveragePool2D,
    BatchNorm,
    Changes,
    Conv2D,
    Dense,
    Flatten,
    GatedChange,
    GlobalAveragePool,
    Layer,
    MaxPool2D,
    ReLU,
    Shortcut,
    Square,
    Tanh,
    Upsample2D,
)
from sideways.network import FRAME, Network, Unit
from sideways.validation import check_options
from sideways.wiring import Stage, read_edges, wired

MOST_UNITS = 1000  # between the first and the last convolution of vgg5
ACTIVATIONS: dict[str, Callable[[], Layer]] = {"relu": ReLU, "tanh": Tanh, "square": Square}


# Families ------------------------------------------------------------------------------------------------------------


def mlp(
    classes: int, hidden: Sequence[int] = (64, 64, 64), activation: str = "relu", shortcut: bool = False
) -> list[Stage]:
    """Dense layers on the flattened frame and a classifier: a unit each."""

    def hidden_layers(width: int) -> Callable[[Shape], list[Layer]]:
        def layers(shape: Shape) -> list[Layer]:
            flat = [Flatten()] if len(shape) > 1 else []
            inputs = Flatten().output_shape(shape)[0]
            dense: Layer = Dense(inputs, width)
            if shortcut:
                dense = Shortcut([dense], [] if inputs == width else [Dense(inputs, width)])
            return [*flat, dense, _activation(activation)]

        return layers

    stages = [Stage(f"dense{i + 1}", hidden_layers(width)) for i, width in enumerate(hidden)]
    return [*stages, _classifier(classes)]


def vgg5(
    classes: int,
    width: int = 16,
    norm: bool = True,
    merging: str = "square",
    pool: int = 2,
    middle: int = 2,
    cells: int = 1,
    moments: int = 1,
    frame: bool = True,
    shortcut: bool = False,
) -> list[Stage]:
    """Four 3×3 convolutions and a dense classifier: five units, for frames of 16 to 32 pixels.

    conv1 (max-pooled by `pool`), conv2 and conv3 have `width` channels, conv4 has twice as many.
    norm: batch normalisation after every convolution.
    merging: the activation of conv4, where the skip edge of vgg5-skip ends: `"square"` makes products of two moments
        (motion energy), `"relu"` does not.
    middle: units between conv1 and conv4. Any number but 2 changes the name of the merging unit, and so its skip edge.
    cells: the classifier sees the mean of each of cells × cells parts of the image. With 1 it does not see where
        something moves, and takes a walk forward, in which all moves away from the middle, for a walk back.
    moments: successive frames that conv1 sees, as the newest frame and the changes between frames, each channel
        normalised. Units without layers, hold1 and so on, delay the frame by a tick each, and make the network deeper.
        (Backpropagation frame by frame has no ticks: all moments are the same frame, and nothing changes.)
    frame: whether conv1 sees the newest frame too, and not the changes alone.
    shortcut: an identity path around the convolution of each unit.
    """
    holds = [f"hold{k}" for k in range(1, moments)]
    first = _convolution(width, norm, "relu", pool, shortcut)

    def changes(shape: Shape) -> list[Layer]:
        difference = Changes(moments, frame)
        changed = difference.output_shape(shape)
        return [difference, BatchNorm(changed[-1]), *first(changed)]

    middle_stages = [Stage(f"conv{i + 2}", _convolution(width, norm, "relu", 1, shortcut)) for i in range(middle)]
    return [
        *(Stage(name, lambda shape: [], (before,)) for before, name in pairwise((FRAME, *holds))),
        Stage("conv1", changes if holds else first, (FRAME, *holds)),
        *middle_stages,
        Stage(f"conv{middle + 2}", _convolution(2 * width, norm, merging, 1, shortcut)),
        _classifier(classes, "head", cells),
    ]


def vgg8(classes: int, width: int = 64, norm: bool = False, shortcut: bool = False) -> list[Stage]:
    """Five 3×3 convolutions, two dense layers and a classifier: eight units.

    For width 64 the convolutions have 64, 128, 256, 256 and 512 channels. A max-pool follows each of the first four, a
    global average pool the fifth. The dense layers have 512 features.
    """
    channels = [width, 2 * width, 4 * width, 4 * width, 8 * width]
    stages = [
        Stage(f"conv{i + 1}", _convolution(c, norm, "relu", 2 if i < 4 else 0, shortcut))
        for i, c in enumerate(channels)
    ]
    return [
        *stages,
        Stage("dense6", lambda shape: [Dense(shape[0], 8 * width), ReLU()]),
        Stage("dense7", lambda shape: [Dense(shape[0], 8 * width), ReLU()]),
        _classifier(classes),
    ]


def predictor(channels: int, width: int = 16) -> list[Stage]:
    """An encoder-decoder that outputs a frame: encode, bottleneck, decode, predict; for even heights and widths.

    The unit encode halves the resolution, decode doubles it again. The top of the chain sees one frame at a time, three
    ticks old. In predictor-skip, skip edges bring younger frames to the unit predict, where a 5×5 and a 3×3 convolution
    compare them.
    """

    return [
        Stage("encode", _encode(width)),
        Stage("bottleneck", _rectified(2 * width)),
        Stage("decode", lambda shape: [Upsample2D(2), *_rectified(width)(shape)]),
        Stage("predict", lambda shape: [*_rectified(2 * width, 5)(shape), Conv2D(2 * width, channels, 3)]),
    ]


def gated_predictor(
    channels: int, width: int = 8, stages: int = 3, window: int = 16, motion: bool = False
) -> list[Stage]:
    """The newest frame plus a learnt change of it, gated by the steadiness of the motion.

    Four moments of the raw frame reach the top, a `GatedChange`: the frame, and what three units without layers, hold1
    to hold3, delay by a tick each. An encoder-decoder as in `predictor` adds features.

    width: channels of encode and decode; bottleneck and the hidden layer of the top have twice as many.
    stages: units from encode to decode, with stages - 2 bottlenecks between them; 0 for the top alone.
    window: pixels on a side of the neighbourhood in which the gate measures motion.
    motion: whether encode sees two moments instead of one; then the network is one unit deeper.
    """

    def predict(shape: Shape) -> list[Layer]:
        change = Conv2D(2 * width, channels, 3, init="zero")  # at first the newest frame is repeated
        return [GatedChange([*_rectified(2 * width, 5)(shape), change], channels, window)]

    deep = [
        Stage("encode", _encode(width), (FRAME, "hold1") if motion else (FRAME,)),
        *(Stage(f"bottleneck{i + 1}", _rectified(2 * width)) for i in range(stages - 2)),
        Stage("decode", lambda shape: [Upsample2D(2), *_rectified(width)(shape)]),
    ]
    return [
        Stage("hold1", lambda shape: [], (FRAME,)),
        Stage("hold2", lambda shape: []),
        Stage("hold3", lambda shape: []),
        *(deep if stages else []),
        Stage("predict", predict, (*(("decode",) if stages else ()), "hold3", "hold2", "hold1", FRAME)),
    ]


def _rectified(outputs: int, kernel: int = 3) -> Callable[[Shape], list[Layer]]:
    return lambda shape: [Conv2D(shape[-1], outputs, kernel), ReLU()]


def _encode(outputs: int) -> Callable[[Shape], list[Layer]]:
    """The layers of a unit that halves the resolution."""

    def layers(shape: Shape) -> list[Layer]:
        if shape[0] % 2 or shape[1] % 2:
            raise InputError(f"halving {shape[0]}×{shape[1]} pixels leaves a remainder; use an even height and width")
        return [*_rectified(outputs)(shape), AveragePool2D(2)]

    return layers


def _convolution(
    outputs: int, norm: bool, activation: str, pool: int, shortcut: bool
) -> Callable[[Shape], list[Layer]]:
    """The layers of a convolutional unit: a 3×3 convolution, batch normalisation if `norm`, activation and pooling.

    pool: the size of a max-pool; 1 for none, 0 for a global average.
    The max-pool stands before a monotone activation: function and gradients stay the same to the last bit, and a 2×2
    pool leaves the activation a quarter of the work.
    """

    def layers(shape: Shape) -> list[Layer]:
        inputs = shape[-1]
        linear: list[Layer] = [Conv2D(inputs, outputs, kernel=3), *([BatchNorm(outputs)] if norm else [])]
        if shortcut:
            linear = [Shortcut(linear, [] if inputs == outputs else [Conv2D(inputs, outputs, kernel=1)])]
        pooling: list[Layer] = [GlobalAveragePool()] if pool == 0 else [MaxPool2D(pool)] if pool > 1 else []
        if pool > 1 and activation != "square":
            return [*linear, *pooling, _activation(activation)]
        return [*linear, _activation(activation), *pooling]

    return layers


def _classifier(classes: int, name: str = "classifier", cells: int = 1) -> Stage:
    """A dense layer on the means of cells × cells parts of an image, or on features that are no image."""

    def layers(shape: Shape) -> list[Layer]:
        if len(shape) == 1:
            return [Dense(shape[0], classes, init="glorot")]
        if cells == 1:
            return [GlobalAveragePool(), Dense(shape[-1], classes, init="glorot")]
        h, w, c = shape
        if h % cells or w % cells:
            raise InputError(f"the last image has {h}×{w} pixels, which {cells} × {cells} cells do not divide evenly")
        return [AveragePool2D((h // cells, w // cells)), Flatten(), Dense(cells**2 * c, classes, init="glorot")]

    return Stage(name, layers)


def _activation(name: str) -> Layer:
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


# Names ---------------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[..., list[Stage]]] = {
    "mlp": mlp,
    "vgg5": vgg5,
    "vgg8": vgg8,
    "predictor": predictor,
    "predictor-gated": gated_predictor,
}
PREDICTORS = ("predictor", "predictor-gated")  # families whose output is a frame
DEFAULT_SKIPS = {  # of the families that have variants
    "mlp": ("dense1>dense3",),
    "vgg5": ("conv1>conv4",),
    "vgg8": ("conv1>conv4",),
    "predictor": ("encode>decode", "frame>predict"),
}
VARIANTS: dict[str, Callable[[str], str]] = {
    "": lambda base: (inspect.getdoc(FAMILIES[base]) or "").splitlines()[0],
    "-skip": lambda base: f"{base} with the skip edges {', '.join(DEFAULT_SKIPS[base])} (other edges, merge: options)",
    "-shortcut": lambda base: f"{base} with a shortcut inside each unit: the control, no temporal integration",
}
MODELS = {  # name → description
    base + variant: describe(base)
    for base in FAMILIES
    for variant, describe in VARIANTS.items()
    if not variant or (base in DEFAULT_SKIPS and not (base in PREDICTORS and variant == "-shortcut"))
}


def build_model(
    name: str, /, input_shape: Shape, classes: int | None, seed: int = 0, dtype: str = "float32", **options
) -> Network:
    """Build a network by its name.

    input_shape: one frame (H, W, C). classes: the width of the output; None for a predictor, whose output is a frame.
    options: the arguments of the family (`mlp`, `vgg5`, `vgg8`, `predictor`, `gated_predictor`); for `…-skip` also
        skip: edges, as `["conv1>conv4", "frame>conv3"]` or one string with commas;
        merge: `"concat"` (the default) or `"add"`.
    If shapes differ, a skip edge passes a max-pool, and for "add" a 1×1 convolution.
    Raises `InputError` for unknown names and options, and for edges that do not jump upwards over at least one unit.
    """
    return Network(model_units(name, input_shape, classes, **options), input_shape, seed, dtype)


def model_units(name: str, /, input_shape: Shape, classes: int | None, **options) -> list[Unit]:
    """The units of a model, without parameters; arguments and errors as for `build_model`."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    base, _, variant = (name, "", "") if name in FAMILIES else name.rpartition("-")
    _check_model(name, base, variant, classes, options)
    skips, merge = [], "concat"
    if variant == "skip":
        skips = read_edges(options.pop("skip", DEFAULT_SKIPS[base]))
        merge = options.pop("merge", merge)
    outputs = tuple(input_shape)[-1] if classes is None else classes
    stages = FAMILIES[base](outputs, **options, **({"shortcut": True} if variant == "shortcut" else {}))
    return wired(stages, tuple(input_shape), skips, merge)


def _check_model(name: str, base: str, variant: str, classes: int | None, options: dict[str, Any]) -> None:
    """Raise `InputError` for options that the model does not have, and for an output that does not suit it."""
    also = {"skip": str | Sequence[str], "merge": str} if variant == "skip" else {}
    check_options(f"model {name!r}", FAMILIES[base], options, also, besides=("classes", "channels", "shortcut"))
    if base in PREDICTORS and classes is not None:
        raise InputError(f"model {name!r} outputs frames: it needs a horizon of at least 1 (--horizon), no classes")
    if base not in PREDICTORS and classes is None:
        raise InputError(
            f"model {name!r} outputs classes: to predict frames choose {PREDICTORS[0]} or {PREDICTORS[0]}-skip"
        )
    if not 0 <= options.get("middle", 0) <= MOST_UNITS:
        raise InputError(f"model {name!r}: middle must be 0 … {MOST_UNITS} units, not {options['middle']}")
    if not (options.get("stages", 0) == 0 or 2 <= options["stages"] <= MOST_UNITS):
        raise InputError(f"model {name!r}: stages must be 0, or 2 … {MOST_UNITS} units, not {options['stages']}")
    if not 1 <= options.get("moments", 1) <= MOST_UNITS:
        raise InputError(f"model {name!r}: moments must be 1 … {MOST_UNITS}, not {options['moments']}")
    for option, meaning in (("pool", "no pooling"), ("cells", "the whole image")):
        if options.get(option, 1) < 1:
            raise InputError(f"model {name!r}: {option} must be at least 1 ({meaning}), not {options[option]}")
    if classes is not None and classes < 1:
        raise InputError(f"a model needs at least one class, not {classes}")
