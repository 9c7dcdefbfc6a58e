-- The log. Rows are added and never changed: the triggers hold for every program that opens the file.
-- An empty line ends a statement.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY CHECK (seq > 0),
    time    TEXT NOT NULL,                     -- UTC, ISO 8601
    run     TEXT NOT NULL,
    stream  TEXT NOT NULL,                     -- one story: a run's checkpoints, an evaluation, a tracker
    version INTEGER NOT NULL CHECK (version > 0),  -- position within the stream, without gaps
    type    TEXT NOT NULL,
    data    TEXT NOT NULL CHECK (json_valid(data)),
    crc     INTEGER NOT NULL,                  -- CRC-32 of the fields above as a MessagePack array
    UNIQUE (stream, version)
) STRICT;

CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

-- INSERT OR REPLACE deletes without asking the trigger above, so it is stopped here.
CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq
             OR (stream = NEW.stream AND version = NEW.version))
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

-- By it a run is read without the others, and all of them without their images. Nothing is lost
-- without it: an older log gets it at its next start.
CREATE INDEX IF NOT EXISTS events_of_runs ON events (run, type)
WHERE type NOT IN ('ImagesScored', 'ImagesRescored');
