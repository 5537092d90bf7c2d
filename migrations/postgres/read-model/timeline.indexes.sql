CREATE INDEX IF NOT EXISTS timeline_at ON timeline (at, position);
CREATE INDEX IF NOT EXISTS timeline_principal ON timeline (principal, position);
CREATE INDEX IF NOT EXISTS timeline_command ON timeline (command, position);
