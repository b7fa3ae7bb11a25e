"""Loads a script's file as a module, named after the file, without adding it to sys.modules."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def load_module(path):
    spec = spec_from_file_location(Path(path).name, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
