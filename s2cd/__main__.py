"""``python -m s2cd`` is ``s2cd``."""

from s2cd.cli import main

main()
