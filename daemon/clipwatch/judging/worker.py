"""The process that judges: questions on stdin, answers on stdout, a line of JSON each."""

from __future__ import annotations

import sys

import msgspec

from clipwatch.judging.base import Question
from clipwatch.judging.log_judge import LogJudge
from clipwatch.judging.process import Reply
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.processes import end_with_parent


def main() -> int:
    """Reply until stdin ends."""
    end_with_parent()
    judge, questions = LogJudge(), msgspec.json.Decoder(Question)
    for line in sys.stdin.buffer:
        try:
            answer = Reply(judge.judge(questions.decode(line)))
        except (ClipwatchError, ValueError) as error:
            answer = Reply(None, str(error))
        except Exception as error:  # noqa: BLE001 - the next question may be an easier one
            answer = Reply(None, f"{type(error).__name__}: {error}")
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
