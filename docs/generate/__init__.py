"""Makes the generated parts of README.md, docs/ and the model card, docs/compatibility.md, and the plots: `make docs`.

parts          which document holds which part
knobs          the table of settings, the API example
gains          work and speed-up by size
speed          tables of the published speed run
fidelity       tables of the published fidelity run and of the study
compatibility  the matrix of hosts and neighbours; its rows are in matrix/, what ran live in tests/host/records
"""
