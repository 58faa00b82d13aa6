"""The compatibility matrix: what was run on which versions, and the page that says so."""
