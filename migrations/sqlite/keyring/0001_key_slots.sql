-- Keys of streams, made ahead of their use. Destroying a key is deleting its row.

CREATE TABLE slots (
    slot    INTEGER PRIMARY KEY,
    wrapped BLOB    NOT NULL -- 24 bytes of nonce, then the encrypted key
) STRICT;

CREATE TABLE state (
    -- A known text under the wrapping key: tells a wrong key from a damaged file.
    probe     BLOB    NOT NULL,
    -- The first slot that no row was ever made for.
    end_slot  INTEGER NOT NULL,
    -- The first slot never handed out, as of an orderly shutdown; absent while the keyring is open.
    free_slot INTEGER,
    -- All erasures in the log up to this position are done.
    mended_to INTEGER NOT NULL
) STRICT;
