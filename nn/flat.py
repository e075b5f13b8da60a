"""All parameters of a network in one array."""

from flambeau import kernels
from flambeau.nn import tied


def flatten(module):
    """All parameters in one flat array, all gradients in another; parameters become views."""
    whole = tied.holders(module, True)
    tied.need_apart([held[0] for held in whole])
    held = [h for h in whole if not any(m.frozen for _, m, _ in h)]
    if not held:
        raise ValueError(f"flatten_parameters({type(module).__name__}): nothing here learns")
    arrays = [[getattr(m, name) for _, m, name in h] for h in held]
    first = arrays[0][0]
    k = kernels.of(first)
    size = sum(ws[0].size for ws in arrays)
    flat, grads = (k.zeros(first, (size,), first.dtype) for _ in range(2))
    start = 0
    for h, ws in zip(held, arrays, strict=True):
        piece = slice(start, start + ws[0].size)
        start += ws[0].size
        alone = all(w is ws[0] for w in ws)  # else the piece is their memory in its own order
        views = {}
        for (_, m, name), w in zip(h, ws, strict=True):
            if id(w) not in views:
                parts = flat[piece], grads[piece]
                pair = [a.reshape(w.shape) if alone else tied.view(a, w) for a in parts]
                if not views:
                    k.assign(pair[0], w)
                    k.assign(pair[1], getattr(m, "grad_" + name))
                views[id(w)] = pair
            for key, part in zip((name, "grad_" + name), views[id(w)], strict=True):
                setattr(m, key, part)
    return flat, grads
