"""Pure decisions with reasons, one file each."""
