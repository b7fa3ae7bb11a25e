"""The rows of docs/compatibility.md, a file for each kind of host. Records hold what ran live; these hold the rest."""
