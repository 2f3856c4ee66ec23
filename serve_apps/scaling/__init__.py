"""How many replicas each deployment has while it runs: what a replica tells of its work, and what follows from it.

The policy runs inside Serve's controller, which lives longer than a deployment and keeps the modules it has imported.
It is named there by this package (``serve_apps.scaling:ReplicaScaling``), so that Ray sends the package's code along
with each deployment instead of trusting what the controller has.
"""

from serve_apps.scaling.controller import ReplicaScaling

__all__ = ["ReplicaScaling"]
