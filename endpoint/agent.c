/* SPDX-License-Identifier: Apache-2.0 */
/* See agent.h. The session is in agent_session.c, what blocks need in agent_blocks.c. What is decided here: how to end.
 *
 *     phase    | entered by                    | left when
 *     RUN      | start                         | SIGTERM, SIGINT, control "stop"
 *     DRAIN    | stop: nothing new is started  | nothing in hand, or drain_ms passed; asked again, the earlier end counts
 *     STOP     | managers get SIGTERM          | all blocks ended; at once when they are left to the next run (control "stop", leave)
 *     GIVE_UP  | blocks ended                  | results acknowledged, or LAST_MS passed -> BYE, exit */
#include "endpoint/agent_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xmem.h"
#include "endpoint/addresses.h"
#include "endpoint/containers.h"
#include "endpoint/files.h"
#include "endpoint/mpi.h"
#include "endpoint/memo.h"
#include "endpoint/status.h"
#include "endpoint/upstream.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	END_TICK_MS = 50,
	LAST_MS = 2000,		/* for the last acknowledgements */
	LINGER_MS = 500,
	STATUS_MS = 1000, STATUS_SHARE = 100,	/* of the time, one in so many */
	METRICS_MS = 5000,	/* between two of them at least */
};

/* ---- status ------------------------------------------------------------------------------------------------- */

static const char *state_name (const struct agent *a)
{
	if (a->phase != AGENT_RUN)
		return a->phase == AGENT_DRAIN ? "draining" : "stopping";
	if (dispatch_draining (a->dispatch))
		return "drained";
	return a->connected ? "connected" : a->address_known ? "connecting" : "registering";
}

static struct status_input status_of (const struct agent *a)
{
	return (struct status_input) {
		.name = a->paths->name, .endpoint_id = a->id, .state = state_name (a), .service_url = config_service_url (a->config),
		.forwarder_address = a->service ? service_identity (a->service)->address : NULL,
		.provider = config_provider (a->config)->name, .connected = a->connected, .registered = a->registered,
		.refused = a->refused, .error = a->error, .started_ns = a->started_ns, .connected_ns = a->connected_ns,
		.dispatch = a->dispatch, .blocks = a->blocks, .spool = a->spool, .memo = a->memo, .managers = a->managers,
	};
}

static json_t *make_status (struct agent *a)
{
	struct status_input in = status_of (a);

	return status_make (&in);
}

/* For people elsewhere, who cannot read the status: in each session, and when they have changed. */
static void tell_metrics (struct agent *a)
{
	struct status_input in = status_of (a);
	int64_t now = clock_now_ms ();
	struct buf json, record;

	if (!a->connected || now < a->metrics_due_ms)
		return;
	buf_init (&json, sizeof (a->metrics));
	status_metrics (&in, &json);
	buf_char (&json, '\0');
	if (!buf_failed (&json) && strcmp ((char *) json.data, a->metrics) != 0) {
		struct msg_metrics m = { .json = wire_str ((char *) json.data, json.len - 1) };

		buf_init (&record, 0);
		msg_metrics_encode (&record, &m);
		upstream_bytes (a->upstream, WIRE_METRICS, record.data, record.len);
		buf_fini (&record);
		memcpy (a->metrics, json.data, json.len);
		a->metrics_due_ms = now + METRICS_MS;
	}
	buf_fini (&json);
}

static void write_status (struct agent *a)
{
	json_t *j;
	char *text;
	struct err err;

	if (!a->dispatch)
		return;
	j = make_status (a);
	text = json_dumps (j, JSON_INDENT (1));
	json_decref (j);
	if (text && (!a->last_status || strcmp (text, a->last_status) != 0)) {
		if (paths_write (a->paths->status, text, strlen (text), 0600, &err) < 0)
			log_err (LOG_WARN, "agent", "cannot write the status file", &err);
		free (a->last_status);
		a->last_status = text;
		return;
	}
	free (text);
}

/* With thousands of managers it is long: then it is made less often, so that it takes no more than a share of our time. */
static void on_status (void *arg)
{
	struct agent *a = arg;
	int64_t began = clock_now_ms (), pause;

	agent_takeover_save (a);
	write_status (a);
	tell_metrics (a);
	pause = (clock_now_ms () - began) * STATUS_SHARE;
	loop_timer_start (a->status, pause > STATUS_MS ? pause : STATUS_MS, false);
}

void agent_set_error (struct agent *a, bool refused, const char *text)
{
	snprintf (a->error, sizeof (a->error), "%s", text);
	a->refused = refused;
	write_status (a);
}

/* ---- ending ------------------------------------------------------------------------------------------------- */

static void enter (struct agent *a, enum agent_phase p)
{
	static const char *const name[] = { "run", "drain", "stop", "give up" };

	a->phase = p;
	a->phase_ms = clock_now_ms ();
	log_info ("agent", "ending", "phase=%s", name[p]);
	if (p == AGENT_STOP && a->blocks && !a->leaving)
		blocks_stop_all (a->blocks, a->config->stop_grace_ms);
}

static bool nothing_in_hand (const struct agent *a)
{
	struct dispatch_stats st;

	dispatch_stats (a->dispatch, &st);
	return !st.waiting && !st.held && !st.out;
}

static void on_ending (void *arg)
{
	struct agent *a = arg;
	int64_t age = clock_now_ms () - a->phase_ms;
	struct spool_stats sp;

	if (a->phase == AGENT_DRAIN && (nothing_in_hand (a) || age >= a->drain_ms))
		enter (a, AGENT_STOP);
	if (a->phase == AGENT_STOP && (a->leaving || !a->blocks || !blocks_count (a->blocks) || age >= a->config->stop_grace_ms + 3000)) {
		enter (a, AGENT_GIVE_UP);
		dispatch_give_back (a->dispatch);
		dispatch_flush (a->dispatch);
		age = 0;
	}
	spool_stats (a->spool, &sp);
	if (a->phase == AGENT_GIVE_UP && (!a->connected || !sp.results || age >= LAST_MS))
		loop_stop (a->loop);
}

static void begin_end (struct agent *a, int64_t drain_ms)
{
	if (a->phase == AGENT_DRAIN) {
		drain_ms += clock_now_ms () - a->phase_ms;
		if (drain_ms < a->drain_ms)
			a->drain_ms = drain_ms;
	}
	if (a->phase != AGENT_RUN)
		return;
	a->drain_ms = drain_ms;
	enter (a, AGENT_DRAIN);
	if (a->blocks)
		blocks_run (a->blocks, false);
	dispatch_drain (a->dispatch, true);
	/* not at once: the control socket has to answer first */
	loop_timer_start (a->ending, END_TICK_MS, true);
}

/* For the next run: jobs and what they do stay. What nobody has begun is given back at the end. */
static void begin_leaving (struct agent *a)
{
	a->leaving = true;
	blocks_run (a->blocks, false);
	a->left_stale = true;
	agent_takeover_save (a);
	blocks_leave (a->blocks);
	enter (a, AGENT_STOP);
	loop_timer_start (a->ending, END_TICK_MS, true);
}

static void on_signal (int signo, void *arg)
{
	struct agent *a = arg;

	if (signo == SIGHUP) {
		log_reopen (NULL);
		return;
	}
	log_info ("agent", "signal", "signo=%d", signo);
	begin_end (a, 0);
}

static json_t *on_control (const char *cmd, json_t *request, void *arg)
{
	struct agent *a = arg;

	if (strcmp (cmd, "status") == 0)
		return make_status (a);
	if (strcmp (cmd, "drain") == 0)
		dispatch_drain (a->dispatch, true);
	else if (strcmp (cmd, "undrain") == 0 && a->phase == AGENT_RUN)
		dispatch_drain (a->dispatch, false);
	else if (strcmp (cmd, "stop") == 0 && json_is_true (json_object_get (request, "leave")) && a->leaves && a->blocks && a->phase == AGENT_RUN)
		begin_leaving (a);
	else if (strcmp (cmd, "stop") == 0)
		begin_end (a, json_integer_value (json_object_get (request, "drain_ms")));
	else
		return NULL;
	return json_pack ("{s:b, s:b}", "ok", 1, "draining", dispatch_draining (a->dispatch));
}

/* ---- making and unmaking ------------------------------------------------------------------------------------ */

/* A cache: when it cannot be had, functions are called each time. image: of all nodes; under a name without digest stands another one
 * tomorrow, and nobody tells us. NULL: they are in none, or not in the same. */
static void open_memo (struct agent *a, const char *image)
{
	struct memo_opts o = { .dir = a->paths->memo, .max_bytes = (uint64_t) a->config->memo_max_bytes, .max_age_ms = a->config->memo_max_age_ms };
	struct err err;

	if (o.max_bytes && image && !provider_image_is_pinned (image))
		log_info ("agent", "results are not remembered, the image has no digest in its name", "image=%s", image);
	else if (o.max_bytes && !(a->memo = memo_open (&o, &err)))
		log_err (LOG_WARN, "agent", "results are not remembered", &err);
}

/* Not having it costs speed only: the service may be elsewhere, or make it later. */
static void open_bulk (struct agent *a)
{
	struct err err;

	if (!a->config->bulk_dir || !*a->config->bulk_dir)
		return;
	if (!(a->bulk = bulk_open (a->config->bulk_dir, false, &err)))
		log_err (LOG_WARN, "agent", "large data travels in messages, because the bulk store cannot be used", &err);
}

/* The forwarder takes the task for being with us: it hears that it has to send it again. */
static void result_lost (const struct id *task, void *arg)
{
	struct agent *a = arg;

	if (a->upstream)
		upstream_id (a->upstream, WIRE_TASK_RETURN, task);
}

static int make_storage (struct agent *a, struct err *err)
{
	const struct config *c = a->config;
	struct spool_opts so = {
		.dir = a->paths->spool, .segment_bytes = (size_t) c->spool_segment_bytes, .memory_bytes = (size_t) c->spool_memory_bytes,
		.max_bytes = (uint64_t) c->spool_max_bytes, .fsync = (enum spool_fsync) c->spool_fsync, .lost = result_lost, .arg = a,
	};
	struct dispatch_opts d = {
		.mpi = (enum mpi_launcher) c->mpi_launcher, .nodes_per_block = (unsigned) c->nodes_per_block,
		.routing = (enum route_mode) c->routing, .function_cache_bytes = (size_t) c->function_cache_bytes,
		.allowed_functions = &c->allowed_functions,
		.longest_ms = config_longest_ms (c), .retries_on_loss = c->retries_on_loss, .hold_ms = c->threshold_ms,
		.max_tasks = c->queue_max_tasks, .max_bytes = c->queue_max_bytes, .max_unspooled_bytes = c->spool_max_unspooled_bytes,
		.node = a->host, .tasks_waiting = agent_tasks_waiting, .manager_up = agent_manager_up, .block_words = agent_block_words, .arg = a,
	};

	open_bulk (a);
	if (a->bulk && c->spool_fsync == SPOOL_FSYNC_INTERVAL)
		bulk_sync_start (a->bulk, false);
	d.bulk = a->bulk;
	if (keys_read (&a->keys, a->paths->key, err) < 0 || rundir_make (&a->rundir, a->paths, err) < 0)
		return -1;
	if (!(a->spool = spool_open (&so, err)))
		return -1;
	d.memo_image = config_provider (c)->image ? config_provider (c)->image (config_of_provider (c, config_provider (c))) : NULL;
	if (config_block_images (c)) {
		d.block_image = agent_block_image;
		d.images = &c->container_images;
	}
	open_memo (a, d.block_image ? NULL : d.memo_image);
	d.spool = a->spool;
	d.memo = a->memo;
	return (a->dispatch = dispatch_create (a->loop, &d, err)) ? 0 : -1;
}

/* What managers are told to connect to. */
static void offer (struct agent *a, bool tcp)
{
	const char *listening = managers_address (a->managers), *colon = strrchr (listening, ':');
	struct buf list;

	buf_init (&list, 65536);
	if (tcp && colon)
		addresses_offer (a->config, colon + 1, &list);
	a->connect = xstrdup (list.len ? (const char *) list.data : listening);
	buf_fini (&list);
	log_info ("agent", "managers connect to", "address=%s", a->connect);
}

static int new_keys (struct agent *a, struct err *err)
{
	if (keys_new (&a->listen_keys, err) < 0 || keys_new (&a->manager_keys, err) < 0
	    || keys_write (&a->listen_keys, a->listen_key_file, err) < 0)
		return -1;
	return keys_write (&a->manager_keys, a->manager_key_file, err);
}

/* Where the managers of the run before look for us. */
static int listen_as_before (struct agent *a, struct managers_opts *o)
{
	struct managers_opts before = *o;
	char *address = xasprintf ("%.*s:%d", (int) (strrchr (o->address, ':') - o->address), o->address, a->takeover.port);
	struct err err;

	before.address = address;
	before.manager_key = a->manager_keys.public_key;
	if (!(a->managers = managers_create (a->loop, a->zctx, &before, &err)))
		log_err (LOG_WARN, "agent", "jobs of an earlier run cannot be taken over", &err);
	free (address);
	return a->managers ? 0 : -1;
}

static int make_managers (struct agent *a, struct err *err)
{
	const struct config *c = a->config;
	bool tcp = config_over_tcp (c);
	char *address = tcp ? addresses_listen (c) : xasprintf ("ipc://%s/managers.sock", a->rundir.dir);
	struct managers_opts o = {
		.address = address, .heartbeat_ms = c->heartbeat_ms, .threshold_ms = c->threshold_ms,
		.max_payload_bytes = (uint32_t) c->max_payload_bytes, .max_result_bytes = (uint32_t) c->max_result_bytes,
		.bulk = a->bulk ? bulk_id (a->bulk) : NULL, .ops = &dispatch_managers, .arg = a->dispatch,
	};
	int rc = 0;

	if (tcp) {
		a->manager_key_file = xasprintf ("%s/manager.key", a->paths->run);
		a->listen_key_file = xasprintf ("%s/listen.key", a->paths->run);
		a->takeover_file = xasprintf ("%s/takeover.json", a->paths->run);
		o.keys = &a->listen_keys;
		if (agent_takeover_begin (a) && listen_as_before (a, &o) < 0)
			takeover_fini (&a->takeover);
		if (!a->managers && new_keys (a, err) < 0)
			rc = -1;
		o.manager_key = a->manager_keys.public_key;
	}
	if (rc == 0 && !a->managers && !(a->managers = managers_create (a->loop, a->zctx, &o, err)))
		rc = -1;
	free (address);
	if (rc == 0) {
		offer (a, tcp);
		agent_takeover_ready (a);
		dispatch_connect (a->dispatch, NULL, a->managers);
	}
	return rc;
}

static int make_blocks (struct agent *a, struct err *err)
{
	const struct config *c = a->config;
	struct blocks_opts o = {
		.provider = config_provider (c), .provider_conf = config_of_provider (c, config_provider (c)), .log_dir = a->paths->logs,
		.endpoint = a->paths->name, .identity = a->keys.public_key,
		.limits = { .init_blocks = c->init_blocks, .min_blocks = c->min_blocks, .max_blocks = c->max_blocks,
			    .slots_per_block = c->nodes_per_block * (int64_t) config_workers (c), .parallelism = c->parallelism,
			    .idle_timeout_ms = c->idle_timeout_ms },
		.nodes = (unsigned) c->nodes_per_block, .period_ms = c->period_ms, .max_failures_per_hour = c->max_failures_per_hour,
		.connect_timeout_ms = c->connect_timeout_ms, .stop_grace_ms = c->stop_grace_ms, .takeover = &a->takeover,
		.ops = &agent_block_ops, .arg = a,
	};

	return (a->blocks = blocks_create (a->loop, &o, err)) ? 0 : -1;
}

static int make_service (struct agent *a, struct err *err)
{
	const struct config *c = a->config;
	char *token = config_token (c, err);
	struct service_opts o = {
		.more = a->metadata = json_object (), .url = config_service_url (c), .token = token, .ca_file = c->service_ca_file,
		.identity_path = a->paths->identity,
		.name = c->display_name && *c->display_name ? c->display_name : a->paths->name, .public_key = a->keys.public_key,
		.allowed_functions = &c->allowed_functions,
		.ops = { .registered = agent_registered, .forwarder = agent_forwarder, .failed = agent_failed, .arg = a },
	};

	if (!token && err->code != ERR_NONE)
		return -1;
	if (interpreters_read (c, &a->pythons, err) < 0)
		return -1;
	containers_describe (c, a->metadata);
	files_describe (c, a->metadata);
	mpi_describe (c, a->metadata);
	a->service = service_create (a->loop, &o, err);
	if (token)
		explicit_bzero (token, strlen (token));
	unsetenv ("WEFT_TOKEN");	/* what we start has no use for it, and functions must not see it */
	free (token);
	return a->service ? 0 : -1;
}

/* Nobody waits for an interpreter to say its version: it is told when it is known. */
static void on_learned (void *arg)
{
	struct agent *a = arg;

	interpreters_describe (&a->pythons, a->metadata);
	service_changed (a->service);
}

static int make_loop (struct agent *a, struct err *err)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	signal (SIGPIPE, SIG_IGN);
	gethostname (a->host, sizeof (a->host) - 1);
	a->started_ns = clock_real_ns ();
	if (!(a->loop = loop_create (err)))
		return -1;
	for (size_t i = 0; i < sizeof (signals) / sizeof (signals[0]); i++)
		if (loop_signal (a->loop, signals[i], on_signal, a, err) < 0)
			return -1;
	a->lost = loop_timer_create (a->loop, agent_on_lost, a);
	a->ending = loop_timer_create (a->loop, on_ending, a);
	a->status = loop_timer_create (a->loop, on_status, a);
	return (a->zctx = zmq_ctx_new ()) ? 0 : err_errno (err, "making a ZeroMQ context");
}

static int make (struct agent *a, struct err *err)
{
	if (make_loop (a, err) < 0 || make_storage (a, err) < 0 || make_managers (a, err) < 0 || make_blocks (a, err) < 0
	    || make_service (a, err) < 0)
		return -1;
	if (!(a->control = control_create (a->loop, a->paths->control, on_control, a, err)))
		return -1;
	if (service_identity (a->service)->known)
		id_text (&service_identity (a->service)->id, a->id);
	if (*a->id)
		blocks_run (a->blocks, true);
	loop_timer_start (a->status, STATUS_MS, false);
	write_status (a);
	a->learning = (struct learning){ &a->pythons, on_learned, a };
	if (config_provider (a->config)->local)
		interpreters_learn (a->loop, &a->learning);
	interpreters_describe (&a->pythons, a->metadata);
	service_register (a->service);
	return 0;
}

static void unmake (struct agent *a)
{
	control_destroy (&a->control);
	service_destroy (&a->service);
	blocks_destroy (&a->blocks);
	if (a->dispatch)
		dispatch_connect (a->dispatch, NULL, NULL);
	upstream_destroy (&a->upstream, LINGER_MS);
	managers_destroy (&a->managers, 0);
	dispatch_destroy (&a->dispatch);
	spool_close (&a->spool);
	memo_close (&a->memo);
	bulk_close (&a->bulk);
	rundir_fini (&a->rundir);
	agent_takeover_end (a);
	free (a->connect);
	if (a->loop) {
		loop_timer_destroy (&a->lost);
		loop_timer_destroy (&a->ending);
		loop_timer_destroy (&a->status);
	}
	if (a->zctx)
		zmq_ctx_term (a->zctx);
	loop_destroy (&a->loop);
	unlink (a->paths->status);
	free (a->last_status);
	json_decref (a->metadata);
	pythons_fini (&a->pythons);
	explicit_bzero (&a->keys, sizeof (a->keys));
}

int agent_run (const struct paths *p, const struct config *c, int lock, bool foreground)
{
	struct agent a = { .paths = p, .config = c };
	struct err err = { 0 };

	umask (077);
	if (log_open ("weft-endpoint", foreground ? NULL : p->log, (enum log_level) c->log_level, &err) < 0)
		fprintf (stderr, "weft-endpoint: %s\n", err.text);
	log_info ("agent", "starting", "name=%s version=%s pid=%d", p->name, WEFT_VERSION, (int) getpid ());
	if (make (&a, &err) < 0) {
		log_err (LOG_ERROR, "agent", "cannot start", &err);
		fprintf (stderr, "weft-endpoint: %s\n", err.text);
		a.rc = 1;
	} else {
		loop_run (a.loop);
	}
	unmake (&a);
	log_info ("agent", "stopped", NULL);
	close (lock);
	return a.rc;
}
