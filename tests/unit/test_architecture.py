"""The floors of the package, read from its imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = [
    ("todo.settings", "todo.downsample", "todo.unet", "todo.families", "todo.timing"),
    ("todo.schedule",),
    ("todo.block", "todo.plan"),
    ("todo.patch",),
    ("todo",),
    ("todo.webui",),
    ("todo.bench",),
    ("todo.__main__", "scripts", "install"),
]
HOST = ("modules", "modules_forge", "backend", "gradio", "launch")
TOOLS = ("ldm", "diffusers", "tomesd", "matplotlib")


def floor(module: str) -> int:
    for height, names in enumerate(FLOORS):
        for name in names:
            if module == name or (name != "todo" and module.startswith(f"{name}.")):
                return height
    raise AssertionError(f"{module} is on no floor")


def sources(root: Path) -> dict[str, Path]:
    files = [*root.glob("todo/**/*.py"), *root.glob("scripts/**/*.py"), *root.glob("install.py")]
    named = {}
    for file in files:
        parts = file.relative_to(root).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


def imports(name: str, file: Path, known: dict[str, Path]) -> set[str]:
    """Every module that a file imports, anywhere in it; a name taken from a package is a module where it is one."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if file.name == "__init__.py" else name.rpartition(".")[0]
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return found


@pytest.fixture(scope="module")
def graph(root) -> dict[str, set[str]]:
    known = sources(root)
    assert {name for names in FLOORS[:4] for name in names} <= set(known)
    return {name: imports(name, file, known) for name, file in known.items()}


def test_every_module_has_its_floor(graph):
    for name in graph:
        floor(name)


def test_imports_never_point_up(graph):
    up = [
        f"{name} imports {imported}"
        for name, found in graph.items()
        for imported in found
        if imported in graph and floor(imported) > floor(name)
    ]
    assert up == []


def test_there_is_no_circle(graph):
    own = {name: {imported for imported in found if imported in graph} for name, found in graph.items()}
    while own:
        leaves = {name for name, found in own.items() if not found & set(own) - {name}}
        assert leaves, f"imports in a circle among {sorted(own)}"
        own = {name: found for name, found in own.items() if name not in leaves}


def test_nothing_but_the_command_line_imports_the_benchmarks(graph):
    for name, found in graph.items():
        if not name.startswith(("todo.bench", "todo.__main__")):
            assert not [imported for imported in found if imported.startswith("todo.bench")], name


@pytest.mark.parametrize(("foreign", "allowed"), [(HOST, "todo.webui"), (TOOLS, "todo.bench")])
def test_only_their_own_place_imports_host_and_tools(graph, foreign, allowed):
    for name, found in graph.items():
        if name.startswith("todo") and not name.startswith(allowed):
            assert not [imported for imported in found if imported.split(".")[0] in foreign], name


def test_importing_the_package_imports_no_host_and_no_tool(root):
    code = (
        "import sys, todo\n"
        f"print([name for name in sys.modules if name.split('.')[0] in {HOST + TOOLS + ('transformers', 'scripts')}])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names():
    import todo

    names = {
        "BlockReport", "Patch", "Plan", "Settings", "SettingsError", "UnsupportedModelError",
        "apply_patch", "patched", "plan", "remove_patch",
    }  # fmt: skip
    assert names <= set(todo.__all__)
    for name in todo.__all__:
        assert getattr(todo, name).__doc__
