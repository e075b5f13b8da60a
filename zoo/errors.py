"""What the zoo raises."""


class FormatError(ValueError):
    """A file that cannot be read: it is damaged, of another format, or holds what is not read.

    >>> issubclass(FormatError, ValueError)
    True
    """
