"""The command networks."""

import re

import pytest

from mtdeblur.cli import app
from mtdeblur.networks.registry import NETWORKS
from mtdeblur.weights.catalogue import catalogue


def row(listed, name):
    return next(re.split(r" *│ *", line) for line in listed.splitlines() if re.match(rf"│ {name} ", line))[
        1:-1
    ]


def test_every_network_is_listed_with_its_facts(monkeypatch, capsys):
    for name in NETWORKS.keys() - {"dmphn", "mtnaf", "mtrnn"}:  # to spare time
        monkeypatch.delitem(NETWORKS, name)
    monkeypatch.setattr("sys.argv", ["mtdeblur", "networks"])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert not stop.value.code
    listed = capsys.readouterr().out
    assert max(len(line) for line in listed.splitlines()) <= 100
    for name in NETWORKS:
        assert f"│ {name} " in listed
    assert row(listed, "mtrnn") == ["mtrnn", "multi-temporal", "2,635,523", "6", "144.8", "2,035.8", "96"]
    assert row(listed, "dmphn") == ["dmphn", "one-stage", "5,424,393", "1", "48.9", "687.1", "picture"]
    converted = row(listed, r"dmphn\*")
    assert converted == ["dmphn*", "multi-temporal", "5,426,985", "6", "294.2", "4,136.8", "picture"]
    at_hand = [name for name, entry in catalogue().items() if entry.network in NETWORKS]
    for words in ("this project", "licence stated", "cuts through", *at_hand):
        assert words in listed
