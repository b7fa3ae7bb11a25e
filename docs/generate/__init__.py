"""`make docs` generates parts of README.md, docs/ and the model card, all of docs/compatibility.md, and the plots."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
