"""What a training run will take, before it is started: memory, arithmetic, time, and the loss to expect."""
