"""`mminstruct plot`: draw and compare training runs."""


def plot() -> None:
    """Draw."""
