-- SPDX-License-Identifier: Apache-2.0
-- People, their tokens, functions, endpoints, who may use them besides their owner, and the audit log. Ids are 16 bytes,
-- times milliseconds since 1970.
CREATE TABLE users (
	id BLOB PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	created_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tokens (
	hash BLOB PRIMARY KEY,			-- SHA-256 of the token
	id BLOB NOT NULL UNIQUE,
	user BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	scopes INTEGER NOT NULL,
	label TEXT NOT NULL,
	created_ms INTEGER NOT NULL,
	expires_ms INTEGER NOT NULL		-- 0 = never
) WITHOUT ROWID;
CREATE INDEX tokens_user ON tokens (user);

CREATE TABLE functions (
	id BLOB PRIMARY KEY,
	owner BLOB NOT NULL REFERENCES users (id),
	name TEXT NOT NULL,
	description TEXT,
	kind INTEGER NOT NULL,
	public INTEGER NOT NULL,
	entry TEXT,
	container TEXT,
	time_limit_ms INTEGER NOT NULL,
	memory_limit_bytes INTEGER NOT NULL,
	meta TEXT,				-- JSON object
	created_ms INTEGER NOT NULL,
	code BLOB NOT NULL
);
CREATE INDEX functions_owner ON functions (owner, id);

CREATE TABLE endpoints (
	id BLOB PRIMARY KEY,
	owner BLOB NOT NULL REFERENCES users (id),
	name TEXT NOT NULL,
	display_name TEXT,
	public INTEGER NOT NULL,
	public_key TEXT,			-- CURVE, Z85
	allowed BLOB,				-- function ids, packed; NULL = any function
	metadata TEXT,				-- JSON object
	options TEXT,				-- JSON object: multi_user, high_assurance and the like
	locked_until_ms INTEGER NOT NULL,
	created_ms INTEGER NOT NULL
);
CREATE INDEX endpoints_owner ON endpoints (owner, id);

CREATE TABLE shares (
	object BLOB NOT NULL,			-- a function or an endpoint
	grantee BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	PRIMARY KEY (object, grantee)
) WITHOUT ROWID;
CREATE INDEX shares_grantee ON shares (grantee);

CREATE TABLE audit (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	at_ms INTEGER NOT NULL,
	actor BLOB NOT NULL,
	action TEXT NOT NULL,
	object TEXT NOT NULL,
	peer TEXT NOT NULL,
	requests INTEGER NOT NULL,		-- equal submissions of one moment share a row
	items INTEGER NOT NULL
);
CREATE INDEX audit_actor ON audit (actor, seq);
