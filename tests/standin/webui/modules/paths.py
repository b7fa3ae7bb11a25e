"""The folders of the WebUI."""

import tempfile
from pathlib import Path

script_path = str(Path(__file__).resolve().parents[1])
data_path = tempfile.mkdtemp(prefix="webui-")
