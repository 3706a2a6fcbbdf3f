"""`python -m mtdeblur`: the command line."""

from mtdeblur.cli.app import main

if __name__ == "__main__":  # worker processes import this file again
    main()
