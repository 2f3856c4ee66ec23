"""What runs inside each replica of the graph, as plain classes. No Ray."""
