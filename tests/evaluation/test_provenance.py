import subprocess

import pytest
import torch

import mtdeblur
from mtdeblur.evaluation import provenance


def git(folder, *arguments):
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    package = tmp_path / "mtdeblur"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(mtdeblur, "__file__", str(package / "__init__.py"))
    git(tmp_path, "init", "--quiet")
    return tmp_path


def test_the_commit_of_a_checkout(checkout):
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "first")
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit() == head
    (checkout / "mtdeblur" / "__init__.py").write_text("changed = True\n")
    assert provenance.commit() == f"{head}-dirty"


def test_a_package_installed_within_somebody_elses_checkout_has_no_commit(checkout):
    (checkout / "theirs.txt").touch()
    git(checkout, "add", "theirs.txt")
    git(checkout, "commit", "--quiet", "-m", "theirs")
    assert provenance.commit() is None


def test_no_git_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_the_processor_is_described_by_threads_and_instructions():
    name = provenance.device_name(torch.device("cpu"))
    assert name.startswith(f"cpu, {torch.get_num_threads()} threads, ")
