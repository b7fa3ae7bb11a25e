"""The rows of docs/compatibility.md. Records hold what ran live; these files hold the rest."""
