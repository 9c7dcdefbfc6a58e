"""A Ray cluster: each GPU that it has free is a slot, in a cluster without GPUs each CPU.

The daemon imports no Ray: it speaks over pipes to one process, the link (`driver`), that is
connected to the cluster. So what may befall who is connected befalls no daemon. The link has an
actor for each evaluator (`node`), and that has on its node the child process that `local` has here.
"""

from clipwatch.executors.ray.executor import RayExecutor

__all__ = ["RayExecutor"]
