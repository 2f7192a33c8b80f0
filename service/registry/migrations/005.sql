-- SPDX-License-Identifier: Apache-2.0
-- How much the audit log has of each action, all together: counted along, because the log only grows.
CREATE TABLE audit_totals (
	action TEXT PRIMARY KEY,
	items INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO audit_totals SELECT action, SUM(items) FROM audit GROUP BY action;
CREATE TRIGGER audit_total AFTER INSERT ON audit BEGIN
	INSERT INTO audit_totals VALUES (NEW.action, NEW.items) ON CONFLICT (action) DO UPDATE SET items = items + NEW.items;
END;
