"""Models converted for the engines that serve them. No ray."""
