"""Rewrites of a network's operations that make one step of several convolutions."""

from flambeau import nn
from flambeau.nn.fused import halves, pointwise
from flambeau.nngraph.operations import absorb, consumers, forget

FEW = 4  # channels of an image


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
    """The operations with a ChainedConv2d for a convolution, one by channel and one behind it.

    The first is 1 x 1 or reads few channels, the last is 1 x 1 or is not there.
    """
    kept = list(ops)
    for op in ops:
        before = op.inputs[0][0] if isinstance(op.module, nn.FusedConv2d) else None
        if before is None or consumers(kept, outs)[id(before)] != 1:
            continue
        chain = chain_of(before.module, op.module)
        if chain is not None:
            op.module, op.inputs[:1], before.inputs = chain, before.inputs, []
            forget(before, aliases)
            kept.remove(before)
    return kept


def chain_of(before, conv):
    """The ChainedConv2d of a module and the FusedConv2d behind it, or None."""
    if isinstance(before, nn.ChainedConv2d):
        whole = len(before) == 2 and pointwise(conv)
        return nn.ChainedConv2d(*before, conv) if whole else None
    by_channel = conv.options[3] == conv.in_channels == conv.out_channels > 1 and not conv.adds
    if not by_channel or not isinstance(before, nn.FusedConv2d) or before.adds:
        return None
    begins = before.options[3] == 1 and (pointwise(before) or before.in_channels <= FEW)
    return nn.ChainedConv2d(before, conv) if begins else None


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
