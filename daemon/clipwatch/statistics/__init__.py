"""What scores say together: summaries, intervals, comparisons.

`summary` and `comparison` hold the values that the log keeps and import nothing heavy; the daemon
uses them. All that computes with numpy and scipy stands in other files and is imported late.
"""

from clipwatch.statistics.comparison import Comparison, Verdict
from clipwatch.statistics.summary import Summary, summarize

__all__ = ["Comparison", "Summary", "Verdict", "summarize"]
