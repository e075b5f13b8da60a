"""Modules: layers, containers, losses, optimisers."""

from flambeau.nn import init, optim
from flambeau.nn.activation import (
    ELU,
    Clamp,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    Softplus,
    Tanh,
)
from flambeau.nn.channels import Padding
from flambeau.nn.container import Container
from flambeau.nn.containers import (
    Concat,
    ConcatTable,
    Parallel,
    ParallelTable,
    Sequential,
)
from flambeau.nn.conv import (
    Conv2d,
    ConvTranspose2d,
)
from flambeau.nn.conv1d import (
    Conv1d,
    ConvTranspose1d,
)
from flambeau.nn.conv3d import (
    Conv3d,
    ConvTranspose3d,
)
from flambeau.nn.dropout import (
    Dropout,
)
from flambeau.nn.elementwise import (
    Abs,
    Affine,
    Exp,
    Log,
    Power,
    Scale,
)
from flambeau.nn.embedding import Embedding
from flambeau.nn.fused import ChainedConv2d, FusedConv2d, JoinedConv2d, PooledConv2d
from flambeau.nn.gradcheck import GradientError, gradcheck
from flambeau.nn.linear import Linear
from flambeau.nn.loss import (
    CrossEntropyLoss,
    Loss,
    MSELoss,
    NLLLoss,
)
from flambeau.nn.module import Module
from flambeau.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    LocalResponseNorm,
)
from flambeau.nn.padding import (
    ZeroPad2d,
)
from flambeau.nn.pointwise_loss import (
    BCELoss,
    BCEWithLogitsLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    SmoothL1Loss,
)
from flambeau.nn.pooling import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    MaxPool2d,
)
from flambeau.nn.profile import profile
from flambeau.nn.random import seed
from flambeau.nn.recurrent import GRU, LSTM, RNN
from flambeau.nn.reduction import (
    MaxOver,
    MeanOver,
    MinOver,
    SumOver,
)
from flambeau.nn.saving import load, save
from flambeau.nn.shape import (
    Flatten,
    Identity,
    Reshape,
)
from flambeau.nn.softmax import (
    LogSoftmax,
    Softmax,
)
from flambeau.nn.tables import (
    Add,
    Chunk,
    JoinTable,
    Max,
    Mul,
)
from flambeau.nn.transfer import (
    CELU,
    GELU,
    SELU,
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LogSigmoid,
    Mish,
    SiLU,
    Softshrink,
    Softsign,
    Tanhshrink,
    Threshold,
)
from flambeau.nn.unroll import Unroll

__all__ = [
    "Abs",
    "AdaptiveAvgPool2d",
    "Add",
    "Affine",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "CELU",
    "ChainedConv2d",
    "Chunk",
    "Clamp",
    "Concat",
    "ConcatTable",
    "Container",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "Dropout",
    "ELU",
    "Embedding",
    "Exp",
    "Flatten",
    "FusedConv2d",
    "GELU",
    "GRU",
    "GradientError",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "JoinTable",
    "JoinedConv2d",
    "KLDivLoss",
    "L1Loss",
    "LSTM",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "Log",
    "LogSigmoid",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "Max",
    "MaxOver",
    "MaxPool2d",
    "MeanOver",
    "MinOver",
    "Mish",
    "Module",
    "Mul",
    "NLLLoss",
    "PReLU",
    "Padding",
    "Parallel",
    "ParallelTable",
    "PooledConv2d",
    "Power",
    "RNN",
    "ReLU",
    "ReLU6",
    "Reshape",
    "SELU",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SumOver",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "Unroll",
    "ZeroPad2d",
    "gradcheck",
    "init",
    "load",
    "optim",
    "profile",
    "save",
    "seed",
]
