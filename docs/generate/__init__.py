"""`make docs` generates parts of README.md, docs/ and the model card, all of docs/compatibility.md, and the plots.

parts          which document has which generated part
knobs          the table of settings
gains          work and speed-up by size
speed          tables of the published speed run
fidelity       tables and sentences of the published fidelity run, the study and runs on checkpoints
choice         the settings' errors beside their speeds
sheets         the pictures of the embedded model's images: `make pictures`
compatibility  the matrix of hosts and other extensions, from the rows in matrix/ and the records of live tests
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
