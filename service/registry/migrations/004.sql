-- SPDX-License-Identifier: Apache-2.0
-- Functions that are registered once by their content: SHA-256 of what the registration said. NULL: always a new one, or changed since.
ALTER TABLE functions ADD COLUMN digest BLOB;
CREATE UNIQUE INDEX functions_digest ON functions (owner, digest) WHERE digest IS NOT NULL;
