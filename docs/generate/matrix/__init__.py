"""The rows of docs/compatibility.md, a file for each table. Records hold what ran live; these files hold the rest."""
