"""The session's process: `python -m clipwatch_adapters.mlflow`."""

from clipwatch_adapters.mlflow.job import Job
from clipwatch_adapters.mlflow.session import outcome
from clipwatch_adapters.shared.child import serve

serve(Job, outcome)
