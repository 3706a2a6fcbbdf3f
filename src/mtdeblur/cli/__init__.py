"""The command line: app.py, and one thin module for each command."""
