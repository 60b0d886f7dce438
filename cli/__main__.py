"""`python -m cli` is `promptbandit`."""

from cli.main import main

main()
