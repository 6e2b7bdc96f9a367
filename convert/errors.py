"""The error of a conversion that cannot be done."""


class ConvertError(ValueError):
    """A source, a target or a wish that does not work; the text says what was found and what to do."""
