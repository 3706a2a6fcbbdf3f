"""The command line: app.py, and one thin file a command."""
