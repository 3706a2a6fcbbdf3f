"""Engines: ways to run a network, all behind the contract of one step."""
