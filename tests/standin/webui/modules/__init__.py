"""A stand-in for the host's `modules`, with the names and signatures that extensions use, and one small UNet.

It generates latents, not real images.
"""
