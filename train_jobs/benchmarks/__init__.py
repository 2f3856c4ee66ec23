"""Speed of training, measured beside a bare loop. Behind `plinth bench train`."""
