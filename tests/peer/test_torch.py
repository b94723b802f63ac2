"""Comparisons with PyTorch, an independent computation: layers, losses, optimizers, a network. `pytest -m peer`."""

import numpy as np
import pytest
import torch

import sideways as sw
from sideways.models import build_model
from sideways.studies.bench.torch_network import Graph

F = torch.nn.functional

pytestmark = pytest.mark.peer

RANDOM = np.random.default_rng(0)


def images(n=2, h=7, w=6, c=3):
    return RANDOM.normal(size=(n, h, w, c))


def nchw(array):
    return torch.tensor(array).permute(0, 3, 1, 2)


def nhwc(tensor):
    return tensor.permute(0, 2, 3, 1).detach().numpy()


def leaves(*arrays):
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def close(one, other):
    assert np.allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, "same"), (3, 2, "valid"), (5, 1, "valid"), (1, 1, "same")]
)
def test_convolution(kernel, stride, padding):
    layer, x = sw.Conv2D(3, 4, kernel, stride, padding), images()
    layer.initialise(RANDOM, "float64")
    y, saved = layer.forward(x)
    r = RANDOM.normal(size=y.shape)
    dx, gradients = layer.backward(r, saved)
    tx, weight, bias = leaves(x, layer.weight, layer.bias)
    ty = F.conv2d(tx.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), bias, stride, padding)
    (ty * nchw(r)).sum().backward()
    close(y, nhwc(ty))
    close(dx, tx.grad)
    close(gradients["weight"], weight.grad)
    close(gradients["bias"], bias.grad)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (sw.MaxPool2D(2), lambda x: F.max_pool2d(x, 2)),
        (sw.MaxPool2D(3, stride=2), lambda x: F.max_pool2d(x, 3, 2)),
        (sw.AveragePool2D(2), lambda x: F.avg_pool2d(x, 2)),
        (sw.AveragePool2D(3, stride=1), lambda x: F.avg_pool2d(x, 3, 1)),
        (sw.Upsample2D(2), lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
        (sw.ReLU(), F.relu),
        (sw.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
        (sw.Tanh(), torch.tanh),
        (sw.Sigmoid(), torch.sigmoid),
        (sw.Square(), torch.square),
    ],
)
def test_layers_without_parameters(layer, function):
    x = images()
    y, saved = layer.forward(x)
    r = RANDOM.normal(size=y.shape)
    dx, _ = layer.backward(r, saved)
    (tx,) = leaves(x)
    ty = function(tx.permute(0, 3, 1, 2))
    (ty * nchw(r)).sum().backward()
    close(y, nhwc(ty))
    close(dx, tx.grad)


@pytest.mark.parametrize(("channels", "window"), [(1, 9), (3, 9)])  # one window: the whole image
def test_the_gated_change(channels, window):
    features = 2 + 4 * channels
    layer = sw.GatedChange([sw.Conv2D(features, channels, 3)], channels, window)
    layer.initialise(RANDOM, "float64")
    x = RANDOM.normal(size=(4, 8, 8, features))
    x[..., 2:] += np.repeat([0.0, 2.0, 4.0, 6.0], channels) * RANDOM.normal(size=(4, 8, 8, 1))
    y, saved = layer.forward(x)
    r = RANDOM.normal(size=y.shape)
    dx, gradients = layer.backward(r, saved)
    tx, weight, bias = leaves(x, layer.layers[0].weight, layer.layers[0].bias)
    x3, x2, x1, x0 = (tx[..., 2 + k * channels : 2 + (k + 1) * channels] for k in range(4))
    d1, d2, d3 = x0 - x1, x1 - x2, x2 - x3
    rho1, rho2, rho3 = ((d**2).mean(dim=(1, 2, 3), keepdim=True).add(1e-6).sqrt() for d in (d1, d2, d3))
    now, before = ((a * b).mean(dim=(1, 2, 3), keepdim=True).clamp(min=0) for a, b in ((d1, d2), (d2, d3)))
    gate = rho1 * now / (rho1 * rho2) * before / (rho2 * rho3)
    z = torch.cat([tx[..., :2], d3 / rho1, d2 / rho1, d1 / rho1, x0], dim=-1)
    h = F.conv2d(z.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1).contiguous(), bias, padding=1).permute(0, 2, 3, 1)
    ty = x0 + gate * h
    (ty * torch.tensor(r)).sum().backward()
    assert (gate > 0).all()
    close(y, ty.detach())
    close(dx, tx.grad)
    close(gradients["0.weight"], weight.grad)
    close(gradients["0.bias"], bias.grad)


def test_batch_normalisation_with_running_statistics():
    layer = sw.BatchNorm(3)
    # momentum=None: statistics are the mean over all batches, as those of sw.BatchNorm are at first.
    norm = torch.nn.BatchNorm2d(3, momentum=None, dtype=torch.float64)
    layer.initialise(RANDOM, "float64")
    layer.scale[:] = RANDOM.normal(size=3)
    norm.weight.data = torch.tensor(layer.scale)
    for train in (True, True, False):
        norm.train(train)
        norm.zero_grad()
        x = images()
        y, saved = layer.forward(x, train)
        r = RANDOM.normal(size=y.shape)
        dx, gradients = layer.backward(r, saved)
        if train:
            layer.update_statistics(saved)
        (tx,) = leaves(x)
        ty = norm(tx.permute(0, 3, 1, 2))
        (ty * nchw(r)).sum().backward()
        close(y, nhwc(ty))
        close(dx, tx.grad)
        close(gradients["scale"], norm.weight.grad)
        close(gradients["shift"], norm.bias.grad)
        close(layer.mean, norm.running_mean)
        close(layer.variance, norm.running_var)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses(smoothing):
    z, labels = RANDOM.normal(size=(4, 5)), RANDOM.integers(0, 5, 4)
    target = RANDOM.normal(size=(4, 5))
    (tz, ty) = leaves(z, z)
    cross = F.cross_entropy(tz, torch.tensor(labels), label_smoothing=smoothing)
    squared = F.mse_loss(ty, torch.tensor(target))
    (cross + squared).backward()
    value, gradient = sw.SoftmaxCrossEntropy(smoothing)(z, labels)
    close(value, cross.item())
    close(gradient, tz.grad)
    value, gradient = sw.MeanSquaredError()(z, target)
    close(value, squared.item())
    close(gradient, ty.grad)
    (tl,) = leaves(z)
    logarithms = torch.log(F.mse_loss(tl, torch.tensor(target), reduction="none").mean(dim=1) + 3e-5)
    (logarithms.mean() / 2).backward()
    value, gradient = sw.LogMeanSquaredError()(z, target)
    close(value, (logarithms.mean() / 2).item())
    close(gradient, tl.grad)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sw.SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
        (sw.SGD(0.1, momentum=0.9, weight_decay=0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
        (sw.SGD(0.1, momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        (sw.Adam(0.1, weight_decay=0.01), lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01)),
    ],
)
def test_optimizers(ours, theirs):
    value = RANDOM.normal(size=(3, 4))
    parameters = {"a": value.copy()}
    (tensor,) = leaves(value)
    own, peer = ours.for_unit("u"), theirs([tensor])
    for tick in range(10):
        gradient = RANDOM.normal(size=(3, 4))
        own.update(parameters, {"a": gradient}, tick)
        tensor.grad = torch.tensor(gradient)
        peer.step()
        close(parameters["a"], tensor.detach())


def test_backprop_of_a_whole_skip_network():
    network = sw.Network(
        [
            sw.Unit("a", [sw.Conv2D(3, 4, 3), sw.ReLU(), sw.MaxPool2D(2)]),
            sw.Unit("b", [sw.Conv2D(4, 4, 3), sw.Tanh()], ["a"]),
            sw.Unit("c", [sw.Conv2D(8, 4, 3), sw.ReLU()], ["b", "a"], merge="concat"),
            sw.Unit("d", [sw.GlobalAveragePool(), sw.Dense(4, 5)], ["c", "b"], merge="add"),
        ],
        (8, 8, 3),
        dtype="float64",
    )
    x, labels = images(3, 8, 8), RANDOM.integers(0, 5, 3)
    exact = sw.backprop(network, sw.SoftmaxCrossEntropy(), x, labels)
    tensors = {(u, k): leaves(v)[0] for u, unit in network.units.items() for k, v in unit.parameters.items()}

    def conv(unit, x):
        return F.conv2d(x, tensors[unit, "0.weight"].permute(3, 2, 0, 1), tensors[unit, "0.bias"], padding=1)

    a = F.max_pool2d(F.relu(conv("a", nchw(x))), 2)
    b = torch.tanh(conv("b", a))
    c = F.relu(conv("c", torch.cat([b, a], dim=1)))
    z = (c + b).mean(dim=(2, 3)) @ tensors["d", "1.weight"] + tensors["d", "1.bias"]
    loss = F.cross_entropy(z, torch.tensor(labels))
    loss.backward()
    close(exact.loss, loss.item())
    for (unit, key), tensor in tensors.items():
        close(exact.gradients[unit][key], tensor.grad)


@pytest.mark.parametrize("model", ["vgg5-skip", "vgg5-shortcut", "vgg8-skip", "mlp"])
def test_the_network_that_benchmarks_compare_with_is_the_same_network(model):
    network = build_model(model, (16, 16, 3), 10, dtype="float64")
    peer = Graph(network).double()
    parameters = dict(peer.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == sum(
        array.size for unit in network.units.values() for array in unit.parameters.values()
    )
    own = [(unit.name, key, array) for unit in network.units.values() for key, array in unit.parameters.items()]
    with torch.no_grad():
        for (_, _, array), parameter in zip(own, in_order(peer, network), strict=True):
            array += RANDOM.normal(0, 0.1, array.shape)
            value = torch.tensor(array)
            parameter[...] = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value
    x = images(4, 16, 16, 3)
    if model == "mlp":  # PyTorch's Flatten takes the numbers of an image in another order
        x = np.broadcast_to(x[:, :1, :1, :1], x.shape).copy()
    labels = np.arange(4)
    exact = sw.backprop(network, sw.SoftmaxCrossEntropy(), x, labels)
    output = peer(nchw(x))
    F.cross_entropy(output, torch.tensor(labels)).backward()
    close(exact.output, output.detach().numpy())
    for (name, key, _), parameter in zip(own, in_order(peer, network), strict=True):
        gradient = parameter.grad
        gradient = (
            gradient.permute(2, 3, 1, 0) if gradient.ndim == 4 else gradient.T if gradient.ndim == 2 else gradient
        )
        close(exact.gradients[name][key], gradient.numpy())


def in_order(peer, network):
    """PyTorch's parameters, in the order of the units' own."""
    for name, unit in network.units.items():
        yield from peer.bodies[f"of {name}"].parameters()
        for j in unit.adapters:
            yield from peer.adapters[f"{j}>{name}"].parameters()
