"""The floors of what is installed, and that the benchmarks stand outside of it; read from imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = [
    ("todo.version", "todo.settings", "todo.compiled", "todo.unet", "todo.families", "todo.timing"),
    ("todo.downsample",),
    ("todo.schedule",),
    ("todo.progress", "todo.prediction", "todo.report"),
    ("todo.hooks",),
    ("todo.patch",),
    ("todo",),
    ("todo.webui", "todo.comfyui"),
    ("todo.__main__", "scripts", "install"),
]
HOST = ("modules", "modules_forge", "backend", "gradio", "launch")
COMFY = ("comfy", "comfy_extras", "comfy_api", "comfy_execution", "folder_paths", "nodes")
TOOLS = ("ldm", "diffusers", "tomesd", "matplotlib", "skimage")
OUTSIDE = ("benchmarks", "docs", "tests")
LONGEST = 300
"""Lines of a file that is to be held in the head. The table of settings may be longer."""


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
    assert {name for names in FLOORS[:5] for name in names} <= set(known)
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


@pytest.mark.parametrize(
    ("foreign", "where"),
    [(HOST, "todo.webui"), (COMFY, "todo.comfyui"), (TOOLS, "todo.webui")],
    ids=["WebUI", "ComfyUI", "tools"],
)
def test_a_host_and_its_tools_are_known_in_one_place(graph, foreign, where):
    for name, found in graph.items():
        if name.startswith("todo") and not name.startswith(where):
            assert not [imported for imported in found if imported.split(".")[0] in foreign], name


def test_nothing_that_is_installed_imports_what_is_not(graph):
    for name, found in graph.items():
        assert not [imported for imported in found if imported.split(".")[0] in OUTSIDE], name


def test_imports_within_the_package_are_relative(root):
    """So that a loader under any name can import it."""
    for file in root.glob("todo/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] != "todo", file
            if isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.split(".")[0] == "todo"], file


def test_it_can_be_imported_under_another_name(root, tmp_path):
    """As a loader of ComfyUI's nodes does it, which names a package after its folder's path."""
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("some.loaders_name", {str(root / "todo" / "__init__.py")!r})
sys.modules["some.loaders_name"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
print(package.plan(1024, 1024, package.Settings()).note == "")
print([name for name in sys.modules if name.partition(".")[0] == "todo"])
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["True", "[]"], result.stderr


def test_only_todo_is_installed(root):
    """`pip install .` brings the method, its hosts and nothing else."""
    listed = re.search(r"(?m)^packages = (\[.*\])$", (root / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {".".join(file.parent.relative_to(root).parts) for file in root.glob("todo/**/__init__.py")}
    webui = {"todo.webui", "todo.webui.compare", "todo.webui.measure"}
    assert set(ast.literal_eval(listed[1])) == packages == {"todo"} | webui


def test_the_benchmarks_stand_on_the_method_alone(root):
    """They know no host, and nothing of `docs` or the tests; only their own command line is above them."""
    for file in root.glob("benchmarks/**/*.py"):
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        tops = {imported.split(".")[0] for imported in imports(name, file, {})}
        assert not tops & {*HOST, "docs", "tests", "scripts"}, name
        assert not [imported for imported in imports(name, file, {}) if imported.startswith("todo.webui")], name


def test_files_stay_small(root):
    """Except the table of settings."""
    for folder in ("todo", "scripts", "benchmarks", "docs"):
        for file in root.glob(f"{folder}/**/*.py"):
            lines = len(file.read_text(encoding="utf-8").splitlines())
            assert lines <= LONGEST or file.name == "settings.py", file


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
        assert name == "__version__" or getattr(todo, name).__doc__
