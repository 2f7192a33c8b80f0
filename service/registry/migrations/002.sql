-- SPDX-License-Identifier: Apache-2.0
ALTER TABLE functions ADD COLUMN options TEXT;	-- JSON object: memoize, batch, container (all but its image)
