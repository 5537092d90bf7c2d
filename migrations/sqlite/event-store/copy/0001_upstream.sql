-- How far the log of a server has been copied into this file: one row at most.

CREATE TABLE upstream (
    only     INTEGER PRIMARY KEY CHECK (only = 0),
    revision INTEGER NOT NULL, -- of the last record, in the server's stream
    id       BLOB    NOT NULL CHECK (length(id) = 16) -- that the server knows the record by
) STRICT;
