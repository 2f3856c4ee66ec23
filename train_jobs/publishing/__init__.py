"""From a checkpoint to a published, described, registered model; models of others taken in."""
