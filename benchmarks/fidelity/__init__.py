"""How near the images made with a method stay to the dense ones: the tiny model makes both from the same noise."""
