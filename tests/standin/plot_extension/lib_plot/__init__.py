"""The axes of the X/Y/Z plot, in the package where the Forge family has them."""
