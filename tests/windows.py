"""The windows of an image by plain loops, for independent computations of convolutions and pools."""


def padding_by_hand(extent, kernel, stride, padding):
    """The padding before the image along one axis, and the number of outputs.

    "same" gives ⌈extent / stride⌉ outputs, and an odd row or column of padding goes to the bottom or right.
    """
    if padding == "valid":
        return 0, (extent - kernel) // stride + 1
    out = -(-extent // stride)
    return max((out - 1) * stride + kernel - extent, 0) // 2, out


def windows_by_hand(x, kernel, stride, padding):
    """Yield ((i, j), [(u, v, pixel (N, C)), …]) for every output pixel; pixels outside x are left out."""
    (top, ho), (left, wo) = (padding_by_hand(x.shape[a + 1], kernel[a], stride[a], padding) for a in (0, 1))
    for i in range(ho):
        for j in range(wo):
            pixels = []
            for u in range(kernel[0]):
                for v in range(kernel[1]):
                    row, column = i * stride[0] + u - top, j * stride[1] + v - left
                    if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                        pixels.append((u, v, x[:, row, column]))
            yield (i, j), pixels
