"""`python -m mminstruct` is the `mminstruct` command."""

from mminstruct.cli import main

main()
