-- SPDX-License-Identifier: Apache-2.0
-- Images that were registered by themselves, for functions to name by id (POST /v2/containers).
CREATE TABLE containers (
	id BLOB PRIMARY KEY,
	owner BLOB NOT NULL REFERENCES users (id),
	name TEXT NOT NULL,
	description TEXT,
	type TEXT NOT NULL,
	location TEXT NOT NULL,
	created_ms INTEGER NOT NULL
) WITHOUT ROWID;
