"""`python -m autodistil.cli`."""

from autodistil.cli import main

main()
