"""The enabled extensions."""

from dataclasses import dataclass
from pathlib import Path

from modules.scripts import ScriptFile

extensions = []


@dataclass
class Extension:
    name: str
    path: str
    enabled: bool = True

    def list_files(self, subdir, extension):
        folder = Path(self.path) / subdir
        return [ScriptFile(self.path, file.name, str(file)) for file in sorted(folder.glob(f"*{extension}"))]


def active():
    return [extension for extension in extensions if extension.enabled]
