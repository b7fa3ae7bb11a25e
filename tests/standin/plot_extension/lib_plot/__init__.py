"""Where a descendant of the host keeps the axes of its plot."""
