#!/bin/sh
# Makes the role and the database of Cairn. Run once by PostgreSQL's image, or by hand as a superuser:
#
#   sudo -u postgres env CAIRN_DATABASE_PASSWORD_FILE=/path/to/password sh deploy/postgres/init.sh
#
# The role owns its database, so that it can migrate it, and nothing else. It must be neither a superuser nor may it
# bypass row-level security: either would lift the wall between the brains of one database.
set -eu
CAIRN_DATABASE_PASSWORD_FILE="${CAIRN_DATABASE_PASSWORD_FILE:-/run/secrets/database_password}"
export CAIRN_DATABASE_PASSWORD_FILE
if ! [ -s "$CAIRN_DATABASE_PASSWORD_FILE" ]; then
    echo "there is no password in $CAIRN_DATABASE_PASSWORD_FILE" >&2
    exit 1
fi

# psql reads the password itself, so that it is never an argument that other users of the machine can see.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\set password `cat "$CAIRN_DATABASE_PASSWORD_FILE"`
SELECT 'CREATE ROLE cairn' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cairn') \gexec
ALTER ROLE cairn LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
-- A locale that no upgrade of the system changes: indexes on text stay valid.
SELECT 'CREATE DATABASE cairn OWNER cairn TEMPLATE template0 ENCODING ''UTF8'' LOCALE ''C.UTF-8'''
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'cairn') \gexec
REVOKE ALL ON DATABASE cairn FROM PUBLIC;
SQL
