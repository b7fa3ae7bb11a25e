"""`make docs` generates parts of README.md, docs/ and the model card, all of docs/compatibility.md, and the plots.

parts          which document has which generated part; the table of settings
speed          tables and sentences of the published speed runs, and the work by size
fidelity       tables of the published fidelity run and of the study
choice         the settings' errors beside their speeds
sheets         the sheets in the guide, on their own
checkpoints    the table of fidelity runs on checkpoints
compatibility  the matrix of hosts and other extensions, from the rows in matrix/ and the records of live tests
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
