"""The command line. Each command lives in its own module, which imports heavy libraries only inside its functions."""

from mminstruct.cli.app import main

__all__ = ["main"]
