"""Normalisation by batch statistics and by local energy."""

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.geometry import need_images, need_window
from flambeau.nn.module import Module
from flambeau.nn.with_relu import WithReLU


class BatchNorm(WithReLU):
    """Abstract: normalisation of each channel of x (n, c, *s); see BatchNorm1d."""

    params = "weight", "bias"
    buffers = "running_mean", "running_var", "num_batches_tracked"

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True):
        self.need(num_features > 0, "num_features must be positive", num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        shape, track = (num_features,), track_running_stats
        self.weight = init.full(shape, 1) if affine else None
        self.bias = init.full(shape, 0) if affine else None
        self.running_mean = init.full(shape, 0) if track else None
        self.running_var = init.full(shape, 1) if track else None
        self.num_batches_tracked = 0 if track else None

    def forward(self, x):
        by_batch = self.by_batch()
        self.enter(x, by_batch)
        running = self.running_mean, self.running_var, self.factor()
        y, mean, inv_std = self.normalize(x, *running, by_batch)
        self.saved = (mean, inv_std) if self.training else None
        return y

    def enter(self, x, by_batch):
        """Raise ValueError unless x is as it must be, and count the batch."""
        self.need_shape(x)
        self.need_floats(x)
        if by_batch:
            must = "each channel must have more than one value in training; see eval()"
            self.need(x.size > self.num_features, must, x=x)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1

    def forward_relu(self, x):
        return self.forward_sum_relu(x, None)

    def forward_sum_relu(self, x, other):
        """max(y + other, 0) in one step, in training; other: an array like x, or None."""
        self.need_shape(x)
        fits = other is None or other.shape == x.shape
        self.need(fits, "what is added must have the shape of y", y=x, other=other)
        self.enter(x, True)
        y, self.saved = kernels.of(x).batch_norm_relu(x, other, *self.settings())
        return y

    def backward_relu(self, x, y, dy):
        return self.backward_sum_relu(x, y, dy, False)[0]

    def forward_pool_relu(self, x, pool):
        """What `pool`, a MaxPool2d without dilation, gives of max(y, 0), in one step."""
        self.need_shape(x)
        need_window(pool, x, *pool.options)
        self.enter(x, True)
        k = kernels.of(x)
        y, self.saved = k.batch_norm_pool_relu(x, self.settings(), pool.options)
        return y

    def backward_pool_relu(self, x, pool, y, dy):
        """dx after forward_pool_relu, which gave y."""
        pool.need_gradient(dy, y.shape)
        arrays, norm = (x, y, dy), (self.weight, self.grad_weight, self.grad_bias, self.want_dx)
        k = kernels.of(x)
        return k.batch_norm_pool_relu_backward(*arrays, norm, pool.options, self.saved)

    def backward_sum_relu(self, x, y, dy, added):
        """(dx, dother or None) after forward_sum_relu, which gave y; added: there was `other`."""
        self.need_gradient(dy, x.shape)
        parameters = self.weight, self.bias, self.grad_weight, self.grad_bias
        options = self.saved, self.want_dx, added
        return kernels.of(x).batch_norm_relu_backward(x, y, dy, *parameters, *options)

    def forward_pair_relu(self, x, norm, other):
        """max(y + norm(other), 0) in one step, in training; norm: another one."""
        self.need_shape(x), norm.need_shape(other)
        fits = other.shape == x.shape
        self.need(fits, "what is added must have the shape of y", y=x, other=other)
        self.enter(x, True), norm.enter(other, True)
        k, norm.saved = kernels.of(x), None
        y, self.saved = k.batch_norm_pair_relu(x, other, self.settings(), norm.settings())
        return y

    def backward_pair_relu(self, x, norm, other, y, dy):
        """(dx, dother) after forward_pair_relu, which gave y."""
        self.need_gradient(dy, x.shape)
        both = [(m.weight, m.grad_weight, m.grad_bias, m.want_dx) for m in (self, norm)]
        k = kernels.of(x)
        return k.batch_norm_pair_relu_backward(x, other, y, dy, *both, self.saved)

    def settings(self):
        """What the kernels take: parameters, running statistics, momentum and eps."""
        running = self.running_mean, self.running_var
        return self.weight, self.bias, *running, self.factor(), float(self.eps)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        k, by_batch = kernels.of(x), self.by_batch()
        if self.saved is not None:
            mean, inv_std = self.saved[:2]
        elif by_batch:
            _, mean, inv_std = self.normalize(x, None, None, 0.0, by_batch)
        else:
            mean = self.running_mean
            inv_std = k.power(k.affine(self.running_var, 1.0, self.eps), -0.5)
        parameters = self.weight, self.grad_weight, self.grad_bias
        return k.batch_norm_backward(x, dy, *parameters, mean, inv_std, by_batch, self.want_dx)

    def by_batch(self):
        """True when mean and var are the batch's, not the running ones."""
        return self.training or self.running_mean is None

    def factor(self):
        """By how much the running statistics move towards the batch's."""
        if self.momentum is None:
            return 1 / max(1, self.num_batches_tracked or 1)
        return float(self.momentum)

    def normalize(self, x, running_mean, running_var, factor, by_batch):
        """y, mean and inv_std"""
        options = running_mean, running_var, factor, float(self.eps), by_batch
        return kernels.of(x).batch_norm(x, self.weight, self.bias, *options)

    def need_shape(self, x):
        """x must have the axes of the subclass."""
        raise TypeError(f"{type(self).__name__} does not define need_shape(x)")


class BatchNorm1d(BatchNorm):
    """y = (x - mean) / √(var + eps) · weight + bias, for each channel

    x (n, c) or (n, c, t) -> y of the same shape

    weight (c,): ones, bias (c,): zeros; running_mean (c,): zeros, running_var (c,): ones.
    In training mean and var are the batch's, and the running ones move towards them by the factor
    momentum (var unbiased); momentum None: they are the plain mean over all batches seen.
    In evaluation mean and var are the running ones. affine=False: no weight and bias;
    track_running_stats=False: the batch's mean and var in evaluation too.

    Raises ValueError in training when a channel has one value: it has no variance.
    Source: Ioffe and Szegedy 2015; Torch7's nn.BatchNormalization.

    >>> BatchNorm1d(2)(np.array([[1.0, 5.0], [3.0, 5.0]], "f4")).round(3).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    def need_shape(self, x):
        """x must be (n, c) or (n, c, t)."""
        shape, c = getattr(x, "shape", ()), self.num_features
        fits = len(shape) in (2, 3) and shape[1] == c
        self.need(fits, f"x must be (n, {c}) or (n, {c}, t)", x=x)


class BatchNorm2d(BatchNorm):
    """y = (x - mean) / √(var + eps) · weight + bias, for each channel of images

    x (n, c, h, w) -> y (n, c, h, w)

    Everything else is as in BatchNorm1d.        Source: Torch7's nn.SpatialBatchNormalization.

    >>> BatchNorm2d(2)(np.ones((1, 2, 2, 2), "f4")).shape
    (1, 2, 2, 2)
    """

    def need_shape(self, x):
        """x must be (n, c, h, w)."""
        need_images(self, x, self.num_features)


NORMS = BatchNorm1d, BatchNorm2d


class LocalResponseNorm(Module):
    """y = x / (k + alpha/size Σ x²)^beta, the sum over neighbouring channels or positions

    x (n, c, *s) -> y (n, c, *s); (n, c, h, w) within a channel

    region "across": `size` channels, size//2 before and (size - 1)//2 after, outside zeros.
    region "within": size x size positions of the same plane, alpha divided by size².
    Source: Krizhevsky et al. 2012; PyTorch's LocalResponseNorm, Caffe's LRN, Torch7's
    nn.SpatialCrossMapLRN.

    >>> LocalResponseNorm(1, alpha=1.0, beta=1.0)(np.ones((1, 1, 1, 1))).item()
    0.5
    """

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0, region="across"):
        self.need(isinstance(size, int) and size > 0, "size must be a positive integer", size=size)
        self.need(region in ("across", "within"), "region must be across or within", region=region)
        self.options = size, float(alpha), float(beta), float(k), region == "within"

    def forward(self, x):
        if self.options[-1]:
            need_images(self, x)
        self.need(len(getattr(x, "shape", ())) > 2, "x must be (n, c, *)", x=x)
        return kernels.of(x).local_response_norm(x, *self.options)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).local_response_norm_backward(x, dy, *self.options)
