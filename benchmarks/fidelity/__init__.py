"""How close the images of a method stay to the dense ones. The tiny model makes both from the same noise."""
