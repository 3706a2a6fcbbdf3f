"""The command networks."""

import json
import re

import pytest

from mtdeblur.cli import app
from mtdeblur.networks.registry import NETWORKS
from mtdeblur.weights import catalogue as weights_catalogue
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


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["mtdeblur", "networks", *arguments])
    with pytest.raises(SystemExit) as stop:
        app.main()
    return stop.value.code, *capsys.readouterr()


def test_networks_and_weights_are_described_as_json(monkeypatch, capsys):
    for name in NETWORKS.keys() - {"dmphn", "mtnaf"}:
        monkeypatch.delitem(NETWORKS, name)
    mine = {name: entry for name, entry in catalogue().items() if entry.network in NETWORKS}
    monkeypatch.setattr(weights_catalogue, "catalogue", lambda: mine)
    code, printed, _ = run(monkeypatch, capsys, "--json")
    assert not code
    described = json.loads(printed)
    networks = [(each["name"], each["approach"], each["parameters"]) for each in described["networks"]]
    assert ("dmphn", "one-stage", 5_424_393) in networks
    assert ("dmphn", "multi-temporal", 5_426_985) in networks
    (dmphn,) = (each for each in described["networks"] if each["parameters"] == 5_424_393)
    assert dmphn["flop_per_pixel"] * 1280 * 720 == pytest.approx(2 * 687.1e9, rel=1e-3)
    assert dmphn["halo"] is None
    (small,) = described["weights"]
    assert (small["name"], small["licence"], small["halo"]) == ("mtnaf-small", "MIT", 104)


def test_some_weights_are_described(monkeypatch, capsys):
    code, printed, _ = run(monkeypatch, capsys, "--json", "mtnaf-small")
    assert not code
    assert [each["name"] for each in json.loads(printed)["weights"]] == ["mtnaf-small"]
    assert "networks" not in json.loads(printed)
    code, printed, _ = run(monkeypatch, capsys, "mtnaf-small")
    assert not code
    assert re.search(r"licence +│ MIT", printed)
    code, _, error = run(monkeypatch, capsys, "--json", "nothing")
    assert code == 1
    assert len(error.splitlines()) == 1
