"""The recordings of a network's passes, and when they no longer hold."""

import collections
from itertools import chain
from operator import is_

import numpy as np

from flambeau import kernels

MOST = 4  # recordings that are kept, those used last
END = (object(),)  # of what a network holds, which is then no longer or shorter than it was


class Recordings:
    """What was recorded of a network: {form of the inputs: recording, or None where none can be}.

    They hold as long as the network has the same modules and these hold the same objects.
    refused: why the last that could not be made could not, or None.
    """

    known = ()  # what the network keeps here, to find soon what it holds

    def __init__(self):
        self.start([])

    def start(self, held, *seen):
        """Forget all; from now on the network holds this and has seen inputs of these forms."""
        self.held, self.seen = [*held, *END], set(seen)
        self.arrays = [a for a in self.held if isinstance(a, np.ndarray)]
        self.made, self.refused = collections.OrderedDict(), None

    def hold(self, held):
        """True when the network still holds the same."""
        return all(map(is_, self.held, chain(held, END)))

    def of(self, form, make, refused):
        """The recording for inputs of a form, made when it is seen again; or None.

        make() makes it, or raises an exception of the type `refused`.
        """
        if form in self.made:
            self.made.move_to_end(form)
        elif form in self.seen:
            try:
                self.made[form] = make()
            except refused as reason:
                self.made[form], self.refused = None, str(reason)
            while len(self.made) > MOST:  # those used last are kept
                self.made.popitem(last=False)
        self.seen.add(form)
        return self.made.get(form)

    def clone_with(self, clone):
        """What a clone of the network has: nothing yet, its arrays are others."""
        return Recordings()


def recorder_of(xs):
    """The kernels' package that records passes over these inputs, or None."""
    if not all([isinstance(a, np.ndarray) for a in xs]):
        return None
    return getattr(kernels.of(xs), "recording", None)


def unfit(modules, kinds):
    """The first module that is of none of these kinds, or has a forward of its own; or None."""
    for module in modules:
        own = vars(module)
        if type(module) not in kinds or "forward" in own or "backward" in own:
            return module
    return None
