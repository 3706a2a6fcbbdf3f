import ast
import sys
from pathlib import Path

from mtdeblur import networks

FILES = sorted(Path(networks.__file__).parent.glob("**/*.py"))
ALLOWED = {"torch", "mtdeblur.networks"} | sys.stdlib_module_names


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_networks_import_pytorch_and_the_standard_library_alone():
    found = {(file.name, name) for file in FILES for name in imported(file)}
    assert ("mtrnn.py", "torch") in found
    others = {
        (file, name)
        for file, name in found
        if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED)
    }
    assert not others
