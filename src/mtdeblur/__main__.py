"""`python -m mtdeblur`: the command line."""

from mtdeblur.cli.app import main

main()
