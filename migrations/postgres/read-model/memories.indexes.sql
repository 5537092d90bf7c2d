CREATE INDEX IF NOT EXISTS memories_updated ON memories (updated_at, id);
CREATE INDEX IF NOT EXISTS memories_created ON memories (created_at, id);
CREATE INDEX IF NOT EXISTS memories_title ON memories (title_key, id);
CREATE INDEX IF NOT EXISTS memories_about ON memories ((about_at IS NULL), about_at, id);
CREATE INDEX IF NOT EXISTS memories_kind_updated ON memories (kind, updated_at, id);
CREATE INDEX IF NOT EXISTS memories_kind_created ON memories (kind, created_at, id);
CREATE INDEX IF NOT EXISTS memories_kind_title ON memories (kind, title_key, id);
CREATE INDEX IF NOT EXISTS memories_kind_about ON memories (kind, (about_at IS NULL), about_at, id);
CREATE INDEX IF NOT EXISTS suggestions_event ON suggestions (event);
CREATE INDEX IF NOT EXISTS suggestions_at ON suggestions (at, event);
CREATE INDEX IF NOT EXISTS tags_tag ON tags (tag, memory);
CREATE INDEX IF NOT EXISTS links_target ON links (target, relation, source);
-- Paths can be longer than an index entry may be.
CREATE INDEX IF NOT EXISTS files_vault ON files (vault);
CREATE INDEX IF NOT EXISTS tasks_status ON tasks (status, due_date);
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (due_date);
CREATE INDEX IF NOT EXISTS projects_status ON projects (status);
CREATE INDEX IF NOT EXISTS calendar_events_start ON calendar_events (start_time);
CREATE INDEX IF NOT EXISTS daily_logs_date ON daily_logs (log_date);
