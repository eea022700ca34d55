"""`python -m autodistil`."""

from autodistil.cli import main

main()
