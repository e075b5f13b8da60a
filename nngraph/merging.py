"""Rewrites of a network's operations that make one step of several convolutions."""

from flambeau import nn
from flambeau.nn.fused import halves, pointwise
from flambeau.nngraph.operations import absorb, consumers, forget


def joined(ops, outs, aliases):
    """The operations with one JoinedConv2d for convolutions whose results are only joined."""
    kept = list(ops)
    for op in ops:
        if not isinstance(op.module, nn.JoinTable) or op.module.axis != 1:
            continue
        parts, counts = [used for used, _ in op.inputs], consumers(kept, outs)
        if all(
            isinstance(p.module, nn.FusedConv2d) and not p.module.adds and counts[id(p)] == 1
            for p in parts
        ):
            op.module = nn.JoinedConv2d(*(p.module for p in parts))
            op.inputs = [p.inputs[0] for p in parts]
            for part in parts:
                forget(part, aliases)
                kept.remove(part)
    return kept


def chained(ops, outs, aliases):
    """The operations with a ChainedConv2d for a 1 x 1 convolution and one by channel behind it."""
    kept = list(ops)
    for op in ops:
        second, before = op.module, op.inputs[0][0] if op.inputs else None
        if not isinstance(second, nn.FusedConv2d) or not isinstance(before.module, nn.FusedConv2d):
            continue
        by_channel = second.options[3] == second.in_channels == second.out_channels > 1
        alone = consumers(kept, outs)[id(before)] == 1
        if by_channel and alone and not second.adds and pointwise(before.module):
            before.module = nn.ChainedConv2d(before.module, second)
            absorb(before, op, kept, outs, aliases)
            kept.remove(op)
    return kept


def pooled(ops, outs, aliases):
    """The operations with a PooledConv2d for a 3 x 3 convolution and the halving pooling behind it.

    Other convolutions compute and pool one after the other even together: they are left alone.
    """
    kept = list(ops)
    for op in ops:
        before = op.inputs[0][0] if isinstance(op.module, nn.MaxPool2d) else None
        conv = before.module if before is not None else None
        if not isinstance(conv, nn.FusedConv2d) or conv.adds or not halves(op.module):
            continue
        stride, _, dilation, groups = conv.options
        whole = conv.weight.shape[2:] == (3, 3) and stride == dilation == (1, 1) and groups == 1
        if whole and consumers(kept, outs)[id(before)] == 1:
            before.module = nn.PooledConv2d(conv, op.module)
            absorb(before, op, kept, outs, aliases)
            kept.remove(op)
    return kept
