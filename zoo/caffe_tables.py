"""Caffe's layers with several bottoms or tops, and those that change shapes."""

import math

from flambeau import nn
from flambeau.zoo import caffe_modules
from flambeau.zoo.caffe_registry import decimal, reads


@reads("Eltwise", "ELTWISE", bottoms=None)
def eltwise(layer, *shapes):
    options = layer.options.eltwise_param
    layer.need(len(shapes) > 1, "it must have two bottoms or more")
    layer.need(len(set(shapes)) == 1, f"its bottoms must have one shape, not {shapes}")
    coefficients = list(options.coeff)
    if not coefficients:
        return {0: nn.Mul, 1: nn.Add, 2: nn.Max}[options.operation](), shapes[0]
    layer.need(options.operation == type(options).SUM, "only a sum takes coeff")
    layer.need(len(coefficients) == len(shapes), f"it must have {len(shapes)} coeff")
    if set(coefficients) == {1}:
        return nn.Add(), shapes[0]
    return (
        nn.ParallelTable(*(nn.Affine(decimal(c), 0.0) for c in coefficients)),
        nn.Add(),
    ), shapes[0]


@reads("Concat", "CONCAT", bottoms=None)
def concat(layer, *shapes):
    options = layer.options.concat_param
    old = options.HasField("concat_dim")
    axis = layer.axis(options.concat_dim if old else options.axis, shapes[0])
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    layer.need(len(others) == 1, f"its bottoms may differ in axis {axis} only: {shapes}")
    if len(shapes) == 1:
        return nn.Identity(), shapes[0]
    total = sum(shape[axis] for shape in shapes)
    return nn.JoinTable(axis), (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


@reads("Slice", "SLICE")
def slices(layer, shape):
    options = layer.options.slice_param
    old = options.HasField("slice_dim")
    axis = layer.axis(options.slice_dim if old else options.axis, shape)
    points = tuple(options.slice_point)
    fits = not points or len(points) == layer.n_tops - 1
    layer.need(fits, f"{layer.n_tops} tops need {layer.n_tops - 1} slice_point, not {len(points)}")
    module = caffe_modules.Slice(axis, points or layer.n_tops)
    return module, [(*shape[:axis], size, *shape[axis + 1 :]) for size in module.sizes(shape)]


@reads("Flatten", "FLATTEN")
def flatten(layer, shape):
    options = layer.options.flatten_param
    start, end = layer.axis(options.axis, shape), layer.axis(options.end_axis, shape)
    layer.need(start <= end, f"axis {start} must not be after end_axis {end}")
    size = math.prod(shape[start : end + 1])
    layer.grid = None
    return nn.Flatten(start, end), (*shape[:start], size, *shape[end + 1 :])


@reads("Reshape")
def reshape(layer, shape):
    options = layer.options.reshape_param
    dims = tuple(options.shape.dim)
    layer.need(min(dims, default=0) >= -1 and dims.count(-1) < 2, f"its shape is {dims}")
    layer.grid = None
    module = caffe_modules.Reshape(dims, options.axis, options.num_axes)
    return module, module.shape(shape)


@reads("Crop", bottoms=2)
def crop(layer, shape, reference):
    options = layer.options.crop_param
    axis = layer.axis(options.axis, shape)
    layer.grid = layer.grids[1]
    layer.need(len(shape) == len(reference), f"{shape} and {reference} must have as many axes")
    offset = tuple(options.offset)
    if not layer.options.HasField("crop_param"):
        offset = _aligned(layer)
    offset = (offset or (0,)) * (len(shape) - axis if len(offset) < 2 else 1)
    layer.need(len(offset) == len(shape) - axis, f"it must have {len(shape) - axis} offset")
    top = (*shape[:axis], *reference[axis:])
    fits = all(o + r <= s for o, r, s in zip(offset, top[axis:], shape[axis:], strict=True))
    layer.need(fits, f"{top} from {offset} on does not lie within {shape}")
    return caffe_modules.Crop(axis, offset), top


def _aligned(layer):
    """The offset that puts the pixels of both bottoms over each other.

    Files without crop_param are of the time before Caffe 1.0 (FCN, HED), when Crop found it so.
    """
    grids = layer.grids
    known = None not in grids and all(a[0] == b[0] for a, b in zip(*grids, strict=True))
    layer.need(known, "its bottoms have no common grid: it must have crop_param { offset: … }")
    offset = tuple(math.floor(a[1] - b[1] + 0.5) for a, b in zip(*grids, strict=True))
    layer.note(f"has no crop_param: from {offset} on its pixels lie on those of its second bottom")
    return offset
