"""Prompts for checkpoints: scenes and single things, with fine structures and with smooth areas."""

PROMPTS = (
    "a lighthouse on a cliff at dusk, waves, long exposure photograph",
    "portrait of an old fisherman with a wool cap, soft window light",
    "a market street in the rain at night, neon signs, reflections",
    "a bowl of ripe cherries on a linen cloth, still life, oil painting",
    "an astronaut riding a horse through a field of sunflowers",
    "the interior of a library with high shelves and a spiral staircase",
    "a red fox in fresh snow, close-up, detailed fur",
    "a medieval town on a hill above a misty valley, aerial view",
    "a vintage car parked before a brick wall covered in ivy",
    "a bouquet of wild flowers in a glass vase, watercolour",
)
"""Ten, as many images as the paper's table is the mean of."""
