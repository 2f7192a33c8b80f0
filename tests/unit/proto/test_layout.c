/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and scripts of SPEC.md, section 8. */
#include "tests/unit/proto/layout_rig.h"

/* ---- tests ---- */

static void test_keys (void **state)
{
	(void) state;
	struct id id;
	char key[LAYOUT_KEY_MAX];
	assert_int_equal (id_parse (&id, "01920000-0000-7000-8000-000000000001", 36), 0);
	assert_int_equal (layout_key (key, "task", &id, NULL), 48);
	assert_string_equal (key, "weft:task:{01920000-0000-7000-8000-000000000001}");
	assert_int_equal (layout_key (key, "ep", &id, "cancelled"), 56);
	assert_string_equal (key, "weft:ep:{01920000-0000-7000-8000-000000000001}:cancelled");
	size_t n = layout_key (key, "owner", &id, "tasks");
	assert_int_equal (n, strlen (key));
}

static void test_submit_stores_everything (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (3, 20);
	c->s.waiter = INSTANCE_A;
	submit_ok (c);
	assert_int_equal (xlen (c), 3);
	for (int i = 0; i < 3; i++) {
		assert_hash (&c->tasks[i].task, "m", c->tasks[i].meta.p, c->tasks[i].meta.n);
		assert_hash (&c->tasks[i].task, "s", "1", 1);
		assert_hash (&c->tasks[i].task, "w", INSTANCE_A, 16);
		assert_int_equal (ask_int ("TTL %s", key_of ("task", &c->tasks[i].task, NULL)), -1);
	}
	redisReply *r = ask ("XRANGE %s - +", key_of ("ep", &c->s.endpoint, "tasks"));
	for (size_t i = 0; i < 3; i++) { /* in order */
		redisReply *kv = r->element[i]->element[1];
		struct layout_queued q;
		assert_int_equal (kv->elements, 2);
		assert_string_equal (kv->element[0]->str, "t");
		assert_int_equal (layout_queued_decode (&q, kv->element[1]->str, kv->element[1]->len, NULL), 0);
		assert_true (id_eq (&q.task, &c->tasks[i].task));
	}
	freeReplyObject (r);
	r = ask ("LRANGE %s 0 -1", key_of ("group", &c->s.group, NULL));
	assert_int_equal (r->elements, 2);
	assert_int_equal (r->element[0]->len, 24);
	assert_memory_equal (r->element[0]->str, c->s.owner.b, 16);
	struct wire_reader rd = { (uint8_t *) r->element[0]->str + 16, 8, false };
	assert_true (wire_get_i64 (&rd) == c->s.now_ns);
	assert_int_equal (r->element[1]->len, 48);
	assert_memory_equal (r->element[1]->str + 32, c->tasks[2].task.b, 16);
	freeReplyObject (r);
	char ep[ID_TEXT];
	r = ask ("XRANGE %s - +", key_of ("owner", &c->s.owner, "tasks"));
	assert_int_equal (r->elements, 1);
	assert_int_equal (r->element[0]->element[1]->element[1]->len, 48);
	assert_string_equal (r->element[0]->element[1]->element[3]->str, id_text (&c->s.endpoint, ep));
	freeReplyObject (r);
	assert_true (ask_int ("PTTL %s", key_of ("group", &c->s.group, NULL)) > RETENTION_MS / 2);
	assert_true (ask_int ("PTTL %s", key_of ("owner", &c->s.owner, "tasks")) > RETENTION_MS / 2);
	chunk_free (c);
}

static void test_submit_lone_task_has_no_group (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 0);
	submit_ok (c);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("group", &c->s.group, NULL)), 0);
	assert_int_equal (ask_int ("DBSIZE"), 4); /* endpoint, stream, owner, task: and no key with an empty name */
	assert_hash (&c->tasks[0].task, "w", NULL, 0);
	chunk_free (c);
}

static void test_submit_into_a_group_that_exists (void **state)
{
	(void) state;
	struct chunk *a = chunk_new (2, 0), *b = chunk_new (1, 0);
	b->s.group = a->s.group;
	b->s.group_key = true;
	submit_ok (a);
	submit_ok (b);
	redisReply *r = ask ("LRANGE %s 0 -1", key_of ("group", &a->s.group, NULL));
	assert_int_equal (r->elements, 3); /* one header */
	assert_memory_equal (r->element[0]->str, a->s.owner.b, 16);
	assert_memory_equal (r->element[2]->str, b->tasks[0].task.b, 16);
	freeReplyObject (r);
	chunk_free (a);
	chunk_free (b);
}

static void test_submit_again_queues_once (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (3, 8);
	c->s.ntasks = 2;
	submit_ok (c);
	c->s.ntasks = 3; /* the retry holds one more */
	submit_ok (c);
	assert_int_equal (xlen (c), 3);
	redisReply *r = ask ("LRANGE %s 0 -1", key_of ("group", &c->s.group, NULL));
	assert_int_equal (r->elements, 3);
	assert_int_equal (r->element[2]->len, 16); /* the new one only */
	assert_memory_equal (r->element[2]->str, c->tasks[2].task.b, 16);
	freeReplyObject (r);
	submit_ok (c);
	assert_int_equal (xlen (c), 3);
	assert_int_equal (ask_int ("LLEN %s", key_of ("group", &c->s.group, NULL)), 3);
	assert_int_equal (ask_int ("XLEN %s", key_of ("owner", &c->s.owner, "tasks")), 2);
	chunk_free (c);
}

/* The first answer was lost, the task ended meanwhile: the retry's waiter must be woken, not wait for ever. */
static void test_submit_again_wakes_the_waiter (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (2, 8);
	submit_ok (c);
	assert_int_equal (store (&c->tasks[0].task, STATUS_FAILED).integer, 1);
	redisContext *sub = subscribe (INSTANCE_B);
	c->s.waiter = INSTANCE_B;
	submit_ok (c);
	submit_ok (c);
	redisReply *m = next_message (sub);
	struct layout_done d;
	assert_int_equal (layout_done_decode (&d, m->element[2]->str, m->element[2]->len, NULL), 0);
	assert_true (id_eq (&d.task, &c->tasks[0].task));
	assert_int_equal (d.state, STATE_FAILED);
	assert_int_equal (d.record.n, 0);
	freeReplyObject (m);
	assert_hash (&c->tasks[0].task, "w", NULL, 0);
	assert_hash (&c->tasks[1].task, "w", INSTANCE_B, 16); /* once */
	redisFree (sub);
	chunk_free (c);
}

static void test_submit_over_the_limit_stores_nothing (void **state)
{
	(void) state;
	struct chunk *a = chunk_new (3, 8), *b = chunk_new (3, 8);
	b->s.endpoint = a->s.endpoint;
	a->s.max_queued = b->s.max_queued = 5;
	submit_ok (a);
	long long keys = ask_int ("DBSIZE");
	struct got g = submit (b);
	assert_int_equal (g.code, ERR_LIMIT);
	assert_string_equal (g.text, "queue holds 3 of 5");
	assert_int_equal (ask_int ("DBSIZE"), keys);
	assert_int_equal (xlen (a), 3);
	submit_ok (a); /* a repetition takes no room */
	b->s.max_queued = 6;
	submit_ok (b);
	assert_int_equal (xlen (a), 6);
	chunk_free (a);
	chunk_free (b);
}

static struct got got_of (void (*send) (struct rds *, const struct id *, rds_f *, void *), const struct id *endpoint)
{
	struct got g;
	send (rds, endpoint, on_reply, &g);
	WAIT ();
	return g;
}

static void test_nothing_is_submitted_to_a_deleted_endpoint (void **state)
{
	(void) state;
	struct chunk *a = chunk_new (2, 8), *b = chunk_new (1, 8);
	const char *hash = key_of ("ep", &a->s.endpoint, NULL);
	char ep[ID_TEXT];
	b->s.endpoint = a->s.endpoint;
	id_text (&a->s.endpoint, ep);
	freeReplyObject (ask ("SADD weft:eps %s", ep));
	submit_ok (a);
	assert_string_equal (got_of (layout_deleted_send, &a->s.endpoint).text, "OK");
	assert_int_equal (ask_int ("SISMEMBER weft:eps %s", ep), 0);
	assert_int_equal (ask_int ("SISMEMBER weft:eps:deleted %s", ep), 1);
	long long keys = ask_int ("DBSIZE");
	assert_int_equal (submit (b).code, ERR_NOT_FOUND);
	assert_int_equal (ask_int ("DBSIZE"), keys);
	submit_ok (a); /* that was stored before */
	/* the cut is the newest entry: what comes after it is of another registration */
	redisReply *cut = ask ("HGET %s cut", hash), *last = ask ("XREVRANGE %s + - COUNT 1", key_of ("ep", &a->s.endpoint, "tasks"));
	assert_string_equal (cut->str, last->element[0]->element[0]->str);
	freeReplyObject (cut);
	/* its stream has to be empty before it goes */
	assert_int_equal (got_of (layout_emptied_send, &a->s.endpoint).integer, 0);
	assert_int_equal (xlen (a), 2);
	freeReplyObject (ask ("XTRIM %s MAXLEN 0", key_of ("ep", &a->s.endpoint, "tasks")));
	/* and nobody may have registered it again */
	freeReplyObject (ask ("HSET %s owner o", hash));
	assert_int_equal (got_of (layout_emptied_send, &a->s.endpoint).integer, 0);
	submit_ok (b);
	freeReplyObject (ask ("XTRIM %s MAXLEN 0", key_of ("ep", &a->s.endpoint, "tasks")));
	got_of (layout_deleted_send, &a->s.endpoint);
	assert_int_equal (got_of (layout_emptied_send, &a->s.endpoint).integer, 1);
	assert_int_equal (ask_int ("EXISTS %s %s %s weft:eps:deleted", hash, key_of ("ep", &a->s.endpoint, "tasks"),
				   key_of ("ep", &a->s.endpoint, "control")), 0);
	freeReplyObject (ask ("DEL %s", key_of ("task", &b->tasks[0].task, NULL)));
	assert_int_equal (submit (b).code, ERR_NOT_FOUND);
	freeReplyObject (last);
	chunk_free (a);
	chunk_free (b);
}

static void test_submit_under_memory_pressure_is_all_or_nothing (void **state)
{
	(void) state;
	int refused = 0, stored = 0;
	struct chunk *warm = chunk_new (1, 8);
	submit_ok (warm); /* the script is loaded */
	for (int i = 0; i < 24; i++) {
		struct chunk *c = chunk_new (100, 1000);
		long long keys = ask_int ("DBSIZE");
		freeReplyObject (ask ("CONFIG SET maxmemory %lld", info_memory () + i * 20000));
		struct got g = submit (c);
		freeReplyObject (ask ("CONFIG SET maxmemory 0"));
		if (g.code == ERR_NONE) {
			stored++;
			assert_int_equal (xlen (c), 100);
			assert_int_equal (ask_int ("DBSIZE"), keys + 103);
		} else {
			refused++;
			assert_int_equal (g.code, ERR_LIMIT);
			assert_int_equal (ask_int ("DBSIZE"), keys);
		}
		chunk_free (c);
	}
	print_message ("under memory pressure: %d refused, %d stored, none in half\n", refused, stored);
	assert_true (refused > 0 && stored > 0);
	chunk_free (warm);
}

static void test_scripts_when_memory_is_full (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (2, 8);
	const struct id *task = &c->tasks[0].task;
	submit_ok (c);
	freeReplyObject (ask ("CONFIG SET maxmemory 1"));
	struct got g = store (task, STATUS_SUCCESS);
	assert_int_equal (g.code, ERR_LIMIT);
	assert_hash (task, "s", "1", 1);
	assert_hash (task, "r", NULL, 0);
	assert_int_equal (ask_int ("TTL %s", key_of ("task", task, NULL)), -1);
	assert_int_equal (wait_for (task, INSTANCE_A).type, REDIS_REPLY_ARRAY);
	assert_hash (task, "w", INSTANCE_A, 16);
	assert_int_equal (progress (task, STATE_RUNNING).integer, 1);
	assert_int_equal (lease (&c->s.endpoint, "acquire", "f1", 60000).integer, 1);
	freeReplyObject (ask ("CONFIG SET maxmemory 0"));
	assert_int_equal (store (task, STATUS_SUCCESS).integer, 1);
	chunk_free (c);
}

static void test_owner_list_is_trimmed (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 0);
	char *key = key_of ("owner", &c->s.owner, "tasks");
	for (int i = 1; i <= 500; i++) /* whole nodes of the stream are dropped */
		freeReplyObject (ask ("XADD %s %d-1 t x e y", key, i));
	submit_ok (c);
	assert_true (ask_int ("XLEN %s", key) < 150);
	chunk_free (c);
}

static void assert_ttl (const char *key, int64_t ms)
{
	long long ttl = ask_int ("PTTL %s", key);
	assert_true (ttl > ms - 5000 && ttl <= ms);
}

/* It outlives its tasks, and moves on only when it would not. */
static void test_owner_list_expires (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 0);
	char *key = key_of ("owner", &c->s.owner, "tasks");
	int64_t retention = c->s.retention_ms, spare = retention / 8 < 60000 ? retention / 8 : 60000;
	const int64_t before[] = { retention + spare / 2, retention - 1, 2 * retention };
	const int64_t after[] = { retention + spare / 2, retention + spare, retention + spare };
	submit_ok (c);
	assert_ttl (key, retention + spare);
	for (size_t i = 0; i < sizeof (before) / sizeof (before[0]); i++) {
		struct chunk *one = chunk_new (1, 0);
		one->s.owner = c->s.owner;
		assert_int_equal (ask_int ("PEXPIRE %s %lld", key, (long long) before[i]), 1);
		submit_ok (one);
		assert_ttl (key, after[i]);
		assert_int_equal (ask_int ("XLEN %s", key), 2 + i);
		chunk_free (one);
	}
	chunk_free (c);
}

/* Its payload has a key of its own, says its meta. */
static void store_apart (struct chunk *c, size_t i)
{
	struct layout_meta m;
	assert_int_equal (layout_meta_decode (&m, c->tasks[i].meta.p, c->tasks[i].meta.n, NULL), 0);
	m.payload_apart = true;
	buf_clear (&c->meta[i]);
	layout_meta_encode (&c->meta[i], &m);
	c->tasks[i].meta = wire_str ((char *) c->meta[i].data, c->meta[i].len);
}

static void test_store_first_wins (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	struct buf first = result_of (task, STATUS_SUCCESS, 10);
	store_apart (c, 0);
	submit_ok (c);
	freeReplyObject (ask ("SET %s payload", key_of ("task", task, "payload")));
	assert_int_equal (store_bytes (task, STATUS_SUCCESS, &first).integer, 1);
	assert_int_equal (store (task, STATUS_CANCELLED).integer, 0);
	assert_hash (task, "s", "5", 1);
	assert_hash (task, "r", first.data, first.len);
	assert_hash (task, "m", c->tasks[0].meta.p, c->tasks[0].meta.n);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("task", task, "payload")), 0);
	long long ttl = ask_int ("PTTL %s", key_of ("task", task, NULL));
	assert_true (ttl > RETENTION_MS / 2 && ttl <= RETENTION_MS);
	struct id other;
	id_new (&other);
	assert_int_equal (store (&other, STATUS_SUCCESS).integer, -1);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("task", &other, NULL)), 0);
	buf_fini (&first);
	chunk_free (c);
}

static void put_record (const struct id *task, const struct buf *b)
{
	redisReply *r = redisCommand (plain, "HSET %s r %b", key_of ("task", task, NULL), b->data, b->len);
	assert_non_null (r);
	assert_int_equal (r->type, REDIS_REPLY_INTEGER);
	freeReplyObject (r);
}

/* Their records do not go through the script. */
static void test_store_of_large_records (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (2, 8);
	const struct id *task = &c->tasks[0].task, *torn = &c->tasks[1].task;
	struct buf first = result_of (task, STATUS_SUCCESS, DONE_INLINE_MAX), second = result_of (task, STATUS_FAILED, 3 * DONE_INLINE_MAX),
		   third = result_of (torn, STATUS_FAILED, 2 * DONE_INLINE_MAX);
	submit_ok (c);
	assert_int_equal (store_bytes (task, STATUS_SUCCESS, &first).integer, 1);
	assert_int_equal (store_bytes (task, STATUS_FAILED, &second).integer, 0);
	assert_hash (task, "s", "5", 1);
	assert_hash (task, "r", first.data, first.len);
	long long ttl = ask_int ("PTTL %s", key_of ("task", task, NULL));
	assert_true (ttl > RETENTION_MS / 2 && ttl <= RETENTION_MS);
	struct id other;
	id_new (&other);
	assert_int_equal (store_bytes (&other, STATUS_SUCCESS, &first).integer, -1);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("task", &other, NULL)), 0);
	/* a try that broke off before its script: its record counts, and the next one only makes the end of it */
	put_record (torn, &second);
	assert_int_equal (store_bytes (torn, STATUS_SUCCESS, &third).integer, 0);
	assert_hash (torn, "s", "6", 1);
	assert_hash (torn, "r", second.data, second.len);
	buf_fini (&first);
	buf_fini (&second);
	buf_fini (&third);
	chunk_free (c);
}

/* Redis was full when the record came, and no more when the script did. */
static void test_store_of_a_large_record_that_was_refused (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	struct buf large = result_of (task, STATUS_SUCCESS, DONE_INLINE_MAX);
	char size[24];
	submit_ok (c);
	snprintf (size, sizeof (size), "%zu", large.len);
	redisReply *r = redisCommand (plain, "EVAL %s 2 %s %s 5 %b %d %d %s", layout_store.body, key_of ("task", task, NULL),
				      key_of ("task", task, "payload"), large.data, (size_t) 24, RETENTION_MS, DONE_INLINE_MAX, size);
	assert_int_equal (r->type, REDIS_REPLY_ERROR);
	freeReplyObject (r);
	assert_hash (task, "s", "1", 1);
	assert_int_equal (store_bytes (task, STATUS_SUCCESS, &large).integer, 1);
	assert_hash (task, "s", "5", 1);
	buf_fini (&large);
	chunk_free (c);
}

/* It broke off when readers had seen its record, and what came next was small: a cancellation. It ends the task as the first would have. */
static void test_store_over_a_torn_record (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	struct buf large = result_of (task, STATUS_SUCCESS, 2 * DONE_INLINE_MAX), small = result_of (task, STATUS_CANCELLED, 10);
	redisContext *sub = subscribe (INSTANCE_A), *group = connect_plain ();
	redisReply *m;
	struct layout_done d;
	struct layout_ended e;
	store_apart (c, 0);
	c->s.waiter = INSTANCE_A;
	c->s.watch = true;
	submit_ok (c);
	freeReplyObject (ask ("SET %s payload", key_of ("task", task, "payload")));
	freeReplyObject (redisCommand (group, "SUBSCRIBE %s", key_of ("group", &c->s.group, "done")));
	put_record (task, &large);
	assert_int_equal (store_bytes (task, STATUS_CANCELLED, &small).integer, 0);
	assert_hash (task, "s", "5", 1);
	assert_hash (task, "r", large.data, large.len);
	assert_hash (task, "w", "", 0);
	assert_ttl (key_of ("task", task, NULL), RETENTION_MS);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("task", task, "payload")), 0);
	m = next_message (sub);
	assert_int_equal (layout_done_decode (&d, m->element[2]->str, m->element[2]->len, NULL), 0);
	assert_true (id_eq (&d.task, task));
	assert_int_equal (d.state, STATE_SUCCESS);
	assert_int_equal (d.record.n, 0);
	freeReplyObject (m);
	m = next_message (group);
	assert_int_equal (layout_ended_decode (&e, m->element[2]->str, m->element[2]->len, NULL), 0);
	assert_int_equal (e.state, STATE_SUCCESS);
	assert_int_equal (e.record.n, 0);
	freeReplyObject (m);
	m = ask ("XRANGE %s - +", key_of ("group", &c->s.group, "done"));
	assert_int_equal (m->elements, 1);
	assert_string_equal (m->element[0]->element[1]->element[3]->str, "5");
	freeReplyObject (m);
	assert_int_equal (store_bytes (task, STATUS_SUCCESS, &large).integer, 0);
	assert_int_equal (ask_int ("XLEN %s", key_of ("group", &c->s.group, "done")), 1);
	redisFree (sub);
	redisFree (group);
	buf_fini (&large);
	buf_fini (&small);
	chunk_free (c);
}

static void test_store_refuses_what_does_not_fit (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	struct got g;
	submit_ok (c);
	layout_store_send (rds, &c->tasks[0].task, STATE_SUCCESS, WIRE_STR ("short"), RETENTION_MS, on_reply, &g);
	WAIT ();
	assert_int_equal (g.code, ERR_INTERNAL);
	assert_hash (&c->tasks[0].task, "s", "1", 1);
	struct buf b = result_of (&c->tasks[0].task, STATUS_SUCCESS, 1);
	layout_store_send (rds, &c->tasks[0].task, STATE_RUNNING, wire_str ((char *) b.data, b.len), RETENTION_MS, on_reply, &g);
	WAIT ();
	assert_int_equal (g.code, ERR_INTERNAL);
	assert_hash (&c->tasks[0].task, "r", NULL, 0);
	buf_fini (&b);
	chunk_free (c);
}

static struct got cancel (const struct chunk *c, const struct id *task)
{
	struct buf b = result_of (task, STATUS_CANCELLED, 10);
	struct got g;
	layout_cancel_send (rds, task, &c->s.endpoint, wire_str ((char *) b.data, b.len), RETENTION_MS, on_reply, &g);
	WAIT ();
	buf_fini (&b);
	return g;
}

/* Only what ends a task tells the forwarder, and once. */
static void test_cancel_tells_the_forwarder (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (3, 8);
	const struct id *task = &c->tasks[0].task, *torn = &c->tasks[2].task;
	const char *set = key_of ("ep", &c->s.endpoint, "cancelled"), *control = key_of ("ep", &c->s.endpoint, "control");
	struct buf large = result_of (torn, STATUS_SUCCESS, 2 * DONE_INLINE_MAX);
	struct id other;
	submit_ok (c);
	id_new (&other);
	put_record (torn, &large);
	store (&c->tasks[1].task, STATUS_CANCELLED);
	assert_int_equal (cancel (c, &c->tasks[1].task).integer, 0);
	assert_int_equal (cancel (c, torn).integer, 0);
	assert_int_equal (cancel (c, &other).integer, -1);
	assert_int_equal (ask_int ("EXISTS %s %s", set, control), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal (cancel (c, task).integer, !i);
		assert_int_equal (ask_int ("SCARD %s", set), 1);
		assert_int_equal (ask_int ("XLEN %s", control), 1);
	}
	assert_hash (task, "s", "7", 1);
	redisReply *r = ask ("XRANGE %s - +", control), *fields = r->element[0]->element[1];
	assert_int_equal (fields->elements, 4);
	assert_string_equal (fields->element[1]->str, "cancel");
	assert_memory_equal (fields->element[3]->str, task->b, ID_BYTES);
	freeReplyObject (r);
	r = ask ("SMEMBERS %s", set);
	assert_memory_equal (r->element[0]->str, task->b, ID_BYTES);
	freeReplyObject (r);
	buf_fini (&large);
	chunk_free (c);
}

static struct got undo (const struct chunk *c, size_t n, const char *claim, const char *ours)
{
	struct buf ids;
	struct got g;
	buf_init (&ids, 0);
	for (size_t i = 0; i < n; i++)
		buf_add (&ids, c->tasks[i].task.b, ID_BYTES);
	struct layout_undo_part parts[2] = { { c->s.endpoint, wire_str ((char *) ids.data, ids.len / 2) },
					     { c->s.owner, wire_str ((char *) ids.data + ids.len / 2, ids.len / 2) } };
	layout_undo_send (rds, claim, wire_str (ours, strlen (ours)), parts, n ? 2 : 0, on_reply, &g);
	WAIT ();
	buf_fini (&ids);
	return g;
}

/* All of it and the claim, or nothing: when another has the claim. */
static void test_undo_asks_whose_the_claim_is (void **state)
{
	(void) state;
	static const struct { const char *stands; int done, kept; } cases[] = {
		{ "Cids, and more", 1, 0 }, { "Tids, and more", 0, 1 }, { "Rids, and more", 0, 1 }, { "Cother ids", 1, 1 }, { NULL, 1, 0 },
	};
	for (size_t i = 0; i < sizeof (cases) / sizeof (cases[0]); i++) {
		struct chunk *c = chunk_new (4, 8);
		const char *set = key_of ("ep", &c->s.endpoint, "cancelled"), *control = key_of ("ep", &c->s.endpoint, "control");
		const char *never = key_of ("task", &c->tasks[3].task, "payload");
		c->s.ntasks = 3; /* the last one was refused */
		submit_ok (c);
		freeReplyObject (ask ("SET %s x", never));
		if (cases[i].stands)
			freeReplyObject (ask ("SET claim %s", cases[i].stands));
		freeReplyObject (ask ("CONFIG SET maxmemory 1"));
		assert_int_equal (undo (c, 4, "claim", "Cids").integer, cases[i].done);
		for (int k = 0; k < 3; k++)
			assert_int_equal (ask_int ("EXISTS %s", key_of ("task", &c->tasks[k].task, NULL)), !cases[i].done);
		assert_int_equal (ask_int ("SCARD %s", set), 2 * cases[i].done);
		assert_int_equal (ask_int ("XLEN %s", control), 2 * cases[i].done);
		assert_int_equal (ask_int ("SCARD %s", key_of ("ep", &c->s.owner, "cancelled")), cases[i].done);
		assert_int_equal (ask_int ("EXISTS %s", never), !cases[i].done);
		assert_int_equal (ask_int ("EXISTS claim"), cases[i].kept);
		assert_int_equal (undo (c, 4, "claim", "Cids").integer, cases[i].done); /* its answer got lost */
		assert_int_equal (ask_int ("XLEN %s", control), 2 * cases[i].done);
		assert_int_equal (undo (c, 0, NULL, "").integer, 1);
		freeReplyObject (ask ("DEL claim"));
		freeReplyObject (ask ("CONFIG SET maxmemory 0"));
		chunk_free (c);
	}
}

static void test_store_wakes_every_waiter (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (2, 8);
	redisContext *sub[2] = { subscribe (INSTANCE_A), subscribe (INSTANCE_B) };
	c->s.waiter = INSTANCE_A;
	submit_ok (c);
	for (int i = 0; i < 2; i++) {
		/* the second one's record is too large for the channel */
		const struct id *task = &c->tasks[i].task;
		struct buf b = result_of (task, STATUS_SUCCESS, i ? DONE_INLINE_MAX : 10);
		wait_for (task, INSTANCE_B);
		assert_int_equal (store_bytes (task, STATUS_SUCCESS, &b).integer, 1);
		assert_hash (task, "w", "", 0);
		for (int k = 0; k < 2; k++) {
			redisReply *m = next_message (sub[k]);
			struct layout_done d;
			assert_int_equal (layout_done_decode (&d, m->element[2]->str, m->element[2]->len, NULL), 0);
			assert_true (id_eq (&d.task, task));
			assert_int_equal (d.state, STATE_SUCCESS);
			assert_int_equal (d.record.n, i ? 0 : b.len);
			if (!i)
				assert_memory_equal (d.record.p, b.data, b.len);
			freeReplyObject (m);
		}
		buf_fini (&b);
	}
	redisFree (sub[0]);
	redisFree (sub[1]);
	chunk_free (c);
}

static void test_wait_registers_once (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	submit_ok (c);
	for (int i = 0; i < 3; i++) {
		struct got g = wait_for (task, i == 1 ? INSTANCE_B : INSTANCE_A);
		assert_int_equal (g.type, REDIS_REPLY_ARRAY);
		assert_int_equal (g.field[0].n, LAYOUT_META_BYTES);
		assert_memory_equal (g.field[1].s, "1", 1);
		assert_false (g.field[2].set);
	}
	assert_hash (task, "w", INSTANCE_A INSTANCE_B, 32);
	/* an instance that shows up across two others is not one of them */
	wait_for (task, "000000aa00000000");
	assert_hash (task, "w", INSTANCE_A INSTANCE_B "000000aa00000000", 48);
	struct buf b = result_of (task, STATUS_CANCELLED, 10);
	store_bytes (task, STATUS_CANCELLED, &b);
	struct got g = wait_for (task, INSTANCE_A);
	assert_memory_equal (g.field[1].s, "7", 1);
	assert_int_equal (g.field[2].n, b.len);
	assert_memory_equal (g.field[2].s, b.data, b.len);
	assert_hash (task, "w", "", 0);
	struct id other;
	id_new (&other);
	assert_int_equal (wait_for (&other, INSTANCE_A).type, REDIS_REPLY_NIL);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("task", &other, NULL)), 0);
	assert_int_equal (wait_for (task, "short").code, ERR_INTERNAL);
	buf_fini (&b);
	chunk_free (c);
}

static void test_progress_only_rises (void **state)
{
	(void) state;
	struct chunk *c = chunk_new (1, 8);
	const struct id *task = &c->tasks[0].task;
	struct id other;
	submit_ok (c);
	assert_int_equal (progress (task, STATE_RUNNING).integer, 1);
	assert_int_equal (progress (task, STATE_RUNNING).integer, 0);
	assert_int_equal (progress (task, STATE_WAITING_FOR_NODES).integer, 0);
	assert_hash (task, "s", "4", 1);
	assert_int_equal (progress (task, STATE_SUCCESS).code, ERR_INTERNAL); /* ends come with a result */
	assert_int_equal (store (task, STATUS_FAILED).integer, 1);
	assert_int_equal (progress (task, STATE_RUNNING).integer, 0);
	assert_hash (task, "s", "6", 1);
	id_new (&other);
	assert_int_equal (progress (&other, STATE_RUNNING).integer, 0);
	assert_int_equal (ask_int ("EXISTS %s", key_of ("task", &other, NULL)), 0);
	chunk_free (c);
}

static void test_lease_has_one_owner (void **state)
{
	(void) state;
	struct id ep;
	id_new (&ep);
	assert_int_equal (lease (&ep, "renew", "f1", 60000).integer, 0);
	assert_int_equal (lease (&ep, "acquire", "f1", 60000).integer, 1);
	assert_int_equal (lease (&ep, "acquire", "f2", 60000).integer, 0);
	assert_int_equal (lease (&ep, "release", "f2", 0).integer, 0);
	assert_int_equal (lease (&ep, "acquire", "f1", 120000).integer, 1);
	assert_true (ask_int ("PTTL %s", key_of ("ep", &ep, "lease")) > 60000);
	assert_int_equal (lease (&ep, "renew", "f1", 50).integer, 1);
	int64_t until = clock_now_ms () + WAIT_MS; /* f1 says no more */
	while (lease (&ep, "acquire", "f2", 60000).integer != 1)
		assert_true (clock_now_ms () < until);
	assert_int_equal (lease (&ep, "acquire", "f1", 60000).integer, 0);
	assert_int_equal (lease (&ep, "release", "f2", 0).integer, 1);
	assert_int_equal (lease (&ep, "acquire", "f1", 60000).integer, 1);
	assert_int_equal (lease (&ep, "steal", "f1", 60000).code, ERR_INTERNAL);
	assert_int_equal (lease (&ep, "acquire", "f1", 0).code, ERR_INTERNAL);
}

/* Without our own connection's buffers, which Redis keeps at their last size until it gets to them. */
static long long data_memory (void)
{
	return info_figure ("used_memory:") - info_figure ("mem_clients_normal:");
}

static long long bytes_each (const char *node_bytes)
{
	enum { CHUNKS = 40 };
	freeReplyObject (ask ("FLUSHALL"));
	freeReplyObject (ask ("CONFIG SET stream-node-max-bytes %s", node_bytes));
	struct chunk *warm = chunk_new (LAYOUT_SUBMIT_CHUNK, 256);
	submit_ok (warm);
	long long before = data_memory ();
	for (int i = 0; i < CHUNKS; i++) {
		struct chunk *c = chunk_new (LAYOUT_SUBMIT_CHUNK, 256);
		c->s.endpoint = warm->s.endpoint;
		c->s.owner = warm->s.owner;
		submit_ok (c);
		chunk_free (c);
	}
	chunk_free (warm);
	return (data_memory () - before) / (CHUNKS * LAYOUT_SUBMIT_CHUNK);
}

/* What a waiting task costs: 256 bytes of payload, chunks of 500 that are groups, one endpoint, one owner. Everything is
 * counted: hash, stream entry, ids in the lists. SPEC.md, section 8, recommends the larger stream nodes. */
static void test_memory_of_a_queued_task (void **state)
{
	(void) state;
	long long plain_nodes = bytes_each ("4096"), large_nodes = bytes_each ("16384");
	print_message ("bytes of Redis memory per queued task with 256 bytes of payload: %lld, with stream nodes of 16 KiB %lld\n",
		       plain_nodes, large_nodes);
	assert_in_range (plain_nodes, 256, 640);
	assert_in_range (large_nodes, 256, 600);
}

int main (void)
{
#define T(f) cmocka_unit_test_setup_teardown (f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test (test_keys),
		T (test_submit_stores_everything),
		T (test_submit_lone_task_has_no_group),
		T (test_submit_into_a_group_that_exists),
		T (test_submit_again_queues_once),
		T (test_submit_again_wakes_the_waiter),
		T (test_submit_over_the_limit_stores_nothing),
		T (test_nothing_is_submitted_to_a_deleted_endpoint),
		T (test_submit_under_memory_pressure_is_all_or_nothing),
		T (test_scripts_when_memory_is_full),
		T (test_owner_list_is_trimmed),
		T (test_owner_list_expires),
		T (test_store_first_wins),
		T (test_store_of_large_records),
		T (test_store_of_a_large_record_that_was_refused),
		T (test_store_over_a_torn_record),
		T (test_store_refuses_what_does_not_fit),
		T (test_cancel_tells_the_forwarder),
		T (test_undo_asks_whose_the_claim_is),
		T (test_store_wakes_every_waiter),
		T (test_wait_registers_once),
		T (test_progress_only_rises),
		T (test_lease_has_one_owner),
		T (test_memory_of_a_queued_task),
	};
	return cmocka_run_group_tests_name ("layout", tests, NULL, NULL);
}
