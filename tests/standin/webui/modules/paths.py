"""Where the WebUI lies."""

from pathlib import Path

script_path = str(Path(__file__).resolve().parents[1])
