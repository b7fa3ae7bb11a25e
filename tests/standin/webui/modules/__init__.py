"""A stand-in for the host's `modules`: its names and signatures, as far as an extension meets them, around one
small UNet. It makes latents, not pictures."""
